"""The options of the channels: what they mean, what they refuse, what --stats tells of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HRT, Outcome, counters, multiverse, stat_of

from multiverse.core import core_path, routes


@pytest.mark.parametrize("value", ["", "x", "1-", "-1", "3-1", "0,,1", "1024", "0-99999"])
@pytest.mark.parametrize("option", ["--ros-cpus", "--hrt-cpus"])
def test_lists_of_cpus_that_are_none(option: str, value: str) -> None:
    done = multiverse("run", f"{option}={value}", "--", "true")
    assert done.returncode == 2
    assert done.stdout == ""
    assert option in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("value", ["both", "", "AUTO"])
def test_channels_that_are_none(value: str) -> None:
    done = multiverse("run", f"--channel={value}", "--", "true")
    assert done.returncode == 2 and "--channel" in done.stderr


def test_routes_are_told() -> None:
    table = routes()
    assert table["getpid"] == "always"
    assert "timeout" in table["epoll_wait"] and "wakes" in table["futex"]
    assert not {"fork", "execve", "nanosleep", "exit_group", "rt_sigprocmask"} & set(table)


def two_cpus() -> list[int]:
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        pytest.skip("a second CPU for a poller is missing")
    return cpus[:2]


CALLS = "import os\nfor _ in range(20000): os.getppid()\nprint(sorted(os.sched_getaffinity(0)))"


def test_partition_of_cores(hrt: Callable[..., Outcome], tmp_path: Path) -> None:
    ros, own = two_cpus()
    file = tmp_path / "stats.json"
    done = multiverse(
        "run", "--require-hrt", f"--stats={file}", "--channel=sync", f"--ros-cpus={ros}",
        f"--hrt-cpus={own}", "--", sys.executable, "-c", CALLS,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, f"[{own}]\n"), done.stderr
    stats = json.loads(file.read_text())
    assert stats["sync"]["getppid"] > 0


MASKS_AND_THREADS = """
import signal, threading
for _ in range(1000): signal.pthread_sigmask(signal.SIG_BLOCK, [])
for _ in range(50):
    thread = threading.Thread(target=int)
    thread.start()
    thread.join()
"""


def test_what_changes_nothing_is_not_asked(hrt: Callable[..., Outcome], tmp_path: Path) -> None:
    file = tmp_path / "stats.json"
    done = multiverse(
        "run", "--require-hrt", f"--stats={file}", "--", sys.executable, "-c", MASKS_AND_THREADS
    )
    assert done.returncode == 0, done.stderr
    asked = json.loads(file.read_text())["syscalls"]
    assert asked["clone3"] >= 50
    assert asked["set_robust_list"] < 5
    assert asked["rt_sigprocmask"] < 500


@pytest.mark.parametrize("option", ["--ros-cpus", "--hrt-cpus"])
def test_cpus_that_are_not_there(option: str, hrt: Callable[..., Outcome]) -> None:
    absent = max(os.sched_getaffinity(0)) + 900
    done = multiverse("run", "--require-hrt", f"{option}={absent}", "--", "true")
    assert done.returncode == 125
    assert (
        done.stderr
        == f"multiverse: run: {option}: none of these CPUs may be used here; give others\n"
    )


def test_the_way_of_each_call_is_printed(hrt: Callable[..., Outcome]) -> None:
    done = multiverse("run", "--channel", "auto", "--stats", "sh", "-c", "ls / >/dev/null")
    assert done.returncode == 0
    for word in ("asynchronous", "synchronous", "a poller may answer", "never"):
        assert word in done.stderr


def test_asynchronous_means_no_poller(hrt: Callable[..., Outcome]) -> None:
    _, stats = counters([sys.executable, "-c", CALLS], config=f"{HRT},channel=async")
    assert stats["sync"] == {} and stats["events"]["sync"]["count"] == 0
    assert stats["syscalls"]["getppid"] == 20000


def test_a_program_that_waits_has_no_poller_looking(hrt: Callable[..., Outcome]) -> None:
    script = (
        "import os, sys\nfor _ in range(5000): os.getppid()\n"
        "print('x', flush=True)\nsys.stdin.read()"
    )
    process = subprocess.Popen(
        [str(core_path()), HRT, sys.executable, "python3", "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin and process.stdout

    def states() -> set[str]:
        tasks = Path(f"/proc/{process.pid}/task").iterdir()
        fields = [stat_of(f"{process.pid}/task/{task.name}") for task in tasks]
        return {state for state, *_ in filter(None, fields)}

    assert process.stdout.readline() == b"x\n"
    asleep = 0
    for _ in range(3000):  # until it has been so for a while
        asleep = asleep + 1 if states() == {"S"} else 0
        if asleep == 20:
            break
        time.sleep(0.01)
    process.stdin.close()
    assert process.wait(timeout=30) == 0
    assert asleep == 20
