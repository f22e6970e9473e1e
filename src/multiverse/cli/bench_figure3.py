"""``multiverse bench figure3``: the paper's Figure 3, whole."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from multiverse.bench.errors import BenchError
from multiverse.bench.programs import GROUPS, PROGRAMS, Program
from multiverse.files import write_text

if TYPE_CHECKING:
    from multiverse.bench.results import Report

#: What --only takes besides groups and programs: single calls and start-up.
FIGURES = "figures"


def chosen(only: Sequence[str]) -> list[Program]:
    """The programs that --only means: GROUP or GROUP:NAME. All of them if it is empty."""
    return [p for p in PROGRAMS if not only or {p.group, f"{p.group}:{p.name}"} & set(only)]


def check_only(
    context: click.Context, parameter: click.Parameter, given: tuple[str, ...]
) -> tuple[str, ...]:
    """Each has to mean something."""
    for word in given:
        if word != FIGURES and not chosen([word]):
            groups = ", ".join([*(name for name, _ in GROUPS), FIGURES])
            raise click.BadParameter(
                f"{word}: neither one of {groups}, nor GROUP:NAME of a program"
            )
    return given


def output_file(
    context: click.Context, parameter: click.Parameter, given: str | None
) -> Path | None:
    """A file that can be written, checked before anything is measured."""
    if given is None:
        return None
    path = Path(given)
    if path.is_dir() or not path.parent.is_dir():
        raise click.BadParameter(f"{given}: not a file in an existing directory")
    return path


def read(path: str) -> Report:
    """A report out of its JSON file.

    Raises:
        BenchError: it cannot be read, or is none.
    """
    from multiverse.bench.results import Report

    try:
        return Report.from_json(json.loads(Path(path).read_text()))
    except (OSError, ValueError) as error:
        raise BenchError(f"read: {path}", str(error), "give a file that --json wrote") from error


def write_pages(report: Report, html: Path | None, markdown: Path | None) -> None:
    """Write the pages that are wanted."""
    from multiverse.bench import pages

    for path, make in ((html, pages.html), (markdown, pages.markdown)):
        if path is not None:
            write_text(path, make(report))
            click.echo(f"wrote {path}", err=True)


def end(report: Report, status: int) -> None:
    """Say what differed, and end with the status if anything did."""
    for row, way, difference in report.differences():
        advice = "this is a fault of multiverse: please report it"
        if way in ("native, huge pages", "virtual"):
            advice = "see whether the program does the same there by hand"
        click.echo(
            f"multiverse: run ({way}): {row.name} {row.size}: {difference}; {advice}", err=True
        )
    if not report.identical():
        sys.exit(status)
