"""What the measuring is done on: facts for the report, and whether an HRT is possible here."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from multiverse.bench.errors import BenchError

#: What the core is told for every measured run: never fall back to a native run, which would be
#: measured as an HRT.
CORE_CONFIG = "require=1,quiet=1"

_PROBE_TIMEOUT_S = 60


def probe(core: Path) -> dict[str, str]:
    """Ask the core what this machine can do.

    Args:
        core: the executable ``multiverse-core``.

    Returns:
        the core's ``key=value`` lines.

    Raises:
        BenchError: the core is missing or broken, or no HRT is possible on this machine.
    """
    what = f"probe the machine: {core}"
    if not core.is_file():
        raise BenchError(
            f"find the core: {core}", "it is not there", "install multiverse again, or give --core"
        )
    try:
        done = subprocess.run(
            [core, "probe"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(what, str(error), "run `multiverse doctor`") from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip()
        raise BenchError(
            what, f"it exited with {done.returncode}: {words}", "run `multiverse doctor`"
        )
    facts = dict(
        line.split("=", 1)
        for line in done.stdout.decode(errors="replace").splitlines()
        if "=" in line
    )
    if "kvm" not in facts:
        raise BenchError(what, "it does not answer as a core", "give a multiverse-core as --core")
    if facts["kvm"] != "1":
        raise BenchError(
            "find an HRT to measure: /dev/kvm",
            facts.get("error", "KVM cannot be used here"),
            "run `multiverse doctor`",
        )
    return facts


def facts(core: Path, probed: dict[str, str]) -> dict[str, Any]:
    """Everything about the machine and the software that a reader of the figures needs.

    Args:
        core: the measured executable.
        probed: what ``probe`` said about it.

    Returns:
        values for a JSON file: strings, numbers, and dictionaries of such. Nothing that names a
        person, host or directory.
    """
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "kernel": platform.release(),
        "distribution": _distribution(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "load_average": round(os.getloadavg()[0], 2),
        "transparent_huge_pages": _selected(Path("/sys/kernel/mm/transparent_hugepage/enabled")),
        "frequency_governor": _selected(
            Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
        ),
        "kvm": probed,
        "versions": {
            "multiverse": _own_version(),
            "core_sha256": hashlib.sha256(core.read_bytes()).hexdigest(),
            "python": platform.python_version(),
            "libc": " ".join(platform.libc_ver()),
        },
    }


def _own_version() -> str:
    try:
        return importlib.metadata.version("multiverse-hrt")
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "unknown")
    except OSError:
        return "unknown"


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return "unknown"


def _selected(path: Path) -> str:
    """A kernel setting; of several words, the one in brackets, which is the one in force."""
    try:
        text = path.read_text().strip()
    except OSError:
        return "unknown"
    return text.partition("[")[2].partition("]")[0] or text
