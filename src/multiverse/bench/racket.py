"""The seven Racket benchmarks of the paper, each run natively and as an HRT, pair by pair."""

from __future__ import annotations

import dataclasses
import functools
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from multiverse.bench import machine, pairs, sources
from multiverse.bench.errors import BenchError
from multiverse.bench.pairs import NATIVE, Way
from multiverse.bench.runner import Output, Timing, prepare, run
from multiverse.bench.stats import Summary, geometric_mean, paired_ratios, summarize

FORMAT = "multiverse-bench-racket-1"

DEFAULT_RUNS = 10
SHORT_RUNS = 3

_COMPILE_TIMEOUT_S = 300.0
_VERSION_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One benchmark program.

    Attributes:
        name: its name in the paper, and its source's name without ``.rkt``.
        size: N, the program's only argument, for figures.
        short_size: N for a quick look.
    """

    name: str
    size: int
    short_size: int


#: In the paper's order. On a server processor of 2023 the sizes take 2 to 5 seconds, the
#: short ones a third to half a second.
BENCHMARKS = (
    Benchmark("binary-tree", 20, 18),
    Benchmark("fannkuch", 11, 10),
    Benchmark("fasta", 10_000_000, 750_000),
    Benchmark("fasta-3", 40_000_000, 4_000_000),
    Benchmark("mandelbrot", 6000, 1500),
    Benchmark("n-body", 20_000_000, 2_000_000),
    Benchmark("spectral-norm", 5500, 1000),
)


@dataclass(slots=True)
class Result:
    """The samples of one benchmark.

    Attributes:
        name: the benchmark's name.
        size: the N it was run with.
        native: one timing a pair.
        hrt: the other timing of each pair, in the same order.
        difference: what an HRT run did differently from the native runs, or None: every run was the
            same.
    """

    name: str
    size: int
    native: list[Timing] = field(default_factory=list)
    hrt: list[Timing] = field(default_factory=list)
    difference: str | None = None

    def native_seconds(self) -> Summary:
        """Wall-clock seconds of the native runs."""
        return summarize([timing.wall for timing in self.native])

    def hrt_seconds(self) -> Summary:
        """Wall-clock seconds of the HRT runs."""
        return summarize([timing.wall for timing in self.hrt])

    def ratio(self) -> Summary:
        """HRT over native, pair by pair; above one the HRT is slower."""
        return summarize(
            paired_ratios(
                [timing.wall for timing in self.native], [timing.wall for timing in self.hrt]
            )
        )


@dataclass(slots=True)
class Report:
    """A whole run of the Racket benchmarks.

    Attributes:
        machine: what it was measured on; see ``machine.facts``.
        runs: pairs a benchmark.
        results: one for each benchmark, in the order in which they ran.
    """

    machine: dict[str, Any]
    runs: int
    results: list[Result]

    def identical(self) -> bool:
        """Whether every HRT run of every benchmark did the same as natively."""
        return all(result.difference is None for result in self.results)

    def overall_ratio(self) -> float:
        """The geometric mean of the benchmarks' median ratios.

        Raises:
            ValueError: no benchmark has a complete pair.
        """
        return geometric_mean([result.ratio().median for result in self.results if result.native])

    def to_json(self) -> dict[str, Any]:
        """The report for a JSON file, times in seconds; ``docs/benchmarks.md`` describes it."""
        return {
            "format": FORMAT,
            "machine": self.machine,
            "runs": self.runs,
            "benchmarks": [
                {
                    "name": result.name,
                    "size": result.size,
                    "identical": result.difference is None,
                    "difference": result.difference,
                    "native": [dataclasses.asdict(timing) for timing in result.native],
                    "hrt": [dataclasses.asdict(timing) for timing in result.hrt],
                    "native_seconds": dataclasses.asdict(result.native_seconds())
                    if result.native
                    else None,
                    "hrt_seconds": dataclasses.asdict(result.hrt_seconds())
                    if result.native
                    else None,
                    "ratio": dataclasses.asdict(result.ratio()) if result.native else None,
                }
                for result in self.results
            ],
            "ratio_geometric_mean": self.overall_ratio()
            if any(result.native for result in self.results)
            else None,
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Report:
        """Read what ``to_json`` made. Summaries are computed again from the samples.

        Raises:
            ValueError: it is not such a report.
        """
        if values.get("format") != FORMAT:
            raise ValueError(f"not a report of the format {FORMAT}")
        try:
            return cls(
                machine=dict(values["machine"]),
                runs=int(values["runs"]),
                results=[
                    Result(
                        name=entry["name"],
                        size=entry["size"],
                        native=[Timing(**timing) for timing in entry["native"]],
                        hrt=[Timing(**timing) for timing in entry["hrt"]],
                        difference=entry["difference"],
                    )
                    for entry in values["benchmarks"]
                ],
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a whole report of the format {FORMAT}: {error}") from error


def find_racket(given: str | None) -> Path:
    """The Racket to measure.

    Args:
        given: a path or a command's name; None stands for ``racket``.

    Raises:
        BenchError: there is none.
    """
    name = given or "racket"
    found = shutil.which(name)
    if found is None:
        advice = (
            "apt-get install racket" if given is None else "name an executable file with --racket"
        )
        raise BenchError(f"find Racket: {name}", "not found", advice)
    return Path(found).absolute()


def version(racket: Path) -> str:
    """What Racket says of its version, for example ``Racket v8.7 [cs]``.

    Raises:
        BenchError: it cannot be run.
    """
    with Output() as output:
        run([str(racket), "--version"], output, _VERSION_TIMEOUT_S)
        if output.status:
            raise BenchError(
                f"ask for the version: {racket}",
                f"{output.ending()}; {output.last_words()}",
                ADVICE,
            )
        return (
            output.stdout_bytes()
            .decode(errors="replace")
            .strip()
            .removeprefix("Welcome to ")
            .rstrip(".")
        )


ADVICE = "see that `racket` and `raco make` work, or name another Racket with --racket"


@contextmanager
def compiled(racket: Path, names: Sequence[str]) -> Iterator[Path]:
    """A temporary directory with the programs in it, compiled.

    So a run measures the program and not Racket's compiler.

    Args:
        racket: the Racket that will run them.
        names: names of benchmarks.

    Raises:
        BenchError: a source is missing, or does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="multiverse-bench-") as name:
        directory = Path(name)
        files = []
        for benchmark in names:
            file = directory / f"{benchmark}.rkt"
            file.write_bytes(sources.read("racket", file.name))
            files.append(file.name)
        what = f"compile the benchmarks: {racket}"
        # `raco` itself need not be there: it is a program in Racket's library.
        command = [str(racket), "-l-", "raco", "make", *files]
        prepare(command, directory, _COMPILE_TIMEOUT_S, what, ADVICE)
        yield directory


