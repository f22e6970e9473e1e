"""C programs, each in several builds, natively and as an HRT."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import APART, GUESTS, HRT, Outcome, execute

NARROW = f"{HRT},physbits=39"
BUILDS = {
    "dynamic PIE": (),
    "static": ("-static",),
    "static PIE": ("-static-pie",),
    "fixed": ("-no-pie",),
}


ALL = sorted(path.stem for path in GUESTS.glob("*.c") if not path.stem.startswith(APART))


@pytest.mark.parametrize("name", ALL)
def test_all_same_as_native(
    name: str, guest: Callable[..., str], same: Callable[..., Outcome], facts: dict[str, str]
) -> None:
    if facts["ring"] == "0" and name == "privileged":
        pytest.skip("at ring 0 these are privileges (test_privileges.py)")
    same([guest(name)])


@pytest.mark.parametrize("name", ["faults", "signals", "state", "threads", "memory", "process"])
@pytest.mark.parametrize("build", BUILDS)
def test_same_as_native(
    name: str, build: str, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    result = same([guest(name, *BUILDS[build]), "one", "", "two words"])
    assert result.stdout


@pytest.mark.parametrize("sanitizer", ["address", "thread", "undefined"])
def test_sanitizers(
    sanitizer: str, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    """Their shadow memory is terabytes at fixed addresses, which nothing else may take."""
    assert same([guest("sanitized", f"-fsanitize={sanitizer}")]).stdout.endswith(b"child: 7\n")


@pytest.mark.parametrize("name", ["faults", "threads", "memory"])
def test_narrow_physical_addresses(
    name: str, guest: Callable[..., str], same: Callable[..., Outcome]
) -> None:
    same([guest(name)], config=NARROW)


def test_breakpoints_and_signals(
    guest: Callable[..., str], same: Callable[..., Outcome], facts: dict[str, str]
) -> None:
    if facts["kind"] == "software":
        pytest.skip("a software KVM does not say that an INT3 is on its way, and loses it")
    same([guest("fault_storm"), "int3"])


def test_without_the_right_to_name_the_executable(
    guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    program = guest("process")
    command = [program, "x"]
    drop = ["/usr/bin/setpriv", "--bounding-set=-sys_resource,-checkpoint_restore"]
    if subprocess.run([*drop, "true"], capture_output=True).returncode:
        pytest.skip("setpriv (util-linux) may not drop capabilities here")
    from multiverse.core import core_path

    dropped = execute(
        [*drop, str(core_path()), f"{HRT}", program, *command], config=None, timeout=60
    )
    assert dropped == execute(command, config=None)


@pytest.mark.parametrize("how", ["TERM", "KILL", "INT"])
def test_killed_while_it_computes(how: str, hrt: Callable[..., Outcome]) -> None:
    script = (
        "trap 'exit 7' TERM INT; "
        f"p=$$; (sleep 0.3; kill -{how} $p) >/dev/null 2>&1 & while :; do :; done"
    )
    result = hrt(["/bin/bash", "-c", script], timeout=20)
    assert result.status == (-9 if how == "KILL" else 7)


def test_script(tmp_path: Path, same: Callable[..., Outcome]) -> None:
    script = tmp_path / "script"
    script.write_text('#!/bin/bash  -x y\necho "$0" "$@"\n')
    (tmp_path / "y").write_text("")
    script.write_text('#!/bin/bash -eu\necho "$@"; exit 3\n')
    script.chmod(0o755)
    assert same([str(script), "a", "b c"]).status == 3
    outer = tmp_path / "outer"
    outer.write_text(f"#!{script} through\n")
    outer.chmod(0o755)
    same([str(outer), "z"])
