"""What programs may do at ring 0; runs where there is one: on a hardware KVM, or in the testbed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import Outcome

HARM = ["no interrupt table", "no stack tables", "an exception that was none"]
PRIVILEGES, HARMFUL = "../guests_ring0/privileges", "../guests_ring0/harm"


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


@pytest.mark.parametrize("what", HARM)
def test_a_dead_kernel_ends_with_one_line(
    what: str, guest: Callable[..., str], hrt: Callable[..., Outcome]
) -> None:
    result = hrt([guest(HARMFUL), what])
    assert result.stdout == b"before\n"
    assert result.status == 125
    assert len(result.stderr.splitlines()) == 1
    assert b"the virtual machine cannot go on" in result.stderr
