"""Memory that is made present before it is touched (core/ros/populate.c): whose, and how much."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import HRT, counters

MIB = 1 << 20


def populated(program: list[str], config: str = HRT) -> int:
    done, stats = counters(program, config=config)
    assert done.stdout == b"wrong 0\n"
    return int(stats["populated"])


def test_what_is_used_is_populated(guest: Callable[..., str]) -> None:
    assert populated([guest("populate"), "use"]) > 40 * MIB
    assert populated([guest("populate"), "heap"]) > 10 * MIB


def test_what_is_only_reserved_is_not(guest: Callable[..., str]) -> None:
    """Not more than a first guess at the loader's and the library's own, which are small."""
    assert populated([guest("populate"), "reserve"]) < MIB


def test_who_watches_first_touches_sees_them(guest: Callable[..., str]) -> None:
    assert populated([guest("populate"), "watched"]) < MIB


def test_data_of_libraries_is_populated(guest: Callable[..., str]) -> None:
    """With nothing else: the program itself reserves only."""
    whole = populated([guest("populate", "-static"), "reserve"])
    assert populated([guest("populate"), "reserve"]) > whole > 0


@pytest.mark.parametrize("part", ["use", "heap"])
def test_off(part: str, guest: Callable[..., str]) -> None:
    assert populated([guest("populate"), part], config=f"{HRT},populate=off") == 0
