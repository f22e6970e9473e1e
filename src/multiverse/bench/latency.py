"""Figure 2 of the paper for this machine: what the interactions of ROS and HRT take, in cycles.

Beside them, in the same run, stands what bounds each from below: a cache line carried from core to
core and back, a system call, an exit of this KVM with nothing behind it.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiverse.bench import machine, micro
from multiverse.bench.errors import BenchError
from multiverse.bench.runner import interleave
from multiverse.bench.stats import Spread, paired_ratios, spread
from multiverse.bench.topology import Placement, place

FORMAT = "multiverse-bench-latency-1"

DEFAULT_RUNS = 10

#: Of every round trip, in each round.
SINGLES = 200
BATCHES = 10

_PROGRAMS = ("roundtrip", "pingpong")

#: What the ROS side answers to call 334 (rseq), which an HRT does not have: -ENOSYS.
_ABSENT_RESULT = -38

PAPER_NOTE = (
    "The paper's cycles are those of an AMD Opteron 4122 at 2.2 GHz. Its Figure 2 also has times,"
    " ten times too low for the cycles beside them (33 K cycles are 15 µs): compare cycles."
)


@dataclass(slots=True)
class Samples:
    """What one round gave, in cycles.

    Attributes:
        single: round trips, each measured by itself, the reading of the clock included.
        batch: round trips by the hundred: cycles for one; empty where there are no batches.
    """

    single: list[float] = field(default_factory=list)
    batch: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Figure:
    """One interaction, or one yardstick.

    Attributes:
        name: short name, as in the JSON file.
        title: in words.
        paper_cycles: what Figure 2 of the paper has for it, or None.
        rounds: the samples, round by round.
        unavailable: why there is none, in two words, or None.
    """

    name: str
    title: str
    paper_cycles: int | None = None
    rounds: list[Samples] = field(default_factory=list)
    unavailable: str | None = None

    def single(self) -> Spread:
        """Over all rounds, of round trips measured one by one."""
        return spread([sample for samples in self.rounds for sample in samples.single])

    def batch(self) -> Spread | None:
        """Over all rounds, of batches; None if there are none."""
        values = [sample for samples in self.rounds for sample in samples.batch]
        return spread(values) if values else None


@dataclass(slots=True)
class Ratio:
    """How far one figure is from another, round by round.

    Attributes:
        title: in words.
        over: the name of the figure that is divided.
        under: the name of the figure that divides it.
        single: a ratio a round, of the medians of round trips measured one by one.
        batch: the same of batches; empty where one of the two has none.
    """

    title: str
    over: str
    under: str
    single: list[float]
    batch: list[float]


@dataclass(slots=True)
class Report:
    """A whole run.

    Attributes:
        machine: what it was measured on; see ``machine.facts``.
        tsc_hz: cycles a second.
        runs: the number of rounds.
        placement: the processors measured between.
        merge_windows: memory slots that merging the 100 mappings took.
        interactions: Figure 2.
        yardsticks: what to hold against it.
        remarks: what a reader should know of this run.
    """

    machine: dict[str, Any]
    tsc_hz: float
    runs: int
    placement: Placement
    merge_windows: int
    interactions: list[Figure]
    yardsticks: list[Figure]
    remarks: list[str]

    def figures(self) -> dict[str, Figure]:
        """All figures by name."""
        return {figure.name: figure for figure in (*self.interactions, *self.yardsticks)}

    def ratios(self) -> list[Ratio]:
        """The ratios of figures that were both measured."""
        figures = self.figures()
        return [
            _ratio(title, figures[over], figures[under])
            for title, over, under in _RATIOS
            if figures[over].rounds and figures[under].rounds
        ]

    def seconds(self, cycles: float) -> float:
        """Cycles as time."""
        return cycles / self.tsc_hz

    def to_json(self) -> dict[str, Any]:
        """The report for a JSON file, in cycles; ``docs/benchmarks.md`` describes it."""
        return {
            "format": FORMAT,
            "machine": self.machine,
            "tsc_hz": self.tsc_hz,
            "runs": self.runs,
            "processors": dataclasses.asdict(self.placement),
            "merge_windows": self.merge_windows,
            "interactions": [_figure_json(figure) for figure in self.interactions],
            "yardsticks": [_figure_json(figure) for figure in self.yardsticks],
            "ratios": [
                {
                    **dataclasses.asdict(ratio),
                    "single_summary": dataclasses.asdict(spread(ratio.single)),
                    "batch_summary": _optional_json(spread(ratio.batch) if ratio.batch else None),
                }
                for ratio in self.ratios()
            ],
            "remarks": self.remarks,
        }


def _interactions() -> list[Figure]:
    """Figure 2, in the paper's order."""
    return [
        Figure("merge", "Address-space merger, 100 mappings", 33_000),
        Figure("merge_slots", "... memory slots included"),
        Figure("async", "Asynchronous call", 25_000),
        Figure("sync_other_socket", "Synchronous call, different sockets", 1060),
        Figure("sync_same_socket", "Synchronous call, same socket", 790),
    ]


