"""A report as lines for people: short, as on stderr, or full."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass

from multiverse.crash.raw import Segment, Thread, printable
from multiverse.crash.report import (
    EXIT_INTERNAL_ERROR,
    SUBERRORS,
    Report,
    Step,
    event_text,
    exit_name,
    vector_name,
)
from multiverse.crash.symbols import Place
from multiverse.syscalls import NAMES

NOBODY = Segment(0, 0, 0)
WIDTH = 160  # of lines in the short form
HOW = {
    "rip": "",
    "exception": "  (the exception)",
    "frame": "  (saved by the AeroKernel)",
    "trap": "  (saved by the AeroKernel, which was answering an event)",
    "call": "  (on top of the stack)",
    "fp": "",
    "scan": "",
    "scan-unverified": "  (?)",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """The most lines of each part."""

    backtrace: int
    scan: int  # and as many as the backtrace has less than its most
    threads: int
    events: int
    code: int  # bytes before and behind


SHORT = Limits(backtrace=10, scan=5, threads=4, events=10, code=16)
FULL = Limits(backtrace=1 << 20, scan=1 << 20, threads=1 << 20, events=1 << 20, code=1 << 20)


def _place(place: Place | None) -> str:
    return "nothing is mapped there" if place is None else str(place)


def _steps(steps: list[Step], most: int, number: bool) -> Iterator[str]:
    for i, step in enumerate(steps[:most]):
        label = f"#{i:<3}" if number else "    "
        yield f"  {label}{step.address:#018x}  {_place(step.place)}{HOW.get(step.how, '')}"
    if len(steps) > most:
        yield f"      and {len(steps) - most} more"


def _reason(report: Report) -> Iterator[str]:
    raw, number = report.raw, report.raw.number
    words = f"{raw.text.get('what', '?')} ({number.get('detail', 0)})"
    if len(raw.exception) > 1:
        words += f": {vector_name(raw.exception[0])}, error code {raw.exception[1]:#x}"
    elif raw.pending:
        words += f"; on its way: {vector_name(raw.pending[0])}"
    yield f"  reason    {words}"
    if "core.rip" not in number:
        reason = number.get("exit.reason", 0)
        line = f"  exit      {exit_name(reason)} (KVM exit {reason})"
        if reason == EXIT_INTERNAL_ERROR:
            suberror = number.get("exit.suberror", 0)
            line += f", suberror {suberror}: {SUBERRORS.get(suberror, '?')}"
            line += "".join(f" {word:#x}" for word in raw.words)
        elif number.get("exit.suberror"):
            line += f", hardware reason {number['exit.suberror']:#x}"
        yield line
    yield f"  at        {report.rip:#x}  {_place(report.symbols.place(report.rip))}"
    mapping = report.symbols.mapping(report.rip)
    if mapping:
        yield f"  mapping   {mapping.start:#x}-{mapping.end:#x} {mapping.permissions}"
    for note in report.notes:
        yield f"  note      {note}"


def _head(report: Report) -> Iterator[str]:
    number = report.raw.number
    program = report.raw.text.get("program", "?")
    arguments = shlex.join(printable(word) for word in report.raw.arguments[1:])
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(number.get("time", 0) % (1 << 36)))
    yield f"  program   {program} {arguments}".rstrip()
    yield (
        f"  process   {number.get('pid', 0)}, thread {number.get('tid', 0)}, ring"
        f" {number.get('ring', 0)}, virtual CPU {number.get('vcpu', 0)}, {when}"
    )


def _general(registers: dict[str, int]) -> Iterator[str]:
    names = [name for name in registers if name not in ("rip", "rflags")]
    for i in range(0, len(names), 4):
        yield "  " + "  ".join(f"{name:>3} {registers[name]:016x}" for name in names[i : i + 4])
    yield f"  rip {registers['rip']:016x}  rflags {registers['rflags']:x}"


def _registers(report: Report, full: bool) -> Iterator[str]:
    raw, number = report.raw, report.raw.number
    if "core.rip" in number and "rip" not in number:
        return
    if report.usable or full:
        yield "registers" if report.usable else "registers, as KVM has reset them"
        yield from _general(raw.registers())
        control = "  ".join(f"{k} {number.get(k, 0):x}" for k in ("cr0", "cr2", "cr3", "cr4"))
        yield f"  {control}  efer {number.get('efer', 0):x}"
        selectors = "  ".join(
            f"{name} {raw.segments.get(name, NOBODY).selector:x}"
            for name in ("cs", "ss", "ds", "es")
        )
        bases = "  ".join(
            f"{name} base {raw.segments.get(name, NOBODY).base:x}" for name in ("fs", "gs")
        )
        yield f"  {selectors}  {bases}"
        yield f"  gdt {number.get('gdt.base', 0):x}  idt {number.get('idt.base', 0):x}"
    if not report.usable or full:
        yield "registers, as saved last (some may be older than others)"
        yield from _general(raw.registers("frame."))


def _code(report: Report, around: int) -> Iterator[str]:
    raw = report.raw
    if not raw.context:
        return
    rip = raw.context[0]
    addresses = [a for a in sorted(raw.code) if rip - around <= a < rip + around]
    if not addresses:
        yield f"code at {rip:#x}: none that can be read"
        return
    yield f"code around {rip:#x}"
    for i in range(0, len(addresses), 32):
        line = (
            f"<{raw.code[a]:02x}>" if a == rip else f"{raw.code[a]:02x}"
            for a in addresses[i : i + 32]
        )
        yield "  " + " ".join(line)


def _thread(report: Report, thread: Thread) -> str:
    if thread.rip is None:
        return f"  {thread.tid}: did not stop in time"
    place = report.symbols.place(thread.rip)
    line = f"  {thread.tid}: {thread.rip:#x}  {_place(place)}"
    if place is not None and place.module.startswith("AeroKernel"):
        call = NAMES.get(thread.frame_rax, f"call {thread.frame_rax}")
        caller = report.symbols.place(thread.frame_rip, is_return=True)
        line = f"  {thread.tid}: in {call}, from {thread.frame_rip:#x}  {_place(caller)}"
    return line


def _threads(report: Report, most: int) -> Iterator[str]:
    threads = report.raw.threads
    if not threads:
        return
    yield f"other threads: {len(threads)}"
    for thread in threads[:most]:
        yield _thread(report, thread)
    if len(threads) > most:
        yield f"  and {len(threads) - most} more"


def _events(report: Report, most: int) -> Iterator[str]:
    events = report.raw.events[-most:]
    if not events:
        return
    yield "last events of the thread (TSC cycles before the crash)"
    now = report.raw.number.get("tsc", 0)
    for event in events:
        yield f"  {now - event.begin:>15,}  {event_text(event)}"


def _stack(report: Report) -> Iterator[str]:
    memory = report.raw.stack
    if not memory:
        return
    yield "stack"
    for at in range(min(memory) & ~15, max(memory) + 1, 16):
        line = " ".join(f"{memory[a]:02x}" if a in memory else "  " for a in range(at, at + 16))
        yield f"  {at:#018x}  {line}"


def _lines(report: Report, limits: Limits, full: bool) -> Iterator[str]:
    yield "crash report"
    yield from _head(report)
    yield from _reason(report)
    yield from _registers(report, full)
    yield from _code(report, limits.code)
    if report.backtrace:
        yield "backtrace (frame pointers, as far as they lead)"
        yield from _steps(report.backtrace, limits.backtrace, True)
    if report.scan:
        yield "return addresses found on the stack (any of them may be stale)"
        unused = max(0, limits.backtrace - len(report.backtrace))
        yield from _steps(report.scan, limits.scan + unused, False)
    if report.core_scan:
        yield "return addresses found on the core's stack (any of them may be stale)"
        yield from _steps(report.core_scan, limits.scan, False)
    yield from _threads(report, limits.threads)
    yield from _events(report, limits.events)
    if full:
        yield from _stack(report)
        if report.raw.mappings:
            yield "mappings"
        for m in report.raw.mappings:
            yield f"  {m.start:x}-{m.end:x} {m.permissions} {m.offset:08x} {m.path}".rstrip()


def short_text(report: Report) -> str:
    """At most 60 lines, for a terminal."""
    lines = [printable(line) for line in _lines(report, SHORT, False)]
    cut = (line if len(line) <= WIDTH else line[: WIDTH - 3] + "..." for line in lines)
    return "\n".join(cut) + "\n"


def full_text(report: Report) -> str:
    """Everything that is known."""
    return "\n".join(printable(line) for line in _lines(report, FULL, True)) + "\n"
