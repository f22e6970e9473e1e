"""`multiverse completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell, to be sourced from its start-up file."""
    make = get_completion_class(shell)
    if make is None:
        raise click.UsageError(f"no completion for {shell}")
    root = ctx.find_root()
    click.echo(make(root.command, {}, "multiverse", "_MULTIVERSE_COMPLETE").source())
