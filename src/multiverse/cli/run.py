"""`multiverse run`."""

from __future__ import annotations

import errno
import os
import signal
import stat
import sys
from typing import NoReturn

import click

from multiverse.cli.override import override_option
from multiverse.cli.values import cpu_mask, memory_size
from multiverse.core import EXIT_FAILURE, EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND, EXIT_USAGE, core_path


def fail(status: int, message: str) -> NoReturn:
    """End with one line on stderr."""
    click.echo(f"multiverse: run: {message}", err=True)
    sys.exit(status)


def find_program(name: str) -> str:
    """The file that a shell would run for `name`; ends with 126 or 127 where it would."""
    if "/" in name:
        return name
    found_unusable = False
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        candidate = f"{directory or '.'}/{name}"
        try:
            mode = os.stat(candidate).st_mode
        except OSError:
            continue
        if not stat.S_ISREG(
            mode
        ):  # a directory, above all: that of PATH itself if there is no name
            continue
        if os.access(candidate, os.X_OK):
            return candidate
        found_unusable = True
    if found_unusable:
        fail(EXIT_NOT_EXECUTABLE, f"{name}: Permission denied; make the file executable")
    fail(EXIT_NOT_FOUND, f"{name or repr(name)}: not found; check the name and PATH")


def program_environment(config: list[str]) -> dict[bytes, bytes]:
    """The environment that Multiverse itself was started with.

    CPython may have added LC_CTYPE to it (PEP 538); the kernel still has the original. A fat
    binary that shall run natively has to be told so.
    """
    native = {b"MULTIVERSE": b"off"} if "hvm=off" in config else {}
    try:
        with open("/proc/self/environ", "rb") as file:
            original = file.read()
    except OSError:
        return {**os.environb, **native}
    pairs = (entry.partition(b"=") for entry in original.split(b"\0") if b"=" in entry)
    return {key: value for key, _, value in pairs} | native


def restore_signals() -> None:
    """Undo what CPython does to dispositions; ignored signals outlive an exec."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)


def exec_core(config: list[str], path: str, argv: list[str]) -> NoReturn:
    """Become the core. Raises OSError if that is impossible."""
    restore_signals()
    core = str(core_path())
    os.execve(core, [core, ",".join(config), path, *argv], program_environment(config))


def why_not(error: OSError) -> str:
    """Why the core could not be started or its record not be written, and what to do."""
    core = str(core_path())
    what = error.filename or core
    if what != core:
        advice = "give another file"
    elif error.errno == errno.E2BIG:
        advice = "shorten the arguments or the environment"
    elif error.errno in (errno.EAGAIN, errno.ENOMEM, errno.EMFILE, errno.ENFILE):
        advice = "raise the limits (ulimit -a)"
    else:
        advice = "install again"
    return f"{what}: {error.strerror}; {advice}"


def encode_value(text: str) -> str:
    """Text as a value of the core's configuration, where commas separate."""
    return text.replace("%", "%25").replace(",", "%2C")


def decode_value(text: str) -> str:
    return text.replace("%2C", ",").replace("%25", "%")


def crash_destination(context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Where crash reports go: off, -, or an absolute path, since the program may go elsewhere."""
    if value in ("off", "-"):
        return value
    path = os.path.abspath(value)
    if not os.path.isdir(path) and not os.path.isdir(os.path.dirname(path)):
        raise click.BadParameter(f"{value}: neither a directory nor a file in one")
    return path


def crash_config(destination: str) -> list[str]:
    """What the core has to know of it. It cannot start an interpreter with a comma in its name."""
    keys = [f"crash={encode_value(destination)}"]
    if sys.executable and "," not in sys.executable:
        keys.append(f"python={sys.executable}")
    return keys


def debugger_config(where: str, program: str) -> list[str]:
    """Start the debugger's process; what the core has to know of it."""
    from multiverse.debug.server import listen, start

    try:
        server, target = listen(where)
    except ValueError:
        raise click.BadParameter(
            f"{where}: neither a port nor a path with a slash", param_hint="--gdb"
        ) from None
    except OSError as error:
        fail(EXIT_FAILURE, f"--gdb {where}: {error.strerror}; give another port or path")
    try:
        return start(server, target)
    except OSError as error:
        fail(EXIT_FAILURE, f"--gdb: {error.strerror}; try again")


def override_config(overrides: tuple[str, ...], program: str) -> list[str]:
    """Build the overrides for a program; what the core has to know of them."""
    from multiverse.overrides import blob, sealed
    from multiverse.overrides.errors import Mistakes, NoCompiler, Unusable

    try:
        content = blob(overrides, program, lambda line: click.echo(line, err=True))
    except (Mistakes, Unusable) as error:
        for line in str(error).split("\n"):
            click.echo(line, err=True)
        there = isinstance(error, NoCompiler)
        fail(EXIT_FAILURE if there else EXIT_USAGE, "the overrides cannot be used; see above")
    return [f"override={sealed(content)}"]


class RunCommand(click.Command):
    """A bare --stats does not take the next word, the program's name, for its value."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        options = [param for param in self.params if isinstance(param, click.Option)]
        followed = {name for option in options if not option.is_flag for name in option.opts}
        words = iter(enumerate(args))
        for i, word in words:
            if word == "--stats":
                args[i] = "--stats=-"
            elif word in followed:
                next(words, None)
            elif word == "--" or not word.startswith("-"):
                break
        return super().parse_args(ctx, args)


@click.command(cls=RunCommand, context_settings={"allow_interspersed_args": False})
@click.option("--hvm", type=click.Choice(["auto", "off"]), default="auto", help="off: run natively")
@click.option("--ring", type=click.Choice(["auto", "0", "3"]), default="auto", help="ring to use")
@click.option("--require-hrt", is_flag=True, help="fail (125) rather than run natively")
@click.option("--quiet", is_flag=True, help="no line when the program runs natively")
@click.option("--follow", is_flag=True, help="also make HRTs of programs that it executes")
@click.option(
    "--max-phys-bits", type=click.IntRange(36, 52), help="narrow guest physical addresses"
)
@click.option(
    "--channel",
    type=click.Choice(["auto", "sync", "async"]),
    default="auto",
    help="how system calls leave: through pollers when that pays, always if possible, or never",
)
@click.option("--pollers", type=click.IntRange(1, 16), help="most poller threads at a time")
@click.option("--ros-cpus", callback=cpu_mask, metavar="LIST", help="CPUs for pollers, as 0,2-3")
@click.option("--hrt-cpus", callback=cpu_mask, metavar="LIST", help="CPUs for the program")
@click.option(
    "--hrt-memory",
    callback=memory_size,
    metavar="SIZE",
    help="most memory for the AeroKernel's allocators, as 512M",
)
@click.option(
    "--memory-high",
    callback=memory_size,
    metavar="SIZE",
    help="most freed memory that overrides keep for the program, as 512M (default: a sixteenth of"
    " the machine's, 256M at least)",
)
@click.option(
    "--populate",
    type=click.Choice(["auto", "off"]),
    default="auto",
    help="make memory present before it is touched, in programs that use what they ask for",
)
@click.option("--stats", is_flag=False, flag_value="-", metavar="[=FILE]", help="count events")
@click.option("--trace", type=click.Path(dir_okay=False), help="record events (Perfetto's JSON)")
@click.option(
    "--crash-report",
    default="-",
    callback=crash_destination,
    metavar="FILE|DIR|-|off",
    help="where a report on a crash of the virtual machine goes: a file (.json, .raw: in these"
    " forms), a directory, stderr (-, the default; a short one), or nowhere",
)
@click.option(
    "--gdb",
    metavar="PORT|PATH",
    help="wait for gdb (target remote) on a port of this machine, 0: any; or on a socket at PATH,"
    " which has a slash in it",
)
@override_option(
    "have system calls and functions answered in the HRT as a TOML file, a module built of"
    " one, or an installed set says (multiverse override); may be given again"
)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="[--] PROG...")
def run(
    hvm: str,
    ring: str,
    require_hrt: bool,
    quiet: bool,
    follow: bool,
    max_phys_bits: int | None,
    channel: str,
    pollers: int | None,
    ros_cpus: int,
    hrt_cpus: int,
    hrt_memory: int,
    memory_high: int,
    populate: str,
    stats: str | None,
    trace: str | None,
    crash_report: str,
    gdb: str | None,
    overrides: tuple[str, ...],
    command: tuple[str, ...],
) -> None:
    """Run PROG with its arguments as a hybrid runtime.

    The exit status is the program's own; 125 if Multiverse cannot run it, 126 if it is not
    executable, 127 if it does not exist.
    """
    if hvm == "off" and require_hrt:
        raise click.UsageError("--hvm=off and --require-hrt exclude each other")
    if hvm == "off" and gdb is not None:
        raise click.UsageError("--gdb debugs hybrid runtimes; with --hvm=off use gdb by itself")
    path = find_program(command[0])
    config = [f"hvm={hvm}", f"ring={ring}"]
    config += [
        f"{key}=1"
        for key, wanted in (
            ("require", require_hrt or gdb is not None),
            ("quiet", quiet),
            ("follow", follow),
        )
        if wanted
    ]
    if max_phys_bits:
        config.append(f"physbits={max_phys_bits}")
    config.append(f"channel={channel}")
    if pollers:
        config.append(f"pollers={pollers}")
    for key, mask in (("roscpus", ros_cpus), ("hrtcpus", hrt_cpus)):
        if mask:
            config.append(f"{key}={mask:#x}")
    if hrt_memory:
        config.append(f"hrtmemory={hrt_memory}")
    if memory_high:
        config.append(f"memoryhigh={memory_high}")
    config.append(f"populate={populate}")
    config += crash_config(crash_report)
    if overrides and hvm == "off":
        click.echo("multiverse: run: --hvm=off: the overrides are not in force", err=True)
    elif overrides and os.path.isfile(path) and os.access(path, os.X_OK):
        config += override_config(overrides, path)
    if gdb is not None:
        config += debugger_config(gdb, path)
    try:
        if stats is None and trace is None:
            exec_core(config, path, list(command))
        from multiverse.observe import run_observed

        run_observed(config, path, list(command), stats, trace)
    except OSError as error:
        fail(EXIT_FAILURE, why_not(error))
