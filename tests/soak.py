#!/usr/bin/env python3
"""Run a mixed load as HRTs for a long time and watch what it takes; not a part of the test suite.

For each channel two programs run side by side: one with threads, signals and calls that wait, which
runs for the time given, and one that makes threads, forks, programs and mappings, whose amount of
work is chosen to take as long. What they print is compared with the native run. Resident memory,
threads, descriptors and mappings of each are sampled.

Exit status: 0, or 1 after a hang, a wrong result or growth.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conftest import GUESTS, HRT, describe, end_session, hybrid, stat_of

CHANNELS = ("sync", "async", "auto")
WARM_UP = 0.25  # of the time, during which growth is none
TICKS = os.sysconf("SC_CLK_TCK")
STALLED = 30.0  # seconds with next to no CPU time that count as a hang
LATE = 4.0  # times the time it should take


@dataclass(frozen=True)
class Sample:
    seconds: float
    rss: int  # KiB
    threads: int
    descriptors: int
    mappings: int
    cpu: float  # seconds, with that of children that have ended


@dataclass
class Load:
    """A program, what it should print, and what has been seen of it."""

    name: str
    command: list[str]
    expected: bytes
    seconds: float
    process: subprocess.Popen[bytes] | None = None
    output: Path | None = None
    samples: list[Sample] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    began: float = 0
    moved: float = 0  # when CPU time was last seen to move

    def fault(self, what: str) -> None:
        self.faults.append(what)
        print(f"  {self.name}: {what}", flush=True)


def build(name: str, directory: Path) -> str:
    target = directory / name
    source = GUESTS / f"{name}.c"
    command = ["cc", "-std=gnu17", "-O2", "-pthread", "-o", str(target), str(source), "-lm"]
    subprocess.run(command, check=True)
    return str(target)


def begin(
    command: Sequence[str], channel: str, overrides: Sequence[str], **options: Any
) -> subprocess.Popen[bytes]:
    """Start a program natively, or as an HRT with a channel and overrides."""
    if channel == "native":
        return subprocess.Popen(command, **options)
    with hybrid(command, f"{HRT},channel={channel}", overrides) as (argv, fds):
        return subprocess.Popen(argv, pass_fds=fds, **options)


def sample(load: Load) -> Sample | None:
    assert load.process
    proc = Path(f"/proc/{load.process.pid}")
    try:
        pairs = (line.split(":", 1) for line in (proc / "status").read_text().splitlines())
        status = {key: value.split() for key, value in pairs}
        descriptors = len(os.listdir(proc / "fd"))
        mappings = (proc / "maps").read_text().count("\n")
        fields = stat_of(load.process.pid)
        return Sample(
            time.monotonic() - load.began,
            int(status["VmRSS"][0]),
            int(status["Threads"][0]),
            descriptors,
            mappings,
            sum(map(int, fields[11:15])) / TICKS,
        )
    except (OSError, KeyError, IndexError):
        return None  # it has just ended


def start(load: Load, channel: str, overrides: Sequence[str], directory: Path) -> None:
    load.output = directory / f"{load.name}.out"
    with load.output.open("wb") as out:
        load.process = begin(
            load.command,
            channel,
            overrides,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    load.began = load.moved = time.monotonic()


def look(load: Load) -> None:
    """Take a sample, and end the program if it hangs."""
    assert load.process
    now = time.monotonic()
    taken = sample(load)
    if taken:
        before = load.samples[-1] if load.samples else None
        if not before or taken.cpu - before.cpu > 0.01 * (taken.seconds - before.seconds):
            load.moved = now
        load.samples.append(taken)
    stalled = now - load.moved > STALLED
    if stalled or now - load.began > load.seconds * LATE + 60:
        load.fault("hangs: it does nothing" if stalled else "hangs: it does not end")
        print(describe(load.process.pid), flush=True)
        for line in end_session(load.process.pid, 0):
            print(line, flush=True)
        load.process.wait()


def finish(load: Load) -> None:
    assert load.process and load.output
    status = load.process.wait()
    if not load.faults:
        if status:
            load.fault(f"ended with status {status}")
        seen = load.output.read_bytes()
        if seen != load.expected:
            load.fault("its output is not the native one:")
            wanted = set(load.expected.splitlines())
            for line in seen.splitlines():
                if line not in wanted:
                    print(f"    {line.decode(errors='replace')}", flush=True)
    left = end_session(load.process.pid, 5)
    if left:
        load.fault("left behind:\n" + "\n".join(left))
    grown(load)


def grown(load: Load) -> None:
    """Compare the second quarter with the last: what is kept for reuse is there by then."""
    ended = load.samples[-1].seconds if load.samples else 0
    steady = [s for s in load.samples if s.seconds > WARM_UP * ended]
    if len(steady) < 8:
        load.fault(f"ended too soon to show growth: {len(load.samples)} samples")
        return
    third = len(steady) // 3
    first, last = steady[:third], steady[-third:]
    for what, margin in (("rss", 8192), ("threads", 3), ("descriptors", 4), ("mappings", 32)):
        before = statistics.median(getattr(s, what) for s in first)
        after = statistics.median(getattr(s, what) for s in last)
        if after > before * 1.1 + margin:
            load.fault(f"{what} grows: {before:g} to {after:g}")


def table(loads: Sequence[Load], rows: int = 12) -> None:
    for load in loads:
        step = max(1, len(load.samples) // rows)
        print(f"  {load.name}: {len(load.samples)} samples")
        print("    seconds  RSS KiB  threads  descriptors  mappings  CPU seconds")
        for s in load.samples[::step]:
            print(
                f"    {s.seconds:7.0f}  {s.rss:7}  {s.threads:7}  {s.descriptors:11}"
                f"  {s.mappings:8}  {s.cpu:11.1f}"
            )


def measured(
    command: Sequence[str], channel: str, overrides: Sequence[str] = ()
) -> tuple[float, bytes]:
    started = time.monotonic()
    process = begin(command, channel, overrides, stdout=subprocess.PIPE)
    output, _ = process.communicate()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(command))
    return time.monotonic() - started, output


def soak(
    channel: str, overrides: Sequence[str], minutes: float, interval: float, directory: Path
) -> list[Load]:
    seconds = minutes * 60
    signals, stress = build("channel_signals", directory), build("stress", directory)
    mix = "threads signals forks memory execs"
    # How long it takes is known only from a short run beside the other program.
    marks = ["overridden"] if overrides else []
    beside = begin([signals, "10", *marks], channel, overrides, stdout=subprocess.DEVNULL)
    each, _ = measured([stress, mix, "2"], channel, overrides)
    beside.wait()
    factor = max(2, round(2 * seconds / each))
    loads = [
        Load(
            "channel_signals",
            [signals, f"{seconds:g}", *marks],
            measured([signals], "native")[1],
            seconds,
        ),
        Load("stress", [stress, mix, str(factor)], b"", seconds),
    ]
    loads[1].expected = measured(loads[1].command, "native")[1]
    for load in loads:
        start(load, channel, overrides, directory)
    due = time.monotonic()
    while any(load.process and load.process.poll() is None for load in loads):
        due += interval
        while time.monotonic() < due and any(
            load.process and load.process.poll() is None for load in loads
        ):
            time.sleep(0.1)
        for load in loads:
            if load.process and load.process.poll() is None:
                look(load)
    for load in loads:
        finish(load)
    return loads


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=10, help="for each channel")
    parser.add_argument(
        "--channels", default=",".join(CHANNELS), help="of sync, async, auto, and native"
    )
    parser.add_argument("--override", action="append", default=[], help="a set, may be given again")
    parser.add_argument("--interval", type=float, help="seconds between two samples")
    options = parser.parse_args()
    interval = options.interval or max(0.5, options.minutes * 60 / 120)
    bad = False
    for channel in options.channels.split(","):
        if channel not in (*CHANNELS, "native"):
            parser.error(f"{channel} is none of {', '.join(CHANNELS)}, native")
        print(f"{channel}: {options.minutes:g} minutes", flush=True)
        with tempfile.TemporaryDirectory() as name:
            loads = soak(channel, options.override, options.minutes, interval, Path(name))
        table(loads)
        faults = [f"{load.name}: {fault}" for load in loads for fault in load.faults]
        print(f"{channel}: {'; '.join(faults) or 'no fault'}", flush=True)
        bad = bad or bool(faults)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
