"""When pollers look (core/ros/pace.c), by a clock of the test's own."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, cycle, islice, repeat
from pathlib import Path
from typing import Any

import cffi
import pytest

CORE = Path(__file__).resolve().parent.parent / "core"
US = 2600  # TSC cycles a microsecond
EXIT_US = 28  # what a call by exit costs
LATE_US = 25  # how late a nap ends, and how long a poller takes to wake up
ANSWER_US = 1  # what an answer takes
TURN_US = 1  # how often a poller that looks asks whether to go on

AUTO, LOOK_ON, NAP, SLEEP = 0, 0, 1, 2  # enum ros_channel_mode, enum pace_verdict
OTHER, CLOCK, WRITE = 39, 228, 1  # system calls, by number

Call = tuple[int, float]  # which, and for how many microseconds the program computes before it


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    path = tmp_path_factory.mktemp("pace") / "pace.so"
    subprocess.run(
        [
            "gcc",
            "-std=c17",
            "-O2",
            "-shared",
            "-fPIC",
            f"-I{CORE}",
            CORE / "ros/pace.c",
            "-o",
            path,
        ],
        check=True,
    )
    ffi: Any = cffi.FFI()
    header = (CORE / "ros/pace.h").read_text()
    ffi.cdef("enum ros_channel_mode { ROS_CHANNEL_AUTO, ROS_CHANNEL_SYNC, ROS_CHANNEL_ASYNC };")
    ffi.cdef("\n".join(line for line in header.splitlines() if not line.startswith("#")))
    return ffi, path


@dataclass
class Account:
    """What became of a program's calls, and of its poller's time, in microseconds."""

    time: float = 0
    looked: float = 0
    answered: int = 0
    left: int = 0
    naps: int = 0
    asleep: bool = False

    @property
    def share(self) -> float:
        return self.looked / self.time

    @property
    def by_poller(self) -> float:
        return self.answered / (self.answered + self.left)


class Machine:
    """A program on one core, and one poller on another, which nobody else wants."""

    def __init__(self, library: tuple[Any, Path]) -> None:
        self.ffi, path = library
        self.pace: Any = self.ffi.dlopen(str(path))
        self.pace.pace_init(AUTO, EXIT_US * US, US * 1000000)
        self.me = self.ffi.new("struct pace *")
        self.now = 1e6  # of the program
        self.at = self.now  # of the poller
        self.wakes_at: float | None = None  # None: when it is woken
        self.due: float | None = None  # when its nap should have ended
        self.looking = False
        self.woken = False
        self.made = False
        self.exit_us = EXIT_US  # until the program is back

    def run(self, calls: Iterable[Call]) -> Account:
        """Make these calls; the account is of them alone."""
        self.account = Account()
        start = self.now
        for nr, compute in calls:
            self.now += compute
            self._poll_until(self.now)
            self._call(nr)
        self.account.time = self.now - start
        return self.account

    def wait(self, time: float) -> Account:
        """Make no call for so long."""
        self.account = Account(time=time)
        self.now += time
        self._poll_until(self.now)
        self.account.asleep = not self.looking and self.wakes_at is None
        return self.account

    def _call(self, nr: int) -> None:
        now = int(self.now * US)
        if self.looking:
            self.account.answered += 1
            self.now += ANSWER_US
            self.account.looked += ANSWER_US
            self.at = self.now
            self.pace.pace_answer(self.me, nr, now, int(self.now * US))
            self._turn(1)
            return
        self.account.left += 1
        middle = int((self.now + EXIT_US / 2) * US)
        self.pace.pace_left(nr, middle)
        if self.pace.pace_missed(middle, self.made) and not self.woken:
            if not self.made:
                self.pace.pace_begin(self.me, middle)
                self.made = True
            awake = self.now + EXIT_US / 2 + LATE_US
            self.wakes_at = awake if self.wakes_at is None else min(awake, self.wakes_at)
            self.woken = True
        self.now += self.exit_us

    def _turn(self, answered: int) -> None:
        now, nap = int(self.at * US), self.ffi.new("uint64_t *")
        self.pace.pace_turn(self.me, now, answered)
        verdict = self.pace.pace_judge(self.me, now, False, nap)
        self.looking = verdict == LOOK_ON
        if verdict == NAP:
            self.account.naps += 1
            self.due = self.at + nap[0] / US
            self.wakes_at = self.due + LATE_US
        elif verdict == SLEEP:
            self.pace.pace_sleep(self.me, now)
            self.wakes_at = self.due = None

    def _poll_until(self, time: float) -> None:
        while True:
            if self.looking:
                if self.at + TURN_US > time:
                    return
                self.at += TURN_US
                self.account.looked += TURN_US
                self._turn(0)
            elif self.wakes_at is not None and self.wakes_at <= time:
                self.at = self.wakes_at
                if self.due is not None:
                    self.pace.pace_back(self.me, int(self.due * US), int(self.at * US))
                self.pace.pace_look(self.me, int(self.at * US))
                self.looking, self.woken = True, False
            else:
                return


@pytest.fixture
def machine(library: tuple[Any, Path], tmp_path: Path) -> Machine:
    ffi, path = library
    own = tmp_path / path.name  # a copy is loaded anew: the estimates are of the whole process
    own.write_bytes(path.read_bytes())
    return Machine((ffi, own))


def every(gap: float, *burst: int) -> Iterator[Call]:
    """The same burst of calls again and again, so long after each other."""
    return cycle([(burst[0], gap), *((nr, 0.5) for nr in burst[1:])])


def test_a_regular_call_is_slept_for(machine: Machine) -> None:
    pairs = every(138, CLOCK, OTHER)
    machine.run(islice(pairs, 1000))
    account = machine.run(islice(pairs, 1000))
    assert account.by_poller > 0.98
    assert account.share < 0.4


def together(until: float, **gaps: Iterator[float]) -> Iterator[Call]:
    """Calls `clock` and `write`, each with its own gaps between them."""
    numbers = {"clock": CLOCK, "write": WRITE}
    due = {name: next(each) for name, each in gaps.items()}
    now = 0.0
    while now < until:
        name = min(due, key=lambda each: due[each])
        yield numbers[name], max(due[name] - now, 0)
        now = max(now, due[name])
        due[name] += next(gaps[name])


def test_calls_with_rhythms_of_their_own_are_slept_for(machine: Machine) -> None:
    """A scheduler's and a port's, say: what lies between any two of these calls is anything."""
    machine.run(together(200000, clock=repeat(318), write=repeat(170)))
    account = machine.run(together(200000, clock=repeat(318), write=repeat(170)))
    assert account.by_poller > 0.9
    assert account.share < 0.55


def test_calls_without_a_pause_are_looked_for(machine: Machine) -> None:
    machine.run(islice(every(0.2, OTHER), 5000))
    account = machine.run(islice(every(0.2, OTHER), 5000))
    assert (account.left, account.naps) == (0, 0)


def test_frequent_calls_without_a_rhythm_are_looked_for(machine: Machine) -> None:
    """Even while the next call that has one is far away."""
    source = random.Random(1)
    gaps = (source.expovariate(1 / 30) for _ in count())
    account = machine.run(together(200000, clock=repeat(1000), write=gaps))
    assert account.by_poller > 0.95


def test_rare_calls_without_a_rhythm_are_left_to_exits(machine: Machine) -> None:
    source = random.Random(1)
    calls = [(OTHER, source.uniform(100, 1900)) for _ in range(2000)]
    machine.run(calls[:1000])
    assert machine.run(calls[1000:]).share < 0.2


def test_a_rhythm_is_that_of_the_program_not_of_its_exits(machine: Machine) -> None:
    """A poller that comes too late for each call must not take that for the program's own pace."""
    calls = every(160, CLOCK, *[WRITE] * 6)
    machine.run(islice(every(300, OTHER), 500))  # how late naps end is known then
    machine.wait(10000)
    machine.pace.pace_rest(2**63)  # none is woken: all of them leave
    assert machine.run(islice(calls, 1400)).answered == 0
    machine.pace.pace_rest(0)
    assert machine.run(islice(calls, 140)).by_poller > 0.95


