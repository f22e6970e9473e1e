"""The errors of a benchmark run."""

from __future__ import annotations


class BenchError(Exception):
    """The benchmark could not be carried out.

    The message has the form ``WHAT FAILED: ON WHAT: why; what to do``, on one line.

    Args:
        what: what failed, on what.
        why: the reason.
        advice: what the user can do about it.
    """

    def __init__(self, what: str, why: str, advice: str) -> None:
        super().__init__(f"{what}: {_one_line(why)}; {advice}")


class CannotStart(BenchError):
    """A program cannot be started.

    Args:
        path: of the program.
        error: of starting it.
    """

    def __init__(self, path: str, error: OSError) -> None:
        why = error.strerror or str(error)
        super().__init__(f"start: {path}", why, "see that the file can be run")
        #: Whether that is because there is no such file.
        self.missing = isinstance(error, FileNotFoundError | NotADirectoryError)


class Difference(Exception):
    """A run did not do what the reference run did: other output, other status, or no end.

    Args:
        what: what differs, on one line, without naming the benchmark.
    """

    def __init__(self, what: str) -> None:
        super().__init__(_one_line(what))


def _one_line(text: str) -> str:
    return " ".join(text.split())
