"""The program to tune: its runs, natively and as an HRT."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from multiverse.bench.errors import BenchError, Difference
from multiverse.bench.machine import CORE_CONFIG
from multiverse.bench.runner import Output, compare, run
from multiverse.cli.run import crash_config, program_environment
from multiverse.core import core_path
from multiverse.overrides import blob, sealed
from multiverse.overrides.errors import Mistakes, NoCompiler, Unusable
from multiverse.profile.model import Profile
from multiverse.profile.record import Recording, area
from multiverse.tune.search import Sets

OnOutput = Callable[[str, Output], None]
CONFIG = ["hvm=auto", CORE_CONFIG]
STREAMS = ("stdout", "stderr")


class Program:
    """Implements search.Runs. To be used in a ``with`` statement: it holds files.

    Attributes:
        unsteady: outputs that differ between native runs, and are therefore not compared.
    """

    def __init__(
        self,
        path: str,
        argv: Sequence[str],
        stdin: Path | None,
        timeout: float,
        on_output: OnOutput = lambda _title, _output: None,
    ) -> None:
        """path, argv: as for exec; stdin: read by each run from its beginning, None: /dev/null;
        timeout: seconds that a run may take; on_output: called after each run."""
        self.path = path
        self.argv = list(argv)
        self.stdin = stdin or Path(os.devnull)
        self.timeout = timeout
        self.on_output = on_output
        self.unsteady: tuple[str, ...] = ()
        self.files = contextlib.ExitStack()
        self.reference: Output | None = None
        self.overrides: dict[Sets, int] = {}

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self.files.close()

    def prepare(self) -> None:
        """Run natively twice: how it should be, and what of that is the same every time.

        Raises BenchError.
        """
        self.reference = self.files.enter_context(Output())
        self._run_native(self.reference)
        with Output() as again:
            self._run_native(again)
            if again.status != self.reference.status:
                raise BenchError(
                    f"run natively: {self.path}",
                    f"the second time it {again.ending()}, the first time it"
                    f" {self.reference.ending()}",
                    "give a program whose status is the same every time",
                )
            self.unsteady = tuple(
                name for name in STREAMS if not _same(self.reference, again, (name,))
            )

    def profile(self) -> Profile | None:
        """What it asks Linux for as an HRT; None if that cannot be told. Raises Difference."""
        fd, data = area(0)
        try:
            seconds, output = self._run_hrt("profiled", [f"profile={fd}"], [fd])
            with contextlib.suppress(ValueError):
                return Recording(self.argv, output.status, seconds, data).profile()
            return None
        finally:
            os.close(fd)

    def native(self) -> float:
        with Output() as output:
            return self._run_native(output)

    def hrt(self, sets: Sets) -> float:
        title = f"with {', '.join(sets)}" if sets else "as an HRT"
        obstacle = self.obstacle(sets)
        if obstacle:
            raise Difference(obstacle)
        fds = [self.overrides[sets]] if sets else []
        return self._run_hrt(title, [f"override={fd}" for fd in fds], fds)[0]

    def obstacle(self, sets: Sets) -> str | None:
        if not sets or sets in self.overrides:
            return None
        try:
            content = blob(sets, self.path)
        except NoCompiler:
            raise
        except (Mistakes, Unusable) as error:
            return f"cannot be used: {str(error).splitlines()[0]}"
        self.overrides[sets] = fd = sealed(content)
        self.files.callback(os.close, fd)
        os.set_inheritable(fd, False)  # but for the run that it is for
        return None

    def _run_native(self, output: Output) -> float:
        try:
            timing = run(
                [self.path, *self.argv[1:]],
                output,
                self.timeout,
                argv0=self.argv[0],
                stdin=self.stdin,
                environment=program_environment(["hvm=off"]),
            )
        except Difference as error:
            raise BenchError(
                f"run natively: {self.path}", str(error), "give a longer --timeout"
            ) from error
        self.on_output("natively", output)
        return timing.wall

    def _run_hrt(
        self, title: str, config: Sequence[str], inherited: Sequence[int]
    ) -> tuple[float, Output]:
        """The output is closed; its status stays."""
        words = [*CONFIG, *crash_config("-"), *config]
        core = str(core_path())
        with Output() as output:
            timing = run(
                [core, ",".join(words), self.path, *self.argv],
                output,
                self.timeout,
                stdin=self.stdin,
                environment=program_environment(words),
                inherited=inherited,
            )
            self.on_output(title, output)
            if self.reference:
                steady = [name for name in STREAMS if name not in self.unsteady]
                compare(self.reference, output, steady)
            return timing.wall, output


def _same(one: Output, other: Output, streams: Sequence[str]) -> bool:
    try:
        compare(one, other, streams)
    except Difference:
        return False
    return True


def show_output(title: str, output: Output) -> None:
    """Print what a run wrote to stderr."""
    to = sys.stderr.buffer
    to.write(f"--- {title}: {output.ending()}\n".encode())
    for descriptor in (output.stdout, output.stderr):
        offset = 0
        while chunk := os.pread(descriptor, 1 << 16, offset):
            to.write(chunk)
            offset += len(chunk)
    to.flush()