def test_a_poller_is_there_for_the_rest_of_a_burst(machine: Machine) -> None:
    """One that was woken for its first call, which is away for longer than exits usually are."""
    machine.exit_us = 2 * EXIT_US

    def calls() -> Iterator[Call]:
        late = cycle([180] * 5 + [215])
        for nr, compute in together(200000, clock=repeat(431), write=late):
            yield nr, compute
            yield from [(OTHER, 0.2)] * 7 * (nr == WRITE)

    machine.run(calls())
    assert machine.run(calls()).by_poller > 0.96


def test_exits_at_the_same_time_are_one(machine: Machine) -> None:
    """Or the clock of a program with several threads would hardly go on, or run backwards."""

    def calls() -> Iterator[Call]:
        for _ in range(1000):
            yield CLOCK, 160
            for thread in range(8):
                machine.pace.pace_left(OTHER, int((machine.now + EXIT_US / 2) * US) + thread)

    machine.run(calls())
    account = machine.run(calls())
    assert account.by_poller > 0.9
    assert account.share < 0.6


def test_a_new_rhythm_is_learnt(machine: Machine) -> None:
    for gap in (400, 150, 800, 138):
        machine.run(islice(every(gap, CLOCK, OTHER), 400))
        account = machine.run(islice(every(gap, CLOCK, OTHER), 400))
        assert account.by_poller > 0.9
        assert account.share < 0.45


def test_a_call_that_is_made_no_more_is_not_waited_for(machine: Machine) -> None:
    machine.run(together(200000, clock=repeat(318), write=repeat(170)))
    account = machine.run(islice(every(170, WRITE), 20))  # while the other is still remembered
    assert account.by_poller > 0.9
    assert account.share < 0.6


def test_without_calls_it_sleeps(machine: Machine) -> None:
    machine.run(islice(every(138, CLOCK, OTHER), 1000))
    account = machine.wait(100000)
    assert account.asleep
    assert account.looked <= 4100
    assert machine.run(islice(every(138, CLOCK, OTHER), 1000)).by_poller > 0.9  # and wakes up again
