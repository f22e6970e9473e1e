"""Guests once more at ring 0, in the testbed: one boot, many tests."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MULTIVERSE
from test_privileges import HARM, HARMFUL, PRIVILEGES

from multiverse.testbed.boot import TestbedError, find_tools

TESTS = Path(__file__).parent
SLOWNESS = 4  # the emulator, and other tests beside it
TIMEOUT = 1800.0  # seconds: a guest that hangs is reported inside long before
# With several threads or processes a program is not reliable at ring 0 yet.
RELIABLE = [
    "arch_prctl", "auxv", "brk", "faults", "int80", "maps", "memory", "no_execute", "registers",
    "self_modify", "segv_address", "sigfpe", "traps",
]  # fmt: skip


def run_inside(tests: list[str], built: Path, directory: Path) -> dict[str, ElementTree.Element]:
    """Run tests at ring 0. Returns the report on each."""
    report = directory / "report.xml"
    inner = [
        *("env", f"MULTIVERSE_TEST_SLOWNESS={SLOWNESS}", f"MULTIVERSE_TEST_GUESTS={built}"),
        *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-o", "timeout=0"),
        *(f"--junitxml={report}", *tests),
    ]
    boot = [*MULTIVERSE, "testbed", "run", "--rw", str(directory)]
    boot += ["--memory=3G", f"--timeout={TIMEOUT}", "--", *inner]
    done = subprocess.run(
        boot, cwd=TESTS, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert report.exists(), done.stderr + done.stdout
    cases = ElementTree.parse(report).getroot().iter("testcase")
    return {f"{case.get('classname')}::{case.get('name')}": case for case in cases}


@pytest.fixture(scope="module")
def built(guest: Callable[..., str]) -> Path:
    """All guests, compiled here: compilers are slow in the testbed."""
    try:
        find_tools()
    except TestbedError as error:
        pytest.skip(str(error))
    return [Path(guest(name)) for name in [*RELIABLE, PRIVILEGES, HARMFUL]][0].parent


@pytest.mark.timeout(TIMEOUT + 100)
def test_guests(built: Path, tmp_path: Path) -> None:
    tests = [f"{TESTS}/test_guests.py::test_all_same_as_native[{name}]" for name in RELIABLE]
    cases = run_inside([*tests, f"{TESTS}/test_privileges.py"], built, tmp_path)
    bad = [
        f"{name}\n{(part.text or part.get('message') or '')[-3000:]}"
        for name, case in cases.items()
        for part in case
        if part.tag in ("failure", "error", "skipped")
    ]
    assert not bad, f"{len(bad)} of {len(cases)} at ring 0:\n" + "\n".join(bad)
    assert len(cases) == len(RELIABLE) + 1 + len(HARM)
