"""`multiverse crash-report`, which the core also starts when a program has crashed."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from multiverse.core import EXIT_FAILURE

if TYPE_CHECKING:
    from multiverse.crash.report import Report

MODE = 0o600  # a report holds parts of the program's memory


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON")
@click.option("--short", is_flag=True, help="at most 60 lines, as on stderr after a crash")
@click.option("--fd", type=int, hidden=True, help="read this descriptor (the core)")
@click.option("--to", hidden=True, help="where --crash-report said (the core)")
@click.argument("file", required=False, type=click.File("r", errors="replace"))
def crash_report(
    as_json: bool, short: bool, fd: int | None, to: str | None, file: IO[str] | None
) -> None:
    """Make a readable report of FILE, a raw one as the core writes it; - stands for stdin.

    The files that the program had mapped are read again, for the names of functions.
    """
    from multiverse.crash.raw import RawError, parse

    if fd is not None:
        file = open(fd, errors="replace")
    if file is None:
        raise click.UsageError("give a FILE, or - for stdin")
    try:
        text = file.read()
        raw = parse(text.split("\n"))
    except (RawError, OSError) as error:
        name = "the core's report" if fd is not None else file.name
        click.echo(f"multiverse: crash-report: {name}: {error}; give a raw report", err=True)
        sys.exit(EXIT_FAILURE)
    from multiverse.crash.report import Report

    report = Report(raw)
    if to is not None:
        _deliver(report, text, to)
    else:
        sys.stdout.write(_content(report, as_json, short))


def _content(report: Report, as_json: bool, short: bool = False) -> str:
    from multiverse.crash.text import full_text, short_text

    if as_json:
        import json

        return json.dumps(report.to_json(), indent=2) + "\n"
    return short_text(report) if short else full_text(report)


def _target(report: Report, to: str) -> Path:
    path = Path(to)
    if not path.is_dir():
        return path
    name = os.path.basename(report.raw.text.get("program", "")) or "program"
    safe = "".join(c if c.isalnum() or c in "._-" else "_" for c in name)
    return path / f"crash-{safe}-{report.raw.number.get('pid', 0)}.txt"


def _deliver(report: Report, raw: str, to: str) -> None:
    """Write the report to where the user wanted it; on stderr if that fails."""
    from multiverse.cli.run import decode_value

    to = decode_value(to)
    if to != "-":
        path = _target(report, to)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, MODE)
            with open(fd, "w", errors="backslashreplace") as target:
                is_raw = path.suffix == ".raw"
                target.write(raw if is_raw else _content(report, path.suffix == ".json"))
        except OSError as error:
            click.echo(f"multiverse: crash report: {path}: {error.strerror}; here it is", err=True)
        else:
            click.echo(f"multiverse: crash report: {path}", err=True)
            return
    if sys.stderr is not None:
        sys.stderr.write(_content(report, as_json=False, short=True))
