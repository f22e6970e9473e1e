"""The AeroKernel's interface for programs, in whatever ring this machine has."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HRT, Outcome, multiverse

from multiverse import aerokernel as library

PARTS = {
    "threads": ["turns", "stacks", "many", "detached", "system_calls", "other_cpu"],
    "sync": [
        *("events", "mutexes", "conditions", "barriers", "broadcast"),
        *("events_between", "mutexes_between", "conditions_between", "barriers_between"),
    ],
    "memory": ["pages", "objects", "linux_knows", "two_cpus"],
    "pages": [
        *("arguments", "barrier", "refused", "refused_calls", "adopted", "interrupted"),
        *("handlers_change", "stack_grows", "mapped_anew", "entries", "two_cpus"),
    ],
    "cpus": ["data_and_calls", "timers", "a_clock", "registers"],
}
STDERR = {"cpus": b"printed by the AeroKernel -5 ff\n"}


EXAMPLE = "../../examples/privileged/privileged"


def compile_all(guest: Callable[..., str]) -> dict[str, str]:
    """Compile the programs that use the interface. Returns their paths by their names."""
    names = {name: f"../guests_aerokernel/{name}" for name in (*PARTS, "absent", "limit")}
    names["privileged"] = EXAMPLE
    return {
        name: guest(source, *library.cflags(), libraries=library.libs())
        for name, source in names.items()
    }


def compile_handler(guest: Callable[..., str], *flags: str) -> str:
    """Compile the program whose handler of a fault is looked at, or crashes."""
    flags += ("-O1", "-g", *library.cflags())
    return guest("../guests_hostile/handler", *flags, libraries=library.libs())


@pytest.fixture(scope="module")
def program(guest: Callable[..., str]) -> Callable[[str], str]:
    """The path of a program that uses the interface."""
    return compile_all(guest).__getitem__


@pytest.mark.parametrize("channel", ["auto", "async"])
@pytest.mark.parametrize("name", PARTS)
def test_interface(
    name: str, channel: str, program: Callable[[str], str], hrt: Callable[..., Outcome]
) -> None:
    done = hrt([program(name)], config=f"{HRT},channel={channel}")
    assert done.stdout.decode().splitlines() == PARTS[name]
    assert (done.status, done.stderr) == (0, STDERR.get(name, b""))


@pytest.mark.parametrize(("limit", "order", "mib"), [(160, 8, 159), (5, 0, 3), (1, 0, 0)])
def test_memory_limit(
    limit: int, order: int, mib: int, program: Callable[[str], str], hrt: Callable[..., Outcome]
) -> None:
    """What there is below the limit is given, but for the allocator's own bookkeeping."""
    done = hrt([program("limit"), str(order)], config=f"{HRT},hrtmemory={limit}")
    if limit < 2:  # not even the data of a virtual CPU
        assert b"ak_attach() == 0" in done.stdout and done.status != 0
        return
    given = int(done.stdout.split()[0])
    assert mib * 0.9 <= given <= limit and done.status == 0


def test_memory_limit_option() -> None:
    done = multiverse("run", "--hrt-memory=much", "/bin/true")
    assert done.returncode == 2 and "'much' is not a size" in done.stderr


def test_natively_there_is_none(program: Callable[[str], str], hrt: Callable[..., Outcome]) -> None:
    assert hrt([program("absent")], config=None).stdout == f"{-errno.ENOSYS}\n".encode()
    assert hrt([program("absent")]).stdout == b"0\n"


@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler: c++ is not on PATH")
def test_a_c_plus_plus_program_can_include_the_headers() -> None:
    command = ["c++", "-xc++", "-Wall", "-Wextra", "-Werror", *library.cflags()]
    command += ["-fsyntax-only", "-"]
    subprocess.run(command, input="#include <aerokernel.h>\n", text=True, check=True)


def test_example(
    program: Callable[[str], str], hrt: Callable[..., Outcome], facts: dict[str, str]
) -> None:
    natively = hrt([program("privileged")], config=None)
    assert natively.status == 0
    assert b"needs an AeroKernel" in natively.stdout
    done = hrt([program("privileged")])
    lines = done.stdout.decode().splitlines()
    assert (done.status, done.stderr) == (0, b"")
    assert lines[0] == f"An HRT at ring {facts['ring']}."
    assert any(line.startswith("write barrier") and " 0 ns" not in line for line in lines)
    if facts["ring"] == "0":
        assert [line.split()[0] for line in lines[1:5]] == ["CR0", "CR3", "CR4", "EFER"]
        assert lines[-1].startswith("dirty by the processor's bit: 86 of 256 pages")


def test_flags_are_a_compilers() -> None:
    flags = multiverse("aerokernel").stdout.split()
    assert flags == [*library.cflags(), *library.libs()]
    assert multiverse("aerokernel", "--cflags").stdout.split() == library.cflags()
    assert multiverse("aerokernel", "--libs").stdout.split() == library.libs()
    symbols = multiverse("aerokernel", "--symbols").stdout.rstrip("\n")
    assert Path(symbols).read_bytes().startswith(b"\x7fELF")
    all_of_it = {"cflags": library.cflags(), "libs": library.libs(), "symbols": symbols}
    assert json.loads(multiverse("aerokernel", "--json").stdout) == all_of_it
