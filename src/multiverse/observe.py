"""`run --stats` and `run --trace`: run the core as a child and report when it has ended."""

from __future__ import annotations

import contextlib
import fcntl
import json
import mmap
import os
import resource
import signal
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import cffi

from multiverse.cli.run import program_environment
from multiverse.core import core_header, core_path, probe, routes
from multiverse.syscalls import NAMES

TRACE_CAPACITY = 1 << 20  # events; their pages are only taken when they are written


def _interface() -> Any:
    ffi = cffi.FFI()
    ffi.cdef(core_header("stats.h") + core_header("trace.h"))
    return ffi


def _enum_names(ffi: Any, enum: str, prefix: str) -> dict[int, str]:
    elements = ffi.typeof(f"enum {enum}").elements
    return {k: v.removeprefix(prefix).lower() for k, v in elements.items()}


def read_stats(data: Any) -> dict[str, Any]:
    """Decode the counters (core/abi/stats.h) from a buffer. Raises ValueError if it holds none."""
    ffi = _interface()
    stats = ffi.cast("struct mv_stats *", ffi.from_buffer(data))
    if stats.magic != 0x5453564D:
        raise ValueError("the core wrote no counters")
    kinds = _enum_names(ffi, "mv_event", "MV_EVENT_")
    events = {
        name: {"count": int(stats.events[kind]), "cycles": int(stats.event_cycles[kind])}
        for kind, name in kinds.items()
        if name != "count"
    }
    scalars = ("processes", "groups", "groups_peak", "vcpus", "slots", "slot_bytes", "populated")
    return {
        "hrt": bool(stats.hrt),
        "ring": int(stats.ring) if stats.hrt else None,
        **{name: int(getattr(stats, name)) for name in scalars},
        "guest_memory_peak": int(stats.guest_memory_peak),
        "vm_setup_cycles": int(stats.vm_setup_cycles),
        "exit_cycles": int(stats.exit_cycles),
        "events": events,
        "syscalls": {NAMES.get(i, str(i)): int(n) for i, n in enumerate(stats.syscalls) if n},
        "sync": {NAMES.get(i, str(i)): int(n) for i, n in enumerate(stats.sync) if n},
        "exceptions": {str(i): int(n) for i, n in enumerate(stats.exceptions) if n},
    }


def trace_json(data: Any, offset: int = 0) -> dict[str, Any]:
    """Turn a trace (core/abi/trace.h) into the trace-event JSON that Perfetto reads.

    offset: of the trace in the buffer, bytes. Times are in microseconds of the TSC. Raises
    ValueError for a buffer that holds no trace.
    """
    ffi = _interface()
    buffer = ffi.from_buffer(data) + offset
    header = ffi.cast("struct mv_trace_header *", buffer)
    if header.magic != 0x5254564D or not header.tsc_hz:
        raise ValueError("not a trace")
    kinds = _enum_names(ffi, "mv_trace_kind", "MV_TRACE_")
    events = ffi.cast("struct mv_trace_event *", buffer + ffi.sizeof("struct mv_trace_header"))
    room = (len(data) - offset - ffi.sizeof("struct mv_trace_header")) // ffi.sizeof(events[0])
    count = min(header.next, header.capacity, room)
    out = []
    for event in (events[i] for i in range(count)):
        kind = kinds.get(event.kind, "none")
        if kind == "none":
            continue
        name = NAMES.get(event.nr, str(event.nr)) if kind in ("syscall", "sync") else kind
        out.append(
            {
                "name": name,
                "cat": kind,
                "ph": "X",
                "ts": event.begin * 1e6 / header.tsc_hz,
                "dur": (event.end - event.begin) * 1e6 / header.tsc_hz,
                "pid": event.pid,
                "tid": event.tid,
                "args": {
                    "nr": event.nr,
                    "result": event.result,
                    "a": [f"{value:#x}" for value in event.a],
                    "tsc": event.begin,
                },
            }
        )
    dropped = max(0, header.next - header.capacity)
    return {"traceEvents": out, "otherData": {"dropped": dropped, "tsc_hz": int(header.tsc_hz)}}


def print_stats(stats: dict[str, Any]) -> None:
    """Print the counters as a table on stderr."""
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    if not stats["hrt"]:
        console.print("multiverse: the program ran natively; there is nothing to count")
        return
    table = Table(title=f"Multiverse: legacy events (ring {stats['ring']})")
    table.add_column("event")
    table.add_column("count", justify="right")
    table.add_column("cycles each", justify="right")
    for name, event in stats["events"].items():
        if event["count"]:
            table.add_row(name, f"{event['count']:,}", f"{event['cycles'] // event['count']:,}")
    console.print(table)
    table = Table(title="System calls, by the way they went")
    table.add_column("call")
    table.add_column("asynchronous", justify="right")
    table.add_column("synchronous", justify="right")
    table.add_column("a poller may answer")
    ways = routes()
    for name, count in sorted(stats["syscalls"].items(), key=lambda item: -item[1]):
        sync = stats["sync"].get(name, 0)
        table.add_row(name, f"{count - sync:,}", f"{sync:,}", ways.get(name, "never"))
    console.print(table)
    console.print(
        f"groups {stats['groups']} (peak {stats['groups_peak']}), processes {stats['processes']}, "
        f"slots {stats['slots']} over {stats['slot_bytes'] >> 20} MiB, "
        f"peak memory {stats['guest_memory_peak'] >> 20} MiB, "
        f"{stats['populated'] >> 20} MiB of memory populated ahead, "
        f"an exit takes {stats['exit_cycles']:,} cycles"
    )


