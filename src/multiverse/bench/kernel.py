"""The AeroKernel beside Linux: the same things done by either, for a program."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path

from multiverse import aerokernel
from multiverse.bench import machine, micro
from multiverse.bench.base import Figure, Report
from multiverse.bench.errors import BenchError
from multiverse.bench.pairs import Way
from multiverse.bench.runner import interleave

FORMAT = "multiverse-bench-kernel-1"

# Figures that are another one with override sets in the HRT, which need ring 0.
_OVERRIDDEN = {"barrier_gc": ("barrier_by_signal", ("gc",))}

_AIM = "ratio ≤ 0.20"
_FIGURES = {
    "system_call": ("system call (getppid), forwarded", "ratio ≤ 4"),
    "fault": ("write fault to a handler and back", _AIM),
    "protect": ("protection of one page changed", _AIM),
    "barrier": ("write barrier: protect, fault, unprotect", ""),
    "barrier_by_signal": ("... by mprotect and SIGSEGV, forwarded", "ratio ≤ 5"),
    "barrier_gc": ("... by mprotect and SIGSEGV, with the set gc", "ratio ≤ 5"),
    "thread": ("thread made and joined", _AIM),
    "event": ("thread woken by another", _AIM),
    "interrupt": ("function called on another CPU", ""),
    "block": ("64 KiB of pages, touched and freed", ""),
    "object": ("100 bytes allocated and freed", ""),
    "clock": ("clock read", ""),
    "timer": ("timer armed and disarmed", ""),
}


def bench(
    core: Path,
    runs: int,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _of: None,
) -> Report:
    """Measure what Linux does natively, and the AeroKernel in an HRT.

    Args:
        core: the executable ``multiverse-core``.
        runs: rounds a figure, at least one.
        on_step: called before each round with the figure's title, the rounds done and the rounds of
            all figures.

    Raises:
        BenchError: something is missing, no HRT is possible here, or a program does not run.
    """
    facts = machine.facts(core, machine.probe(core))
    at_ring_0 = facts["kvm"].get("ring") == "0"
    figures = [
        Figure(name, title, "s", aim)
        for name, (title, aim) in _FIGURES.items()
        if at_ring_0 or name not in _OVERRIDDEN
    ]
    remarks = []
    with (
        micro.compiled(["kernel"], [*aerokernel.cflags()], [*aerokernel.libs()]) as directory,
        contextlib.ExitStack() as descriptors,
    ):
        program = str(directory / "kernel")
        for index, figure in enumerate(figures):
            on_step(figure.title, index * runs, len(figures) * runs)
            name, sets = _OVERRIDDEN.get(figure.name, (figure.name, ()))
            try:
                ways = Way([program, name]), _hrt(core, [program, name], sets, descriptors)
                pair = [functools.partial(micro.reported, way) for way in ways]
                for done, (native, hrt) in enumerate(interleave(pair, runs), 1):
                    figure.native.append(native * 1e-9)
                    figure.hrt.append(hrt * 1e-9)
                    on_step(figure.title, index * runs + done, len(figures) * runs)
            except BenchError as error:
                remarks.append(f"{figure.title}: {error}")
    return Report(facts, runs, [f for f in figures if f.native], remarks, FORMAT)


def _hrt(
    core: Path, command: Sequence[str], sets: Sequence[str], descriptors: contextlib.ExitStack
) -> Way:
    if not sets:
        return Way(micro.as_hrt(core, command))
    fd = descriptors.enter_context(micro.overridden(sets, command[0]))
    return Way(micro.as_hrt(core, command, f"override={fd}"), descriptors=[fd])
