"""`multiverse profile`."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NoReturn

import click
from click.shell_completion import CompletionItem

from multiverse.cli.override import override_option
from multiverse.cli.run import (
    crash_config,
    crash_destination,
    find_program,
    override_config,
    why_not,
)
from multiverse.core import EXIT_FAILURE

if TYPE_CHECKING:
    from multiverse.profile.model import Profile

SORTS = ("cost", "count", "channel", "linux", "waiting", "each")
EVENTS = 1 << 18
EVENTS_MAX = 1 << 24
RECORD = "record"
WIDTH = 120  # of tables that do not go to a terminal
OUTPUT_NAMES = {"output": "-o", "html": "--html", "perfetto": "--perfetto"}


def fail(message: str) -> NoReturn:
    """End with one line on stderr."""
    click.echo(f"multiverse: profile: {message}", err=True)
    sys.exit(EXIT_FAILURE)


class ProfileGroup(click.Group):
    """What is not the name of a subcommand is the program to profile, or an option for that."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0] not in self.list_commands(ctx):
            args = [RECORD, *args]
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in super().list_commands(ctx) if name != RECORD]

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        return [*super().shell_complete(ctx, incomplete), *record.shell_complete(ctx, incomplete)]


class RecordCommand(click.Command):
    """The command that `multiverse profile` itself is."""

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage("multiverse profile", f"{pieces} | show FILE | diff A B")


@click.group(cls=ProfileGroup, no_args_is_help=False, invoke_without_command=True)
@click.pass_context
def profile(ctx: click.Context) -> None:
    """Show what a program asks Linux for, from where, and what that costs."""
    if ctx.invoked_subcommand is None:
        raise click.UsageError("give a program, or one of show and diff")


def _load(path: str) -> Profile:
    from multiverse.profile.model import load

    try:
        return load(Path(path))
    except OSError as error:
        fail(f"{path}: {error.strerror}; give a file that profile -o has written")
    except ValueError as error:
        reason = "not JSON" if isinstance(error, json.JSONDecodeError) else error
        fail(f"{path}: {reason}; give a file that profile -o has written")


def _names(overrides: tuple[str, ...]) -> list[str]:
    """What is in force, sets that a file names included."""
    from multiverse.overrides.errors import Mistakes, Unusable
    from multiverse.overrides.plan import load_all

    with contextlib.suppress(Mistakes, Unusable):  # what has changed since
        return [module.description.name for module in load_all(overrides, lambda _: None)]
    return list(overrides)


def _to_json(found: Profile) -> dict[str, Any]:
    from multiverse.profile.gains import gains, installed

    return found.to_json() | {"gains": [asdict(gain) for gain in gains(found, installed())]}


def _print_json(value: Any, to: IO[str]) -> None:
    json.dump(value, to, indent=2)
    to.write("\n")


def _print_tables(found: Profile, to: IO[str], sort: str, limit: int) -> None:
    from rich.console import Console

    from multiverse.profile.gains import gains, installed
    from multiverse.profile.text import show

    console = Console(file=to, highlight=False, markup=False)
    if not console.is_terminal:
        console.width = WIDTH
    show(found, gains(found, installed()), console, sort=sort, limit=limit)


def _html(found: Profile) -> str:
    from multiverse.profile.gains import gains, installed
    from multiverse.profile.html import render

    return render(found, gains(found, installed()))


def _write(file: IO[str], content: str) -> None:
    try:
        with file:
            file.write(content)
    except OSError as error:
        fail(f"{file.name}: {error.strerror}; give another file")


@contextlib.contextmanager
def _to_stdout() -> Any:
    """A reader that has seen enough is no error."""
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


sort_option = click.option(
    "--sort", type=click.Choice(SORTS), default="cost", help="what tables are sorted by"
)
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=15, help="lines of each table"
)
html_option = click.option(
    "--html", type=click.Path(dir_okay=False), help="write a report for a browser"
)


