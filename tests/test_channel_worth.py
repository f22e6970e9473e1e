"""What is left to the partner since a poller would save nothing: long transfers, and refusals."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Outcome, multiverse

# Sizes on both sides of what an exit's time moves, whatever an exit takes.
TRANSFERS = """
import os
fd = os.memfd_create("data")
data = os.urandom(1 << 20)
os.pwrite(fd, data, 0)
same = True
for _ in range(60):
    for power in range(8, 21):
        for size in (1 << power, 3 << power - 1):
            size = min(size, len(data))
            same &= os.pread(fd, size, 0) == data[:size]
            same &= os.pwrite(fd, data[:size], 0) == size
            same &= len(os.getrandom(size >> 4)) == size >> 4
print(same)
"""
# Bytes a cycle of an exit: core/ros/route.c.
MOST = {"pread64": 2.5, "pwrite64": 2.5, "getrandom": 0.125}


@pytest.fixture
def two_cpus() -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a second CPU for a poller is missing")


def test_what_takes_longer_than_an_exit(
    two_cpus: None, hrt: Callable[..., Outcome], tmp_path: Path
) -> None:
    stats, trace = tmp_path / "stats", tmp_path / "trace"
    done = multiverse(
        "run", "--require-hrt", f"--stats={stats}", f"--trace={trace}", "--channel=sync", "--",
        sys.executable, "-c", TRANSFERS,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "True\n"), done.stderr
    cycles = json.loads(stats.read_text())["exit_cycles"]
    sizes: dict[str, list[int]] = {name: [] for name in MOST}
    for event in json.loads(trace.read_text())["traceEvents"]:
        if event["cat"] == "sync" and event["name"] in MOST:
            argument = 1 if event["name"] == "getrandom" else 2
            sizes[event["name"]].append(int(event["args"]["a"][argument], 16))
    for name, most in MOST.items():
        assert sizes[name] and max(sizes[name]) <= cycles * most


def test_calls_that_are_refused_make_no_poller(
    two_cpus: None, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    assert same([guest("refused", "-static", "-no-pie")]).stdout == b"threads: as before\n"
