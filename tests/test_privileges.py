"""What programs may do at ring 0; runs where there is one: on a hardware KVM, or in the testbed."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
from conftest import HRT, MULTIVERSE, Outcome, run

from multiverse.crash.raw import parse
from multiverse.crash.report import Report

HARM = {
    "no interrupt table": "triple fault",
    "no stack tables": "triple fault",
    "no page tables": "triple fault",
    "page tables where no memory is": "page tables where no memory is",
    "page tables that lead nowhere": "page tables where no memory is",
    "an exception that was none": "unknown exception",
    "a jump between two vectors": "unknown exception",
    "no page of a user's can be executed": "no page can be executed: CR4.SMEP",
    "no page may forbid execution": "triple fault",
    "no SYSCALL": "SYSCALL is switched off: EFER",
}
# What ends as the instruction ends natively, or changes nothing that shows: the signal, or the
# privilege level.
FAULTS = {
    "IRET to zeros": signal.SIGSEGV,
    "IRET without CS": signal.SIGSEGV,
    "IRET to no address": signal.SIGSEGV,
    "IRET to an absent CS": signal.SIGSEGV,
    "IRET of a nested task": signal.SIGSEGV,
    "IRET to CPL 3 without SS": signal.SIGSEGV,
    "IRET to compatibility mode": signal.SIGILL,
    "CR0.PG off": signal.SIGSEGV,
    "CR4.PAE off": signal.SIGSEGV,
    "CR4.LA57 on": signal.SIGSEGV,
    "a watchpoint": signal.SIGTRAP,
}
HARMLESS = {
    "IRET without SS": 0,
    "IRET to virtual 8086 mode": 0,
    "IRET to CPL 3": 3,
    "CR0.WP off": 0,
    "CR0.TS on": 0,
    "CR0.EM on": 0,
}
PRIVILEGES, HARMFUL = "../guests_ring0/privileges", "../guests_ring0/harm"
ODD = "../guests_ring0/odd"


@pytest.fixture(autouse=True)
def at_ring_0(facts: dict[str, str]) -> None:
    if facts["ring"] != "0":
        pytest.skip("no ring 0: this machine's KVM is a software one; the testbed has it")


def test_privileges(guest: Callable[..., str], hrt: Callable[..., Outcome]) -> None:
    result = hrt([guest(PRIVILEGES)])
    assert result.stdout.decode().splitlines() == [
        "privilege level: 0",
        "paging, write protection: yes",
        "tables: yes",
        "long mode: yes",
        "well after loading CR3: yes",
        "interrupts off: yes",
        "and on after a call: yes",
        "well after halting: yes",
        "well after ports: yes",
    ]
    assert (result.status, result.stderr) == (0, b"")


@pytest.mark.parametrize("what", FAULTS)
def test_what_faults_natively_ends_the_program(
    what: str, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    result = hrt([guest(ODD), what])
    assert (result.status, result.stdout, result.stderr) == (-FAULTS[what], b"", b"")


@pytest.mark.parametrize("what", HARMLESS)
def test_what_is_harmless_changes_nothing(
    what: str, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    """At CPL 3, too, which a program finds by IRET with the selectors that it has natively."""
    result = hrt([guest(ODD), what])
    assert result.stdout.decode() == f"CPL {HARMLESS[what]}, 0.5, child 7\n"
    assert (result.status, result.stderr) == (0, b"")


@pytest.mark.parametrize("what", HARM)
def test_a_dead_kernel_ends_with_one_line(
    what: str, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    result = hrt([guest(HARMFUL), what])
    assert result.stdout == b"before\n"
    assert result.status == 125
    assert len(result.stderr.splitlines()) == 1
    assert b"the virtual machine cannot go on" in result.stderr


@pytest.mark.parametrize("what", HARM)
def test_a_dead_kernel_is_reported(
    what: str, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    result = hrt([guest(HARMFUL), what], config=f"{HRT},crash=raw")
    assert (result.status, result.stdout) == (125, b"before\n")
    raw = parse(result.stderr.decode().splitlines())
    assert raw.complete
    assert raw.text["what"] == HARM[what]
    assert raw.arguments[1:] == [what]
    assert raw.number["ring"] == 0
    report = Report(raw)
    names = [str(step.place) for step in report.backtrace + report.scan]
    assert any(name.startswith("main+") for name in names), names


def test_the_command_line_reports(guest: Callable[..., str], facts: dict[str, str]) -> None:
    command = [*MULTIVERSE, "run", "--require-hrt", guest(HARMFUL), "no interrupt table"]
    result = run(command, stdin=b"", env=None, cwd=None, timeout=60, trace=None)
    assert (result.status, result.stdout) == (125, b"before\n")
    lines = result.stderr.decode().splitlines()
    assert lines[0].startswith("multiverse: run: triple fault (8) at RIP ")
    assert lines[1] == "crash report"
    assert "  exit      shutdown (KVM exit 8)" in lines


def test_a_jump_to_no_address_is_what_it_is_natively(
    guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    result = hrt([guest(HARMFUL), "a jump to no address"])
    assert (result.status, result.stdout, result.stderr) == (-signal.SIGSEGV, b"before\n", b"")