@profile.command(
    RECORD,
    cls=RecordCommand,
    hidden=True,
    context_settings={"allow_interspersed_args": False},
    epilog="show FILE and diff A B read what -o has written; see their --help.",
)
@sort_option
@limit_option
@click.option("--quiet", is_flag=True, help="no tables on stderr")
@click.option(
    "-o",
    "--json",
    "output",
    type=click.Path(dir_okay=False),
    help="save the profile as JSON, for show and diff",
)
@html_option
@click.option(
    "--perfetto", type=click.Path(dir_okay=False), help="write the events for Perfetto's viewer"
)
@click.option(
    "--events",
    type=click.IntRange(0, EVENTS_MAX),
    default=EVENTS,
    show_default=True,
    help="most events on the timeline; counts and costs have all",
)
@click.option("--follow", is_flag=True, help="also profile programs that it executes")
@click.option("--ring", type=click.Choice(["auto", "0", "3"]), default="auto", help="ring to use")
@click.option(
    "--channel",
    type=click.Choice(["auto", "sync", "async"]),
    default="auto",
    help="how system calls leave, as for run",
)
@override_option("with overrides in force, as for run; may be given again")
@click.option(
    "--crash-report",
    default="-",
    callback=crash_destination,
    metavar="FILE|DIR|-|off",
    help="where a report on a crash of the virtual machine goes, as for run",
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] PROG...")
def record(
    sort: str,
    limit: int,
    quiet: bool,
    output: str | None,
    html: str | None,
    perfetto: str | None,
    events: int,
    follow: bool,
    ring: str,
    channel: str,
    overrides: tuple[str, ...],
    crash_report: str,
    command: tuple[str, ...],
) -> None:
    """Run PROG as a hybrid runtime; then show what it asked Linux for, from where, and what that
    cost.

    PROG's output and exit status are its own. The tables go to stderr.
    """
    path = find_program(command[0])
    config = [f"hvm=auto,ring={ring},channel={channel}", *crash_config(crash_report)]
    if follow:
        config.append("follow=1")
    if overrides:
        config += override_config(overrides, path)
    files: dict[str, IO[str]] = {}
    for key, name in (("output", output), ("html", html), ("perfetto", perfetto)):
        if name is not None:
            try:
                files[key] = open(name, "w")
            except OSError as error:
                fail(f"{OUTPUT_NAMES[key]} {name}: {error.strerror}; give another file")
    from multiverse.observe import end_as
    from multiverse.profile.record import record as run

    try:
        recording = run(config, path, list(command), events)
    except OSError as error:
        fail(why_not(error))
    try:
        found = recording.profile()
    except ValueError as error:
        fail(f"the core's record: {error}; run the program again")
    found.overrides = _names(overrides)
    if "perfetto" in files:
        _write(files["perfetto"], json.dumps(recording.perfetto()))
    if "output" in files:
        _write(files["output"], json.dumps(_to_json(found)) + "\n")
    if "html" in files:
        _write(files["html"], _html(found))
    if not quiet and sys.stderr is not None:
        with contextlib.suppress(OSError):  # the program may have closed it, or its reader is gone
            _print_tables(found, sys.stderr, sort, limit)
    end_as(recording.status)


@profile.command()
@sort_option
@limit_option
@html_option
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.argument("file", type=click.Path())
def show(sort: str, limit: int, html: str | None, as_json: bool, file: str) -> None:
    """Show a profile that -o has written to FILE."""
    found = _load(file)
    if html is not None:
        try:
            target = open(html, "w")
        except OSError as error:
            fail(f"--html {html}: {error.strerror}; give another file")
        _write(target, _html(found))
        return
    with _to_stdout() as stdout:
        if as_json:
            _print_json(_to_json(found), stdout)
        else:
            _print_tables(found, stdout, sort, limit)


@profile.command()
@limit_option
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.argument("before", metavar="A", type=click.Path())
@click.argument("after", metavar="B", type=click.Path())
def diff(limit: int, as_json: bool, before: str, after: str) -> None:
    """Show what went away, what came, and what changed between two profiles, by cost."""
    from multiverse.profile.diff import compare, to_json
    from multiverse.profile.diff import show as show_diff

    found = compare(_load(before), _load(after))
    with _to_stdout() as stdout:
        if as_json:
            _print_json(to_json(found), stdout)
            return
        from rich.console import Console

        console = Console(file=stdout, highlight=False, markup=False)
        if not console.is_terminal:
            console.width = WIDTH
        show_diff(found, console, limit=limit)