def inheritable(name: str, size: int) -> tuple[int, mmap.mmap]:
    """A file in memory for the core, which inherits the descriptor. Raises OSError."""
    low = os.memfd_create(name, 0)
    fd = fcntl.fcntl(low, fcntl.F_DUPFD, 3)  # closed standard descriptors stay closed
    os.close(low)
    os.ftruncate(fd, size)
    return fd, mmap.mmap(fd, size)


@dataclass(frozen=True, slots=True)
class Counters:
    """A file in memory that a core counts into: ``stats=`` of its configuration.

    Attributes:
        descriptor: what the core has to inherit; closed on exec unless that is changed.
        data: the file's contents.
    """

    descriptor: int
    data: mmap.mmap

    def read(self) -> dict[str, Any]:
        """What was counted; see read_stats. Raises ValueError if nothing was."""
        return read_stats(self.data)


@contextlib.contextmanager
def counters() -> Iterator[Counters]:
    """A file for a core's counters. Raises OSError."""
    fd, data = inheritable("multiverse-stats", _interface().sizeof("struct mv_stats"))
    os.set_inheritable(fd, False)
    try:
        yield Counters(fd, data)
    finally:
        os.close(fd)


def end_as(status: int) -> NoReturn:
    """End as a child with this wait status ended."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, resource.getrlimit(resource.RLIMIT_CORE)[1]))
        with contextlib.suppress(OSError, ValueError):
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    sys.exit(os.waitstatus_to_exitcode(status))


def wait_for(pid: int) -> int:
    """Wait for the program as `time` would; returns its wait status."""

    def forward(number: int, frame: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    # The terminal's signals reach the program by themselves, as under `time` or `perf stat`.
    for number in (signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, forward)
    return os.waitpid(pid, 0)[1]


def run_core(config: list[str], path: str, argv: list[str]) -> int:
    """Run the core as a child, to the program's end. Returns its wait status.

    Raises OSError if it cannot be started.
    """
    core = str(core_path())
    words = [core, ",".join(config), path, *argv]
    # Python ignores these two signals, and a child would inherit that.
    signals = [signal.SIGPIPE, signal.SIGXFSZ]
    environment = program_environment(config)
    return wait_for(os.posix_spawn(core, words, environment, setsigdef=signals))


def _open_output(name: str | None) -> IO[str] | None:
    return None if name in (None, "-") else Path(str(name)).open("w")


def _write_json(file: IO[str], content: Any, indent: int | None = None) -> None:
    """Write and close a file. Raises OSError with its name."""
    try:
        with file:
            json.dump(content, file, indent=indent)
    except OSError as error:
        error.filename = file.name
        raise


def run_observed(
    config: list[str], path: str, argv: list[str], stats: str | None, trace: str | None
) -> NoReturn:
    """Run the program as a child and report.

    stats: "-" for a table on stderr, else a file for JSON; trace: a file for trace-event JSON.
    Raises OSError if the files or the child cannot be made, and if a file cannot be written.
    """
    ffi = _interface()
    stats_file, trace_file = _open_output(stats), _open_output(trace)
    maps: dict[str, mmap.mmap] = {}
    sizes = {"stats": ffi.sizeof("struct mv_stats")} if stats is not None else {}
    if trace is not None:
        event_size = ffi.sizeof("struct mv_trace_event")
        header_size = ffi.sizeof("struct mv_trace_header")
        sizes["trace"] = header_size + TRACE_CAPACITY * event_size
    for name, size in sizes.items():
        fd, maps[name] = inheritable(f"multiverse-{name}", size)
        config = [*config, f"{name}={fd}"]
    if trace is not None:
        header = ffi.cast("struct mv_trace_header *", ffi.from_buffer(maps["trace"]))
        header.magic, header.version = 0x5254564D, 3
        header.capacity = TRACE_CAPACITY
        header.tsc_hz = int(probe()["tsc_hz"])
        del header
    status = run_core(config, path, argv)
    if stats is not None:
        counters = read_stats(maps["stats"])
        if stats_file:
            _write_json(stats_file, counters, indent=2)
        else:
            with contextlib.suppress(OSError):  # stderr may be full, or its reader gone
                print_stats(counters)
    if trace_file:
        _write_json(trace_file, trace_json(maps["trace"]))
    end_as(status)
