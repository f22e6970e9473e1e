"""What the other tests run once more at ring 0, in the testbed: few boots, many tests each."""

from __future__ import annotations

import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import MULTIVERSE
from test_aerokernel import PARTS, compile_all, compile_handler
from test_channels import SITES
from test_crash import FRAME_POINTERS
from test_gdb import compile_debugged
from test_guests import ALL
from test_kernel import FAULTS
from test_kernel import PROGRAMS as NATIVE_PROGRAMS
from test_kernel import build as build_native
from test_override_run import compile_overridden
from test_privileges import HARMFUL, ODD, PRIVILEGES
from test_profile import compile_profiled

from multiverse.testbed.boot import TestbedError, find_tools

TESTS = Path(__file__).parent
SLOWNESS = 4  # the emulator, and other tests beside it
TIMEOUT = 1800.0  # seconds: a guest that hangs is reported inside long before


def of(file: str, *tests: str) -> list[str]:
    """Tests of a file: functions with all their parameters, or with those given."""
    return [f"{file}.py::test_{test}" for test in tests]


def guests(*names: str) -> list[str]:
    return of("test_guests", *(f"all_same_as_native[{name}]" for name in names))


def python(file: str, *whats: str) -> list[str]:
    return of(file, *(f"python[{sys.executable}-{what}]" for what in whats))


# Every program that the suite runs, each with what is most its own.
PROGRAMS = [
    *of("test_programs", "bash", "coreutils", "busybox", "lua", "perl", "sqlite", "gcc", "git"),
    *of("test_programs", "node", "racket[futures]", "racket_places", "stop_and_continue"),
    *python("test_programs", "threads", "multiprocessing", "asyncio", "ctypes", "mmap", "signals"),
    *python("test_runtimes", "threads and a signal", "asyncio with children", "ctypes faults"),
    *of("test_runtimes", "terminal[racket]", "terminal[python]", "terminal[bash]", "node[workers]"),
    *of("test_runtimes", "interrupt_from_the_keyboard_ends_it"),
]
# Modules that take over system calls and functions.
OVERRIDES = [
    *of("test_override_run", "answers[auto]", "answers[async]", "crowd", "numbers"),
    *of("test_override_run", "clocks", "readiness"),
    *of("test_override_run", "barriers", "barriers_of_a_program_that_leaves"),
    *of("test_override_run", "barriers_without_system_calls"),
    *of("test_override_run", "protected_memory_in_system_calls"),
    *of("test_override_run", "mappings[256-1]", "mappings[8-2]", "heap[256]", "blocks[both]"),
    *of("test_override_run", "leaving_the_hrt"),
    *of("test_override_run", "a_signal_is_seen_when_a_function_that_held_it_returns[auto]"),
    *of("test_override_run", "waits[1-auto]", "waits[2-async]", "wakes_that_find_nobody"),
    *of("test_override_run", "masks[auto]", "masks[async]", "masks_that_linux_does_not_see"),
    *of("test_override_run", "signals_where_linux_does_not_see_masks[threads-channel=auto]"),
    *of("test_override_run", *(f"functions_that_are_chosen[{way}]" for way in ("lazy", "static"))),
    *of("test_override_run", *(f"programs_with_all_sets[{name}]" for name in ("python", "racket"))),
]
PROFILES = [
    *of("test_profile", "counts_and_callers[unwinding-tables-async]", "threads"),
    *of("test_profile", "counts_and_callers[unwinding-tables-sync]"),
    *of(
        "test_profile",
        "code_made_at_run_time[nameless]",
        "forked_children_are_processes_of_their_own",
    ),
    *of("test_profile", "programs_behave_the_same[async-timer_storm]"),
    *of("test_profile", "programs_behave_the_same[auto-handler_context]"),
]
# Scarce resources, files that lie, rights, and programs that write requests themselves.
EDGES = [
    *of("test_limits", "descriptor_limit", "address_space_limit[64]", "address_space_limit[1024]"),
    *of("test_limits", "closed_standard_descriptors", "elf_that_lies", "out_of_threads"),
    *of("test_bad_input", "not_runnable", "no_device", "closed_pipe", "small_address_space"),
    *of("test_rights", "rights[rights_ids-alone-async]", "rights[rights_files-tables-async]"),
    *of("test_hostile", "other_threads_calls_stay_right[sync-1]"),
    *of("test_hostile", "the_process_ends_by_its_own_doing[sync-1]"),
    *of("test_channels", "program[sync-bash]", "program[auto, one CPU-python]"),
    *of("test_channels", "signals_to_process_and_thread_at_once"),
    *of("test_channels", *(f"places_of_calls[sync-{trial}]" for trial in SITES)),
]
# Native programs, started without the command line, which takes long here.
NATIVE = [
    *of("test_kernel", *(f"interface[core-{name}]" for name in PARTS)),
    *of("test_kernel", *(f"faults[core-{how}]" for how in FAULTS)),
    *of("test_kernel", "statuses[core-0-0]", "statuses[core-255-255]", "arguments[core]"),
    *of("test_kernel", "image_and_floating_point[core]", "all_memory_can_be_used[core-32M]"),
    *of("test_kernel", "virtual_cpus[core-2]", "overruns[core]", "triple_fault[core]"),
    *of("test_kernel", "a_handler_that_refuses[core]", "example[core]", "hostile_requests"),
]
# What depends on how the machine is, for machines that need a boot each.
FEW = [
    *guests("arch_prctl", "auxv", "faults", "fp_state", "memory", "process", "signals", "stale"),
    *guests("state", "threads", "leftovers", "no_execute", "self_modify"),
    *of("test_programs", "bash[pipes]", "bash[jobs]", "perl", "node", "racket[expression]"),
    *python("test_programs", "threads", "ctypes"),
]
# Boots: what runs, options of the testbed, what the tests inside are told.
BOOTS: dict[str, tuple[list[str], list[str], list[str]]] = {
    "guests": (
        # What "privileged" shows to be forbidden is allowed at ring 0.
        guests(*(name for name in ALL if name != "privileged"))
        + of("test_guests", "breakpoints_and_signals")
        + [
            "test_privileges.py",
            "test_channel_open.py",
            *of("test_aerokernel", "interface", "example"),
        ]
        + of("test_gdb", "breakpoints", "registers", "steps", "threads[auto]", "signals")
        + of("test_gdb", "aerokernel_itself", "children", "stops_are_not_seen", "interrupt")
        + of("test_gdb", "detach_and_attach_again", "debugger_lost")
        + of("test_gdb", "backtrace_beyond_the_fault")
        + of("test_crash", "backtrace_from_a_handler_of_faults")
        + of("test_accelerator", "c[basics]", "c[faults]", "life", "partition_of_cores")
        + of("test_channel_options", "partition_of_cores")
        + of("test_rights_pollers", "pollers_are_made_anew", "pollers_end_while_calls_are_made")
        + NATIVE,
        [],
        [],
    ),
    "programs": (PROGRAMS + EDGES + OVERRIDES + PROFILES, [], []),
    "programs, 39 bits": (guests("memory", "stale", "sparse") + PROGRAMS, ["--phys-bits=39"], []),
    "no FSGSBASE, AVX, PCID": (
        FEW + of("test_override_run", "mappings[256-1]", "without_fsgsbase"),
        ["--cpu=EPYC,-fsgsbase,-avx,-avx2,-f16c,-fma,-pcid"],
        [],
    ),
    "ring 3": (
        FEW
        + guests("privileged", "fault_storm")
        + of("test_gdb", "steps", "aerokernel_itself")
        + of("test_override_run", "answers[auto]", "crowd[auto]"),
        [],
        ["MULTIVERSE_TEST_RING=3"],
    ),
}


