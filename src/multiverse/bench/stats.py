"""Statistics of samples taken in pairs on a noisy machine.

Medians and quartiles throughout: one run that the machine disturbed must not move the result. A
ratio is computed for each pair of runs that were made next to each other, and then summarized; it
is not the ratio of two summaries. So a slow drift of the machine (its clock, its neighbours)
cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Fewer are all on one side of the median too often.
MEDIAN_LIMIT_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """Five numbers that describe a sample; all in the sample's own unit."""

    count: int
    minimum: float
    lower_quartile: float
    median: float
    upper_quartile: float
    maximum: float


def quantile(ordered: Sequence[float], fraction: float) -> float:
    """The value below which ``fraction`` of the sample lies, interpolated between neighbours.

    Args:
        ordered: the sample in ascending order, not empty.
        fraction: 0 (the minimum) to 1 (the maximum).

    Raises:
        ValueError: the sample is empty or the fraction is out of range.
    """
    if not ordered:
        raise ValueError("a quantile needs at least one sample")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"a quantile's fraction lies between 0 and 1, not at {fraction}")
    place = fraction * (len(ordered) - 1)
    below = min(int(place), len(ordered) - 1)
    above = min(below + 1, len(ordered) - 1)
    low, high = ordered[below], ordered[above]
    # Rounding may carry the interpolation past its end by the last digit.
    return min(max(low + (high - low) * (place - below), low), high)


def _ordered(samples: Sequence[float]) -> list[float]:
    if not all(math.isfinite(sample) for sample in samples):
        raise ValueError("a sample is not a finite number")
    return sorted(samples)


def summarize(samples: Sequence[float]) -> Summary:
    """Summarize a sample.

    Args:
        samples: the samples in any order and unit, at least one, all finite.

    Raises:
        ValueError: there is no sample, or one is not finite.
    """
    ordered = _ordered(samples)
    return Summary(
        count=len(ordered),
        minimum=quantile(ordered, 0.0),
        lower_quartile=quantile(ordered, 0.25),
        median=quantile(ordered, 0.5),
        upper_quartile=quantile(ordered, 0.75),
        maximum=quantile(ordered, 1.0),
    )


def paired_ratios(native: Sequence[float], hrt: Sequence[float]) -> list[float]:
    """HRT over native for each pair of runs.

    Args:
        native: one sample a pair, each above zero.
        hrt: the other sample of each pair, in the same order and unit.

    Raises:
        ValueError: the lengths differ, or a native sample is not above zero.
    """
    if len(native) != len(hrt):
        raise ValueError(
            f"{len(native)} native samples cannot be paired with {len(hrt)} HRT samples"
        )
    if any(sample <= 0 for sample in native):
        raise ValueError("a ratio needs native samples above zero")
    return [theirs / ours for ours, theirs in zip(native, hrt, strict=True)]


def paired_differences(native: Sequence[float], hrt: Sequence[float]) -> list[float]:
    """HRT minus native for each pair of runs, in the samples' unit.

    Raises:
        ValueError: the lengths differ.
    """
    if len(native) != len(hrt):
        raise ValueError(
            f"{len(native)} native samples cannot be paired with {len(hrt)} HRT samples"
        )
    return [theirs - ours for ours, theirs in zip(native, hrt, strict=True)]


def median_limit(samples: Sequence[float]) -> float:
    """What the median that the samples were drawn around is at most, with 95 % confidence.

    It is one of the samples, by the binomial distribution (the sign test): nothing is supposed of
    how the samples are spread.

    Args:
        samples: in any order and unit, at least ``MEDIAN_LIMIT_SAMPLES``, all finite.

    Raises:
        ValueError: there are too few, or one is not finite.
    """
    ordered = _ordered(samples)
    count = len(ordered)
    if count < MEDIAN_LIMIT_SAMPLES:
        raise ValueError(f"{count} samples do not bound a median")
    # The limit is wrong if all samples up to it lie below the median.
    below, probability = count, 2.0**-count
    while probability + math.comb(count, below - 1) * 2.0**-count <= 0.05:
        below -= 1
        probability += math.comb(count, below) * 2.0**-count
    return ordered[below - 1]


def geometric_mean(values: Sequence[float]) -> float:
    """The geometric mean, which is the mean that suits ratios.

    Args:
        values: at least one value, all above zero.

    Raises:
        ValueError: there is no value, or one is not above zero.
    """
    if not values or any(value <= 0 for value in values):
        raise ValueError("a geometric mean needs values above zero, at least one")
    return math.exp(math.fsum(math.log(value) for value in values) / len(values))


@dataclass(frozen=True, slots=True)
class Spread:
    """A sample's middle and how far most of it reaches; all in the sample's own unit."""

    count: int
    p10: float
    median: float
    p90: float


def spread(samples: Sequence[float]) -> Spread:
    """The median, and the tenth and ninetieth percentile.

    Args:
        samples: the samples in any order and unit, at least one, all finite.

    Raises:
        ValueError: there is no sample, or one is not finite.
    """
    ordered = _ordered(samples)
    return Spread(
        count=len(ordered),
        p10=quantile(ordered, 0.1),
        median=quantile(ordered, 0.5),
        p90=quantile(ordered, 0.9),
    )
