"""``multiverse bench``: what programs cost as an HRT, measured beside native runs."""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import click

from multiverse.bench.errors import BenchError
from multiverse.bench.latency import DEFAULT_RUNS as LATENCY_RUNS
from multiverse.bench.mpi import DEFAULT_RANKS as MPI_RANKS
from multiverse.bench.mpi import DEFAULT_RUNS as MPI_RUNS
from multiverse.bench.mpi import DEFAULT_SIZE as MPI_SIZE
from multiverse.bench.programs import DEFAULT_RUNS as FIGURE3_RUNS
from multiverse.bench.programs import DEFAULT_SETS
from multiverse.bench.programs import QUICK_RUNS as FIGURE3_QUICK_RUNS
from multiverse.bench.racket import BENCHMARKS, DEFAULT_RUNS, SHORT_RUNS
from multiverse.cli import bench_figure3 as figure3_cli
from multiverse.cli.ending import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, terminable
from multiverse.cli.override import override_option
from multiverse.core import EXIT_FAILURE
from multiverse.files import write_text

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

P = ParamSpec("P")

_NAMES = [benchmark.name for benchmark in BENCHMARKS]

EXIT_DIFFERENT = 1

# A table that is written into a file or a pipe is not cut to the width of a terminal that is not
# there.
_WIDTH_WITHOUT_TERMINAL = 140
_LATENCY_WIDTH_MIN = 80


@click.group()
def bench() -> None:
    """Measure what programs cost as an HRT, beside the same programs run natively.

    Every figure is made in this run, on this machine: native and HRT by turns, medians, ratios pair
    by pair.
    """


def _common(command: Callable[P, None]) -> Callable[P, None]:
    """The options that all benchmarks have, and their way of ending."""

    @click.option(
        "--json",
        "json_file",
        metavar="FILE",
        help="Write all samples to FILE as JSON; - stands for stdout.",
    )
    @click.option(
        "--core", metavar="PATH", help="Measure this multiverse-core instead of the installed one."
    )
    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            with terminable():
                command(*args, **kwargs)
        except BenchError as error:
            _fail(str(error), EXIT_FAILURE)
        except KeyboardInterrupt:
            _fail("benchmark: interrupted; nothing was written", EXIT_INTERRUPTED)
        except Terminated:
            _fail("benchmark: terminated; nothing was written", EXIT_TERMINATED)
        except OSError as error:
            on_what = error.filename or "standard output"
            _fail(
                f"benchmark: {on_what}: {error.strerror or error}; see that it can be written",
                EXIT_FAILURE,
            )

    return wrapped


def _fail(message: str, status: int) -> None:
    click.echo(f"multiverse: {message}", err=True)
    sys.exit(status)