def _yardsticks() -> list[Figure]:
    return [
        Figure("line_other_socket", "Cache line, different sockets"),
        Figure("line_same_socket", "Cache line, same socket"),
        Figure("exit", "Bare exit"),
        Figure("getppid_native", "System call (getppid), native"),
        Figure("getppid_sync", "... HRT, synchronous"),
        Figure("getppid_async", "... HRT, asynchronous"),
        Figure("vm", "Virtual machine made"),
        Figure("vcpu", "Virtual CPU made"),
        Figure("slot", "Memory slot of 64 MiB added"),
        Figure("clock", "Two readings of the clock"),
    ]


_RATIOS = (
    ("synchronous call / cache line, different sockets", "sync_other_socket", "line_other_socket"),
    ("synchronous call / cache line, same socket", "sync_same_socket", "line_same_socket"),
    ("asynchronous call / bare exit", "async", "exit"),
    ("getppid, synchronous / native", "getppid_sync", "getppid_native"),
    ("getppid, asynchronous / native", "getppid_async", "getppid_native"),
)

#: The core's names for what it measures by itself, and ours.
_CORE_FIGURES = {
    "vm_create": "vm",
    "vcpu_create": "vcpu",
    "slot_add": "slot",
    "merge_100": "merge",
    "merge_100_slots": "merge_slots",
    "exit": "exit",
}


@dataclass(slots=True)
class _Step:
    """One command of a round: what it is called, and how to get figures by name from it."""

    title: str
    measure: Callable[[], dict[str, Samples]]


def bench(
    core: Path,
    runs: int,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _of: None,
) -> Report:
    """Measure everything, by turns.

    Args:
        core: the executable ``multiverse-core``.
        runs: rounds, at least one.
        on_step: called before each command with its title, the commands done and the commands of
            all rounds.

    Raises:
        BenchError: something is missing, no HRT is possible here, or a program does not run.
    """
    probed = machine.probe(core)
    facts = machine.facts(core, probed)
    tsc_hz = _tsc_hz(probed)
    placement = place(os.sched_getaffinity(0))
    interactions, yardsticks = _interactions(), _yardsticks()
    figures = {figure.name: figure for figure in (*interactions, *yardsticks)}
    for name, why in _unavailable(placement).items():
        figures[name].unavailable = why
    windows: list[int] = []
    with micro.compiled(_PROGRAMS) as directory:
        steps = _steps(core, directory, placement, windows)
        done = 0

        def perform(step: _Step) -> dict[str, Samples]:
            nonlocal done
            on_step(step.title, done, runs * len(steps))
            done += 1
            return step.measure()

        performed = [functools.partial(perform, step) for step in steps]
        for results in interleave(performed, runs):
            for result in results:
                for name, samples in result.items():
                    figures[name].rounds.append(samples)
    report = Report(
        facts, tsc_hz, runs, placement, windows[-1], interactions, yardsticks, remarks=[]
    )
    report.remarks = _remarks(report)
    return report


def _steps(core: Path, directory: Path, placement: Placement, windows: list[int]) -> list[_Step]:
    roundtrip, pingpong = (str(directory / program) for program in _PROGRAMS)
    hrt = placement.hrt
    others = {
        socket: other
        for socket, other in (
            ("other_socket", placement.other_socket),
            ("same_socket", placement.same_socket),
        )
        if other is not None
    }
    asynchronous = f"channel=async,hrtcpus={1 << hrt:#x}"

    def synchronous(other: int) -> str:
        return f"channel=sync,pollers=1,roscpus={1 << other:#x},hrtcpus={1 << hrt:#x}"

    def without_program() -> dict[str, Samples]:
        command = [str(core), "latency"]
        with _only_on(hrt):
            samples, count = _core_samples(command, micro.printed(command))
        windows.append(count)
        return samples

    def native() -> dict[str, Samples]:
        with _only_on(hrt):
            samples, clock, _ = _round_trips(_sampled([roundtrip, "getppid"]))
        return {"getppid_native": samples, "clock": clock}

    def line(name: str, other: int) -> dict[str, Samples]:
        return {name: _round_trips(_sampled([pingpong, str(hrt), str(other)]))[0]}

    def absent(name: str, config: str) -> dict[str, Samples]:
        command = micro.as_hrt(core, _sampled([roundtrip, "absent"]), config)
        samples, _, result = _round_trips(command)
        if result != _ABSENT_RESULT:
            raise micro.unreadable(command, f"result {result}")
        return {name: samples}

    def getppid(name: str, config: str) -> dict[str, Samples]:
        command = micro.as_hrt(core, _sampled([roundtrip, "getppid"]), config)
        return {name: _round_trips(command)[0]}

    def step(title: str, measure: Callable[..., dict[str, Samples]], *arguments: object) -> _Step:
        return _Step(title, functools.partial(measure, *arguments))

    steps = [
        step("merger and exits", without_program),
        step("native system call", native),
        step("asynchronous call", absent, "async", asynchronous),
        step("asynchronous getppid", getppid, "getppid_async", asynchronous),
    ]
    for socket, other in others.items():
        steps += [
            step("cache line", line, f"line_{socket}", other),
            step("synchronous call", absent, f"sync_{socket}", synchronous(other)),
        ]
    if others:
        nearest = synchronous(others.get("same_socket", next(iter(others.values()))))
        steps.append(step("synchronous getppid", getppid, "getppid_sync", nearest))
    return steps


