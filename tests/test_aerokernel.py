"""The AeroKernel's interface for programs, in whatever ring this machine has."""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Callable

import pytest
from conftest import Outcome

from multiverse.core import core_path

PARTS = {
    "threads": ["turns", "stacks", "many", "detached", "system_calls", "other_cpu"],
    "sync": [
        *("events", "mutexes", "conditions", "barriers", "broadcast"),
        *("events_between", "mutexes_between", "conditions_between", "barriers_between"),
    ],
    "memory": ["pages", "objects", "linux_knows", "two_cpus"],
    "pages": ["arguments", "barrier", "refused", "mapped_anew", "entries", "two_cpus"],
    "cpus": ["data_and_calls", "timers", "a_clock", "registers"],
}
LIBRARY = core_path().with_name("libaerokernel.a")
INCLUDE = f"-I{core_path().with_name('include')}"
STDERR = {"cpus": b"printed by the AeroKernel -5 ff\n"}


@pytest.fixture
def program(guest: Callable[..., str]) -> Callable[[str], str]:
    """Compile a program that uses the interface."""
    return lambda name: guest(f"../guests_aerokernel/{name}", INCLUDE, libraries=[str(LIBRARY)])


@pytest.mark.parametrize("channel", ["auto", "async"])
@pytest.mark.parametrize("name", PARTS)
def test_interface(
    name: str, channel: str, program: Callable[[str], str], hrt: Callable[..., Outcome]
) -> None:
    done = hrt([program(name)], config=f"require=1,channel={channel}")
    assert done.stdout.decode().splitlines() == PARTS[name]
    assert (done.status, done.stderr) == (0, STDERR.get(name, b""))


def test_natively_there_is_none(program: Callable[[str], str], hrt: Callable[..., Outcome]) -> None:
    assert hrt([program("absent")], config=None).stdout == f"{-errno.ENOSYS}\n".encode()
    assert hrt([program("absent")]).stdout == b"0\n"


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: c++ is not on PATH")
def test_a_c_plus_plus_program_can_include_the_headers() -> None:
    command = ["c++", "-xc++", "-Wall", "-Wextra", "-Werror", INCLUDE, "-fsyntax-only", "-"]
    subprocess.run(command, input="#include <aerokernel.h>\n", text=True, check=True)
