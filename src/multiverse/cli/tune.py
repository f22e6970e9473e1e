"""`multiverse tune`."""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import NoReturn

import click
from click.shell_completion import CompletionItem

from multiverse.bench.stats import MEDIAN_LIMIT_SAMPLES
from multiverse.cli.bench import console_for, progress_bar
from multiverse.cli.ending import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, terminable
from multiverse.cli.run import find_program
from multiverse.core import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, core_path
from multiverse.files import write_text

DEFAULT_RUNS = 10
DEFAULT_TIMEOUT_S = 600
EXIT_NOTHING = 1
ROUGHLY_S = 0.1  # of shorter runs the start is a large part


def fail(message: str, status: int = EXIT_FAILURE) -> NoReturn:
    """End with one line on stderr."""
    click.echo(f"multiverse: tune: {message}", err=True)
    sys.exit(status)


def note(message: str) -> None:
    click.echo(f"multiverse: tune: {message}", err=True)


def complete_names(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Names of installed sets, behind those that are there already."""
    from multiverse.overrides.sets import names

    before, comma, last = incomplete.rpartition(",")
    known = before.split(",")
    return [
        CompletionItem(f"{before}{comma}{name}")
        for name in names()
        if name.startswith(last) and name not in known
    ]


def set_names(
    context: click.Context, parameter: click.Parameter, value: str | None
) -> list[str] | None:
    """Names with commas between them; None: all."""
    from multiverse.overrides.errors import similar
    from multiverse.overrides.sets import names

    if value is None:
        return None
    there = names()
    for name in value.split(","):
        if name not in there:
            hint = similar(name, there)
            raise click.BadParameter(f"no set {name!r}{hint}; there are {', '.join(there)}")
    return list(dict.fromkeys(value.split(",")))


@click.command(context_settings={"allow_interspersed_args": False})
@click.option(
    "--runs",
    type=click.IntRange(MEDIAN_LIMIT_SAMPLES),
    default=DEFAULT_RUNS,
    show_default=True,
    help="runs of each variant",
)
@click.option(
    "--sets",
    "wanted",
    callback=set_names,
    shell_complete=complete_names,
    metavar="NAME,...",
    help="try these sets only  [default: all that are installed]",
)
@click.option(
    "--stdin",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="each run reads FILE  [default: /dev/null]",
)
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    metavar="SECONDS",
    help="end a run that takes longer",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="write the TOML file there  [default: stdout]",
)
@click.option("--json", "as_json", is_flag=True, help="print all samples as JSON on stdout")
@click.option("--verbose", is_flag=True, help="show what the runs write, on stderr")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] PROG...")
def tune(
    runs: int,
    wanted: list[str] | None,
    stdin: Path | None,
    timeout: float,
    output: Path | None,
    as_json: bool,
    verbose: bool,
    command: tuple[str, ...],
) -> None:
    """Find the sets of overrides that make PROG faster, by measuring.

    PROG IS RUN MANY TIMES: this is not for a program that changes what must not be changed again
    and again (files, databases, other machines), nor for one that does something else the second
    time.

    It runs natively, as a hybrid runtime, and with each installed set by turns. A set with which
    its output or status is another is never kept. What helps by more than the noise is confirmed
    by further runs and written as a TOML file for `multiverse run --override`.

    Exit status: 0 sets were found, 1 none helps, 125 this could not be measured, 126 PROG is not
    executable, 127 it does not exist.
    """
    path = find_program(command[0])
    if output is not None and not output.parent.is_dir():
        raise click.BadParameter(f"{output}: no such directory", param_hint="-o")
    if output is not None and not os.access(output if output.exists() else output.parent, os.W_OK):
        raise click.BadParameter(f"{output}: cannot be written", param_hint="-o")
    from multiverse.bench.errors import BenchError, Difference
    from multiverse.overrides.errors import Mistakes, NoCompiler

    try:
        with terminable():
            _tune(runs, wanted, stdin, timeout, output, as_json, verbose, path, command)
    except BenchError as error:
        fail(str(error))
    except Difference as error:
        fail(f"{path}: as an HRT without sets: {error}; a fault of Multiverse, please report it")
    except (Mistakes, NoCompiler) as error:
        fail(f"{str(error).splitlines()[0]}; the sets cannot be used")
    except KeyboardInterrupt:
        fail("interrupted; nothing was written", EXIT_INTERRUPTED)
    except Terminated:
        fail("terminated; nothing was written", EXIT_TERMINATED)
    except OSError as error:
        fail(f"{error.filename or path}: {error.strerror or error}; see that it can be used")


def _tune(
    runs: int,
    wanted: list[str] | None,
    stdin: Path | None,
    timeout: float,
    output: Path | None,
    as_json: bool,
    verbose: bool,
    path: str,
    command: tuple[str, ...],
) -> None:
    from multiverse.bench import machine
    from multiverse.bench.errors import CannotStart
    from multiverse.overrides.sets import sets
    from multiverse.tune.candidates import without_effect
    from multiverse.tune.program import Program, show_output
    from multiverse.tune.report import Report
    from multiverse.tune.search import search

    core = core_path()
    facts = machine.facts(core, machine.probe(core))
    candidates = [one for one in sets() if wanted is None or one.name in wanted]
    shown = {"on_output": show_output} if verbose else {}
    with (
        progress_bar(disable=verbose) as progress,
        Program(path, command, stdin, timeout, **shown) as program,
    ):
        bar = progress.add_task("running natively", total=None)

        def on_round(what: str, done: int, of: int) -> None:
            progress.update(bar, description=what, completed=done, total=of)
            progress.refresh()

        progress.refresh()
        try:
            program.prepare()
        except CannotStart as error:
            fail(str(error), EXIT_NOT_FOUND if error.missing else EXIT_NOT_EXECUTABLE)
        for name in program.unsteady:
            note(f"{name} differs between native runs: it is not compared")
        on_round("profiling", 0, 1)
        profile = program.profile()
        left_out = without_effect(profile, candidates) if profile else {}
        names = [one.name for one in candidates if one.name not in left_out]
        result = search(program, names, runs, on_round)
        result.left_out = left_out | result.left_out
        report = Report(list(command), str(program.stdin), runs, facts, program.unsteady, result)
    if result.steps and min(result.steps[0].native) < ROUGHLY_S:
        note("its runs are short: what was measured is mostly its start")
    if as_json:
        click.echo(json.dumps(report.to_json(), indent=2))
    console_for(stderr=True).print(report.table())
    if not result.kept:
        note("nothing was written")
        sys.exit(EXIT_NOTHING)
    if output is not None:
        write_text(output, report.to_toml())
        note(f"wrote {output}: multiverse run --override {shlex.quote(str(output))} -- ...")
    elif not as_json:
        click.echo(report.to_toml(), nl=False)
