"""What this machine can do for an HRT, and what to do where it cannot."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from typing import Any, Literal

from multiverse.core import probe

State = Literal["ok", "warn", "fail"]
KVM = "/dev/kvm"
FEW_PHYS_BITS = 39
FEW_SLOTS = 64


@dataclass(frozen=True)
class Check:
    """One finding: what was looked at, how it is, its value, and what to do about it."""

    name: str
    state: State
    value: str
    advice: str = ""


def check_device(path: str = KVM) -> Check:
    """Is the device there and permitted?"""
    if not os.path.exists(path):
        return Check(
            path,
            "fail",
            "absent",
            "load the module (modprobe kvm_intel or kvm_amd) and enable virtualization in the BIOS",
        )
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError:
        return Check(path, "fail", "not permitted", "join its group: sudo usermod -aG kvm $USER")
    except OSError as error:
        return Check(path, "fail", error.strerror or str(error), "see dmesg for the reason")
    return Check(path, "ok", "there and permitted")


def check_substrate(facts: dict[str, str]) -> list[Check]:
    """Findings from what the core's probe measured."""
    if facts.get("kvm") != "1":
        error = facts.get("error", "unknown error")
        return [Check("virtual machine", "fail", error, "programs run natively until this works")]
    software = facts["kind"] == "software"
    cost = f"{facts['cpl0_cycles']} cycles an instruction at CPL 0"
    bits, slots, vcpus = (int(facts[key]) for key in ("phys_bits", "slots", "max_vcpus"))
    return [
        Check("KVM API", "ok", facts["api_version"]),
        Check(
            "kind of KVM",
            "warn" if software else "ok",
            f"{facts['kind']} ({cost})",
            "ring 0 needs a hardware KVM; here programs run at ring 3" if software else "",
        ),
        Check("ring", "ok", facts["ring"]),
        Check("exit to the ROS", "ok", f"{int(facts['exit_cycles']):,} cycles"),
        Check(
            "physical address bits",
            "ok" if bits >= FEW_PHYS_BITS else "warn",
            str(bits),
            "" if bits >= FEW_PHYS_BITS else "very large programs may not fit",
        ),
        Check(
            "memory slots",
            "ok" if slots >= FEW_SLOTS else "warn",
            str(slots),
            "" if slots >= FEW_SLOTS else "programs with scattered memory may not fit",
        ),
        Check("virtual CPUs", "ok", f"at most {vcpus}: one a thread"),
    ]


def check_system() -> list[Check]:
    """Kernel, C library and cores."""
    libc, version = platform.libc_ver()
    cores = len(os.sched_getaffinity(0))
    return [
        Check("kernel", "ok", platform.release()),
        Check("C library", "ok", f"{libc or 'unknown'} {version}".strip()),
        Check(
            "cores",
            "ok" if cores > 1 else "warn",
            str(cores),
            "" if cores > 1 else "HRT and ROS share one core",
        ),
    ]


def examine() -> dict[str, Any]:
    """All findings: {"hrt": can programs run as an HRT, "checks": [...], "probe": {...}}.

    Raises OSError if the core cannot be started.
    """
    facts = probe()
    checks = [check_device(), *check_substrate(facts), *check_system()]
    return {
        "hrt": facts.get("kvm") == "1",
        "checks": [asdict(check) for check in checks],
        "probe": facts,
    }