def _sampled(command: Sequence[str]) -> list[str]:
    return [*command, str(SINGLES), str(BATCHES)]


@contextmanager
def _only_on(cpu: int) -> Iterator[None]:
    """What is started meanwhile may run on this processor only."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _round_trips(command: Sequence[str]) -> tuple[Samples, Samples, int]:
    """Run a program that samples: its round trips, its clock, and the line ``result``."""
    return parse_round_trips(command, micro.printed(command))


def parse_round_trips(command: Sequence[str], text: str) -> tuple[Samples, Samples, int]:
    """Read what a program that samples printed: round trips, empty readings of the clock, result.

    Raises:
        BenchError: it is not what it should be.
    """
    lines = {name: rest for name, *rest in (line.split() for line in text.splitlines() if line)}
    try:
        single, batch, empty = ([float(v) for v in lines[n]] for n in ("single", "batch", "empty"))
        spread(single), spread(batch), spread(empty)
        (result,) = lines.get("result", ["0"])
        return Samples(single, batch), Samples(empty), int(result)
    except (KeyError, ValueError) as error:
        raise micro.unreadable(command, text) from error


def _core_samples(command: Sequence[str], text: str) -> tuple[dict[str, Samples], int]:
    """Read what ``multiverse-core latency`` printed: figures by our names, and slots taken.

    Raises:
        BenchError: it is not what it should be.
    """
    values: dict[str, list[float]] = {}
    try:
        for line in text.splitlines():
            key, _, words = line.partition("=")
            values.setdefault(key, []).extend(float(word) for word in words.split(","))
        figures = {ours: Samples(values[theirs]) for theirs, ours in _CORE_FIGURES.items()}
        for samples in figures.values():
            spread(samples.single)
        return figures, int(values["merge_windows"][0])
    except (KeyError, ValueError) as error:
        raise micro.unreadable(command, text) from error


def _tsc_hz(probed: dict[str, str]) -> float:
    try:
        tsc_hz = float(probed["tsc_hz"])
    except (KeyError, ValueError):
        tsc_hz = 0
    if tsc_hz <= 0:
        raise BenchError(
            "probe the machine: multiverse-core", "it gave no tsc_hz", "install multiverse again"
        )
    return tsc_hz


def _unavailable(placement: Placement) -> dict[str, str]:
    """Why figures cannot be measured here, by name."""
    missing: dict[str, str] = {}
    if placement.other_socket is None:
        missing |= dict.fromkeys(("sync_other_socket", "line_other_socket"), "one socket")
    if placement.same_socket is None:
        only_one = placement.other_socket is None
        why = "one processor" if only_one else "one processor a socket"
        missing |= dict.fromkeys(("sync_same_socket", "line_same_socket"), why)
        if only_one:
            missing["getppid_sync"] = why
    return missing


def _remarks(report: Report) -> list[str]:
    remarks = []
    placement = report.placement
    if placement.siblings:
        remarks.append(
            f"processors {placement.hrt} and {placement.same_socket} are two threads of one core:"
            " there is no second core in the socket"
        )
    figures = report.figures()
    for name in ("sync_other_socket", "sync_same_socket"):
        figure = figures[name]
        if figure.rounds and figure.single().median > figures["async"].single().median / 2:
            remarks.append(
                f"{figure.title}: about as long as the asynchronous one, so no poller answered in"
                " time; is the machine busy?"
            )
    return remarks


def _ratio(title: str, over: Figure, under: Figure) -> Ratio:
    def medians(figure: Figure, kind: str) -> list[float]:
        return [spread(getattr(samples, kind)).median for samples in figure.rounds]

    batched = all(samples.batch for samples in (*over.rounds, *under.rounds))
    return Ratio(
        title,
        over.name,
        under.name,
        single=paired_ratios(medians(under, "single"), medians(over, "single")),
        batch=paired_ratios(medians(under, "batch"), medians(over, "batch")) if batched else [],
    )


def _figure_json(figure: Figure) -> dict[str, Any]:
    return {
        **dataclasses.asdict(figure),
        "single_summary": _optional_json(figure.single() if figure.rounds else None),
        "batch_summary": _optional_json(figure.batch()),
    }


def _optional_json(value: Spread | None) -> dict[str, Any] | None:
    return dataclasses.asdict(value) if value else None
