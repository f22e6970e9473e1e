"""The raw report of the core: lines of key=value (docs/crash-reports.md).

It tells of a program that has gone wrong, so any value may be anything: what does not parse is left
out, and nothing here raises but RawError.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

VERSION = 1
GENERAL = (
    *("rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp"),
    *("r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags"),
)
CONTROL = ("cr0", "cr2", "cr3", "cr4", "efer")
SEGMENTS = ("cs", "ss", "ds", "es", "fs", "gs", "tr")


class RawError(ValueError):
    """The text is no raw report of this version."""


@dataclass(frozen=True, slots=True)
class Mapping:
    """A line of /proc/self/maps."""

    start: int
    end: int
    permissions: str
    offset: int
    path: str

    @property
    def executable(self) -> bool:
        return "x" in self.permissions

    def holds(self, address: int) -> bool:
        return self.start <= address < self.end


@dataclass(frozen=True, slots=True)
class Thread:
    """Another thread of the process; rip, rsp: None if it did not stop in time."""

    tid: int
    vcpu: int
    rip: int | None
    rsp: int | None
    frame_rip: int
    frame_rax: int


@dataclass(frozen=True, slots=True)
class Event:
    """A legacy event of the crashing group; begin in TSC cycles."""

    begin: int
    kind: str
    nr: int
    result: int
    a: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Segment:
    selector: int
    base: int
    limit: int


@dataclass
class Raw:
    """A raw report. Numbers are as the core gives them; what is missing is 0, None or empty."""

    text: dict[str, str] = field(default_factory=dict)
    number: dict[str, int] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    arguments: list[str] = field(default_factory=list)
    words: list[int] = field(default_factory=list)
    aerokernel: tuple[int, ...] = ()
    region: tuple[int, ...] = ()
    exception: tuple[int, ...] = ()  # vector, error, rip, rsp, rflags
    pending: tuple[int, ...] = ()  # vector, error
    trap: tuple[int, ...] = ()  # active, error, CR2, RIP, RSP of the AeroKernel's record
    context: tuple[int, ...] = ()  # rip, rsp, rbp where the walk of the stack began
    trace: list[tuple[str, int]] = field(default_factory=list)
    code: dict[int, int] = field(default_factory=dict)  # bytes by address
    stack: dict[int, int] = field(default_factory=dict)
    core_stack: dict[int, int] = field(default_factory=dict)
    threads: list[Thread] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    mappings: list[Mapping] = field(default_factory=list)
    complete: bool = False

    def registers(self, prefix: str = "") -> dict[str, int]:
        return {name: self.number.get(prefix + name, 0) for name in GENERAL}


def unescape(text: str) -> str:
    r"""Undo the core's \xNN; bytes that are not UTF-8 become surrogates."""
    data = re.sub(
        rb"\\x([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), text.encode(errors="replace")
    )
    return data.decode(errors="surrogateescape")


def printable(text: str) -> str:
    """The text with nothing in it that a terminal would act on."""
    return "".join(
        c if c.isprintable() and not 0xD800 <= ord(c) <= 0xDFFF else ascii(c)[1:-1] for c in text
    )


def _numbers(value: str) -> tuple[int, ...]:
    return tuple(int(part, 0) for part in value.split(","))


def _mapping(value: str) -> Mapping:
    parts = unescape(value).split(maxsplit=5)
    start, end = (int(part, 16) for part in parts[0].split("-"))
    return Mapping(start, end, parts[1], int(parts[2], 16), parts[5] if len(parts) > 5 else "")


def _thread(value: str) -> Thread:
    tid, vcpu, known, rip, rsp, _rbp, frame_rip, frame_rax = _numbers(value)
    return Thread(tid, vcpu, rip if known else None, rsp if known else None, frame_rip, frame_rax)


def _event(value: str) -> Event:
    begin, kind, rest = value.split(",", 2)
    nr, result, *a = _numbers(rest)
    return Event(int(begin), kind, nr, result, tuple(a))


def _segment(value: str) -> Segment:
    selector, base, limit = (int(part, 0) for part in value.split(",")[:3])
    return Segment(selector, base, limit)


def _bytes(value: str) -> dict[int, int]:
    start, data = value.split(",")
    return dict(enumerate(bytes.fromhex(data), int(start, 0)))


_TEXT = ("what", "core", "program")
_TUPLES = ("aerokernel", "region", "exception", "pending", "trap", "context")
_BYTES = {"code": "code", "stack": "stack", "core.stack": "core_stack"}


def _take(raw: Raw, key: str, value: str) -> None:
    if key in _TEXT:
        raw.text[key] = unescape(value)
    elif key in _TUPLES:
        setattr(raw, key, _numbers(value))
    elif key in SEGMENTS:
        raw.segments[key] = _segment(value)
    elif key in _BYTES:
        getattr(raw, _BYTES[key]).update(_bytes(value))
    elif key == "arg":
        raw.arguments.append(unescape(value))
    elif key == "map":
        raw.mappings.append(_mapping(value))
    elif key == "thread":
        raw.threads.append(_thread(value))
    elif key == "event":
        raw.events.append(_event(value))
    elif key == "exit.word":
        raw.words.append(int(value, 0))
    elif key == "trace":
        how, address = value.split(",")
        raw.trace.append((how, int(address, 0)))
    elif key in ("gdt", "idt"):
        raw.number[f"{key}.base"], raw.number[f"{key}.limit"] = _numbers(value)
    elif key == "end":
        raw.complete = True
    else:
        raw.number[key] = int(value, 0)


def parse(lines: Iterable[str]) -> Raw:
    """Read a raw report. Keys that are not known, and values that make no sense, are left out."""
    raw = Raw()
    version = None
    for line in lines:
        key, equals, value = line.rstrip("\n").partition("=")
        if version is None:
            # The line that the core writes first may stand in front, in what a user has saved.
            if key == "multiverse-crash":
                version = value
            continue
        if equals:
            try:
                _take(raw, key, value)
            except (ValueError, TypeError, IndexError):
                continue
    if version != str(VERSION):
        raise RawError("not a raw crash report" if version is None else "of another version")
    return raw