@bench.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    help=f"Pairs of runs a benchmark.  [default: {DEFAULT_RUNS}; with --short {SHORT_RUNS}]",
)
@click.option(
    "--short", is_flag=True, help="Small sizes: a quick look of about a minute, not for quoting."
)
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    type=click.Choice(_NAMES),
    help=f"Run only this benchmark; may be repeated.  [{', '.join(_NAMES)}]",
)
@click.option(
    "--chart",
    metavar="PATH",
    help="Draw a bar chart: PATH.png and PATH.svg, or racket.* in PATH if it is a directory.",
)
@click.option("--racket", metavar="PATH", help="The racket to run.  [default: the one on PATH]")
@_common
def racket(
    runs: int | None,
    short: bool,
    only: tuple[str, ...],
    chart: str | None,
    racket: str | None,
    json_file: str | None,
    core: str | None,
) -> None:
    """The seven Racket benchmarks of the paper.

    Each runs natively and as an HRT by turns, and what it writes is compared byte for byte. Exit
    status: 0 all outputs were identical, 1 one was not, 2 wrong usage, 125 the benchmark could not
    be carried out, 130 interrupted.
    """
    from multiverse.bench import racket as library
    from multiverse.bench.report import racket_table

    json_path = _json_path(json_file)
    chart_prefix = _chart_prefix(chart, "racket")
    benchmarks = [benchmark for benchmark in BENCHMARKS if not only or benchmark.name in only]
    pairs = runs if runs is not None else SHORT_RUNS if short else DEFAULT_RUNS
    program = library.find_racket(racket)
    executable = _core(core)

    with progress_bar() as progress:
        bar = progress.add_task("compiling", total=pairs * len(benchmarks))

        def on_pair(benchmark: library.Benchmark, done: int) -> None:
            completed = benchmarks.index(benchmark) * pairs + done
            progress.update(bar, description=benchmark.name, completed=completed)
            progress.refresh()

        progress.refresh()
        report = library.bench(executable, program, benchmarks, pairs, short, on_pair)

    _console(json_file).print(racket_table(report))
    _write_json(json_path, json_file, report.to_json())
    if chart_prefix is not None and any(result.native for result in report.results):
        from multiverse.bench.chart import draw

        for path in draw(report, chart_prefix):
            click.echo(f"wrote {path}", err=True)
    for result in report.results:
        if result.difference is not None:
            click.echo(
                f"multiverse: run as an HRT: {result.name} {result.size}: {result.difference};"
                " this is a fault of multiverse: please report it",
                err=True,
            )
    if not report.identical():
        sys.exit(EXIT_DIFFERENT)


@bench.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    help=f"Rounds of every program.  [default: {FIGURE3_RUNS}; with --quick {FIGURE3_QUICK_RUNS}]",
)
@click.option("--quick", is_flag=True, help="Small sizes: not for quoting.")
@click.option(
    "--only",
    multiple=True,
    metavar="WHAT",
    callback=figure3_cli.check_only,
    help="Run only this: racket, python, churn, figures (single calls and start-up), or one program"
    " as python:fasta; may be repeated.",
)
@override_option(
    f"A set for the column with overrides; may be repeated.  [default: {', '.join(DEFAULT_SETS)}]"
)
@click.option(
    "--virtual",
    type=click.Choice(["auto", "on", "off"]),
    default="auto",
    show_default=True,
    help="Also run in a plain Linux guest under QEMU. auto: where KVM is hardware; on: also in the"
    " emulator, at the quick sizes.",
)
@click.option("--html", metavar="FILE", callback=figure3_cli.output_file, help="Write a page.")
@click.option(
    "--markdown", metavar="FILE", callback=figure3_cli.output_file, help="The same as Markdown."
)
@click.option(
    "--from", "from_file", metavar="FILE", help="Measure nothing: show what --json wrote to FILE."
)
@click.option("--racket", metavar="PATH", help="The racket to run.  [default: the one on PATH]")
@click.option(
    "--python", metavar="PATH", help="The CPython to run.  [default: the one multiverse runs on]"
)
@_common
def figure3(
    runs: int | None,
    quick: bool,
    only: tuple[str, ...],
    overrides: tuple[str, ...],
    virtual: str,
    html: Path | None,
    markdown: Path | None,
    from_file: str | None,
    racket: str | None,
    python: str | None,
    json_file: str | None,
    core: str | None,
) -> None:
    """The paper's Figure 3, whole: native, virtual, Multiverse, Multiverse with overrides.

    Racket's seven programs, the same in CPython, and two that make large objects; by turns, and
    compared byte for byte. Beside the times: native Linux with huge pages forced, processor time,
    and what is asked of Linux. Exit status as for `bench racket`.
    """
    from multiverse.bench.figure3_tables import figure3_tables

    json_path = _json_path(json_file)
    if from_file is not None:
        report = figure3_cli.read(from_file)
    else:
        from multiverse.bench import figure3 as library
        from multiverse.bench import programs
        from multiverse.overrides.sets import names

        chosen = figure3_cli.chosen(only)
        with_figures = not only or figure3_cli.FIGURES in only
        given = {programs.RACKET: racket, programs.PYTHON: python}
        used = [
            name
            for name in given
            if with_figures or any(program.runtime == name for program in chosen)
        ]
        runtimes = {name: programs.find(name, given[name]) for name in used}
        rounds = runs or (FIGURE3_QUICK_RUNS if quick else FIGURE3_RUNS)
        sets = overrides or [name for name in DEFAULT_SETS if name in names()]
        executable = _core(core)
        with progress_bar() as progress:
            report = library.bench(
                executable,
                runtimes,
                chosen,
                sets,
                rounds,
                quick,
                with_figures,
                virtual,
                _steps(progress, "preparing"),
            )

    _console(json_file).print(figure3_tables(report))
    _write_json(json_path, json_file, report.to_json())
    figure3_cli.write_pages(report, html, markdown)
    figure3_cli.end(report, EXIT_DIFFERENT)


