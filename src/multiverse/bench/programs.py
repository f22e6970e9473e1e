"""The programs of Figure 3: the paper's seven in Racket, the same in CPython, and large objects."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from multiverse.bench import micro, racket, sources
from multiverse.bench.errors import BenchError

#: Installed sets that go together and have to do with programs of one thread.
DEFAULT_SETS = ("files", "identity", "malloc", "memory", "time")
#: Rounds a program.
DEFAULT_RUNS = 10
QUICK_RUNS = 3

RACKET, PYTHON = "racket", "python"

#: Groups of programs, in the order in which they run and are shown: (name, title).
GROUPS = (
    ("racket", "Racket: the seven of the paper"),
    ("python", "CPython: the same seven"),
    ("churn", "Large objects"),
)


@dataclass(frozen=True, slots=True)
class Program:
    """One program.

    Attributes:
        group: one of GROUPS.
        runtime: RACKET or PYTHON, which is also the directory of its source.
        source: the source's name without its ending.
        size: N, its only argument, for figures.
        quick_size: N for a quick look.
    """

    group: str
    runtime: str
    source: str
    size: int
    quick_size: int

    @property
    def name(self) -> str:
        """What it is called in tables: it is unique in its group."""
        return self.source if self.group == self.runtime else f"{self.runtime} {self.source}"


#: On a server processor of 2023 the sizes take 2 to 8 seconds, the quick ones a tenth of a second
#: to one.
PROGRAMS = (
    *(Program("racket", RACKET, b.name, b.size, b.short_size) for b in racket.BENCHMARKS),
    Program("python", PYTHON, "binary-tree", 16, 13),
    Program("python", PYTHON, "fannkuch", 10, 8),
    Program("python", PYTHON, "fasta", 1_200_000, 40_000),
    Program("python", PYTHON, "fasta-3", 35_000_000, 2_000_000),
    Program("python", PYTHON, "mandelbrot", 800, 200),
    Program("python", PYTHON, "n-body", 500_000, 50_000),
    Program("python", PYTHON, "spectral-norm", 550, 150),
    Program("churn", RACKET, "churn", 130, 5),
    Program("churn", PYTHON, "churn", 450, 20),
)


@dataclass(frozen=True, slots=True)
class Runtime:
    """What runs programs.

    Attributes:
        interpreter: its executable file.
        version: what it says of itself.
        idle: a command of its that starts it and ends.
        advice: what to do if its programs fail.
        ready: makes a temporary directory with programs in it, ready to run.
    """

    interpreter: Path
    version: str
    idle: tuple[str, ...]
    advice: str
    ready: Callable[[Sequence[Program]], AbstractContextManager[Path]]


def find(name: str, given: str | None) -> Runtime:
    """A runtime to measure.

    Args:
        name: RACKET or PYTHON.
        given: a path or a command's name; None stands for the Racket on PATH, and the CPython that
            this runs on.

    Raises:
        BenchError: there is none, or it cannot be run.
    """
    if name == RACKET:
        found = racket.find_racket(given)

        def compiled(programs: Sequence[Program]) -> AbstractContextManager[Path]:
            return racket.compiled(found, [program.source for program in programs])

        idle = (str(found), "-n")
        return Runtime(found, racket.version(found), idle, racket.ADVICE, compiled)
    name = given or sys.executable
    executable = shutil.which(name)
    if executable is None:
        raise BenchError(f"find CPython: {name}", "not found", "name an executable with --python")
    # A virtual environment's is a link to it.
    path = Path(os.path.realpath(executable))
    version = micro.printed([str(path), "--version"]).strip()
    advice = "see that it works, or name another CPython with --python"
    return Runtime(path, version, (str(path), "-c", "pass"), advice, _copied)


def command(runtime: Runtime, directory: Path, program: Program, size: int) -> list[str]:
    """The command that runs a program out of the directory that is ready for it."""
    ending = {RACKET: "rkt", PYTHON: "py"}[program.runtime]
    return [str(runtime.interpreter), str(directory / f"{program.source}.{ending}"), str(size)]


@contextmanager
def _copied(programs: Sequence[Program]) -> Iterator[Path]:
    """A temporary directory with Python programs in it."""
    with tempfile.TemporaryDirectory(prefix="multiverse-bench-") as name:
        directory = Path(name)
        for program in programs:
            file = directory / f"{program.source}.py"
            file.write_bytes(sources.read(program.runtime, file.name))
        yield directory
