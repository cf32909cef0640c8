"""Means with deviations over seeds, and paired differences of two methods with bootstrap intervals."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["LEVEL", "Difference", "Spread", "paired_difference", "spread"]

LEVEL = 0.95
"""Share of repetitions of a study in which an interval is meant to hold the difference."""
RESAMPLES = 9999
SEED = 0
"""Seed of the resampling."""


class Spread(NamedTuple):
    """A mean over seeds."""

    mean: float
    deviation: float
    """Standard deviation of the sample (n - 1); NaN for one value."""
    n: int


class Difference(NamedTuple):
    """Mean over seeds of first minus second, and its bootstrap interval."""

    mean: float
    low: float
    """Lower end; NaN for one pair, of which no interval can be had."""
    high: float
    n: int
    """Seeds that both have."""


def spread(values: Iterable[float]) -> Spread | None:
    """Mean, deviation and number of the finite values; None where there is none."""
    found = [float(value) for value in values if math.isfinite(value)]
    if not found:
        return None
    deviation = statistics.stdev(found) if len(found) > 1 else math.nan
    return Spread(statistics.fmean(found), deviation, len(found))


def paired_difference(first: Mapping[int, float], second: Mapping[int, float]) -> Difference | None:
    """First minus second, seed by seed, with a bootstrap interval of the mean; None without a common seed.

    Bias-corrected and accelerated (BCa; Efron, 1987) over resampled pairs, from a fixed seed. Where all differences are
    equal, so are both ends. Of few pairs an interval is too narrow; their number stands beside it.

    Args:
        first, second: seed -> value.
    """
    common = [seed for seed in first if seed in second and math.isfinite(first[seed] - second[seed])]
    differences = [first[seed] - second[seed] for seed in common]
    if not differences:
        return None
    mean, n = statistics.fmean(differences), len(differences)
    if n == 1:
        return Difference(mean, math.nan, math.nan, 1)
    if max(differences) == min(differences):
        return Difference(mean, mean, mean, n)
    low, high = _interval(differences)
    return Difference(mean, low, high, n)


def _interval(values: list[float]) -> tuple[float, float]:
    import numpy as np
    from scipy.stats import bootstrap

    found = bootstrap(
        (values,), np.mean, n_resamples=RESAMPLES, confidence_level=LEVEL, method="BCa", rng=np.random.default_rng(SEED)
    )
    interval = found.confidence_interval
    return float(interval.low), float(interval.high)