@bench.command()
@click.option(
    "--runs", type=click.IntRange(min=1), default=MPI_RUNS, show_default=True, help="Rounds."
)
@click.option(
    "--ranks",
    type=click.IntRange(min=2),
    default=MPI_RANKS,
    show_default=True,
    help="Processes of the program.",
)
@click.option(
    "--size",
    type=click.IntRange(min=100),
    default=MPI_SIZE,
    show_default=True,
    help="Rows of the linear system; the other sizes follow from it.",
)
@_common
def mpi(runs: int, ranks: int, size: int, json_file: str | None, core: str | None) -> None:
    """An unmodified MPI program, the HPC Challenge, with each rank an HRT.

    It is `mpirun hpcc` beside `mpirun multiverse-core hpcc`, by turns, on this machine. Needs Open
    MPI and Debian's hpcc.
    """
    from multiverse.bench import mpi as library
    from multiverse.bench.report import mpi_table

    json_path = _json_path(json_file)
    executable = _core(core)

    with progress_bar() as progress:
        report = library.bench(executable, runs, ranks, size, _steps(progress, "first run"))

    _console(json_file).print(mpi_table(report))
    _write_json(json_path, json_file, report.to_json())


@bench.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Rounds of every figure.",
)
@_common
def base(runs: int, json_file: str | None, core: str | None) -> None:
    """Start-up, added memory, first touch of memory, computing, a system call.

    Needs a C compiler: the measuring programs are compiled first.
    """
    from multiverse.bench import base as library
    from multiverse.bench.report import base_table

    json_path = _json_path(json_file)
    executable = _core(core)

    with progress_bar() as progress:
        report = library.bench(executable, runs, library.find_cli(), _steps(progress, "starting"))

    _console(json_file).print(base_table(report))
    _write_json(json_path, json_file, report.to_json())


@bench.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Rounds of every figure.",
)
@_common
def kernel(runs: int, json_file: str | None, core: str | None) -> None:
    """The AeroKernel beside Linux: system calls, faults, threads, events, memory, time.

    Linux does it natively, the AeroKernel in an HRT. Needs a C compiler: the measuring program is
    compiled first.
    """
    from multiverse.bench import kernel as library
    from multiverse.bench.report import kernel_table

    json_path = _json_path(json_file)
    executable = _core(core)

    with progress_bar() as progress:
        report = library.bench(executable, runs, _steps(progress, "compiling"))

    _console(json_file).print(kernel_table(report))
    _write_json(json_path, json_file, report.to_json())


@bench.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Rounds of every figure.",
)
@_common
def call(runs: int, json_file: str | None, core: str | None) -> None:
    """The accelerator model: an empty function called in the HRT, from C and from Python.

    Beside it a cache line carried between the same two cores and back, and a call by ctypes. Needs
    a C compiler: the measuring programs are compiled first.
    """
    from multiverse.bench import call as library
    from multiverse.bench.report import call_table

    json_path = _json_path(json_file)
    executable = _core(core)

    with progress_bar() as progress:
        report = library.bench(executable, runs, _steps(progress, "compiling"))

    _console(json_file).print(call_table(report))
    _write_json(json_path, json_file, report.to_json())