def run_inside(
    tests: list[str], built: Path, directory: Path, options: list[str], environment: list[str]
) -> dict[str, ElementTree.Element]:
    """Run tests in a testbed with these options. Returns the report on each."""
    report = directory / "report.xml"
    inner = [
        *("env", f"MULTIVERSE_TEST_SLOWNESS={SLOWNESS}", f"MULTIVERSE_TEST_GUESTS={built}"),
        *(*environment, sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider"),
        *("-o", "timeout=0", f"--junitxml={report}", *tests),
    ]
    boot = [*MULTIVERSE, "testbed", "run", "--rw", str(directory), *options]
    boot += ["--memory=3G", f"--timeout={TIMEOUT}", "--", *inner]
    done = subprocess.run(
        boot, cwd=TESTS, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert report.exists(), done.stderr + done.stdout
    cases = ElementTree.parse(report).getroot().iter("testcase")
    files = {case: str(case.get("classname")).rsplit(".")[-1] for case in cases}
    return {f"{file}.py::{case.get('name')}": case for case, file in files.items()}


@pytest.fixture(scope="module")
def built(guest: Callable[..., str]) -> Path:
    """All guests, compiled here: compilers are slow in the testbed."""
    try:
        find_tools()
    except TestbedError as error:
        pytest.skip(str(error))
    compile_all(guest)
    compile_handler(guest)
    compile_handler(guest, FRAME_POINTERS)
    compile_debugged(guest)
    compile_overridden(guest)
    compile_profiled(guest)
    for name in ("brk", "vdso_time"):
        guest(name, "-static")
    names = [
        *ALL,
        "rights_ids",
        "rights_files",
        "rights_retired",
        "poller_signals_together",
        *SITES.values(),
        PRIVILEGES,
        HARMFUL,
        ODD,
    ]
    directory = [Path(guest(name)) for name in names][0].parent
    for name in NATIVE_PROGRAMS:
        build_native(directory, name)
    return directory


def check(cases: dict[str, ElementTree.Element], tests: list[str]) -> None:
    """Fail unless all of these tests have run and none has failed or been skipped."""
    bad = [
        f"{name}\n{(part.text or part.get('message') or '')[-3000:]}"
        for name, case in cases.items()
        for part in case
        if part.tag in ("failure", "error", "skipped")
    ]
    assert not bad, f"{len(bad)} of {len(cases)}:\n" + "\n".join(bad)
    for test in tests:
        assert any(name == test or name.startswith((f"{test}[", f"{test}::")) for name in cases), (
            f"{test} did not run"
        )


@pytest.mark.timeout(TIMEOUT + 100)
@pytest.mark.parametrize("boot", BOOTS)
def test_in_the_testbed(boot: str, built: Path, tmp_path: Path) -> None:
    tests, options, environment = BOOTS[boot]
    check(run_inside(tests, built, tmp_path, options, environment), tests)
