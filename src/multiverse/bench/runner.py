"""Running one command with its outputs kept in memory, measured from outside.

A run reads /dev/null, or a file, and writes into anonymous files in memory (memfd): there is no
pipe whose reader would compete for a CPU, no disk, and nothing to clean up whatever happens to us.
Nothing of ours runs while a command is being measured.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from multiverse.bench.errors import BenchError, CannotStart, Difference

T = TypeVar("T")

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Timing:
    """What one run took.

    Attributes:
        wall: seconds from just before the command was started until it had ended.
        user: seconds of processor time in the program, or in the guest.
        system: seconds of processor time in the kernel on the program's behalf.
        faults: page faults that Linux handled without reading a file (minor ones).
    """

    wall: float
    user: float
    system: float
    faults: int = 0

    @property
    def processor(self) -> float:
        """Seconds of processor time."""
        return self.user + self.system


class Output:
    """What a command wrote and how it ended.

    To be closed, or used in a ``with`` statement, because it holds two files.
    """

    def __init__(self) -> None:
        self.stdout = _memory_file("multiverse-bench-stdout")
        try:
            self.stderr = _memory_file("multiverse-bench-stderr")
        except OSError:
            os.close(self.stdout)
            raise
        #: Exit status, or minus the number of the signal that ended the command.
        self.status = 0

    def close(self) -> None:
        """Give the memory back. May be called more than once."""
        for name in ("stdout", "stderr"):
            descriptor = getattr(self, name)
            if descriptor >= 0:
                setattr(self, name, -1)
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def stdout_bytes(self) -> bytes:
        """All of stdout; for programs that write little."""
        return b"".join(_chunks(self.stdout))

    def stdout_digest(self) -> str:
        """The SHA-256 of stdout, in hexadecimal digits."""
        digest = hashlib.sha256()
        for chunk in _chunks(self.stdout):
            digest.update(chunk)
        return digest.hexdigest()

    def last_words(self) -> str:
        """The last line on stderr, or a remark that there is none, for error messages."""
        size = os.fstat(self.stderr).st_size
        tail = os.pread(self.stderr, 4096, max(0, size - 4096)).decode(errors="replace").strip()
        return (
            f'its last line on stderr is "{tail.splitlines()[-1]}"'
            if tail
            else "it wrote nothing to stderr"
        )

    def ending(self) -> str:
        """How the command ended, in words: ``exited with 3``, ``was ended by SIGSEGV``."""
        if self.status >= 0:
            return f"exited with {self.status}"
        try:
            return f"was ended by {signal.Signals(-self.status).name}"
        except ValueError:
            return f"was ended by signal {-self.status}"


def prepare(command: Sequence[str], cwd: Path, timeout: float, what: str, advice: str) -> None:
    """Run a command that has to succeed before anything can be measured: a compiler.

    Args:
        command: a path and arguments.
        cwd: the directory to run it in.
        timeout: seconds.
        what, advice: for the error.

    Raises:
        BenchError: it cannot be started, takes too long, or fails; with its first line on stderr.
    """
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(what, str(error), advice) from error
    if done.returncode:
        words = done.stderr.decode(errors="replace").strip() or f"it exited with {done.returncode}"
        raise BenchError(what, words.splitlines()[0], advice)


def run(
    command: Sequence[str],
    output: Output,
    timeout: float,
    *,
    argv0: str | None = None,
    stdin: Path = Path(os.devnull),
    environment: Mapping[bytes, bytes] | None = None,
    inherited: Sequence[int] = (),
) -> Timing:
    """Run a command to its end.

    Args:
        command: the file to run, a path, and its arguments from argv[0]'s successor on.
        output: where stdout, stderr and the status go; must be fresh.
        timeout: seconds after which the command is killed.
        argv0: argv[0], if that is not the path.
        stdin: a file that it reads from its beginning.
        environment: instead of ours.
        inherited: descriptors that it has beside the standard ones.

    Raises:
        CannotStart: the command cannot be started.
        BenchError: its input cannot be read.
        Difference: it did not end in time.
    """
    with _input(stdin) as read:
        actions = [
            (os.POSIX_SPAWN_DUP2, read, 0),
            (os.POSIX_SPAWN_DUP2, output.stdout, 1),
            (os.POSIX_SPAWN_DUP2, output.stderr, 2),
            # To itself: it is not closed.
            *((os.POSIX_SPAWN_DUP2, descriptor, descriptor) for descriptor in inherited),
        ]
        # Until the child is one that is seen to, nothing takes us out of here.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM))
        start = time.perf_counter_ns()
        try:
            # Python ignores these two signals, and a child would inherit that.
            pid = os.posix_spawn(
                command[0],
                [argv0 or command[0], *command[1:]],
                os.environ if environment is None else environment,
                file_actions=actions,
                setsigmask=before,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise CannotStart(command[0], error) from error
        ended = False
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            ended = _ends_within(pid, timeout)
        finally:
            # On a timeout, and on Ctrl-C and anything else that takes us out of the wait.
            if not ended:
                os.kill(pid, signal.SIGKILL)
            _, wait_status, usage = os.wait4(pid, 0)
        elapsed = time.perf_counter_ns() - start
    if not ended:
        raise Difference(f"did not end within {timeout:.0f} s and was killed")
    output.status = os.waitstatus_to_exitcode(wait_status)
    return Timing(elapsed / 1e9, usage.ru_utime, usage.ru_stime, usage.ru_minflt)


def compare(
    reference: Output, other: Output, streams: Sequence[str] = ("stdout", "stderr")
) -> None:
    """See that two runs wrote the same bytes and ended in the same way.

    Args:
        reference: how it should be.
        other: how it was.
        streams: which outputs.

    Raises:
        Difference: naming the first difference.
    """
    if reference.status != other.status:
        raise Difference(
            f"{other.ending()} where the native run {reference.ending()}; {other.last_words()}"
        )
    for name in streams:
        expected, actual = getattr(reference, name), getattr(other, name)
        offset = _first_difference(expected, actual)
        if offset is not None:
            raise Difference(
                f"{name} differs from the native run's at byte {offset}:"
                f" {_excerpt(actual, offset)} instead of {_excerpt(expected, offset)}"
            )


def interleave(variants: Sequence[Callable[[], T]], rounds: int) -> Iterator[list[T]]:
    """Run every variant once a round; each round begins with another, so that none always leads.

    Args:
        variants: what to run; each call is one run.
        rounds: how often.

    Yields:
        the results of one round, in the order of ``variants``.
    """
    count = len(variants)
    for round_number in range(rounds):
        results: dict[int, T] = {}
        for step in range(count):
            which = (round_number + step) % count
            results[which] = variants[which]()
        yield [results[which] for which in range(count)]


def _memory_file(name: str) -> int:
    return _above_standard(os.memfd_create(name, os.MFD_CLOEXEC))


@contextmanager
def _input(path: Path) -> Iterator[int]:
    try:
        descriptor = _above_standard(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        raise BenchError(
            f"read: {path}", error.strerror or str(error), "give another file"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _above_standard(descriptor: int) -> int:
    """Move a descriptor away from 0, 1 and 2; it is there if we were started with them closed."""
    if descriptor > 2:
        return descriptor
    moved = fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(descriptor)
    return moved


def _ends_within(pid: int, timeout: float) -> bool:
    """Wait for a child, without reaping it."""
    process = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        return bool(poll.poll(timeout * 1000))
    finally:
        os.close(process)


def _chunks(descriptor: int) -> Iterator[bytes]:
    """A file's bytes from its beginning, whatever its position; ends with nothing left."""
    offset = 0
    while chunk := os.pread(descriptor, _CHUNK_BYTES, offset):
        yield chunk
        offset += len(chunk)


def _first_difference(one: int, other: int) -> int | None:
    """The offset of the first byte in which two files differ (or one has ended), or None."""
    offset = 0
    while True:
        a = os.pread(one, _CHUNK_BYTES, offset)
        b = os.pread(other, _CHUNK_BYTES, offset)
        if a != b:
            shared = min(len(a), len(b))
            return offset + next((i for i in range(shared) if a[i] != b[i]), shared)
        if not a:
            return None
        offset += len(a)


def _excerpt(descriptor: int, offset: int) -> str:
    excerpt = os.pread(descriptor, 16, offset)
    return repr(excerpt)[1:] if excerpt else "the end"
