"""The compiler driver: a compiler that puts the core into the executables that it links.

Nothing of the command line is understood here but ``--override``. The compiler itself says, with
``-###``, whether it would link an executable; then one more object is given to its linker. In every
other case the compiler is executed with the arguments as they are.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NoReturn

from multiverse.cli.ending import EXIT_INTERRUPTED
from multiverse.core import EXIT_FAILURE, core_path

LINKERS = ("collect2", "ld", "ld.bfd", "ld.gold", "ld.lld", "lld", "ld64.lld", "mold", "ld.mold")
# What glibc starts executables with; links with -nostartfiles or -nostdlib have none.
START_FILES = ("crt1.o", "Scrt1.o", "gcrt1.o", "rcrt1.o", "grcrt1.o")
EMULATION = "elf_x86_64"
OVERRIDE = "--override"


def linked_object() -> str:
    """The object that makes an executable a fat binary."""
    return str(core_path().with_name("fat-linked.o"))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line)
    except ValueError:
        return []


def links_executable(plan: str) -> bool:
    """Does a compiler's plan (what -### prints) end in an executable that can be a fat binary?

    That is one for x86-64 which glibc starts.
    """
    for line in plan.splitlines():
        words = _words(line)
        if not words or os.path.basename(words[0]) not in LINKERS:
            continue
        fits = EMULATION in words if "-m" in words else True
        # musl has no .preinit_array: what it starts would carry the core and never call it.
        fits = fits and not any("musl" in word for word in words)
        return fits and any(os.path.basename(word) in START_FILES for word in words)
    return False


def split_overrides(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The compiler's arguments, and the values of ``--override``, which is the only one of ours."""
    rest, overrides, words = [], [], iter(arguments)
    for word in words:
        if word == OVERRIDE:
            overrides += [value for value in (next(words, None),) if value is not None]
        elif word.startswith(f"{OVERRIDE}="):
            overrides.append(word.removeprefix(f"{OVERRIDE}="))
        else:
            rest.append(word)
    return rest, overrides


def is_link(compiler: list[str], arguments: list[str]) -> bool:
    """Would the compiler link a fat binary? Raises OSError if it cannot be started."""
    asked = subprocess.run(
        [*compiler, "-###", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "LC_ALL": "C"},
    )
    return links_executable(asked.stderr.decode(errors="surrogateescape"))


def for_linker(words: Iterable[str]) -> list[str]:
    return [part for word in words for part in ("-Xlinker", word)]


def link_with_overrides(compiler: list[str], arguments: list[str], overrides: list[str]) -> int:
    """Link with override modules. Returns the compiler's status. Raises as make_object() does."""
    # Late: what most calls of a compiler do not need.
    from multiverse.toolchain.override import make_object

    with tempfile.TemporaryDirectory(prefix="multiverse-cc-") as directory:
        more = make_object(overrides, compiler, Path(directory))
        link = [*compiler, *arguments, *for_linker([linked_object(), *more])]
        return subprocess.run(link, check=False).returncode


def compile_with(variable: str, default: str, name: str, arguments: list[str]) -> NoReturn:
    """Be the compiler that the environment variable names."""
    from multiverse.overrides.errors import Mistakes, Unusable

    compiler = _words(os.environ.get(variable, "")) or [default]
    rest, overrides = split_overrides(arguments)
    try:
        links = is_link(compiler, rest)
        if links and overrides:
            sys.exit(link_with_overrides(compiler, rest, overrides))
        words = [*compiler, *rest, *for_linker([linked_object()] if links else [])]
        os.execvp(words[0], words)
    except Mistakes as error:
        print(error, file=sys.stderr)
        sys.exit(1)
    except Unusable as error:
        print(f"multiverse: {name}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        print(
            f"multiverse: {name}: {compiler[0]}: {error.strerror}; set {variable} to a compiler",
            file=sys.stderr,
        )
        sys.exit(EXIT_FAILURE)


def cc() -> NoReturn:
    """The command multiverse-cc."""
    _command("MULTIVERSE_CC", "cc")


def cxx() -> NoReturn:
    """The command multiverse-c++."""
    _command("MULTIVERSE_CXX", "c++")


def _command(variable: str, name: str) -> NoReturn:
    try:
        compile_with(variable, name, name, sys.argv[1:])
    except KeyboardInterrupt:  # the compiler has had it, too
        sys.exit(EXIT_INTERRUPTED)
