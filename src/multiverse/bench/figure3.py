"""Figure 3 of the paper, whole: programs natively, virtual, as an HRT, and with overrides."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from multiverse import observe
from multiverse.bench import machine, micro, pairs, programs, virtual
from multiverse.bench.errors import BenchError
from multiverse.bench.pairs import NATIVE, Way
from multiverse.bench.programs import Program, Runtime
from multiverse.bench.results import HRT, HUGE, OVERRIDES, Counts, Figure, Report, Row
from multiverse.bench.runner import interleave

HUGE_PAGES = (
    "native, huge pages: GLIBC_TUNABLES=glibc.malloc.hugetlb=1 and a preloaded library that asks"
    " for huge pages (MADV_HUGEPAGE) for anonymous mappings of 1 MiB and more"
)

#: Starting a process takes little: one round pays for several starts.
STARTS_A_RUN = 3

#: Huge pages that spare fewer of a program's page faults than this had no effect on it.
_FEWER_FAULTS = 0.1

_MICRO = (
    ("map", "mmap, touch, munmap of 1 MiB", "map-touch-unmap"),
    ("getpid", "getpid", "getpid"),
)


class _Ways:
    """The ways to run a command, and what they take: libraries and overrides, made once."""

    def __init__(
        self, core: Path, sets: Sequence[str], huge: Path, descriptors: contextlib.ExitStack
    ) -> None:
        self.core = core
        self.sets = sets
        self.huge = {
            "LD_PRELOAD": str(huge),
            "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
        }
        self.descriptors = descriptors
        self.blobs: dict[str, int] = {}

    def blob(self, program: str) -> int:
        """The descriptor of the overrides for a program."""
        if program not in self.blobs:
            fd = self.descriptors.enter_context(micro.overridden(self.sets, program))
            self.blobs[program] = fd
        return self.blobs[program]

    def hrts(self, command: Sequence[str], stats: Mapping[str, int]) -> dict[str, Way]:
        """The ways that are HRTs; stats: descriptors of files for their counters, by way."""
        found = {}
        for way in (HRT, OVERRIDES) if self.sets else (HRT,):
            config, descriptors = [], []
            if way == OVERRIDES:
                descriptors.append(self.blob(command[0]))
                config.append(f"override={descriptors[0]}")
            if way in stats:
                descriptors.append(stats[way])
                config.append(f"stats={stats[way]}")
            words = micro.as_hrt(self.core, command, ",".join(config))
            found[way] = Way(words, descriptors=descriptors)
        return found

    def all(self, command: Sequence[str]) -> dict[str, Way]:
        """All ways to run a command."""
        return {NATIVE: Way(command), HUGE: Way(command, self.huge), **self.hrts(command, {})}


def bench(
    core: Path,
    runtimes: Mapping[str, Runtime],
    chosen: Sequence[Program],
    sets: Sequence[str],
    runs: int,
    quick: bool,
    with_figures: bool,
    virtually: str,
    on_step: Callable[[str, int, int], None] = lambda _title, _done, _of: None,
) -> Report:
    """Measure programs in all ways, by turns.

    The HRT's command is the core itself, as in ``multiverse bench racket``.

    Args:
        core: the executable ``multiverse-core``.
        runtimes: those of the programs, by name.
        chosen: the programs, in this order.
        sets: the overrides of the last way: names of sets, TOML files, modules. If there are none
            there is no such way.
        runs: rounds a program, at least one.
        quick: use the quick sizes.
        with_figures: also measure single calls and start-up.
        virtually: whether to run the programs in a virtual machine too: "off"; "auto", where KVM is
            hardware; "on", else in an emulator, at the quick sizes.
        on_step: called before each round with what is measured, the rounds done and the rounds of
            all.

    Raises:
        BenchError: something is missing, no HRT is possible here, or a program fails natively.
    """
    probed = machine.probe(core)
    facts = machine.facts(core, probed)
    for name, runtime in runtimes.items():
        facts["versions"][name] = runtime.version
    emulated = probed.get("kind") != "hardware"
    with_virtual = virtually == "on" or virtually == "auto" and not emulated
    if virtually == "on":
        virtual.check()
    used = [name for name in runtimes if any(program.runtime == name for program in chosen)]
    steps = (len(chosen) + (len(_MICRO) + len(runtimes) if with_figures else 0)) * runs
    report = Report(facts, runs, quick, list(sets), [], [], [HUGE_PAGES])
    with ExitStack() as stack:
        on_step("preparing", 0, steps)
        built = stack.enter_context(micro.compiled([name for *_, name in _MICRO]))
        library = stack.enter_context(micro.compiled(["hugepages"], ["-shared", "-fPIC"]))
        ready = {
            name: stack.enter_context(
                runtimes[name].ready([program for program in chosen if program.runtime == name])
            )
            for name in used
        }
        ways = _Ways(core, sets, library / "hugepages", stack)
        done = 0

        def step(title: str, round_number: int) -> None:
            on_step(title, done + round_number, steps)

        if with_figures:
            for figure, take in _figures(ways, runtimes, built):
                step(figure.title, 0)
                for round_number, samples in enumerate(interleave(take, runs), 1):
                    for way, sample in zip(figure.samples, samples, strict=True):
                        figure.samples[way].append(sample)
                    step(figure.title, round_number)
                report.figures.append(figure)
                done += runs
        commands = []
        for program in chosen:
            title = f"{program.runtime} {program.source}"
            size = program.quick_size if quick else program.size
            runtime, directory = runtimes[program.runtime], ready[program.runtime]
            words = programs.command(runtime, directory, program, size)
            step(title, 0)
            on_round = partial(step, title)
            report.rows.append(_row(program, size, ways, words, runs, runtime.advice, on_round))
            virtual_size = program.quick_size if emulated else size
            commands.append(programs.command(runtime, directory, program, virtual_size))
            done += runs
        if with_virtual:
            on_step("virtual machine", steps, steps)
            try:
                measured = virtual.measure(commands, list(ready.values()), runs, emulated)
            except BenchError as error:
                # All the rest has been measured.
                report.remarks.append(str(error))
            else:
                for row, one in zip(report.rows, measured, strict=True):
                    row.virtual = one
    report.remarks += _remarks(report, emulated)
    return report


def _row(
    program: Program,
    size: int,
    ways: _Ways,
    command: Sequence[str],
    runs: int,
    advice: str,
    on_round: Callable[[int], None],
) -> Row:
    what = f"{program.name} {size}"
    with observe.counters() as one, observe.counters() as other:
        files = {HRT: one, OVERRIDES: other}
        rehearsals = ways.hrts(command, {way: file.descriptor for way, file in files.items()})
        measured = pairs.measure(what, ways.all(command), runs, advice, on_round, rehearsals)
        row = Row(program.group, program.name, size, measured)
        for way in rehearsals:
            # A core that failed has counted nothing; that is a difference by itself.
            with contextlib.suppress(ValueError):
                stats = files[way].read()
                events = stats["events"]
                faults = sum(events[kind]["count"] for kind in ("exception", "fault", "merge"))
                row.counts[way] = Counts(sum(stats["syscalls"].values()), faults)
    return row


def _figures(
    ways: _Ways, runtimes: Mapping[str, Runtime], built: Path
) -> Iterator[tuple[Figure, list[Callable[[], float]]]]:
    """The quantities that are not a whole program's, and how a sample of each is taken, by way."""

    def reported(way: Way) -> float:
        return micro.reported(way) * 1e-9

    def start(way: Way) -> float:
        return min(micro.wall(way) for _ in range(STARTS_A_RUN))

    for name, title, program in _MICRO:
        found = ways.all([str(built / program)])
        samples: dict[str, list[float]] = {way: [] for way in found}
        yield Figure(name, title, samples), [partial(reported, w) for w in found.values()]
    for name, runtime in runtimes.items():
        words = list(runtime.idle)
        found = ways.all(words)
        samples = {way: [] for way in found}
        title = f"start-up of {' '.join([Path(words[0]).name, *words[1:]])}"
        yield Figure(f"start_{name}", title, samples), [partial(start, w) for w in found.values()]


def _remarks(report: Report, emulated: bool) -> list[str]:
    found = []
    without = []
    for row in report.rows:
        before, after = row.page_faults(NATIVE), row.page_faults(HUGE)
        if before and after and after > before * (1 - _FEWER_FAULTS):
            without.append(f"{row.name} ({row.group})")
    if without:
        found.append(
            "huge pages had no effect (fewer than a tenth of the page faults spared) on: "
            + ", ".join(without)
        )
    if not any(row.virtual for row in report.rows):
        found.append("virtual: not measured (--virtual on)")
    elif emulated:
        found.append(
            "virtual: a plain Linux guest in QEMU's emulator, since KVM is no hardware here, at the"
            " quick sizes; beside native runs of the same sizes"
        )
    else:
        found.append("virtual: a plain Linux guest in QEMU with KVM, after all other runs")
    if not report.sets:
        found.append("no override sets are installed")
    return found
