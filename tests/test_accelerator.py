"""The accelerator model: an HRT within a process, from C and from Python."""

from __future__ import annotations

import ctypes
import doctest
import errno
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cffi
import conftest
import pytest
from conftest import HRT, execute
from hypothesis import given
from hypothesis import strategies as st

import multiverse
from multiverse.accelerator import hrt as hrt_module
from multiverse.accelerator.convert import Converter, Frame
from multiverse.accelerator.library import library
from multiverse.core import core_path

SOURCE = Path(__file__).with_name("guests_accelerator") / "calls.c"
EXAMPLES = Path(__file__).parent.parent / "examples" / "accelerator"
FLAGS = ["-O2", "-Wall", "-Wextra", "-Werror", "-Wno-infinite-recursion", "-pthread"]
EXPECTED = {
    "basics": """arguments 654321
mixed 0 145, as natively 145
tls 8 errno EDOM within 1
back 42 tls 11
nested 8
threads 55
system 3
out of the HRT 0
destroy 0
""",
    "faults": """null: EFAULT signal SEGV code 1 address 10 frames yes
not canonical: EFAULT signal SEGV code 128 address 0 frames yes
division: EFAULT signal FPE code 1 address 0 frames yes
undefined: EFAULT signal ILL code 2 address 0 frames yes
stack overflow: EFAULT signal SEGV code 1 address {any} frames yes
data: EFAULT signal SEGV code 2 address {any} frames yes
nowhere: EFAULT signal SEGV code 1 address 10 frames yes
and then 654321
refused 1 stored 3
own handler 1
own data is there 1
own handler afterwards 1
no function: EINVAL
closed: ESHUTDOWN
again: ESHUTDOWN
""",
    "tasks": """tasks 183000 wrong 0
reboot 0, 5
reboot 0, 5
reboot 0, 5
another: EBUSY
""",
    "processes": """signals reach native threads: 20
in a child: ECHILD
in the parent: 9
executed
and up again: 8
""",
}
STATUS = {"processes": 4}


def compile_with_library(source: Path, target: Path, *flags: str) -> str:
    core = core_path().parent
    link = [f"-I{core / 'include'}", f"-L{core}", f"-Wl,-rpath,{core}", "-lmultiverse"]
    subprocess.run(["cc", *flags, str(source), "-o", str(target), *link], check=True)
    return str(target)


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> str:
    return compile_with_library(SOURCE, tmp_path_factory.mktemp("calls") / "calls", *FLAGS)


@pytest.mark.parametrize("part", EXPECTED)
def test_c(part: str, calls: str, facts: dict[str, str]) -> None:
    outcome = execute([calls, part, ""], config=None)
    expected = EXPECTED[part].splitlines()
    seen = outcome.stdout.decode().splitlines()
    for i, line in enumerate(expected):
        if "{any}" in line and i < len(seen):
            before, after = line.split("{any}")
            assert seen[i].startswith(before) and seen[i].endswith(after)
            expected[i] = seen[i]
    assert seen == expected
    assert (outcome.stderr, outcome.status) == (b"", STATUS.get(part, 0))


def test_native_fallback(calls: str) -> None:
    """Where no core can be had, functions are called natively if the program wants that."""
    done = execute([calls, "fallback", "/nonexistent/core"], config=None)
    assert done.stdout.decode() == "ring -1: 654321\ntls 0 8\ndestroy 0\n"


@pytest.mark.parametrize("core", ["/nonexistent/core", "/bin/true", "/etc/passwd", "/dev/null"])
def test_no_core(core: str, calls: str) -> None:
    done = execute([calls, "basics", core], config=None)
    assert done.status == 1
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 1 and core in lines[0]
    assert lines[0].startswith(("create: ENOENT: HRT: ", "create: ENOEXEC: HRT: "))


def test_in_an_hrt(calls: str, facts: dict[str, str]) -> None:
    """A program that runs as an HRT needs no second one."""
    done = execute([calls, "basics", ""], config=HRT)
    lines = done.stdout.decode().splitlines()
    assert lines[:3] == EXPECTED["basics"].splitlines()[:3]
    assert done.status == 0


