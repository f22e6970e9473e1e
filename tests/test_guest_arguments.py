"""The guests that take arguments, the guests as static programs, and proof that they are HRTs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import APART, GUESTS, HRT, Outcome, counters

MODES = {
    "die": [
        *(f"exit {status}" for status in (0, 1, 127, 255, 256, 300)),
        *(f"signal {number}" for number in (2, 3, 6, 9, 11, 13, 15, 34)),
        "fault",
        "group 5",
        "thread",
        "last 9",
    ],
    "stack_growth": ["grow", "far", "handler", "thread", "die"],
    "seccomp_self": ["errno", "trap", "kill", "strict"],
}
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "EMPTY": "", "WITH SPACE": "a b", "LONG": "x" * 5000}
STATIC = sorted({path.stem for path in GUESTS.glob("*.c")} - {"stress"})
STATIC = [name for name in STATIC if not name.startswith(APART)]


@pytest.mark.parametrize(
    ("name", "mode"), [(n, mode) for n, modes in MODES.items() for mode in modes]
)
@pytest.mark.parametrize("flags", [(), ("-static",)], ids=["dynamic", "static"])
def test_mode(
    name: str,
    mode: str,
    flags: tuple[str, ...],
    guest: Callable[..., str],
    same: Callable[..., Outcome],
) -> None:
    result = same([guest(name, *flags), *mode.split()], timeout=30)
    assert result.stdout or result.stderr or result.status


@pytest.mark.parametrize("name", STATIC)
def test_static(name: str, guest: Callable[..., str], same: Callable[..., Outcome]) -> None:
    """Static, not position-independent: the other end of what the loader meets."""
    result = same([guest(name, "-static", "-no-pie")])
    assert b"NEED failed" not in result.stdout, "the guest's own assumptions do not hold here"


@pytest.mark.parametrize("flags", [(), ("-static-pie",)], ids=["dynamic", "static PIE"])
@pytest.mark.parametrize("name", ["auxv", "proc_self"])
def test_environment_and_arguments(
    name: str, flags: tuple[str, ...], guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    arguments = ["", "two words", "ünï", "-x", "y" * 2000]
    same([guest(name, *flags), *arguments], env=ENVIRONMENT)
    same([guest(name, *flags)], env={})


def test_a_name_with_odd_characters(
    tmp_path: Path, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    odd = tmp_path / "a name, with=commas (and more) that is longer than comm"
    odd.write_bytes(Path(guest("proc_self")).read_bytes())
    odd.chmod(0o755)
    same([str(odd)], env=ENVIRONMENT)
    link = tmp_path / "link"
    link.symlink_to(odd.name)
    same([str(link)], env=ENVIRONMENT)
    same(["./link"], env=ENVIRONMENT, cwd=tmp_path)


def test_it_really_is_an_hrt(hrt: Callable[..., Outcome], guest: Callable[..., str]) -> None:
    outcome, stats = counters([guest("threads")])
    assert outcome.status == 0
    assert stats["hrt"] is True
    assert stats["ring"] in (0, 3)
    assert stats["processes"] == 1
    assert stats["groups"] == 1 + 200 + 64 + 100
    assert stats["groups_peak"] >= 65
    # Every thread created and every one ended went through the core.
    created = stats["syscalls"].get("clone", 0) + stats["syscalls"].get("clone3", 0)
    assert created >= 364
    assert stats["syscalls"]["write"] == outcome.stdout.count(b"\n")
    assert stats["syscalls"]["exit_group"] == 1
    answered = stats["events"]["syscall"]["count"] + stats["events"]["sync"]["count"]
    assert answered >= sum(stats["syscalls"].values())
    assert stats["events"]["sync"]["count"] == sum(stats["sync"].values())


def test_signals_are_counted(hrt: Callable[..., Outcome], guest: Callable[..., str]) -> None:
    outcome, stats = counters([guest("longjmp_out")])
    assert outcome.status == 0
    # 2 * 1000 faults, 200 raised and 2, one of which stays pending, and 20 timers.
    assert stats["events"]["signal"]["count"] == 2000 + 200 + 1 + 20


def test_forked_children_are_hrts(hrt: Callable[..., Outcome], guest: Callable[..., str]) -> None:
    outcome, stats = counters([guest("shared_fork")])
    assert outcome.status == 0
    assert stats["processes"] == 5


def test_off_is_native(guest: Callable[..., str]) -> None:
    outcome, stats = counters([guest("brk")], config="hvm=off,quiet=1")
    assert outcome.status == 0
    assert outcome.stderr == b""
    assert stats["hrt"] is False


@pytest.mark.parametrize("bits", [36, 39, 40, 46])
@pytest.mark.parametrize("name", ["sparse", "threads", "self_modify", "shared_fork"])
def test_physical_address_widths(
    bits: int, name: str, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    same([guest(name)], config=f"{HRT},physbits={bits}")
