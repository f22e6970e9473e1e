"""The measuring programs: compiling them, running them natively or as an HRT, reading them."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from multiverse import overrides
from multiverse.bench import machine, sources
from multiverse.bench.errors import BenchError, Difference
from multiverse.bench.pairs import Way, run_way
from multiverse.bench.runner import Output, prepare
from multiverse.overrides.errors import Mistakes, Unusable

_RUN_TIMEOUT_S = 120.0
_COMPILE_TIMEOUT_S = 120.0

_ADVICE = "try `multiverse run` with a program of your own"


@contextmanager
def compiled(
    programs: Sequence[str], cflags: Sequence[str] = (), libs: Sequence[str] = ()
) -> Iterator[Path]:
    """A temporary directory with measuring programs in it, compiled for this machine.

    Args:
        programs: their sources in ``benchmarks/micro``, without ``.c``.
        cflags: more for the compiler.
        libs: more for the linker.

    Raises:
        BenchError: there is no C compiler, or it fails.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise BenchError(
            "compile the measuring programs: cc",
            "not found",
            "install a C compiler (apt-get install gcc libc6-dev)",
        )
    with tempfile.TemporaryDirectory(prefix="multiverse-bench-") as name:
        directory = Path(name)
        (directory / "micro.h").write_bytes(sources.read("micro", "micro.h"))
        for program in programs:
            source = directory / f"{program}.c"
            source.write_bytes(sources.read("micro", source.name))
            what = f"compile a measuring program: {program}.c"
            advice = f"see that {compiler} can compile a C program (apt-get install gcc libc6-dev)"
            command = [compiler, "-O2", "-pthread", *cflags, "-o", str(directory / program)]
            command += [str(source), *libs]
            prepare(command, directory, _COMPILE_TIMEOUT_S, what, advice)
        yield directory


def as_hrt(core: Path, command: Sequence[str], config: str = "") -> list[str]:
    """The command that runs ``command`` as an HRT, or fails.

    Args:
        core: the executable ``multiverse-core``.
        command: a path and arguments.
        config: more of the core's ``key=value``, separated by commas.
    """
    words = ",".join(filter(None, (machine.CORE_CONFIG, config)))
    return [str(core), words, command[0], *command]


@contextmanager
def overridden(sets: Sequence[str], program: str) -> Iterator[int]:
    """A descriptor of override sets for a program: the core's ``override=``.

    Only a `Way` that names it inherits it.

    Args:
        sets: names of installed sets, or TOML files.
        program: its path.

    Raises:
        BenchError: they cannot be built.
    """
    try:
        fd = overrides.sealed(overrides.blob(sets, program))
    except (Mistakes, Unusable) as error:
        what = f"build the overrides: {', '.join(sets)}"
        raise BenchError(what, str(error), "see `multiverse override check`") from error
    try:
        os.set_inheritable(fd, False)
        yield fd
    finally:
        os.close(fd)


def printed(way: Way | Sequence[str]) -> str:
    """What a run that has to succeed wrote to stdout."""
    with Output() as output:
        _run_well(way, output)
        return output.stdout_bytes().decode(errors="replace")


def reported(way: Way | Sequence[str]) -> float:
    """The figure that a measuring program prints, in the program's own unit."""
    words = printed(way).split()
    try:
        _name, value = words
        figure = float(value)
    except ValueError as error:
        raise unreadable(_way(way).command, " ".join(words)) from error
    return figure


def wall(way: Way | Sequence[str], timeout: float = _RUN_TIMEOUT_S) -> float:
    """Wall-clock seconds of a run that has to succeed, and to end within ``timeout`` seconds."""
    with Output() as output:
        return _run_well(way, output, timeout)


def unreadable(command: Sequence[str], text: str) -> BenchError:
    """The error for a program that did not print what it should."""
    shortened = text if len(text) <= 100 else f"{text[:97]}..."
    return BenchError(f"read the figure: {_shown(command)}", f"it printed {shortened!r}", _ADVICE)


def _way(way: Way | Sequence[str]) -> Way:
    return way if isinstance(way, Way) else Way(way)


def _run_well(way: Way | Sequence[str], output: Output, timeout: float = _RUN_TIMEOUT_S) -> float:
    way = _way(way)
    what = f"run: {_shown(way.command)}"
    try:
        timing = run_way(way, output, timeout)
    except Difference as error:
        raise BenchError(what, f"it {error}", _ADVICE) from error
    if output.status:
        raise BenchError(what, f"it {output.ending()}; {output.last_words()}", _ADVICE)
    return timing.wall


def _shown(command: Sequence[str]) -> str:
    return " ".join(Path(word).name if word.startswith("/") else word for word in command)
