"""What a run of Figure 3 gave: samples, what follows from them, and the JSON file."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from multiverse.bench.pairs import NATIVE, Runs
from multiverse.bench.programs import GROUPS, PROGRAMS
from multiverse.bench.runner import Timing
from multiverse.bench.stats import Summary, geometric_mean, paired_ratios, summarize
from multiverse.bench.virtual import Virtual

FORMAT = "multiverse-bench-figure3-1"

HUGE, HRT, OVERRIDES = "huge", "hrt", "overrides"

#: The ways that run by turns, and what they are called in tables.
TITLES = {
    NATIVE: "native",
    HUGE: "native, huge pages",
    HRT: "Multiverse",
    OVERRIDES: "with overrides",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What one run asked of the ROS.

    Attributes:
        calls: system calls that Linux answered.
        faults: exceptions, accesses that KVM could not map, windows merged on demand.
    """

    calls: int
    faults: int

    @property
    def events(self) -> int:
        """Legacy events."""
        return self.calls + self.faults


@dataclass(slots=True)
class Row:
    """One program.

    Attributes:
        group: its group; see ``programs.GROUPS``.
        name: its name in the group.
        size: the N it was run with.
        runs: the samples, by way.
        counts: what a run asked of the ROS, for ways that are HRTs.
        virtual: the program in a virtual machine, if that was measured.
    """

    group: str
    name: str
    size: int
    runs: Runs
    counts: dict[str, Counts] = field(default_factory=dict)
    virtual: Virtual | None = None

    def seconds(self, way: str) -> Summary | None:
        """Wall-clock seconds, or None without samples."""
        timings = self.runs.timings.get(way)
        return summarize([timing.wall for timing in timings]) if timings else None

    def ratio(self, way: str) -> Summary | None:
        """Wall-clock seconds over native, pair by pair, or None without samples."""
        return self._ratio(way, lambda timing: timing.wall)

    def processor_ratio(self, way: str) -> Summary | None:
        """Processor time over native, pair by pair, or None without samples."""
        return self._ratio(way, lambda timing: timing.processor)

    def outside_linux(self) -> float | None:
        """The share of the native run's time that is not Linux's, the median, or None without
        samples: what would be left if nothing were asked of Linux."""
        timings = self.runs.timings.get(NATIVE)
        return summarize([1 - t.system / t.wall for t in timings]).median if timings else None

    def page_faults(self, way: str) -> float | None:
        """Page faults that Linux handled, the median, or None without samples."""
        timings = self.runs.timings.get(way)
        return summarize([timing.faults for timing in timings]).median if timings else None

    def _ratio(self, way: str, of: Callable[[Timing], float]) -> Summary | None:
        timings = self.runs.timings.get(way)
        if not timings or way in self.runs.differences:
            return None
        native = self.runs.timings[NATIVE][: len(timings)]
        if any(of(timing) <= 0 for timing in native):
            return None
        return summarize(paired_ratios(list(map(of, native)), list(map(of, timings))))


@dataclass(slots=True)
class Figure:
    """One quantity that is not a whole program's.

    Attributes:
        name: short name, as in the JSON file.
        title: the quantity in words.
        samples: seconds, by way, one for each round.
    """

    name: str
    title: str
    samples: dict[str, list[float]]

    def ratio(self, way: str) -> Summary:
        """Over native, round by round."""
        return summarize(paired_ratios(self.samples[NATIVE], self.samples[way]))


@dataclass(frozen=True, slots=True)
class Aim:
    """What the project wants of a figure, and what it is here.

    Attributes:
        title: the figure.
        wanted: the bound.
        least: whether the figure is to be at least that; else at most.
        measured: the figure.
    """

    title: str
    wanted: float
    least: bool
    measured: float

    @property
    def reached(self) -> bool:
        """Whether it is so."""
        return (self.measured >= self.wanted) if self.least else (self.measured <= self.wanted)


