"""An empty C function called from Python: by ctypes, or in an HRT. Prints ns for one call.

usage: invoke.py ctypes|hrt
"""

import ctypes
import sys
import time

import multiverse

CALLS = 20000
function = ctypes.CDLL(None).abs  # as good as empty


def measure(call: object) -> float:
    for _ in range(CALLS // 10):
        call(5)
    begin = time.perf_counter_ns()
    for _ in range(CALLS):
        call(5)
    return (time.perf_counter_ns() - begin) / CALLS


if sys.argv[1] == "ctypes":
    print("call_ns", measure(function))
else:
    with multiverse.Hrt() as hrt:
        print("call_ns", measure(lambda n: hrt.call(function, n)))