@bench.command()
@click.option(
    "--runs",
    type=click.IntRange(min=1),
    default=LATENCY_RUNS,
    show_default=True,
    help="Rounds of every measurement.",
)
@click.option(
    "--chart",
    metavar="PATH",
    help="Draw a bar chart: PATH.png and PATH.svg, or latency.* in PATH if it is a directory.",
)
@_common
def latency(runs: int, chart: str | None, json_file: str | None, core: str | None) -> None:
    """The paper's Figure 2: round trips between ROS and HRT, in cycles.

    Address-space merger, asynchronous and synchronous calls; beside them a bare exit, a cache line
    carried between the same two cores, and a system call natively and as an HRT. Needs a C
    compiler: the measuring programs are compiled first.
    """
    from multiverse.bench import latency as library
    from multiverse.bench.report import latency_table

    json_path = _json_path(json_file)
    chart_prefix = _chart_prefix(chart, "latency")
    executable = _core(core)

    with progress_bar() as progress:
        on_step = _steps(progress, "compiling")
        progress.refresh()
        report = library.bench(executable, runs, on_step)

    console = _console(json_file)
    # Cut short, names and figures say nothing: below this lines are longer than the terminal's.
    console.width = max(console.width, _LATENCY_WIDTH_MIN)
    console.print(latency_table(report, console.width))
    _write_json(json_path, json_file, report.to_json())
    if chart_prefix is not None:
        from multiverse.bench.chart import draw_latency

        for path in draw_latency(report, chart_prefix):
            click.echo(f"wrote {path}", err=True)


def _steps(progress: Progress, first: str) -> Callable[[str, int, int], None]:
    """A bar that begins as `first`, and what tells it of a step: title, steps done, of how many."""
    bar = progress.add_task(first, total=None)

    def on_step(title: str, done: int, of: int) -> None:
        progress.update(bar, description=title, completed=done, total=of)
        progress.refresh()

    return on_step


def _core(given: str | None) -> Path:
    if given is not None:
        return Path(given).absolute()
    from multiverse.core import core_path

    return core_path()


@contextlib.contextmanager
def progress_bar(disable: bool = False) -> Iterator[Progress]:
    """A progress bar on stderr that is drawn between runs only.

    A thread that redraws it would compete with what is being measured.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    console = Console(stderr=True)
    with Progress(
        *columns,
        console=console,
        auto_refresh=False,
        transient=True,
        disable=disable or not console.is_terminal,
    ) as progress:
        yield progress


def _console(json_file: str | None) -> Console:
    """Where tables go: stdout, unless the JSON goes there."""
    return console_for(stderr=json_file == "-")


def console_for(stderr: bool) -> Console:
    """A console for tables, of a width that suits it."""
    from rich.console import Console

    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=_WIDTH_WITHOUT_TERMINAL)


def _json_path(given: str | None) -> Path | None:
    """The file to write, None for stdout or nothing. Checked before anything is measured."""
    if given is None or given == "-":
        return None
    path = Path(given)
    if path.is_dir() or not path.parent.is_dir():
        raise click.BadParameter(
            f"{given}: not a file in an existing directory", param_hint="--json"
        )
    return path


def _chart_prefix(given: str | None, name: str) -> Path | None:
    """The path of a chart without its ending; `name` is the file's where a directory is given."""
    if given is None:
        return None
    path = Path(given)
    if path.is_dir():
        return path / name
    if not path.parent.is_dir():
        raise click.BadParameter(
            f"{given}: neither a directory nor a name in one", param_hint="--chart"
        )
    return path


def _write_json(path: Path | None, given: str | None, values: dict[str, Any]) -> None:
    if given is None:
        return
    text = json.dumps(values, indent=2) + "\n"
    if path is None:
        sys.stdout.write(text)
    else:
        write_text(path, text)
        click.echo(f"wrote {path}", err=True)
