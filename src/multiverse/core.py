"""Where the core is, and what it takes."""

from __future__ import annotations

import subprocess
from pathlib import Path

from multiverse.syscalls import NAMES

EXIT_USAGE = 2
EXIT_FAILURE = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


def core_path() -> Path:
    """The core's executable, installed beside this module."""
    return Path(__file__).with_name("_core") / "multiverse-core"


def core_header(name: str) -> str:
    """The text of one of the headers that core and command line share, for cffi's cdef()."""
    text = (core_path().parent / name).read_text()
    return "\n".join(line for line in text.splitlines() if not line.startswith("#"))


def routes() -> dict[str, str]:
    """The core's routing table: which system calls a poller may answer, and on what condition.

    Calls that are not in it go to the partner. Raises OSError if the core cannot be started.
    """
    result = subprocess.run(
        [str(core_path()), "routes"], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if result.returncode != 0:
        raise OSError(result.stderr.strip() or f"multiverse-core ended with {result.returncode}")
    lines = (line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
    return {NAMES.get(int(number), number): condition for number, condition in lines}


def probe(phys_bits: int | None = None) -> dict[str, str]:
    """Ask the core about the substrate.

    phys_bits: narrow guest physical addresses to this width.
    Returns the core's key=value lines; `kvm` is "1" if programs can run as an HRT, else `error`
    says why not. Raises OSError if the core cannot be started.
    """
    command = [str(core_path()), "probe"]
    if phys_bits:
        command.append(f"physbits={phys_bits}")
    result = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if result.returncode != 0:
        raise OSError(result.stderr.strip() or f"{command[0]} ended with {result.returncode}")
    return dict(line.split("=", 1) for line in result.stdout.splitlines() if "=" in line)