@dataclass(slots=True)
class Report:
    """A whole run.

    Attributes:
        machine: what it was measured on; see ``machine.facts``.
        runs: rounds a program.
        quick: whether the quick sizes were run.
        sets: the override sets in force.
        rows: the programs, in the order in which they ran.
        figures: the other quantities.
        remarks: what a reader has to know of the columns.
    """

    machine: dict[str, Any]
    runs: int
    quick: bool
    sets: list[str]
    rows: list[Row]
    figures: list[Figure]
    remarks: list[str]

    def groups(self) -> Iterator[tuple[str, str, list[Row]]]:
        """The groups that were run: name, title, rows."""
        for name, title in GROUPS:
            if rows := [row for row in self.rows if row.group == name]:
                yield name, title, rows

    def ways(self) -> list[str]:
        """The ways that were run, in the order of columns."""
        return [way for way in TITLES if any(way in row.runs.timings for row in self.rows)]

    def ways_of_figures(self) -> list[str]:
        """The same for the other quantities."""
        return [way for way in TITLES if any(way in figure.samples for figure in self.figures)]

    def identical(self) -> bool:
        """Whether every run of every program did the same as natively."""
        return not any(self.differences())

    def differences(self) -> Iterator[tuple[Row, str, str]]:
        """What differed: row, way in words, difference."""
        for row in self.rows:
            for way, text in row.runs.differences.items():
                yield row, TITLES[way], text
            if row.virtual and row.virtual.difference:
                yield row, "virtual", row.virtual.difference

    def mean(self, group: str, way: str, processor: bool = False) -> float | None:
        """The geometric mean of a group's median ratios, or None without any."""
        ratios = [
            row.processor_ratio(way) if processor else row.ratio(way)
            for row in self.rows
            if row.group == group
        ]
        return _mean(ratio.median for ratio in ratios if ratio)

    def outside_linux(self, group: str) -> float | None:
        """The geometric mean of what would be left of a group's native time without Linux's."""
        return _mean(row.outside_linux() or 0 for row in self.rows if row.group == group)

    def virtual_mean(self, group: str) -> float | None:
        """The same for the virtual machine."""
        measured = [row.virtual for row in self.rows if row.group == group and row.virtual]
        return _mean(ratio.median for one in measured if (ratio := one.ratio()))

    def aims(self) -> list[Aim]:
        """The figures that the project wants to reach, as far as they were measured."""
        wanted: list[tuple[str, float, bool, float | None]] = []
        if self._whole("racket"):
            wanted += [
                ("Racket's seven, geometric mean", 1.03, False, self.mean("racket", HRT)),
                ("the slowest of them", 1.10, False, self._largest("racket", HRT)),
                ("the same with overrides", 0.95, False, self.mean("racket", OVERRIDES)),
            ]
        if self._whole("python"):
            mean = self.mean("python", OVERRIDES)
            wanted.append(("CPython's seven with overrides", 0.97, False, mean))
        for row in self.rows:
            ratio = row.ratio(OVERRIDES)
            if row.group == "churn":
                title = f"{row.name} with overrides"
                wanted.append((title, 0.5, False, ratio.median if ratio else None))
        for figure in self.figures:
            if figure.name == "map" and OVERRIDES in figure.samples:
                title = f"{figure.title}, with overrides"
                wanted.append((title, 0.1, False, figure.ratio(OVERRIDES).median))
            if figure.name == "start_racket":
                wanted.append((figure.title, 1.15, False, figure.ratio(HRT).median))
        for row in self.rows:
            if (row.group, row.name) == ("racket", "fasta") and len(row.counts) == 2:
                fewer = row.counts[HRT].events / max(row.counts[OVERRIDES].events, 1)
                wanted.append(("Racket's fasta: times fewer legacy events", 10.0, True, fewer))
        return [
            Aim(title, bound, least, measured)
            for title, bound, least, measured in wanted
            if measured is not None
        ]

    def _whole(self, group: str) -> bool:
        """Whether all programs of a group were run."""
        programs = [program for program in PROGRAMS if program.group == group]
        return len([row for row in self.rows if row.group == group]) == len(programs)

    def _largest(self, group: str, way: str) -> float | None:
        ratios = [row.ratio(way) for row in self.rows if row.group == group]
        return max((ratio.median for ratio in ratios if ratio), default=None)

    def to_json(self) -> dict[str, Any]:
        """The report for a JSON file, times in seconds; ``docs/benchmarks.md`` describes it."""
        ways = self.ways()
        return {
            "format": FORMAT,
            "machine": self.machine,
            "runs": self.runs,
            "quick": self.quick,
            "sets": self.sets,
            "programs": [
                {
                    "group": row.group,
                    "name": row.name,
                    "size": row.size,
                    "timings": {
                        way: [dataclasses.asdict(timing) for timing in timings]
                        for way, timings in row.runs.timings.items()
                    },
                    "differences": row.runs.differences,
                    "ratios": {way: _or_none(row.ratio(way)) for way in ways},
                    "counts": {way: dataclasses.asdict(c) for way, c in row.counts.items()},
                    "virtual": _or_none(row.virtual),
                }
                for row in self.rows
            ],
            "means": {
                name: {way: self.mean(name, way) for way in ways} for name, _, _ in self.groups()
            },
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
            "aims": [{**dataclasses.asdict(aim), "reached": aim.reached} for aim in self.aims()],
            "remarks": self.remarks,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Report:
        """Read what ``to_json`` made. All that follows from the samples is computed again.

        Raises:
            ValueError: it is not such a report.
        """
        if not isinstance(values, Mapping) or values.get("format") != FORMAT:
            raise ValueError(f"not a report of the format {FORMAT}")
        try:
            return cls(
                machine=dict(values["machine"]),
                runs=int(values["runs"]),
                quick=bool(values["quick"]),
                sets=list(values["sets"]),
                rows=[
                    Row(
                        entry["group"],
                        entry["name"],
                        entry["size"],
                        Runs(
                            {
                                way: [Timing(**timing) for timing in timings]
                                for way, timings in entry["timings"].items()
                            },
                            dict(entry["differences"]),
                        ),
                        {way: Counts(**counts) for way, counts in entry["counts"].items()},
                        Virtual.from_json(entry["virtual"]) if entry["virtual"] else None,
                    )
                    for entry in values["programs"]
                ],
                figures=[Figure(**figure) for figure in values["figures"]],
                remarks=list(values["remarks"]),
            )
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"not a whole report of the format {FORMAT}: {error}") from error


def _mean(values: Iterable[float]) -> float | None:
    """The geometric mean of those above zero, or None without any."""
    found = [value for value in values if value > 0]
    return geometric_mean(found) if found else None


def _or_none(value: Any) -> dict[str, Any] | None:
    return None if value is None else dataclasses.asdict(value)