def measure(
    native: Sequence[str],
    hrt: Sequence[str],
    result: Result,
    runs: int,
    on_pair: Callable[[int], None] = lambda _done: None,
) -> None:
    """Run one benchmark in pairs, until the first run that does not do as natively.

    Args:
        native: the command.
        hrt: the same command as an HRT.
        result: where samples, or the difference, go.
        runs: pairs to make.
        on_pair: called after each pair with the number of pairs done, outside of what is measured.

    Raises:
        BenchError: the program fails natively, or a command cannot be started.
    """
    what = f"{result.name} {result.size}"
    ways = {NATIVE: Way(native), "hrt": Way(hrt)}
    measured = pairs.measure(what, ways, runs, ADVICE, on_pair)
    result.hrt = measured.timings["hrt"]
    result.native = measured.timings[NATIVE][: len(result.hrt)]
    result.difference = measured.differences.get("hrt")


def bench(
    core: Path,
    racket: Path,
    benchmarks: Sequence[Benchmark],
    runs: int,
    short: bool,
    on_pair: Callable[[Benchmark, int], None] = lambda _benchmark, _done: None,
) -> Report:
    """Measure the benchmarks.

    The HRT's command is the core itself and not the command line in Python, whose start-up is not
    the HRT's. ``multiverse bench base`` reports that separately.

    Args:
        core: the executable ``multiverse-core``.
        racket: the Racket to run.
        benchmarks: which, in this order.
        runs: pairs a benchmark, at least one.
        short: use the short sizes.
        on_pair: called with the benchmark and the number of its pairs done: 0 before its first,
            then after each.

    Raises:
        BenchError: something is missing, no HRT is possible here, or a benchmark fails natively.
    """
    probed = machine.probe(core)
    facts = machine.facts(core, probed)
    facts["versions"]["racket"] = version(racket)
    results = []
    with compiled(racket, [benchmark.name for benchmark in benchmarks]) as directory:
        for benchmark in benchmarks:
            size = benchmark.short_size if short else benchmark.size
            native = [str(racket), str(directory / f"{benchmark.name}.rkt"), str(size)]
            hrt = [str(core), machine.CORE_CONFIG, native[0], *native]
            result = Result(benchmark.name, size)
            results.append(result)
            on_pair(benchmark, 0)
            measure(native, hrt, result, runs, functools.partial(on_pair, benchmark))
    return Report(facts, runs, results)
