"""The command group, which imports a command when it is asked for."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import sys
from typing import Any, cast

import click

from multiverse import __version__
from multiverse.cli.ending import EXIT_INTERRUPTED, interruptible
from multiverse.core import EXIT_FAILURE

COMMANDS = {
    "aerokernel": "Print what programs that use the AeroKernel are compiled with.",
    "bench": "Measure this machine: the paper's benchmarks, native against HRT.",
    "c++": "Compile C++ into fat binaries; the options are the compiler's.",
    "cc": "Compile C into fat binaries; the options are the compiler's.",
    "completion": "Print the completion script of a shell.",
    "crash-report": "Make a raw crash report readable.",
    "doctor": "Say what this machine can do, and what to do about it.",
    "inspect": "Show what a fat binary carries.",
    "kernel": "Build and boot programs that are linked with the AeroKernel alone.",
    "override": "Check, build and explain overrides of system calls and functions.",
    "pack": "Make a fat binary of an existing executable.",
    "profile": "Show what a program asks Linux for, and what that costs.",
    "run": "Run a program as a hybrid runtime.",
    "strip": "Take out what a fat binary carries.",
    "tune": "Find the overrides that make a program faster, by measuring.",
    "testbed": "Run programs at ring 0 on any machine, in an emulated one.",
}

# Commands that are not in a module of their own name.
PLACES = {
    "c++": ("cc", "cxx"),
    "inspect": ("fat", "inspect"),
    "pack": ("fat", "pack"),
    "strip": ("fat", "strip"),
}


OUTPUT_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class LazyGroup(click.Group):
    """A group whose commands are modules of this package.

    Commands see to the errors of their own files; what is left is standard output's.
    """

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().main(*args, **kwargs)
        except OSError as error:
            if error.filename or error.errno not in OUTPUT_ERRORS:
                raise
            with contextlib.suppress(OSError):
                click.echo(f"multiverse: standard output: {error.strerror}; make room", err=True)
            # What is still buffered would fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(EXIT_FAILURE)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            with interruptible():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("multiverse: interrupted", err=True)
            sys.exit(EXIT_INTERRUPTED)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        name = cmd_name.replace("-", "_")
        place, attribute = PLACES.get(cmd_name, (name, name))
        module = importlib.import_module(f"multiverse.cli.{place}")
        return cast(click.Command, getattr(module, attribute))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(sorted(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="multiverse")
def cli() -> None:
    """Run unmodified Linux programs as hybrid runtimes."""
