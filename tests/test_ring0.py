"""What test_guests.py runs once more at ring 0, in the testbed: one boot, many tests."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MULTIVERSE
from test_aerokernel import PARTS, compile_all
from test_guests import ALL
from test_privileges import CRASHES, HARMFUL, PRIVILEGES

from multiverse.testbed.boot import TestbedError, find_tools

TESTS = Path(__file__).parent
SLOWNESS = 4  # the emulator, and other tests beside it
TIMEOUT = 1800.0  # seconds: a guest that hangs is reported inside long before
# For further machines, which need a boot each: what depends on how the machine is.
FEW = [
    "arch_prctl", "auxv", "faults", "fp_state", "memory", "process", "signals", "state", "threads",
]  # fmt: skip
MACHINES = {
    "39 bits": ["--phys-bits=39"],
    "no FSGSBASE, AVX, PCID": ["--cpu=EPYC,-fsgsbase,-avx,-avx2,-f16c,-fma,-pcid"],
}


def run_inside(
    tests: list[str], built: Path, directory: Path, *options: str
) -> dict[str, ElementTree.Element]:
    """Run tests at ring 0, in a testbed with these options. Returns the report on each."""
    report = directory / "report.xml"
    inner = [
        *("env", f"MULTIVERSE_TEST_SLOWNESS={SLOWNESS}", f"MULTIVERSE_TEST_GUESTS={built}"),
        *(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-o", "timeout=0"),
        *(f"--junitxml={report}", *tests),
    ]
    boot = [*MULTIVERSE, "testbed", "run", "--rw", str(directory), *options]
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
    compile_all(guest)
    return [Path(guest(name)) for name in [*ALL, PRIVILEGES, HARMFUL]][0].parent


def check(cases: dict[str, ElementTree.Element], expected: int) -> None:
    """Fail unless this many tests have passed and none has failed or been skipped."""
    bad = [
        f"{name}\n{(part.text or part.get('message') or '')[-3000:]}"
        for name, case in cases.items()
        for part in case
        if part.tag in ("failure", "error", "skipped")
    ]
    assert not bad, f"{len(bad)} of {len(cases)} at ring 0:\n" + "\n".join(bad)
    assert len(cases) == expected


def guests(names: list[str]) -> list[str]:
    return [f"{TESTS}/test_guests.py::test_all_same_as_native[{name}]" for name in names]


@pytest.mark.timeout(TIMEOUT + 100)
def test_all_guests(built: Path, tmp_path: Path) -> None:
    names = [name for name in ALL if name != "privileged"]  # privileges are allowed here
    tests = guests(names)
    tests += [f"{TESTS}/test_guests.py::test_breakpoints_and_signals"]
    tests += [f"{TESTS}/test_privileges.py"]
    check(run_inside(tests, built, tmp_path), len(names) + 2 + CRASHES)


@pytest.mark.timeout(TIMEOUT + 100)
@pytest.mark.parametrize("machine", MACHINES)
def test_other_machines(machine: str, built: Path, tmp_path: Path) -> None:
    check(run_inside(guests(FEW), built, tmp_path, *MACHINES[machine]), len(FEW))


@pytest.mark.timeout(TIMEOUT + 100)
def test_aerokernel(built: Path, tmp_path: Path) -> None:
    tests = [f"{TESTS}/test_aerokernel.py::test_{name}" for name in ("interface", "example")]
    check(run_inside(tests, built, tmp_path), 2 * len(PARTS) + 1)
