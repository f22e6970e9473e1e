"""`multiverse cc` and `multiverse c++`."""

from __future__ import annotations

import click

from multiverse.toolchain.driver import compile_with


class PassThrough(click.Command):
    """Every word is the compiler's, --help, --version and -- included."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.params["arguments"] = args
        return []


@click.command(cls=PassThrough, add_help_option=False)
def cc(arguments: list[str]) -> None:
    """Compile C; executables that it links are fat binaries."""
    compile_with("MULTIVERSE_CC", "cc", "cc", arguments)


@click.command("c++", cls=PassThrough, add_help_option=False)
def cxx(arguments: list[str]) -> None:
    """Compile C++; executables that it links are fat binaries."""
    compile_with("MULTIVERSE_CXX", "c++", "c++", arguments)
