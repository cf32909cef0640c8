"""Differences and rank correlations of networks that size and clean error do not explain, and their intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from evonas.studies.intervals import LEVEL

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "CLEAN_CALIPER",
    "FEWEST",
    "MACS_CALIPER",
    "Effect",
    "Point",
    "adjusted_difference",
    "effect",
    "kendall",
    "matched",
    "matched_difference",
    "mean_difference",
    "pairs",
    "partial_spearman",
    "spearman",
]

MACS_CALIPER = 1.25
"""Largest ratio of the MACs of two networks that are compared."""
CLEAN_CALIPER = 0.02
"""Largest difference of their clean errors."""
RESAMPLES = 1000
ENOUGH = 0.9
"""Share of the resamples in which a statistic must be had, for an interval."""
FEWEST = 5
"""Networks that a correlation or a regression needs; matched ones of either group, or seeds, of a sound interval."""


class Point(NamedTuple):
    """A network as it is compared with others."""

    treated: bool
    """Whether it is of the first of two groups."""
    macs: float
    clean: float
    """Clean error."""
    value: float
    """Value that is compared."""
    other: float = 0.0
    """Value that it is correlated with."""
    name: str = ""
    """Tells networks with equal values apart."""


class Effect(NamedTuple):
    """A number over seeds, and its bootstrap interval."""

    value: float
    low: float
    """NaN where no interval can be had."""
    high: float
    n: int
    """Networks, or pairs."""


Groups = tuple[tuple[Point, ...], ...]
"""Networks, seed by seed."""


def effect(groups: Groups, statistic: Callable[[Groups], float], n: int | None = None, seed: int = 0) -> Effect | None:
    """The statistic, and the percentiles of it over resampled networks; None where it is not finite.

    Seeds are drawn with replacement where there are two or more, and in each seed the networks of either group.

    Args:
        n: number behind the statistic; that of the networks by default.
        seed: of the resampling.
    """
    import numpy as np

    value = statistic(groups) if groups else math.nan
    if not math.isfinite(value):
        return None
    rng, found = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        chosen = rng.integers(len(groups), size=len(groups)) if len(groups) > 1 else [0]
        drawn = []
        for at in chosen:
            strata = [[each for each in groups[at] if each.treated == kind] for kind in (True, False)]
            drawn.append(tuple(own[i] for own in strata if own for i in rng.integers(len(own), size=len(own))))
        found.append(statistic(tuple(drawn)))
    finite = [each for each in found if math.isfinite(each)]
    if len(finite) < ENOUGH * RESAMPLES:
        low = high = math.nan
    else:
        low, high = np.quantile(finite, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return Effect(value, low, high, sum(map(len, groups)) if n is None else n)


def pairs(networks: Sequence[Point]) -> list[tuple[Point, Point]]:
    """Every pair of a treated and an untreated network within both calipers."""
    return [
        (first, second)
        for first in networks
        if first.treated
        for second in networks
        if not second.treated
        and max(first.macs, second.macs) <= MACS_CALIPER * min(first.macs, second.macs)
        and abs(first.clean - second.clean) <= CLEAN_CALIPER + 1e-12
    ]


def matched_difference(groups: Groups) -> float:
    """Mean over seeds of the mean difference of the pairs, treated minus other; NaN where no seed has a pair."""
    found = [[first.value - second.value for first, second in pairs(group)] for group in groups]
    return _mean([_mean(each) for each in found if each])


def matched(groups: Groups) -> Effect | None:
    """`matched_difference` and the number of its pairs; no interval of fewer than `FEWEST` networks of either group."""
    every = [pair for group in groups for pair in pairs(group)]
    found = effect(groups, matched_difference, len(every))
    if found is None or min(len(set(side)) for side in zip(*every, strict=True)) >= FEWEST:
        return found
    return found._replace(low=math.nan, high=math.nan)


def mean_difference(groups: Groups) -> float:
    """Mean over seeds of the difference of the means of both groups, whatever their size and clean error."""
    found = []
    for group in groups:
        means = [_mean([each.value for each in group if each.treated == kind]) for kind in (True, False)]
        found.append(means[0] - means[1])
    return _mean([each for each in found if math.isfinite(each)])


def adjusted_difference(groups: Groups) -> float:
    """Coefficient of the treated in a linear regression on them, log MACs, clean error and seeds.

    NaN where the networks do not determine it.
    """
    import numpy as np

    every = [(seed, each) for seed, group in enumerate(groups) for each in group]
    if len(every) < FEWEST:
        return math.nan
    seeds = np.eye(len(groups))[[seed for seed, _ in every]]
    columns = [[float(each.treated), math.log(each.macs), each.clean] for _, each in every]
    design = np.hstack([np.array(columns), seeds[:, seeds.any(axis=0)]])
    if len(every) <= design.shape[1] or np.linalg.matrix_rank(design) < design.shape[1]:
        return math.nan
    found, *_ = np.linalg.lstsq(design, np.array([each.value for _, each in every]), rcond=None)
    return float(found[0])


def partial_spearman(groups: Groups, controls: Sequence[Callable[[Point], float]]) -> float:
    """Rank correlation of `value` and `other` that the ranks of the controls do not explain.

    Ranks are taken in each seed, from 0 to 1, and their mean taken away; a seed with fewer than three networks is left
    out. Pearson's correlation of what a linear regression on the controls' ranks leaves. NaN where nothing is left.
    """
    import numpy as np
    from scipy.stats import rankdata

    kept = [group for group in groups if len(group) > 2]
    if sum(map(len, kept)) < max(FEWEST, len(controls) + 3):
        return math.nan

    def ranks(of: Callable[[Point], float]) -> np.ndarray:
        ranked = [rankdata([of(each) for each in group]) / len(group) for group in kept]
        return np.concatenate([each - each.mean() for each in ranked])

    design = np.stack([ranks(each) for each in controls], axis=1) if controls else np.zeros((sum(map(len, kept)), 1))
    left = []
    for of in (lambda each: each.value, lambda each: each.other):
        own = ranks(of)
        found, *_ = np.linalg.lstsq(design, own, rcond=None)
        left.append(own - design @ found)
    norms = [float(np.linalg.norm(each)) for each in left]
    if min(norms) < 1e-9:
        return math.nan
    return float(left[0] @ left[1]) / (norms[0] * norms[1])


def kendall(groups: Groups) -> float:
    """Mean over seeds of Kendall's tau-b of `value` and `other`; a seed where either is constant is left out."""
    return _mean([found for group in groups for found in _cosine(*_signs(group))])


def spearman(groups: Groups) -> float:
    """Mean over seeds of Spearman's rank correlation of `value` and `other`, ties at the mean of their ranks.

    A seed where either is constant is left out.
    """
    ranked = ([each.sum(axis=1) for each in _signs(group)] for group in groups)  # twice a rank, less the mean
    return _mean([found for first, second in ranked for found in _cosine(first, second)])


def _signs(group: Sequence[Point]) -> list[np.ndarray]:
    """Signs of all differences of values, and of others: (n, n) each. scipy's correlations take ten times as long."""
    import numpy as np

    both = np.array([(each.value, each.other) for each in group]).T
    return [np.sign(each[:, None] - each) for each in both]


def _cosine(first: np.ndarray, second: np.ndarray) -> list[float]:
    """Cosine of two arrays; nothing where one of them is zero."""
    norm = math.sqrt(float((first * first).sum() * (second * second).sum()))
    return [float((first * second).sum()) / norm] if norm > 0 else []


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan
