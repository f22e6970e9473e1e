"""The profile as the core writes it (core/abi/profile.h).

The program shares the file's memory with the core's own process, so nothing in it is believed:
indices are checked, and sizes are those of the file.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import cffi

from multiverse.core import core_header
from multiverse.crash.raw import Mapping

MAGIC, TRACE_MAGIC = 0x4650564D, 0x5254564D
CALLS = 512  # numbers of system calls that are counted apart
VALID = 2
WORD = 8
UNKNOWN = (1 << 64) - 1


@dataclass
class Counts:
    """Events and their costs, in TSC cycles; the fields are those of struct mv_profile_counts."""

    count: int = 0
    sync: int = 0
    exits: int = 0
    stamped: int = 0
    wait: int = 0
    call: int = 0
    blocked: int = 0
    back: int = 0


@dataclass(frozen=True, slots=True)
class Process:
    """A process; end: 0 if it was killed. index: by which sites and groups name it."""

    index: int
    pid: int
    parent: int
    ring: int
    begin: int
    end: int
    path: str


@dataclass(frozen=True, slots=True)
class Group:
    """An execution group: a thread."""

    process: int
    pid: int
    tid: int
    begin: int
    last: int
    ended: bool
    overhead: int
    counts: Counts


@dataclass(frozen=True, slots=True)
class Sample:
    """A stack: words from rsp on; returns: which of them follow a call in code."""

    count: int
    cycles: int
    tsc: int
    rsp: int
    rbp: int
    frames: tuple[int, ...]
    words: tuple[int, ...]
    returns: frozenset[int]


@dataclass(frozen=True, slots=True)
class Site:
    """Where events come from; rip: where the program believes to be, 0 if nobody knows."""

    process: int
    kind: str
    nr: int
    rip: int
    counts: Counts
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Range:
    """Events about addresses near one; mapped, anonymous: what an mmap made."""

    process: int
    kind: str
    nr: int
    mapped: bool
    anonymous: bool
    address: int
    extent: int
    count: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Event:
    """One event of the timeline; asked: when the HRT asked, 0 if unknown."""

    begin: int
    end: int
    asked: int
    pid: int
    tid: int
    kind: str
    nr: int
    result: int


@dataclass
class RawProfile:
    """Everything; mappings: by process index, a list of (TSC, mappings) in order of time."""

    tsc_hz: int
    exit_cycles: int
    sync_back: int
    processes: list[Process]
    groups: list[Group]
    sites: list[Site]
    rest: list[tuple[str, int, Counts]]
    ranges: list[Range]
    mappings: dict[int, list[tuple[int, list[Mapping]]]]
    events: list[Event]
    dropped: dict[str, int] = field(default_factory=dict)


def interface() -> Any:
    """cffi's view of profile and trace."""
    ffi = cffi.FFI()
    ffi.cdef(core_header("trace.h") + core_header("profile.h"))
    return ffi


def size_of(ffi: Any, events: int) -> int:
    """Bytes of a file with room for so many events of the timeline."""
    sizes = map(ffi.sizeof, ("struct mv_profile", "struct mv_trace_header"))
    return int(sum(sizes)) + events * int(ffi.sizeof("struct mv_trace_event"))


def prepare(ffi: Any, data: Any, events: int, tsc_hz: int) -> None:
    """Fill in what the core expects to find."""
    buffer = ffi.from_buffer(data)
    profile = ffi.cast("struct mv_profile *", buffer)
    profile.magic, profile.version = MAGIC, 1
    profile.sync_wait_min = UNKNOWN
    trace = ffi.cast("struct mv_trace_header *", buffer + ffi.sizeof("struct mv_profile"))
    trace.magic, trace.version = TRACE_MAGIC, 3
    trace.capacity, trace.tsc_hz = events, tsc_hz


def _counts(of: Any) -> Counts:
    return Counts(**{name: int(getattr(of, name)) for name in Counts.__dataclass_fields__})


def _kinds(ffi: Any) -> dict[int, str]:
    names = ffi.typeof("enum mv_trace_kind").elements
    return {value: name.removeprefix("MV_TRACE_").lower() for value, name in names.items()}


def _parse_map(line: str) -> Mapping | None:
    parts = line.split(maxsplit=5)
    try:
        start, end = (int(part, 16) for part in parts[0].split("-"))
        return Mapping(start, end, parts[1], int(parts[2], 16), parts[5] if parts[5:] else "")
    except (ValueError, IndexError):
        return None


