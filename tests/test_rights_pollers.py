"""Pollers are made anew when what a program may do changes: none of before is left after it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import pytest
from conftest import HRT, SLOWNESS, Outcome, multiverse

# Whatever has to come is called for until it does: where it does not, the timeout ends the test.
PROGRAM = """
import os, resource, sys
def pollers():
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/comm") as name:
                if name.read() == "mv-poller\\n":
                    yield int(task)
        except OSError:
            pass
def until(condition):
    while not condition():
        for _ in range(100): os.getppid()
def write(fd, function):
    function(fd, os.pread(fd, 100, 0).strip())
what = sys.argv[1]
fd = os.open("/proc/self/oom_score_adj", os.O_RDWR)
if what == "high descriptor":
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1200, hard))
    os.dup2(fd, 1100)
until(lambda: any(pollers()))
old = set(pollers())
match what:
    case "nice": os.nice(3)
    case "class": os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    case "real time":
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
        except PermissionError:
            sys.exit(77)
    case "one CPU": os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
    case "write": write(fd, os.write)
    case "pwritev": write(fd, lambda fd, data: os.pwritev(fd, [data], 0))
    case "high descriptor": write(1100, os.write)
until(lambda: not old & set(pollers()))
if what == "one CPU":
    until(lambda: not any(pollers()))
    sys.exit()
until(lambda: any(pollers()))
if what == "real time":
    until(lambda: {os.sched_getscheduler(each) for each in pollers()} == {os.SCHED_OTHER})
else:
    for each in pollers():
        assert os.sched_getscheduler(each) == os.sched_getscheduler(0)
        assert os.getpriority(os.PRIO_PROCESS, each) == os.getpriority(os.PRIO_PROCESS, 0)
"""
CHANGES = ["nice", "class", "real time", "one CPU", "write", "pwritev", "high descriptor"]


@pytest.mark.timeout(120 * SLOWNESS)
@pytest.mark.parametrize("what", CHANGES)
def test_pollers_are_made_anew(what: str, hrt: Callable[..., Outcome]) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a second CPU for a poller is missing")
    done = multiverse(
        "run", "--require-hrt", "--channel=sync", "--", sys.executable, "-c", PROGRAM, what
    )
    if done.returncode == 77:
        pytest.skip("real-time classes need a right")
    assert done.returncode == 0, done.stderr


@pytest.mark.timeout(120 * SLOWNESS)
@pytest.mark.parametrize("mode", ["sync", "auto"])
def test_pollers_end_while_calls_are_made(
    mode: str, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("a second CPU for a poller is missing")
    result = hrt([guest("rights_retired")], config=f"{HRT},channel={mode}")
    assert result == Outcome(0, b"it ends: yes\n", b"")
