"""What the installed override sets would save."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from multiverse.profile.model import Profile

LOCAL_CYCLES = 100  # what an answer in the HRT takes
#: Which share of its calls a set answers, where that is not all. Assumed, not measured: a wait is
#: Linux's if it takes long, and a profile does not show how long others would have looked.
SHARES = {"sync": 0.5}
#: Calls that a set answers by another call of Linux's, which costs as much.
EXCHANGED = {"files": {"read", "write", "dup", "epoll_create", "epoll_create1"}}
#: Sets that do something at one ring only.
RINGS = {"gc": 0}


@dataclass(frozen=True)
class Answers:
    """A set: its name, the system calls it answers, and which share of them it can."""

    name: str
    calls: frozenset[str]
    removes: float = 1.0


@dataclass(frozen=True)
class Gain:
    """What a set would do for a program: events gone, cycles saved; calls: the dearest first."""

    name: str
    events: int
    cycles: int
    calls: list[str]


def installed() -> list[Answers]:
    """The sets that there are. A damaged one is none: `multiverse override` says what is wrong."""
    from multiverse.overrides.errors import Mistakes
    from multiverse.overrides.sets import sets

    try:
        return [
            Answers(one.name, answered(one.name, one.syscalls), SHARES.get(one.name, 1.0))
            for one in sets()
        ]
    except (Mistakes, OSError):
        return []


def answered(name: str, calls: Iterable[str]) -> frozenset[str]:
    """Which of a set's calls need no Linux, always or at times."""
    return frozenset(calls) - EXCHANGED.get(name, set())


def works(name: str, ring: int | None) -> bool:
    """Does a set do something at this ring? None: it is not known which."""
    return ring is None or RINGS.get(name, ring) == ring


def gains(profile: Profile, sets: list[Answers]) -> list[Gain]:
    """What each set would save, the most first.

    Without sets that would save nothing, and those that were in force.
    """
    found = []
    for answers in sets:
        if answers.name in profile.overrides or not works(answers.name, profile.ring):
            continue
        events = cycles = 0
        calls = []
        for (kind, name), cost in profile.events().items():
            if kind == "syscall" and name in answers.calls:
                local = LOCAL_CYCLES * cost.count
                events += round(cost.count * answers.removes)
                cycles += round(max(0, cost.cycles - local) * answers.removes)
                calls.append(name)
        if events and cycles:
            found.append(Gain(answers.name, events, cycles, calls))
    return sorted(found, key=lambda gain: -gain.cycles)