def test_damaged_core(calls: str, tmp_path: Path) -> None:
    """Whatever the file holds: an error, never a crash of the process."""
    good = bytearray(core_path().read_bytes())
    program_headers = struct.unpack_from("<Q", good, 32)[0]
    for at, value in [
        (16, b"\x02"),  # not ET_DYN
        (24, b"\xff\xff\xff\xff"),  # entry
        (32, b"\xff\xff\xff\xff"),  # program headers
        (program_headers + 8, b"\xff\xff\xff\xff"),  # offset of the first segment
        (program_headers + 16, b"\xff\xff\xff\xff"),  # its address
    ]:
        bad = bytearray(good)
        bad[at : at + len(value)] = value
        (tmp_path / "core").write_bytes(bad)
        done = execute([calls, "basics", str(tmp_path / "core")], config=None)
        assert done.stdout.startswith(b"create: ENOEXEC"), (at, done)
    (tmp_path / "core").write_bytes(good[: len(good) // 2])
    done = execute([calls, "basics", str(tmp_path / "core")], config=None)
    assert done.stdout.startswith(b"create: ENOEXEC"), done


# ---- Python -------------------------------------------------------------------------------------


@pytest.fixture
def hrt(facts: dict[str, str]) -> Iterator[multiverse.Hrt]:
    with multiverse.Hrt(threads=2) as made:
        yield made


libc = ctypes.CDLL(None, use_errno=True)


def test_calls_by_ctypes(hrt: multiverse.Hrt) -> None:
    assert hrt.ring in (0, 3)
    assert hrt.call(libc.strlen, b"hybrid") == 6
    power = ctypes.CDLL("libm.so.6").pow
    power.argtypes, power.restype = [ctypes.c_double] * 2, ctypes.c_double
    assert hrt.call(power, 2, 10.0) == 1024.0
    buffer = ctypes.create_string_buffer(64)
    many = (42, b"abc", 1.5, 2, 3, 4, 5, 6.25, 7)
    length = hrt.call(libc.snprintf, buffer, 64, b"%d %s %g %d %d %d %d %g %d", *many)
    assert buffer.value == b"42 abc 1.5 2 3 4 5 6.25 7" and length == len(buffer.value)
    assert hrt.call(libc.open, b"/nonexistent/file", 0) == -1 and hrt.errno == 2
    pointer_kind = ctypes.CFUNCTYPE(ctypes.c_int, *[ctypes.POINTER(ctypes.c_int)] * 2)
    numbers = (ctypes.c_int * 5)(5, 3, 1, 4, 2)
    hrt.call(libc.qsort, numbers, 5, 4, pointer_kind(lambda a, b: a[0] - b[0]))
    assert list(numbers) == [1, 2, 3, 4, 5]
    value = ctypes.c_int(0)
    assert hrt.call(libc.sscanf, b"77", b"%d", ctypes.byref(value)) == 1 and value.value == 77
    duplicate = ctypes.CDLL(None).strdup
    duplicate.restype = ctypes.c_char_p
    assert hrt.call(duplicate, b"text") == b"text"


def test_calls_by_cffi_and_address(hrt: multiverse.Hrt) -> None:
    ffi = cffi.FFI()
    ffi.cdef("double sqrt(double); float fmaf(float, float, float); size_t strlen(const char *);")
    ffi.cdef("char *strchr(const char *, int); long labs(long); int snprintf(char*, size_t, ...);")
    m, c = ffi.dlopen("libm.so.6"), ffi.dlopen(None)
    assert hrt.call(m.sqrt, 2.0) == 2.0**0.5
    assert hrt.call(m.fmaf, 2, 3.5, 4) == 11.0
    text = ffi.new("char[]", b"hybrid")
    assert hrt.call(c.strlen, text) == 6
    assert ffi.string(hrt.call(c.strchr, text, ord("r"))) == b"rid"
    assert hrt.call(c.labs, -(1 << 40)) == 1 << 40
    address = int(ffi.cast("uintptr_t", c.labs))
    assert hrt.call(address, -5) == 5
    assert hrt.call(address, -5, restype=ctypes.c_uint8) == 5


def test_buffers(hrt: multiverse.Hrt) -> None:
    data = bytearray(b"abcdef")
    hrt.call(libc.memset, data, ord("x"), 3)
    assert data == b"xxxdef"
    hrt.call(libc.memset, memoryview(data)[4:], ord("y"), 2)
    assert data == b"xxxdyy"


def test_numpy(hrt: multiverse.Hrt) -> None:
    """Arrays by their buffer, scalars by their value, and what does not fit is refused."""
    np = pytest.importorskip("numpy", reason="NumPy is not installed")
    numbers = np.arange(1000, dtype=np.float64)
    copy = numbers.copy()
    c = ctypes.CDLL(None)
    assert hrt.call(c.memcmp, numbers, copy, numbers.nbytes) == 0
    hrt.call(c.memset, copy[500:], 0, copy[500:].nbytes)
    assert copy[499] == 499 and not copy[500:].any()
    one = np.array([5], dtype=np.int64)
    hrt.call(c.memset, one, 1, 8)
    assert one[0] == 0x0101010101010101
    assert hrt.call(c.labs, np.int64(-7)) == 7 and hrt.call(c.abs, np.bool_(True)) == 1
    m = ctypes.CDLL("libm.so.6")
    m.ldexp.restype = ctypes.c_double
    assert hrt.call(m.ldexp, np.float32(1.5), np.int8(3)) == 12
    # Python's own qsort of the buffer, by a comparison that Python makes.
    doubles = ctypes.POINTER(ctypes.c_double)

    @ctypes.CFUNCTYPE(ctypes.c_int, doubles, doubles)
    def descending(a: Any, b: Any) -> int:
        return int(b[0] > a[0]) - int(b[0] < a[0])

    hrt.call(c.qsort, numbers, len(numbers), numbers.itemsize, descending)
    assert (numbers == np.arange(1000)[::-1]).all()

    frexp = ctypes.CDLL("libm.so.6").modf
    frexp.argtypes, frexp.restype = [ctypes.c_double, doubles], ctypes.c_double
    whole = np.zeros(1)
    assert hrt.call(frexp, 2.5, whole) == 0.5 and whole[0] == 2
    with pytest.raises(TypeError, match="items of 4 bytes"):
        hrt.call(frexp, 2.5, np.zeros(1, np.float32))
    with pytest.raises(ValueError, match="contiguous"):
        hrt.call(c.memset, numbers[::2], 0, 8)
    frexp.argtypes = [ctypes.c_double, np.ctypeslib.ndpointer(np.float64, flags="C")]
    assert hrt.call(frexp, 3.25, whole) == 0.25 and whole[0] == 3
    with pytest.raises(TypeError, match="data type"):
        hrt.call(frexp, 2.5, np.zeros(1, np.float32))
    assert hrt.call(c.memcmp, numbers.ctypes, numbers.ctypes.data, 8) == 0


def test_numba(hrt: multiverse.Hrt) -> None:
    numba = pytest.importorskip("numba", reason="numba is not installed")
    np = pytest.importorskip("numpy", reason="NumPy is not installed")
    types = numba.types

    @numba.cfunc(types.float64(types.CPointer(types.float64), types.intp))
    def total(pointer: Any, length: Any) -> Any:
        result = 0.0
        for value in numba.carray(pointer, length):
            result += value
        return result

    @numba.cfunc(types.void(types.CPointer(types.float64), types.intp, types.float32))
    def scale(pointer: Any, length: Any, by: Any) -> None:
        for i in range(length):
            pointer[i] *= by

    @numba.cfunc(types.int64(types.CPointer(types.int64), types.uint8))
    def shifted(pointer: Any, by: Any) -> Any:
        return pointer[0] << by

    numbers = np.arange(1000.0)
    assert hrt.call(total, numbers, len(numbers)) == 499500
    assert hrt.call(scale, numbers, len(numbers), 0.5) is None
    futures = [hrt.submit(total, numbers[:n], n) for n in (10, 100, 1000)]
    assert [future.result(timeout=20) for future in futures] == [22.5, 2475, 249750]
    assert hrt.call(shifted, np.array([-3]), 258) == -12
    assert hrt.call(total.address, numbers, 4, restype=ctypes.c_double) == 3
    with pytest.raises(TypeError, match="2 arguments expected"):
        hrt.call(total)
    with pytest.raises(TypeError, match="items of 2 bytes"):
        hrt.call(total, numbers.astype(np.float16), 4)
    with pytest.raises(multiverse.HrtFault) as raised:
        hrt.call(total, 16, 1)
    assert raised.value.address == 16


def test_faults(hrt: multiverse.Hrt) -> None:
    with pytest.raises(multiverse.HrtFault) as raised:
        hrt.call(libc.strlen, 16)
    fault = raised.value
    assert fault.signal == signal.SIGSEGV and fault.address == 16 and fault.errno == 14
    assert fault.registers["rip"] == fault.return_addresses[0]
    assert fault.backtrace[0] is not None and "libc" in fault.backtrace[0].module
    assert hrt.call(libc.strlen, b"and on") == 6
    with pytest.raises(multiverse.HrtFault):
        hrt.submit(libc.strlen, 16).result(timeout=20)


@pytest.mark.parametrize("address", [16, 0xDEAD000, "data"])
def test_pointers_that_are_not_code(hrt: multiverse.Hrt, address: Any) -> None:
    """Where they point to is said, also if nothing can be read there."""
    data = ctypes.create_string_buffer(64)
    if address == "data":
        address = ctypes.addressof(data)
    with pytest.raises(multiverse.HrtFault) as raised:
        hrt.call(address)
    fault = raised.value
    assert (fault.signal, fault.address) == (signal.SIGSEGV, address)
    assert fault.registers["rip"] == fault.return_addresses[0] == address
    assert hrt.call(libc.strlen, b"and on") == 6


def test_wrong_arguments(hrt: multiverse.Hrt) -> None:
    with pytest.raises(TypeError, match="encode"):
        hrt.call(libc.strlen, "text")
    with pytest.raises(TypeError, match="no function"):
        hrt.call("strlen", b"text")
    with pytest.raises(TypeError, match="no pointer, buffer or number"):
        hrt.call(libc.strlen, object())
    with pytest.raises(OverflowError):
        hrt.call(libc.strlen, 1 << 64)
    with pytest.raises(TypeError):  # nothing of it is left for the next call
        hrt.call(libc.strlen, *range(9), 1.5, object())
    assert hrt.call(libc.strlen, b"text") == 4
    with pytest.raises(ValueError, match="no address"):
        hrt.call(0)
    absolute = ctypes.CDLL(None).labs
    absolute.argtypes = [ctypes.c_long]
    with pytest.raises(TypeError, match="1 arguments expected"):
        hrt.call(absolute)


def test_life(facts: dict[str, str]) -> None:
    """One HRT at a time, a reboot, an end, and children."""
    script = """
import ctypes, multiverse, os
strlen = ctypes.CDLL(None).strlen
hrt = multiverse.Hrt()
try:
    multiverse.Hrt()
except multiverse.HrtError as error:
    print(error.errno, flush=True)
hrt.reboot()
print(hrt.call(strlen, b"abc"), flush=True)
if os.fork() == 0:
    for use in (hrt.call, hrt.submit):
        try:
            use(strlen, b"abc")
        except multiverse.HrtError as error:
            print(error.errno, flush=True)
    os._exit(0)
os.wait()
os.system("echo native")
hrt.close()
hrt.close()
try:
    hrt.call(strlen, b"abc")
except multiverse.HrtError as error:
    print(error.errno, flush=True)
with multiverse.Hrt(threads=3) as hrt:
    futures = [hrt.submit(strlen, b"x" * n) for n in range(50)]
    print(sum(future.result() for future in futures) == sum(range(50)), flush=True)
"""
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout.splitlines() == ["16", "3", "10", "10", "native", "108", "True"]


def test_partition_of_cores(facts: dict[str, str]) -> None:
    """`hrtcpus` is where functions run; the rest of the process runs wherever it did."""
    before = os.sched_getaffinity(0)
    own = max(before)
    library = ctypes.CDLL(None)
    cpus = (ctypes.c_ulong * 16)()
    with multiverse.Hrt(threads=2, config=f"hrtcpus={1 << own:#x}") as hrt:
        for _ in range(2):
            hrt.call(library.sched_getaffinity, 0, ctypes.sizeof(cpus), ctypes.addressof(cpus))
            assert int.from_bytes(bytes(cpus), "little") == 1 << own
            hrt.reboot()
    assert os.sched_getaffinity(0) == before
    with pytest.raises(multiverse.HrtError, match="hrtcpus"):
        multiverse.Hrt(config=f"hrtcpus={1 << own + 900:#x}")


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ("hrtcpu=0x1", "unknown configuration key hrtcpu"),
        ("hrtmemory=much", "configuration key hrtmemory: not a number"),
        ("hrtcpus=2", "configuration key hrtcpus: not a mask of CPUs"),
        ("physbits=20", "configuration key physbits: not from 36 to 52"),
        ("ring=1", "configuration key ring: neither auto, 0 nor 3"),
        ("channel=fast", "configuration key channel: neither auto, sync nor async"),
        ("override=9", "override: for whole programs only"),
        (f"hrtcpus={1 << 1000:#x}", "hrtcpus: CPUs that may be used"),
    ],
)
@pytest.mark.parametrize("fallback", [False, True], ids=["required", "fallback"])
def test_a_wrong_configuration_is_an_error(
    facts: dict[str, str], config: str, wrong: str, fallback: bool
) -> None:
    """The process lives on, and can make another HRT."""
    with pytest.raises(multiverse.HrtError, match=f"HRT: {wrong}: .*check the option") as raised:
        multiverse.Hrt(config=config, fallback=fallback)
    assert raised.value.errno == errno.EINVAL
    with multiverse.Hrt() as hrt:
        assert hrt.call(ctypes.CDLL(None).strlen, b"hybrid") == 6


