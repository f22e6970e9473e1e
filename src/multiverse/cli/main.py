"""The command group, which imports a command when it is asked for."""

from __future__ import annotations

import importlib
from typing import cast

import click

from multiverse import __version__

COMMANDS = {
    "aerokernel": "Print what programs that use the AeroKernel are compiled with.",
    "bench": "Measure this machine: the paper's benchmarks, native against HRT.",
    "completion": "Print the completion script of a shell.",
    "crash-report": "Make a raw crash report readable.",
    "doctor": "Say what this machine can do, and what to do about it.",
    "kernel": "Build and boot programs that are linked with the AeroKernel alone.",
    "run": "Run a program as a hybrid runtime.",
    "testbed": "Run programs at ring 0 on any machine, in an emulated one.",
}


class LazyGroup(click.Group):
    """A group whose commands are modules of this package."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        module = importlib.import_module(f"multiverse.cli.{name}")
        return cast(click.Command, getattr(module, name))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="multiverse")
def cli() -> None:
    """Run unmodified Linux programs as hybrid runtimes."""
