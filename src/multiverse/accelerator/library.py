"""libmultiverse, and its errors as exceptions."""

from __future__ import annotations

import errno
import functools
import os
import signal as signals
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cffi

from multiverse.core import core_path
from multiverse.crash.raw import Mapping, Raw
from multiverse.crash.symbols import Place, Symbolizer

REGISTERS = (
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"),
    *("rdi", "rsi", "rbp", "rbx", "rdx", "rax", "rcx", "rsp", "rip", "rflags"),
)


class HrtError(OSError):
    """An HRT cannot be made, or a call in it cannot be begun: what, why, what to do."""


class HrtFault(HrtError):
    """An instruction of the called function raised a signal.

    signal, code and address are those of siginfo_t; registers are by name, rip among them.
    """

    def __init__(
        self, text: str, signal: int, code: int, address: int, registers: dict[str, int],
        return_addresses: list[int],
    ) -> None:  # fmt: skip
        super().__init__(errno.EFAULT, text)
        self.signal = signals.Signals(signal)
        self.code = code
        self.address = address
        self.registers = registers
        self.return_addresses = return_addresses

    @functools.cached_property
    def backtrace(self) -> list[Place | None]:
        """What lies at the fault and at the return addresses, innermost first; names are looked up
        in the files that are mapped now."""
        symbolizer = Symbolizer(Raw(number={"pid": os.getpid()}, mappings=_mappings()))
        return [
            symbolizer.place(address, is_return=i > 0)
            for i, address in enumerate(self.return_addresses)
        ]


def _mappings() -> list[Mapping]:
    found = []
    for line in Path("/proc/self/maps").read_text().splitlines():
        words = line.split(maxsplit=5)
        start, _, end = words[0].partition("-")
        path = words[5] if len(words) > 5 else ""
        found.append(Mapping(int(start, 16), int(end, 16), words[1], int(words[2], 16), path))
    return found


@dataclass(frozen=True)
class Library:
    """libmultiverse.so as cffi has it."""

    ffi: Any
    lib: Any

    def error(self, err: int) -> HrtError:
        """The exception for a negative errno that a function of the library has just returned."""
        text = self.ffi.string(self.lib.mv_error()).decode(errors="replace")
        return HrtError(-err, text)

    def fault(self) -> HrtFault:
        """The exception for the fault that has just ended a call."""
        fault = self.lib.mv_fault_last()
        text = self.ffi.string(self.lib.mv_error()).decode(errors="replace")
        registers = dict(zip(REGISTERS, map(int, fault.registers), strict=True))
        addresses = [int(fault.backtrace[i]) for i in range(fault.frames)]
        return HrtFault(text, fault.signal, fault.code, int(fault.address), registers, addresses)


@functools.cache
def library() -> Library:
    """Load the library. Raises HrtError if it is not there."""
    directory = core_path().parent
    try:
        text = (directory / "include" / "multiverse.h").read_text()
        ffi = cffi.FFI()
        ffi.cdef(text.split('extern "C" {\n#endif', 1)[1].split("#ifdef __cplusplus", 1)[0])
        return Library(ffi, ffi.dlopen(str(directory / "libmultiverse.so")))
    except OSError as error:
        raise HrtError(error.errno, f"libmultiverse: {error}; install multiverse again") from None