def test_doctest(facts: dict[str, str]) -> None:
    results = doctest.testmod(hrt_module)
    assert results.attempted and not results.failed


def test_examples(tmp_path: Path, facts: dict[str, str]) -> None:
    program = compile_with_library(EXAMPLES / "sum.c", tmp_path / "sum", *FLAGS)
    done = subprocess.run([program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "in the HRT: yes\nsum 499500\nexpected: HRT call: signal 11" in done.stdout
    script = [sys.executable, str(EXAMPLES / "sums.py")]
    done = subprocess.run(script, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1:] == [
        *("equal True", "roots [2.0, 3.0, 4.0]", "fault SIGSEGV 0x10"),
    ]


def test_importing_starts_nothing() -> None:
    script = "import multiverse, sys; print('cffi' in sys.modules, 'ctypes' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout == "False False\n"


# ---- The quick way ------------------------------------------------------------------------------


class Same:
    """Functions that return their first argument."""

    def __init__(self) -> None:
        self.memory = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
        self.memory.write(bytes.fromhex("4889f8c3"))  # mov %rdi, %rax; ret
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))

    def typed(self, result: Any, *kinds: Any) -> Any:
        return ctypes.CFUNCTYPE(result, *kinds)(self.address)


def never(*_: Any) -> None:
    raise AssertionError("not the quick way")


