"""How a native program has ended, and the one line that says so."""

from __future__ import annotations

from dataclasses import dataclass, field

from multiverse.crash.symbols import BROKEN, Binary, readable

STATUS_FAULT = 139
REGISTERS = (
    "rip", "rsp", "rflags", "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10",
    "r11", "r12", "r13", "r14", "r15", "cr2", "cr3",
)  # fmt: skip
VECTORS = {
    0: "division by zero or overflow", 1: "debug exception", 2: "non-maskable interrupt",
    3: "breakpoint", 4: "overflow", 5: "bound exceeded", 6: "invalid instruction",
    7: "no floating-point unit", 8: "double fault", 10: "invalid task state",
    11: "segment not present", 12: "stack-segment fault", 13: "general protection fault",
    14: "page fault", 16: "x87 exception", 17: "misaligned access", 18: "machine check",
    19: "SSE exception", 21: "control-flow violation",
}  # fmt: skip
ERROR_PRESENT, ERROR_WRITE, ERROR_FETCH = 1, 2, 16


@dataclass(frozen=True, slots=True)
class Ending:
    """A program's end. status: what `multiverse kernel run` ends with.

    words: what the report says besides, by its keys; empty for a program that has ended itself.
    """

    status: int
    words: dict[str, str] = field(default_factory=dict)

    def number(self, key: str) -> int | None:
        """The value of a key in hexadecimal, None without one."""
        try:
            return int(self.words.get(key, ""), 16)
        except ValueError:
            return None


def parse(text: str) -> Ending | None:
    """Read a report, which may be anyone's: its first line that has a status, or None."""
    for line in text.splitlines():
        line = "".join(c if c.isprintable() else "?" for c in line)
        words = dict(word.split("=", 1) for word in line.split() if "=" in word)
        status = words.pop("status", "")
        if status.isdecimal() and int(status) < 256:
            return Ending(int(status), words)
    return None


def _place(binary: Binary | None, address: int | None) -> str:
    if address is None:
        return "an unknown address"
    found = binary.table.find(address) if binary else None
    return f"{readable(found[0])}+{found[1]:#x}" if found else f"{address:#x}"


def _cause(ending: Ending) -> str:
    words = ending.words
    what = words.get("what", "")
    if what == "overrun":
        return "a stack has been overrun"
    if what == "start":
        return f"the AeroKernel cannot start: {words.get('why', 'unknown').replace('_', ' ')}"
    if what == "machine":
        return words.get("reason", "the machine has stopped").replace("_", " ")
    if what != "fault":
        return "the machine has stopped"
    vector = words.get("vector", "")
    name = VECTORS.get(int(vector), f"vector {vector}") if vector.isdecimal() else "exception"
    error, address = ending.number("error") or 0, ending.number("address")
    if address is None:
        return name if not error else f"{name}, error {error:#x}"
    access = "executing" if error & ERROR_FETCH else "writing" if error & ERROR_WRITE else "reading"
    kind = "allowed" if error & ERROR_PRESENT else "mapped"
    return f"{name} {access} {address:#x}, which is not {kind},"


def describe(ending: Ending, path: str) -> str | None:
    """The line for an end that the program did not choose: cause, place, registers.

    path: the program's file, for symbols. Returns None for a program that has ended itself.
    """
    if not ending.words:
        return None
    try:
        binary: Binary | None = Binary(path)
    except BROKEN:
        binary = None
    registers = {name: value for name in REGISTERS if (value := ending.number(name)) is not None}
    text = _cause(ending)
    if "rip" in registers:
        fetch = (ending.number("error") or 0) & ERROR_FETCH and "address" in ending.words
        text += f" at {_place(None if fetch else binary, registers['rip'])}"
    if "cpu" in ending.words and ending.words["cpu"] != "0":
        text += f" on virtual CPU {ending.words['cpu']}"
    if ending.words.get("what") == "overrun" and "rip" not in registers:
        text += " by a thread; give it a larger one"
    if registers:
        text += f" ({' '.join(f'{name}={value:#x}' for name, value in registers.items())})"
    return text
