"""A program that writes requests, states and frames itself instead of making system calls."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import HRT, Outcome

SOURCE = Path(__file__).with_name("guests_hostile") / "channel.c"
CORE = Path(__file__).parent.parent / "core"
ROUNDS = "2000"
ENDS = (b"exception in the AeroKernel", b"unknown exception", b"an override module")
CHANNELS = ["sync", "async"]


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    target = tmp_path_factory.mktemp("hostile") / "channel"
    warnings = ["-Wall", "-Wextra", "-Werror"]
    command = ["cc", "-std=gnu17", "-O2", *warnings, "-pthread", f"-I{CORE}", "-o", str(target)]
    command.append(str(SOURCE))
    subprocess.run(command, check=True)
    return str(target)


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("channel", CHANNELS)
def test_other_threads_calls_stay_right(
    channel: str, seed: int, hostile: str, hrt: Callable[..., Outcome], tmp_path: Path
) -> None:
    command = [hostile, "slot", str(seed), ROUNDS]
    result = hrt(command, config=f"{HRT},channel={channel}", cwd=tmp_path)
    expected = b"found, ordinary calls made, wrong 0, given away 0, changed 0\n"
    assert result == Outcome(0, expected, b"")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("seed", range(1, 9))
@pytest.mark.parametrize("channel", CHANNELS)
def test_the_process_ends_by_its_own_doing(
    channel: str, seed: int, hostile: str, hrt: Callable[..., Outcome], tmp_path: Path
) -> None:
    command = [hostile, "all", str(seed), ROUNDS]
    result = hrt(command, config=f"{HRT},channel={channel}", cwd=tmp_path, timeout=90)
    assert b"internal error" not in result.stderr, "the core itself has crashed"
    # What makes the AeroKernel fault, pretends that something has faulted, or that a module is at
    # work, is an end in good order, too.
    if result.status == 125:
        assert re.search(rb"run: (%s)[^(]* \(" % b"|".join(ENDS), result.stderr), result.stderr
    if not result.core_dumped:
        assert {p.name for p in tmp_path.iterdir()} <= {"core"}
