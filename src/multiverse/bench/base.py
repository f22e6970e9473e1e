"""The figures under everything else: what starting an HRT costs, and what single events cost."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import sys
import sysconfig
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiverse.bench import machine, micro
from multiverse.bench.errors import BenchError
from multiverse.bench.runner import interleave
from multiverse.bench.stats import Summary, paired_differences, paired_ratios, summarize

FORMAT = "multiverse-bench-base-1"

DEFAULT_RUNS = 10

#: Starting a process takes so little that one round of all other figures pays for several starts.
STARTS_A_RUN = 5

_PROGRAMS = ("compute", "first-touch", "getppid", "resident")


@dataclass(slots=True)
class Figure:
    """One measured quantity.

    Attributes:
        name: short name, as in the JSON file.
        title: the quantity in words.
        unit: of the samples: ``s`` or ``bytes``.
        aim: what the project wants of it, in words, or nothing.
        native: one sample a pair.
        hrt: the other sample of each pair, in the same order.
    """

    name: str
    title: str
    unit: str
    aim: str = ""
    native: list[float] = field(default_factory=list)
    hrt: list[float] = field(default_factory=list)

    def ratio(self) -> Summary:
        """HRT over native, pair by pair."""
        return summarize(paired_ratios(self.native, self.hrt))

    def added(self) -> Summary:
        """HRT minus native, pair by pair, in ``unit``."""
        return summarize(paired_differences(self.native, self.hrt))


@dataclass(slots=True)
class Report:
    """A whole run of the base figures.

    Attributes:
        machine: what it was measured on; see ``machine.facts``.
        runs: the number of rounds.
        figures: the quantities, in the order in which they are shown.
        remarks: what could not be measured, and why.
        format: the name and version of the JSON file's format.
    """

    machine: dict[str, Any]
    runs: int
    figures: list[Figure]
    remarks: list[str]
    format: str = FORMAT

    def to_json(self) -> dict[str, Any]:
        """The report for a JSON file, in seconds and bytes; ``docs/benchmarks.md`` describes it."""
        return {
            "format": self.format,
            "machine": self.machine,
            "runs": self.runs,
            "figures": [
                {
                    **dataclasses.asdict(figure),
                    "native_summary": dataclasses.asdict(summarize(figure.native)),
                    "hrt_summary": dataclasses.asdict(summarize(figure.hrt)),
                    "ratio": dataclasses.asdict(figure.ratio()),
                    "added": dataclasses.asdict(figure.added()),
                }
                for figure in self.figures
            ],
            "remarks": self.remarks,
        }


def find_cli() -> list[str] | None:
    """The command ``multiverse`` that belongs to this Python, or None if there is none."""
    beside = Path(sysconfig.get_path("scripts")) / "multiverse"
    if beside.is_file():
        return [str(beside)]
    found = shutil.which("multiverse", path=str(Path(sys.executable).parent))
    return [found] if found else None


def bench(
    core: Path,
    runs: int,
    cli: Sequence[str] | None,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _of: None,
) -> Report:
    """Measure the base figures.

    Args:
        core: the executable ``multiverse-core``.
        runs: rounds a figure, at least one.
        cli: the command ``multiverse``, to measure start-up through it too, or None.
        on_step: called before each round with the figure's title, the rounds done and the rounds of
            all figures.

    Raises:
        BenchError: something is missing, no HRT is possible here, or a program does not run.
    """
    probed = machine.probe(core)
    facts = machine.facts(core, probed)
    true = shutil.which("true")
    if true is None:
        raise BenchError("find a program to start: true", "not found", "install coreutils")
    programs = [
        (Figure("resident", "resident memory", "bytes", aim="≤ 16 MiB more"), ["resident"], 1.0),
        (Figure("first_touch", "first touch, 4 KiB page", "s"), ["first-touch", "small"], 1e-9),
        (
            Figure("first_touch_huge", "... huge pages asked for", "s"),
            ["first-touch", "huge"],
            1e-9,
        ),
        (Figure("compute", "compute loop", "s", aim="ratio 1.00"), ["compute"], 1e-9),
        (Figure("getppid", "system call (getppid)", "s"), ["getppid"], 1e-9),
    ]
    starts = runs * STARTS_A_RUN
    total = starts + runs * len(programs)
    with micro.compiled(_PROGRAMS) as directory:
        figures = _start_up(
            core, true, cli, starts, lambda title, done: on_step(title, done, total)
        )
        done = starts
        for figure, words, scale in programs:
            command = [str(directory / words[0]), *words[1:]]
            on_step(figure.title, done, total)
            micro.reported(command)
            pair = [
                functools.partial(micro.reported, command),
                functools.partial(micro.reported, micro.as_hrt(core, command)),
            ]
            for native_value, hrt_value in interleave(pair, runs):
                figure.native.append(native_value * scale)
                figure.hrt.append(hrt_value * scale)
                done += 1
                on_step(figure.title, done, total)
            figures.append(figure)
    remarks = []
    if cli is None:
        remarks.append(
            "start-up through `multiverse run` was not measured: the command is not installed"
        )
    return Report(facts, runs, figures, remarks)


def _start_up(
    core: Path,
    program: str,
    cli: Sequence[str] | None,
    starts: int,
    on_step: Callable[[str, int], None],
) -> list[Figure]:
    """Start a program that does nothing: natively, by the core and by the command, by turns."""
    start = Figure("start", "start-up of /bin/true", "s", aim="≤ 15 ms more")
    variants = [[program], micro.as_hrt(core, [program])]
    figures = [start]
    if cli is not None:
        variants.append([*cli, "run", "--require-hrt", "--quiet", "--", program])
        figures.append(Figure("start_cli", "... through `multiverse run`", "s"))
    on_step(start.title, 0)
    for variant in variants:
        # Not measured: brings the files into the page cache.
        micro.wall(variant)
    for done, (native, *others) in enumerate(
        interleave([functools.partial(micro.wall, v) for v in variants], starts), 1
    ):
        for figure, other in zip(figures, others, strict=True):
            figure.native.append(native)
            figure.hrt.append(other)
        on_step(start.title, done)
    return figures