def _mappings(profile: Any, ffi: Any) -> dict[int, list[tuple[int, list[Mapping]]]]:
    texts: dict[tuple[int, int], bytearray] = defaultdict(bytearray)
    for chunk in profile.chunk[0 : min(profile.chunks, len(profile.chunk))]:
        size = min(chunk.bytes, ffi.sizeof(chunk.text))
        if size:
            texts[chunk.process, chunk.tsc] += ffi.buffer(chunk.text, size)[:]
    found: dict[int, list[tuple[int, list[Mapping]]]] = defaultdict(list)
    for (process, tsc), text in sorted(texts.items()):
        lines = text.decode(errors="surrogateescape").split("\n")
        found[process].append((tsc, [m for m in map(_parse_map, lines) if m]))
    return dict(found)


def _sample(sample: Any) -> Sample:
    words = tuple(sample.word[0 : min(sample.words, len(sample.word))])
    bits = list(sample.returns)
    return Sample(
        int(sample.count),
        int(sample.cycles),
        int(sample.tsc),
        int(sample.rsp),
        int(sample.rbp),
        tuple(sample.frame[0 : min(sample.frames, len(sample.frame))]),
        words,
        frozenset(i for i in range(len(words)) if bits[i // 64] >> i % 64 & 1),
    )


def _events(ffi: Any, trace: Any, room: int, kinds: dict[int, str]) -> list[Event]:
    events = ffi.cast("struct mv_trace_event *", trace + 1)
    count = min(int(trace.next), room)
    return [
        Event(
            int(e.begin), int(e.end), int(e.asked), int(e.pid), int(e.tid),
            kinds.get(e.kind, "none"), int(e.nr), int(e.result),
        )
        for e in (events[i] for i in range(count))
        if e.kind
    ]  # fmt: skip


def read(data: Any) -> RawProfile:
    """Decode a profile's file. Raises ValueError if it is none."""
    ffi = interface()
    buffer = ffi.from_buffer(data)
    profile = ffi.cast("struct mv_profile *", buffer)[0]
    trace = ffi.cast("struct mv_trace_header *", buffer + ffi.sizeof("struct mv_profile"))
    if profile.magic != MAGIC or trace.magic != TRACE_MAGIC or not trace.tsc_hz:
        raise ValueError("not a profile")
    kinds = _kinds(ffi)
    room = (len(buffer) - size_of(ffi, 0)) // ffi.sizeof("struct mv_trace_event")
    samples: dict[int, list[Sample]] = defaultdict(list)
    for sample in profile.sample:
        if sample.state == VALID and sample.site < len(profile.site):
            samples[sample.site].append(_sample(sample))
    return RawProfile(
        tsc_hz=int(trace.tsc_hz),
        exit_cycles=int(profile.exit_cycles),
        sync_back=0 if profile.sync_wait_min == UNKNOWN else int(profile.sync_wait_min),
        processes=[
            Process(
                index,
                int(p.pid),
                int(p.parent),
                int(p.ring),
                int(p.begin),
                int(p.end),
                ffi.string(p.path, ffi.sizeof(p.path)).decode(errors="replace"),
            )
            for index, p in enumerate(profile.process)
            if p.state == VALID
        ],  # fmt: skip
        groups=[
            Group(
                int(g.process),
                int(g.pid),
                int(g.tid),
                int(g.begin),
                int(g.last),
                bool(g.ended),
                int(g.overhead),
                _counts(g.counts),
            )
            for g in profile.group
            if g.state == VALID
        ],  # fmt: skip
        sites=[
            Site(
                int(s.process),
                kinds.get(s.kind, "none"),
                int(s.nr),
                int(s.program_rip),
                _counts(s.counts),
                samples[index],
            )
            for index, s in enumerate(profile.site)
            if s.state == VALID
        ],  # fmt: skip
        rest=[
            (
                "syscall" if i < CALLS else kinds.get(i - CALLS, "none"),
                i if i < CALLS else 0,
                _counts(c),
            )
            for i, c in enumerate(profile.rest)
            if c.count
        ],  # fmt: skip
        ranges=[
            Range(
                int(r.process),
                kinds.get(r.kind, "none"),
                int(r.nr),
                bool(r.flags & 1),
                bool(r.flags & 2),
                int(r.address),
                int(r.extent),
                int(r.count),
                int(r.cycles),
            )
            for r in profile.range
            if r.state == VALID
        ],  # fmt: skip
        mappings=_mappings(profile, ffi),
        events=_events(ffi, trace, room, kinds),
        dropped={
            "events": max(0, int(trace.next) - room),
            "ranges": int(profile.ranges_dropped),
            "samples": int(profile.samples_dropped),
            "processes": max(0, int(profile.processes) - len(profile.process)),
            "groups": max(0, int(profile.groups) - len(profile.group)),
        },
    )
