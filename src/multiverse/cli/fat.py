"""`multiverse pack`, `multiverse inspect` and `multiverse strip`."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from multiverse.cli.override import override_option
from multiverse.core import EXIT_FAILURE
from multiverse.files import write_whole
from multiverse.toolchain import fat
from multiverse.toolchain.elf import Executable, Refused
from multiverse.toolchain.pack import pack as make_fat

EXIT_NOTHING = 1
SET_ID = stat.S_ISUID | stat.S_ISGID

program_file = click.argument("file", type=click.Path(dir_okay=False))


@contextlib.contextmanager
def one_line(command: str, file: str) -> Iterator[None]:
    """What goes wrong with a file ends the command with one line."""
    try:
        yield
    except Refused as error:
        click.echo(f"multiverse: {command}: {file}: {error}", err=True)
        sys.exit(EXIT_FAILURE)
    except OSError as error:
        name = error.filename or file
        click.echo(f"multiverse: {command}: {name}: {error.strerror}; check the file", err=True)
        sys.exit(EXIT_FAILURE)


def read(path: str) -> bytes:
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise Refused("not a regular file; give an executable")
        return file.read()


def write(path: str, content: bytes, mode: int) -> None:
    """Write a program, sparse where it is empty."""
    write_whole(Path(path), content, stat.S_IMODE(mode) & ~SET_ID, fat.holes(content))


def modules_for(overrides: tuple[str, ...]) -> tuple[bytes, bytes]:
    """The blob of these overrides, and the notes that tell of them. Ends the command if it must."""
    # Late: without overrides nothing of this is needed.
    from multiverse.overrides.errors import Mistakes, Unusable
    from multiverse.overrides.image import assemble
    from multiverse.overrides.plan import load_together

    try:
        modules = load_together(overrides, lambda line: click.echo(line, err=True))
        for module in modules:
            if module.description.functions:
                raise Unusable(
                    f"{module.description.name} takes over functions; link with multiverse cc, or"
                    " use run --override"
                )
        blob = assemble(modules, [])
    except Mistakes as error:
        click.echo(error, err=True)
        sys.exit(2)
    except Unusable as error:
        click.echo(f"multiverse: pack: {error}", err=True)
        sys.exit(EXIT_FAILURE)
    return blob, b"".join(fat.module_note(module.description.note()) for module in modules)


@click.command()
@program_file
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False), help="the new file")
@override_option(
    "put this override in, which answers system calls (multiverse override); may be given again"
)
def pack(file: str, output: str, overrides: tuple[str, ...]) -> None:
    """Make a fat binary of an existing x86-64 executable.

    It runs as FILE does; where it can be, as a hybrid runtime.
    """
    modules, notes = modules_for(overrides) if overrides else (b"", b"")
    with one_line("pack", file):
        mode = os.stat(file).st_mode
        if mode & SET_ID:
            raise Refused("has the rights of its owner (set-user-ID or set-group-ID); pack no such")
        write(output, make_fat(Executable(read(file)), modules, notes), mode)


@click.command()
@program_file
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="default: FILE itself")
def strip(file: str, output: str | None) -> None:
    """Take out what a fat binary carries.

    What `pack` has made becomes, byte for byte, what it was; what `cc` has linked behaves as if
    it had been linked without.
    """
    with one_line("strip", file):
        mode = os.stat(file).st_mode
        write(output or file, fat.strip(Executable(read(file))), mode)


def facts(what: fat.Carried, overrides: list[str], size: int) -> dict[str, Any]:
    more = {"current": what.current, "overrides": overrides, "file_size": size}
    return {"fat": True, **asdict(what), **more}


@click.command()
@program_file
@click.option("--json", "as_json", is_flag=True, help="as JSON")
def inspect(file: str, as_json: bool) -> None:
    """Show what a fat binary carries; status 1 if FILE is none."""
    with one_line("inspect", file):
        content = read(file)
        executable = Executable(content)
        what = fat.carried(executable)
        overrides = fat.overrides(executable)
    if what is None:
        click.echo(json.dumps({"fat": False}) if as_json else f"{file}: carries nothing")
        sys.exit(EXIT_NOTHING)
    if as_json:
        click.echo(json.dumps(facts(what, overrides, len(content)), indent=2))
        return
    state = "intact" if what.intact else "damaged: build the file again"
    interface = "" if what.current else f", this is {fat.VERSION}: build the file again"
    click.echo(f"{file}: a fat binary, {what.kind}")
    click.echo(f"  Multiverse {what.release}, interface {what.abi_version}{interface}")
    click.echo(f"  AeroKernel interface {what.aerokernel_version}")
    click.echo(f"  core: {what.core_size:,} bytes at {what.core_offset:#x}, {state}")
    if overrides:
        click.echo(f"  overrides: {', '.join(overrides)}")
