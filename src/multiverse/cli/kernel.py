"""`multiverse kernel`."""

from __future__ import annotations

import sys
from typing import NoReturn

import click

from multiverse.cli.ending import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, terminable
from multiverse.cli.values import memory_size
from multiverse.core import EXIT_USAGE
from multiverse.native import build as builder
from multiverse.native import run as runner
from multiverse.native.report import describe

EXIT_BROKEN_PIPE = 128 + 13


def fail(command: str, status: int, message: str) -> NoReturn:
    """End with one line on stderr."""
    click.echo(f"multiverse: kernel {command}: {message}", err=True)
    sys.exit(status)


@click.group()
def kernel() -> None:
    """Build and boot native programs: linked with the AeroKernel alone, without Linux.

    \b
    multiverse kernel build hello.c -o hello
    multiverse kernel run hello
    multiverse kernel run --qemu hello
    """


class CompilerCommand(click.Command):
    """A command whose words are a compiler's: click would look into -Werror for an -o."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if any(word in ctx.help_option_names for word in args):
            return super().parse_args(ctx, ["--help"])
        ctx.params["words"] = tuple(args)
        return []


def output_of(words: tuple[str, ...]) -> tuple[str | None, list[str]]:
    """The file that -o names, if any, and the other words."""
    others, output = list(words), None
    for i in reversed(range(len(others))):
        if others[i] == "-o" and i + 1 < len(others):
            output = others[i + 1]
            del others[i : i + 2]
        elif others[i].startswith("-o") and len(others[i]) > 2:
            output = others.pop(i)[2:]
    return output, others


@kernel.command(cls=CompilerCommand, options_metavar="[-o FILE] [COMPILER OPTIONS]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="SOURCES...")
def build(words: tuple[str, ...]) -> None:
    """Compile SOURCES and link them with the AeroKernel.

    All options are the compiler's ($CC, or cc). The program begins in main() and uses
    <aerokernel.h>; without -o it has the first source's name.
    """
    output, others = output_of(words)
    if not others:
        fail("build", EXIT_USAGE, "no sources; usage: multiverse kernel build FILE.c -o FILE")
    if output is None and not any(word in builder.NO_LINK for word in others):
        output = builder.default_output(others)
        if output is None:
            fail("build", EXIT_USAGE, "no name for the program; give one with -o")
    try:
        builder.build(others, output)
    except builder.BuildError as error:
        fail("build", 1, str(error))


@kernel.command(context_settings={"allow_interspersed_args": False})
@click.option("--qemu", is_flag=True, help="Stand-alone in QEMU, without Linux under it.")
@click.option(
    "--accel",
    type=click.Choice(["auto", "kvm", "tcg"]),
    default="auto",
    help="How QEMU executes; auto: by KVM if that is a processor's.",
)
@click.option("--qemu-gdb", is_flag=True, help="Wait for gdb on port 1234. Means --qemu.")
@click.option("--ring", type=click.Choice(["auto", "0", "3"]), default="auto", help="Ring to use.")
@click.option("--cpus", type=click.IntRange(1, 64), default=1, help="Virtual CPUs.")
@click.option(
    "--memory", callback=memory_size, default="256M", metavar="SIZE", help="As 64M or 2G."
)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run(
    qemu: bool,
    accel: str,
    qemu_gdb: bool,
    ring: str,
    cpus: int,
    memory: int,
    timeout: float | None,
    program: str,
    arguments: tuple[str, ...],
) -> None:
    """Boot PROGRAM, and end with its status.

    Its console is standard output. 139 is the status of a program that faults, 134 of one that
    overruns a stack, 124 of one that --timeout ends, 125 if it cannot be run.
    """
    machine = runner.Machine(memory=memory, cpus=cpus, ring=ring, timeout=timeout)
    try:
        with terminable():
            if qemu or qemu_gdb:
                if qemu_gdb:
                    target = f"target remote 127.0.0.1:{runner.GDB_PORT}"
                    click.echo(f"multiverse: kernel run: gdb {program} -ex '{target}'", err=True)
                ending = runner.run_qemu(program, arguments, machine, accel, qemu_gdb)
            else:
                ending = runner.run_hvm(program, arguments, machine)
    except runner.RunError as error:
        fail("run", error.status, str(error))
    except BrokenPipeError:
        sys.exit(EXIT_BROKEN_PIPE)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except Terminated:
        sys.exit(EXIT_TERMINATED)
    line = describe(ending, program)
    if line is not None:
        click.echo(f"multiverse: kernel run: {program}: {line}", err=True)
    sys.exit(ending.status)
