"""`multiverse testbed`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec

import click

from multiverse.cli.ending import EXIT_INTERRUPTED, EXIT_TERMINATED, Terminated, terminable
from multiverse.core import EXIT_FAILURE
from multiverse.testbed import boot
from multiverse.testbed.boot import Machine, TestbedError

P = ParamSpec("P")


@click.group()
def testbed() -> None:
    """Run programs at ring 0 on any machine: QEMU's emulated SVM over this machine's files.

    It needs no /dev/kvm. It boots in half a minute, and everything in it is slow; what a program
    writes is gone afterwards, but for directories given with --rw.
    """


def _in_machine(action: Callable[Concatenate[Machine, P], int]) -> Callable[..., None]:
    """Give the command the options that say what machine to emulate; end with its status."""

    @click.option("--cpu", default="EPYC", metavar="MODEL", help="QEMU's model, and features")
    @click.option(
        "--phys-bits", type=click.IntRange(36, 52), default=48, help="width of physical addresses"
    )
    @click.option("--cpus", type=click.IntRange(1, 64), default=2, help="processors")
    @click.option("--memory", default="2G", metavar="SIZE", help="as 2G or 900M")
    @click.option(
        "--rw",
        multiple=True,
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="directory that the program may change for good",
    )
    @functools.wraps(action)
    def wrapped(
        cpu: str,
        phys_bits: int,
        cpus: int,
        memory: str,
        rw: tuple[Path, ...],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> None:
        try:
            with terminable():
                status = action(Machine(cpu, phys_bits, cpus, memory, rw), *args, **kwargs)
        except TestbedError as error:
            click.echo(f"multiverse: testbed: {error}", err=True)
            status = EXIT_FAILURE
        except KeyboardInterrupt:
            status = EXIT_INTERRUPTED
        except Terminated:
            status = EXIT_TERMINATED
        sys.exit(status)

    return wrapped


@testbed.command(context_settings={"allow_interspersed_args": False})
@_in_machine
@click.option("--timeout", type=click.FloatRange(min=1), help="seconds for all of it")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] CMD...")
def run(machine: Machine, timeout: float | None, command: tuple[str, ...]) -> int:
    """Boot, run CMD in the current directory, and end with its exit status.

    Standard input, output and error are CMD's. 125 if the testbed cannot run it.
    """
    return boot.run(command, machine, timeout)


@testbed.command()
@_in_machine
def shell(machine: Machine) -> int:
    """Boot, and give a shell; leaving it ends the testbed."""
    return boot.shell(machine)
