"""`multiverse doctor`."""

from __future__ import annotations

import json
import sys

import click

from multiverse.core import EXIT_FAILURE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="print JSON")
def doctor(as_json: bool) -> None:
    """Say what this machine can do, and what to do about it.

    Exits with 0 if programs will run as an HRT, with 1 if only natively.
    """
    from multiverse.doctor import examine

    try:
        report = examine()
    except OSError as error:
        click.echo(f"multiverse: doctor: starting the core: {error}; install again", err=True)
        sys.exit(EXIT_FAILURE)
    if as_json:
        click.echo(json.dumps(report, indent=2))
    else:
        from rich.console import Console
        from rich.table import Table

        marks = {"ok": "[green]ok[/]", "warn": "[yellow]warn[/]", "fail": "[red]fail[/]"}
        table = Table(title="Multiverse on this machine")
        for column in ("check", "state", "value", "what to do"):
            table.add_column(column)
        for check in report["checks"]:
            table.add_row(check["name"], marks[check["state"]], check["value"], check["advice"])
        console = Console(highlight=False)
        console.print(table)
        console.print("Programs run as an HRT." if report["hrt"] else "Programs run natively only.")
    sys.exit(0 if report["hrt"] else 1)
