"""The AeroKernel beside Linux: the same things done by either, for a program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from multiverse import aerokernel
from multiverse.bench import machine, micro
from multiverse.bench.base import Figure, Report
from multiverse.bench.errors import BenchError
from multiverse.bench.runner import interleave

FORMAT = "multiverse-bench-kernel-1"

_AIM = "ratio ≤ 0.20"
_FIGURES = {
    "system_call": ("system call (getppid), forwarded", "ratio ≤ 4"),
    "fault": ("write fault to a handler and back", _AIM),
    "protect": ("protection of one page changed", _AIM),
    "barrier": ("write barrier: protect, fault, unprotect", ""),
    "barrier_by_signal": ("... by mprotect and SIGSEGV, forwarded", "ratio ≤ 5"),
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
    figures = [Figure(name, title, "s", aim) for name, (title, aim) in _FIGURES.items()]
    remarks = []
    with micro.compiled(["kernel"], [*aerokernel.cflags()], [*aerokernel.libs()]) as directory:
        for index, figure in enumerate(figures):
            command = [str(directory / "kernel"), figure.name]
            pair = [
                functools.partial(micro.reported, command),
                functools.partial(micro.reported, micro.as_hrt(core, command)),
            ]
            on_step(figure.title, index * runs, len(figures) * runs)
            try:
                for done, (native, hrt) in enumerate(interleave(pair, runs), 1):
                    figure.native.append(native * 1e-9)
                    figure.hrt.append(hrt * 1e-9)
                    on_step(figure.title, index * runs + done, len(figures) * runs)
            except BenchError as error:
                remarks.append(f"{figure.title}: {error}")
    return Report(facts, runs, [f for f in figures if f.native], remarks, FORMAT)
