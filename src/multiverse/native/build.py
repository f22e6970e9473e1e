"""Compile and link a native program with the machine's compiler."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from multiverse.core import core_path

#: No libc, no code that moves; no red zone, since fault handlers are called on the stack.
COMPILE = (
    "-DAEROKERNEL_NATIVE=1", "-std=gnu17", "-ffreestanding", "-fno-pic", "-fno-pie",
    "-mno-red-zone",
    "-fno-stack-protector", "-fcf-protection=none", "-fno-asynchronous-unwind-tables",
    "-fno-unwind-tables", "-ffunction-sections", "-fdata-sections",
)  # fmt: skip
LINK = (
    "-static", "-no-pie", "-nostdlib", "-nostartfiles", "-Wl,--gc-sections", "-Wl,--build-id=none",
    "-Wl,-z,noexecstack", "-Wl,-z,max-page-size=4096",
)  # fmt: skip
#: Options with which a compiler does not link.
NO_LINK = ("-c", "-S", "-E", "-M", "-MM", "-fsyntax-only")
UNDEFINED = re.compile(r"undefined (?:reference to|symbol:?) [`'‘]?([A-Za-z_][\w.@]*)")

#: Where the AeroKernel has what programs look for in a libc, by the names' beginnings.
HEADERS = (
    ("aerokernel/console.h", ("printf", "fprintf", "puts", "putchar", "fputs", "write", "stdout",
                              "stderr", "vprintf", "perror", "__printf", "fwrite")),
    ("aerokernel/memory.h", ("malloc", "calloc", "realloc", "free", "mmap", "munmap", "aligned_",
                             "posix_memalign")),
    ("aerokernel/thread.h", ("pthread_create", "pthread_join", "pthread_self", "sched_yield")),
    ("aerokernel/sync.h", ("pthread_mutex", "pthread_cond", "pthread_barrier", "pthread_spin")),
    ("aerokernel/time.h", ("clock_", "nanosleep", "usleep", "sleep", "time", "gettimeofday")),
    ("aerokernel/page.h", ("mprotect", "sigaction", "signal")),
    ("aerokernel/native.h", ("exit", "abort", "_exit", "__assert_fail")),
)  # fmt: skip


class BuildError(Exception):
    """What failed, and what to do, on one line."""


def compiler() -> list[str]:
    """$CC, or cc."""
    return shlex.split(os.environ.get("CC", "")) or ["cc"]


def command_line(arguments: Sequence[str], output: str | None) -> list[str]:
    """The compiler's command for arguments that are its own: sources, objects, options.

    output: the program's file; None if the arguments have none and nothing is linked.
    """
    here = core_path().parent
    command = [*compiler(), *COMPILE, f"-I{here / 'include'}"]
    links = not any(word in NO_LINK for word in arguments)
    if links:
        command += [*LINK, f"-Wl,-T,{here / 'native.ld'}"]
    command += arguments
    if output is not None:
        command += ["-o", output]
    if links:
        command += [str(here / "libaerokernel-native.a"), "-lgcc"]
    return command


def missing_line(messages: str) -> str | None:
    """A line about the symbols that a linker has not found; None if it has found all."""
    names = list(dict.fromkeys(UNDEFINED.findall(messages)))
    if not names:
        return None
    if names == ["main"]:
        return "no main(): a native program begins there; see docs/native.md"
    headers = [
        f"<{header}>"
        for header, beginnings in HEADERS
        if any(name.startswith(beginnings) for name in names)
    ]
    where = ", ".join(headers) or "<aerokernel.h>"
    return f"not in the AeroKernel: {', '.join(names)}; see {where}"


def build(arguments: Sequence[str], output: str | None) -> None:
    """Compile and link. What the compiler says goes to stderr. Raises BuildError."""
    command = command_line(arguments, output)
    if sys.stderr.isatty():
        command.append("-fdiagnostics-color=always")
    try:
        done = subprocess.run(
            command, stderr=subprocess.PIPE, env={**os.environ, "LC_ALL": "C"}, check=False
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise BuildError(f"{command[0]}: {reason}; install gcc or clang, or set CC") from None
    messages = done.stderr.decode(errors="replace")
    sys.stderr.write(messages)
    sys.stderr.flush()
    if done.returncode == 0:
        return
    line = missing_line(messages)
    if line is None:
        what = f"{command[0]} ended with status {done.returncode}"
        line = f"{what}; see its messages above"
    raise BuildError(line)


def default_output(arguments: Sequence[str]) -> str | None:
    """The program's file where no -o gives it: the first source's name without its suffix."""
    for word in arguments:
        if not word.startswith("-") and Path(word).suffix in (".c", ".S", ".s", ".o"):
            return Path(word).stem
    return None
