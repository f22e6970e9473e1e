"""The accelerator model: what a function called in the HRT takes, beside what bounds it."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from multiverse.bench import machine, micro
from multiverse.bench.base import Figure, Report
from multiverse.bench.errors import BenchError
from multiverse.bench.latency import BATCHES, SINGLES, parse_round_trips
from multiverse.bench.runner import interleave
from multiverse.bench.sources import read
from multiverse.bench.stats import spread
from multiverse.bench.topology import place

FORMAT = "multiverse-bench-call-1"


def bench(
    core: Path,
    runs: int,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _of: None,
) -> Report:
    """Measure calls of an empty function, by turns with their yardsticks.

    From C the yardstick (in the report: native) is a cache line carried between the same two cores
    and back, from Python a call by ctypes.

    Args:
        core: the executable ``multiverse-core``; its library is beside it.
        runs: rounds a figure, at least one.
        on_step: called before each round with the figure's title, the rounds done and the rounds of
            all figures.

    Raises:
        BenchError: something is missing, no HRT is possible here, or a program does not run.
    """
    probed = machine.probe(core)
    facts = machine.facts(core, probed)
    processors = place(os.sched_getaffinity(0))
    other = processors.same_socket
    if other is None:
        raise BenchError("measure calls between two cores", "one processor only", "use two")
    hz = float(probed["tsc_hz"])
    pair = (str(other), str(processors.hrt))
    c = Figure("call_c", "empty function called from C / cache line", "s", "ratio ≤ 1.5")
    python = Figure("call_python", "function called from Python / by ctypes", "s", "")
    include, libraries = core.parent / "include", core.parent
    cflags = [f"-I{include}"]
    libs = [f"-L{libraries}", f"-Wl,-rpath,{libraries}", "-lmultiverse"]
    with micro.compiled(["pingpong", "invoke"], cflags, libs) as directory:
        script = directory / "invoke.py"
        script.write_bytes(read("micro", "invoke.py"))

        def cycles(program: str) -> float:
            command = [str(directory / program), *pair, str(SINGLES), str(BATCHES)]
            samples, _, _ = parse_round_trips(command, micro.printed(command))
            return spread(samples.single).median / hz

        def by(how: str) -> float:
            return micro.reported([sys.executable, str(script), how]) * 1e-9

        measured: Sequence[tuple[Figure, list[Callable[[], float]]]] = (
            (c, [functools.partial(cycles, "pingpong"), functools.partial(cycles, "invoke")]),
            (python, [functools.partial(by, "ctypes"), functools.partial(by, "hrt")]),
        )
        for index, (figure, commands) in enumerate(measured):
            on_step(figure.title, index * runs, len(measured) * runs)
            for done, (native, hrt) in enumerate(interleave(commands, runs), 1):
                figure.native.append(native)
                figure.hrt.append(hrt)
                on_step(figure.title, index * runs + done, len(measured) * runs)
    return Report(facts, runs, [c, python], [], FORMAT)
