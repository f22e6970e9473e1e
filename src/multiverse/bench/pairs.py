"""One program run in several ways by turns, with what it writes compared byte for byte."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from multiverse.bench.errors import BenchError, Difference
from multiverse.bench.runner import Output, Timing, compare, interleave, run

#: The way that all others are compared with.
NATIVE = "native"

_FIRST_RUN_TIMEOUT_S = 600.0
_LONGEST_RUN_AT_LEAST_S = 120.0
_LONGEST_RUN_TIMES_NATIVE = 50.0


@dataclass(frozen=True, slots=True)
class Way:
    """A way to run a program.

    Attributes:
        command: a path and arguments.
        environment: what is added to this process's environment.
        descriptors: what the command inherits besides its standard streams.
    """

    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    descriptors: Sequence[int] = ()


@dataclass(slots=True)
class Runs:
    """What was measured of one program.

    Attributes:
        timings: by way, one for each round, in the rounds' order; fewer for a way that differed.
        differences: what a way did differently from the native runs, for those that did.
    """

    timings: dict[str, list[Timing]]
    differences: dict[str, str] = field(default_factory=dict)


def measure(
    what: str,
    ways: Mapping[str, Way],
    rounds: int,
    advice: str,
    on_round: Callable[[int], None] = lambda _done: None,
    rehearsals: Mapping[str, Way] = MappingProxyType({}),
) -> Runs:
    """Run a program in all ways by turns; a way that does not do as natively is run no more.

    One native run comes first. It is not among the samples: it brings the files into the page cache
    and says what the output has to be.

    Args:
        what: for errors, the program and its size.
        ways: NATIVE and others.
        rounds: how often.
        advice: what the user can do if the program fails natively.
        on_round: called after each round with the number of rounds done, outside of what is
            measured.
        rehearsals: for some of the ways, another form of it that is run once before the rounds and
            is not among the samples either.

    Raises:
        BenchError: the program fails natively, or a command cannot be started.
    """
    runs = Runs({name: [] for name in ways})
    what = f"run natively: {what}"
    with Output() as reference:
        try:
            first = run_way(ways[NATIVE], reference, _FIRST_RUN_TIMEOUT_S)
        except Difference as error:
            raise BenchError(what, str(error), advice) from error
        if reference.status:
            raise BenchError(what, f"it {reference.ending()}; {reference.last_words()}", advice)
        timeout = max(_LONGEST_RUN_AT_LEAST_S, _LONGEST_RUN_TIMES_NATIVE * first.wall)

        def checked(way: Way) -> Timing:
            with Output() as output:
                timing = run_way(way, output, timeout)
                compare(reference, output)
                return timing

        def one(name: str, way: Way) -> Timing | None:
            if name in runs.differences:
                return None
            try:
                return checked(way)
            except Difference as error:
                if name == NATIVE:
                    reason = f"not every native run is the same: {error}"
                    raise BenchError(what, reason, advice) from error
                runs.differences[name] = str(error)
                return None

        for name, way in rehearsals.items():
            one(name, way)
        names = list(ways)
        turns = interleave([functools.partial(one, *item) for item in ways.items()], rounds)
        for done, timings in enumerate(turns, 1):
            for name, timing in zip(names, timings, strict=True):
                if timing is not None:
                    runs.timings[name].append(timing)
            on_round(done)
            if len(runs.differences) == len(ways) - 1:
                break
    return runs


def run_way(way: Way, output: Output, timeout: float) -> Timing:
    """Run a command one way; see ``runner.run``."""
    more = {os.fsencode(name): os.fsencode(value) for name, value in way.environment.items()}
    return run(
        way.command,
        output,
        timeout,
        environment={**os.environb, **more},
        inherited=way.descriptors,
    )
