"""Native functions on NumPy's or any other buffers, in an HRT of the Python process."""

import array
import ctypes

import multiverse

memcmp = ctypes.CDLL(None).memcmp
memcmp.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t]
sqrt = ctypes.CDLL("libm.so.6").sqrt
sqrt.argtypes, sqrt.restype = [ctypes.c_double], ctypes.c_double

with multiverse.Hrt(fallback=True) as hrt:
    numbers = array.array("d", range(1000))
    same = array.array("d", numbers)
    print("ring", hrt.ring)
    print("equal", hrt.call(memcmp, numbers, same, len(numbers) * numbers.itemsize) == 0)
    futures = [hrt.submit(sqrt, float(n)) for n in (4, 9, 16)]
    print("roots", [future.result() for future in futures])
    try:
        hrt.call(memcmp, 16, numbers, 8)
    except multiverse.HrtFault as fault:
        print("fault", fault.signal.name, hex(fault.address))
