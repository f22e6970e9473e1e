"""Runs of the same command natively and as an HRT. The native run is the oracle."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from multiverse.core import core_path, probe

GUESTS = Path(__file__).with_name("guests")
HRT = "require=1,quiet=1"  # a silent native fallback never passes as an HRT


@dataclass(frozen=True)
class Outcome:
    """What a run left: wait status as subprocess gives it, and its output."""

    status: int
    stdout: bytes
    stderr: bytes


def execute(
    command: Sequence[str],
    *,
    config: str | None = HRT,
    stdin: bytes = b"",
    env: dict[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float = 60,
) -> Outcome:
    """Run a command whose first word is a path; config None: natively, else as an HRT."""
    argv = list(command)
    if config is not None:
        argv = [str(core_path()), config, command[0], *command]
    result = subprocess.run(
        argv, input=stdin, capture_output=True, env=env, cwd=cwd, timeout=timeout
    )
    return Outcome(result.returncode, result.stdout, result.stderr)


@pytest.fixture(scope="session")
def hrt() -> Callable[..., Outcome]:
    """Run as an HRT; skips where the substrate is missing."""
    facts = probe()
    if facts.get("kvm") != "1":
        pytest.skip(f"no HRT here: {facts.get('error')}")
    return execute


@pytest.fixture(scope="session")
def same(hrt: Callable[..., Outcome]) -> Callable[..., Outcome]:
    """Run natively and as an HRT, and compare everything."""

    def run_both(command: Sequence[str], *, config: str = HRT, **options: object) -> Outcome:
        native = execute(command, config=None, **options)  # type: ignore[arg-type]
        hybrid = execute(command, config=config, **options)  # type: ignore[arg-type]
        assert hybrid == native
        return hybrid

    return run_both


@pytest.fixture(scope="session")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Compile a program of tests/guests; flags such as "-static" make variants."""
    directory = tmp_path_factory.mktemp("guests")

    def build(name: str, *flags: str) -> str:
        target = directory / "".join([name, *flags]).replace("/", "_")
        if not target.exists():
            source = str(GUESTS / f"{name}.c")
            warnings = ["-Wall", "-Wextra", "-Werror"]
            command = ["cc", "-O2", *warnings, "-pthread", *flags, "-o", str(target), source, "-lm"]
            subprocess.run(command, check=True)
        return str(target)

    return build


@pytest.fixture(autouse=True, scope="session")
def nothing_left_behind() -> Iterator[None]:
    """No core may outlive the tests that started it."""
    yield
    core = str(core_path())
    session = os.getsid(0)
    left = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and os.getsid(int(entry.name)) == session:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                parent = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                if words[0].decode() == core and parent == 1:
                    left.append(entry.name)
        except OSError:
            continue
    assert not left, f"processes left behind: {left}"