WHOLE = [0, 1, -1, 127, 128, 255, -(1 << 15), 1 << 31, (1 << 32) - 1, -(1 << 63)]
QUICK = {
    **dict.fromkeys("bBhHiIlL", WHOLE),
    **dict.fromkeys("df", [1.5, -0.1, 3]),
    "P": [None, 0, 4096],
}
KINDS = {kind._type_: kind for kind in vars(ctypes).values() if hasattr(kind, "_type_")}


def test_plain_calls_are_quick(hrt: multiverse.Hrt, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the second time on Python has no part in them; the results are those of ctypes."""
    same = Same()
    functions = {letter: same.typed(KINDS[letter], KINDS[letter]) for letter in QUICK}
    text = same.typed(ctypes.c_void_p, ctypes.c_char_p)
    length = ctypes.CDLL(None)["strlen"]
    nothing = same.typed(None, ctypes.c_int)
    for function in (*functions.values(), nothing):
        hrt.call(function, 0)
    for function in (text, length):
        hrt.call(function, b"text")
    monkeypatch.setattr(hrt, "_call", never)
    for letter, function in functions.items():
        for value in QUICK[letter]:
            assert hrt.call(function, value) == function(value), (letter, value)
    literal = b"text"
    assert hrt.call(text, literal) == text(literal)
    assert hrt.call(length, literal) == 4 and hrt.call(nothing, 5) is None
    assert hrt.call(same.address, -5) == -5 and hrt.call(same.address, (1 << 64) - 5) == -5
    with pytest.raises(multiverse.HrtFault):
        hrt.call(length, 16)


def test_what_has_changed_is_not_quick(hrt: multiverse.Hrt) -> None:
    same = Same()
    function = same.typed(ctypes.c_int, ctypes.c_int)
    for _ in range(2):
        assert hrt.call(function, -1) == -1
    function.restype = ctypes.c_uint
    assert hrt.call(function, -1) == (1 << 32) - 1
    function.errcheck = lambda result, *_: result + 1
    assert hrt.call(function, 1) == 2
    real = same.typed(ctypes.c_double, ctypes.c_double)
    for _ in range(2):
        for wrong in ((), (None,)):
            with pytest.raises(TypeError):
                hrt.call(real, *wrong)
        with pytest.raises(OverflowError):
            hrt.call(same.address, 1 << 70)
    with pytest.raises(TypeError):
        hrt.call()
    with pytest.raises(TypeError):
        hrt.call(function, 1, other=2)


# ---- Conversions, without an HRT: as ctypes itself does them ------------------------------------

converter = Converter(library().ffi)

INTEGERS = [
    ctypes.c_int8, ctypes.c_uint8, ctypes.c_int16, ctypes.c_uint16, ctypes.c_int32,
    ctypes.c_uint32, ctypes.c_int64, ctypes.c_uint64, ctypes.c_bool, ctypes.c_size_t,
]  # fmt: skip


@given(st.sampled_from(INTEGERS), st.integers(-(1 << 63), (1 << 64) - 1))
def test_integers(kind: type, value: int) -> None:
    frame = Frame(library().ffi)
    converter.adder_ctypes(kind)(frame, value)
    assert (frame.integers, frame.words[0]) == (1, kind(value).value & (1 << 64) - 1)
    frame.results["Q"][0] = frame.words[0]
    assert converter.result_ctypes(kind)(frame) == kind(value).value


@given(st.floats(allow_nan=False), st.booleans())
def test_reals(value: float, single: bool) -> None:
    kind = ctypes.c_float if single else ctypes.c_double
    if single and abs(value) > 3e38:
        return
    frame = Frame(library().ffi)
    converter.adder_ctypes(kind)(frame, value)
    assert frame.reals == 1
    frame.results["d"][0] = frame.real_words[0]
    assert converter.result_ctypes(kind)(frame) == kind(value).value


@given(st.lists(st.one_of(st.integers(0, 1 << 63), st.floats(allow_nan=False)), max_size=30))
def test_places(values: list[int | float]) -> None:
    """Registers first, in order; what is left goes into memory, in order."""
    frame = Frame(library().ffi)
    for value in values:
        converter.add_any(frame, value)
    integers: list[int] = []
    reals: list[float] = []
    stack: list[int] = []
    for value in values:
        if isinstance(value, int):
            (integers if len(integers) < 6 else stack).append(value)
        elif len(reals) < 8:
            reals.append(value)
        else:
            stack.append(int.from_bytes(struct.pack("<d", value), "little"))
    assert list(frame.words)[: frame.integers] == integers
    assert list(frame.real_words)[: frame.reals] == reals
    assert frame.stack == stack


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one processor only")
def test_bench(facts: dict[str, str]) -> None:
    done = conftest.multiverse("bench", "call", "--runs=1", "--json=-")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["format"] == "multiverse-bench-call-1"
    assert [figure["name"] for figure in report["figures"]] == ["call_c", "call_python"]
