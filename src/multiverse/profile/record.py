"""Run a program and profile it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from multiverse.core import probe
from multiverse.observe import inheritable, run_core, trace_json
from multiverse.profile import raw
from multiverse.profile.analysis import Analysis
from multiverse.profile.model import Profile


@dataclass
class Recording:
    """A run that has ended."""

    program: list[str]
    status: int
    seconds: float
    data: Any

    def profile(self) -> Profile:
        """Names and costs. Raises ValueError if the core has written nonsense."""
        found = raw.read(self.data)
        return Analysis(found).profile(self.program, self.status, self.seconds)

    def perfetto(self) -> dict[str, Any]:
        ffi = raw.interface()
        return trace_json(self.data, ffi.sizeof("struct mv_profile"))


def area(events: int) -> tuple[int, Any]:
    """What the core writes a profile to: a descriptor for it to inherit, and the memory.

    events: room for so many on the timeline. Raises OSError.
    """
    ffi = raw.interface()
    fd, data = inheritable("multiverse-profile", raw.size_of(ffi, events))
    raw.prepare(ffi, data, events, int(probe()["tsc_hz"]))
    return fd, data


def record(config: list[str], path: str, argv: list[str], events: int) -> Recording:
    """Run the program to its end.

    config: for the core; events: room for so many on the timeline. Raises OSError if the core
    cannot be started.
    """
    fd, data = area(events)
    begin = time.monotonic()
    status = run_core([*config, f"profile={fd}"], path, argv)
    return Recording(argv, status, time.monotonic() - begin, data)
