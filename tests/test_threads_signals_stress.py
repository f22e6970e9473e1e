"""Threads, signals, timers, forks, memory changes and programs started, all at once.

Each part does a fixed amount of work, so the summary is the native one if nothing was lost.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import HRT, Outcome

MIXES = {
    "everything": ("threads signals forks memory execs", 4),
    "threads and signals": ("threads signals", 6),
    "forks and signals": ("forks signals", 5),
    "threads and memory": ("threads memory", 6),
    "signals and programs": ("signals execs", 6),
}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("mix", MIXES)
def test_stress(mix: str, guest: Callable[..., str], same: Callable[..., Outcome]) -> None:
    which, factor = MIXES[mix]
    result = same([guest("stress"), which, str(factor)], timeout=180)
    assert result.status == 0


@pytest.mark.timeout(400)
def test_stress_of_followed_programs(
    guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    same([guest("stress"), "execs signals", "2"], config=f"{HRT},follow=1", timeout=180)


@pytest.mark.timeout(400)
def test_many_short_runs(guest: Callable[..., str], same: Callable[..., Outcome]) -> None:
    """Races at the start and the end of a program show in many short lives, not in one long."""
    program = guest("die")
    for how, number in [("group", "5"), ("thread", "0"), ("signal", "15"), ("exit", "3")] * 8:
        same([program, how, number], timeout=20)
