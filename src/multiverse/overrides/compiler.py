"""The machine's C compiler, and what it says."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from multiverse import aerokernel
from multiverse.core import core_path
from multiverse.native.build import compiler
from multiverse.overrides.errors import Mistake, NoCompiler, Place, Unusable
from multiverse.overrides.wrappers import TOML

#: For code without a libc, in the top 2 GiB of the address space.
COMPILE = (
    "-std=gnu17", "-O2", "-g", "-Wall", "-Wextra", "-ffreestanding", "-fno-pic", "-fno-pie",
    "-mcmodel=kernel", "-mno-red-zone", "-fvisibility=hidden", "-fno-stack-protector",
    "-fcf-protection=none", "-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-common",
    "-ffunction-sections", "-fdata-sections",
)  # fmt: skip
#: What answers system calls leaves the program's other registers alone.
GENERAL_REGISTERS = "-mgeneral-regs-only"
LINK = ("-nostdlib", "-no-pie", "-Wl,--build-id=none")
TIMEOUT = 120  # seconds
INSTALL = "install gcc or clang (apt-get install gcc libc6-dev), or set CC"

_HEAD = re.compile(
    r"(?P<file>[^\s:][^:]*):(?P<line>\d+):(?:\d+:)? (?P<kind>warning|(?:fatal )?error|note): "
    r"(?P<text>.*?)(?: \[-W(?:error=)?(?P<option>[\w+=-]+)\])?$"
)
_CONTEXT = re.compile(r"[^\s:][^:]*: (?:In function|At top level)|In file included from|\s+from ")
_UNDEFINED = re.compile(r"(?:.*[/ ])?([^/\s:]+:\d+): undefined reference to `([\w.@]+)'")
_TOO_SMALL = "the type on the other side is too small; widen it, or cast"
_HINTS = {
    "conversion": _TOO_SMALL,
    "implicit-int-conversion": _TOO_SMALL,
    "shorten-64-to-32": _TOO_SMALL,
    "float-conversion": "cast it, or change the function's type",
    "int-conversion": "cast it, or change the function's type",
    "incompatible-pointer-types": "cast it, or change the function's type",
    "discarded-qualifiers": "have the function take a pointer to const, or cast",
    "incompatible-pointer-types-discards-qualifiers": "have the function take a pointer to const",
    "overflow": "the constant does not fit",
    "constant-conversion": "the constant does not fit",
}


@dataclass
class Said:
    """A compiler's messages."""

    failed: bool
    text: str = ""  # those about the C, as they are
    errors: bool = False  # whether any of these is an error
    generated: bool = False  # whether any of these is about the generated lines
    mistakes: list[Mistake] = field(default_factory=list)  # those about the TOML file


def identity() -> str:
    """What distinguishes this compiler from others."""
    command = compiler()
    path = shutil.which(command[0])
    if not path:
        raise NoCompiler(f"{command[0]}: not found; {INSTALL}")
    path = os.path.realpath(path)
    status = os.stat(path)
    return " ".join([path, *command[1:], str(status.st_size), str(status.st_mtime_ns)])


def _run(arguments: Sequence[str], directory: str) -> subprocess.CompletedProcess[str]:
    command = compiler()
    try:
        return subprocess.run(
            [*command, *arguments],
            cwd=directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TIMEOUT,
            env={**os.environ, "LC_ALL": "C"},
        )
    except OSError as error:
        reason = error.strerror or str(error)
        raise NoCompiler(f"{command[0]}: {reason}; {INSTALL}") from None
    except subprocess.TimeoutExpired:
        raise Unusable(f"{command[0]}: no end after {TIMEOUT} s; try it by itself") from None


def compile_c(
    source: str, output: str, toml: str, include: str, options: Iterable[str], directory: str
) -> Said:
    """Compile a generated file. toml: the name of the TOML file, for messages.

    include: where files in quotes are; directory: where the compiler works. What is wrong in the
    TOML file can make the code around it wrong, which is not told.
    """
    flags = [*COMPILE, *options, *aerokernel.cflags(), "-iquote", include]
    done = _run([*flags, "-c", source, "-o", output], directory)
    said = Said(done.returncode != 0)
    kept: list[str] = []
    waiting: list[str] = []  # lines that say where the next message is
    keep = True
    for line in done.stderr.split("\n"):
        head = _HEAD.match(line)
        if head and head["file"] == TOML:
            keep = False
            waiting = []
            if head["kind"] != "note":
                place = Place(toml, int(head["line"]))
                said.mistakes.append(Mistake(place, _explained(head["text"], head["option"])))
        elif head and (head["kind"] != "note" or keep):
            keep = True
            kept += [*waiting, line]
            waiting = []
            said.errors |= head["kind"].endswith("error")
            said.generated |= head["file"] == source
        elif _CONTEXT.match(line):
            waiting = [*waiting, line]
        elif keep:
            kept.append(line)
    said.text = "\n".join(kept).strip("\n")
    if said.mistakes and said.generated:
        said.text, said.errors = "", False
    if done.returncode != 0 and not said.mistakes and not said.errors:
        said.text, said.errors = done.stderr.strip("\n"), True
    return said


def _explained(text: str, option: str | None) -> str:
    text = text.replace("(first use in this function)", "").strip()
    hint = _HINTS.get(option or "", "")
    return f"{text}; {hint}" if hint else text


def assemble(source: str, output: str, directory: str) -> None:
    """Raises Unusable."""
    done = _run(["-c", source, "-o", output], directory)
    if done.returncode != 0:
        raise Unusable(f"{compiler()[0]}: {done.stderr.strip()}; install binutils")


def link(objects: Sequence[str], output: str, directory: str) -> None:
    """Make one relocatable object of objects and of what they need of ours. Raises Unusable."""
    libraries = [*aerokernel.libs(), str(core_path().with_name("liboverride.a"))]
    done = _run(
        [*LINK, "-r", "-Wl,-S", *objects, *libraries, "-o", output],
        directory,
    )
    if done.returncode != 0:
        last = done.stderr.strip().split("\n")[-1]
        raise Unusable(f"{compiler()[0]}: {last}; the sources cannot be linked")


def references(objects: Sequence[str], directory: str) -> dict[str, str]:
    """Undefined symbols, and FILE:LINE where each is needed first, as far as a linker knows."""
    done = _run([*LINK, "-static", "-Wl,-e,0", *objects, "-o", "/dev/null"], directory)
    found: dict[str, str] = {}
    for where, name in _UNDEFINED.findall(done.stderr):
        found.setdefault(name, where)
    return found
