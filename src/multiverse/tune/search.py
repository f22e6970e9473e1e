"""The search: which sets to keep, by rounds in which the native run and all trials take turns."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from multiverse.bench.errors import Difference
from multiverse.bench.runner import interleave
from multiverse.bench.stats import Summary, median_limit, paired_ratios, summarize

Sets = tuple[str, ...]

#: Called with what is being measured, the rounds of it done, and of how many.
OnRound = Callable[[str, int, int], None]


class Runs(Protocol):
    """What can be run, and measured in seconds."""

    def native(self) -> float:
        """The program as it is. Raises BenchError."""

    def hrt(self, sets: Sets) -> float:
        """As an HRT with these sets. Raises Difference if it does not do what it does natively."""

    def obstacle(self, sets: Sets) -> str | None:
        """Why these sets cannot be used together with this program; None if they can."""


@dataclass
class Trial:
    """The program as an HRT with some sets: seconds by round, or in what it was not the same."""

    sets: Sets
    seconds: list[float] = field(default_factory=list)
    difference: str | None = None


@dataclass
class Step:
    """Trials that were measured together. The first has the sets that are kept so far."""

    trials: list[Trial]
    native: list[float] = field(default_factory=list)

    def to_native(self, trial: Trial) -> Summary:
        """Ratios to the native run of the same round."""
        return summarize(paired_ratios(self.native, trial.seconds))

    def to_first(self, trial: Trial) -> list[float]:
        """Ratios to the first trial's run of the same round."""
        return paired_ratios(self.trials[0].seconds, trial.seconds)

    def helps(self, trial: Trial) -> bool:
        """True if it is faster than the first, and that is no noise."""
        same = trial.difference is None and self.trials[0].difference is None
        return same and median_limit(self.to_first(trial)) < 1


@dataclass
class Result:
    """What was found.

    Attributes:
        kept: the sets that help, the one that helps most first.
        steps: what was measured to choose.
        confirmation: without sets and with those that were chosen, once more.
        left_out: why other sets are not kept.
    """

    kept: Sets = ()
    steps: list[Step] = field(default_factory=list)
    confirmation: Step | None = None
    left_out: dict[str, str] = field(default_factory=dict)


def measure(runs: Runs, many: Iterable[Sets], rounds: int, on_round: OnRound, what: str) -> Step:
    """Run natively and with each of these sets by turns.

    A trial that is not the same as the native run is not run again.
    """
    step = Step([Trial(sets) for sets in many])

    def run(trial: Trial) -> float | None:
        if trial.difference is not None:
            return None
        try:
            return runs.hrt(trial.sets)
        except Difference as difference:
            trial.difference = str(difference)
            return None

    variants: list[Callable[[], float | None]] = [
        runs.native,
        *(functools.partial(run, trial) for trial in step.trials),
    ]
    on_round(what, 0, rounds)
    for done, (native, *others) in enumerate(interleave(variants, rounds), 1):
        assert native is not None
        step.native.append(native)
        for trial, seconds in zip(step.trials, others, strict=True):
            if seconds is not None:
                trial.seconds.append(seconds)
        on_round(what, done, rounds)
    return step


def search(runs: Runs, candidates: Iterable[str], rounds: int, on_round: OnRound) -> Result:
    """Begin without sets; add the one that helps most as long as one helps; confirm.

    rounds: of each step, enough for median_limit(). Raises BenchError, and Difference if the
    program is not the same as natively even without sets.
    """
    result = Result()
    left = list(candidates)
    while left:
        together = []
        for name in left:
            obstacle = runs.obstacle((*result.kept, name))
            if obstacle:
                result.left_out[name] = obstacle
            else:
                together.append((*result.kept, name))
        if not together:
            break
        what = f"{' and '.join(result.kept)} and one more" if result.kept else "one set"
        step = measure(runs, [result.kept, *together], rounds, on_round, what)
        result.steps.append(step)
        if not _same_as_native(step.trials[0], result):
            break
        for trial in step.trials[1:]:
            name = trial.sets[-1]
            if trial.difference:
                result.left_out[name] = f"not the same as natively: {trial.difference}"
            elif not step.helps(trial):
                result.left_out[name] = _no_help(step, trial)
        helpful = [trial for trial in step.trials[1:] if step.helps(trial)]
        if not helpful:
            break
        best = min(helpful, key=lambda trial: summarize(step.to_first(trial)).median)
        result.kept = best.sets
        result.left_out.pop(best.sets[-1], None)
        # What does not help now may beside the new one; what differs never will.
        others = [trial for trial in step.trials[1:] if trial is not best]
        left = [trial.sets[-1] for trial in others if not trial.difference]
    if result.kept:
        _confirm(runs, result, rounds, on_round)
    return result


def _same_as_native(trial: Trial, result: Result) -> bool:
    """Give up what is kept if that is not the same as the native run. Raises Difference if nothing
    is kept."""
    if trial.difference is None:
        return True
    if not trial.sets:
        raise Difference(trial.difference)
    result.left_out |= dict.fromkeys(
        trial.sets, f"together not the same as natively: {trial.difference}"
    )
    result.kept = ()
    return False


def _no_help(step: Step, trial: Trial) -> str:
    ratios = summarize(step.to_first(trial))
    beside = f"beside {', '.join(step.trials[0].sets)}" if step.trials[0].sets else "alone"
    return (
        f"does not help {beside}: {ratios.median:.3f} of the time without it"
        f" ({ratios.minimum:.3f} to {ratios.maximum:.3f})"
    )


def _confirm(runs: Runs, result: Result, rounds: int, on_round: OnRound) -> None:
    step = measure(runs, [(), result.kept], rounds, on_round, "confirming")
    result.confirmation = step
    none, chosen = step.trials
    _same_as_native(none, result)
    if _same_as_native(chosen, result) and not step.helps(chosen):
        result.left_out |= dict.fromkeys(result.kept, "did not help when it was measured again")
        result.kept = ()
