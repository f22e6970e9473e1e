"""`multiverse aerokernel`."""

from __future__ import annotations

import json
import shlex

import click

from multiverse import aerokernel as library


@click.command()
@click.option("--cflags", is_flag=True, help="The compiler's options only.")
@click.option("--libs", is_flag=True, help="The linker's only.")
@click.option("--symbols", is_flag=True, help="The file with the AeroKernel's symbols only.")
@click.option("--json", "as_json", is_flag=True, help="All, as JSON.")
def aerokernel(cflags: bool, libs: bool, symbols: bool, as_json: bool) -> None:
    """Print what a program that uses <aerokernel.h> is compiled and linked with.

    \b
    cc prog.c $(multiverse aerokernel) -o prog
    multiverse run ./prog

    The program runs natively, too, where ak_attach() tells it that there is no AeroKernel.
    """
    if as_json:
        everything = {"cflags": library.cflags(), "libs": library.libs()}
        click.echo(json.dumps({**everything, "symbols": library.symbols()}))
        return
    if symbols:
        click.echo(library.symbols())
        return
    both = cflags == libs
    words = [
        *(library.cflags() if cflags or both else ()),
        *(library.libs() if libs or both else ()),
    ]
    click.echo(shlex.join(words))
