"""Predictions held against what was found."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from evonas.search.journal import Entry

__all__ = ["Honesty", "honesty", "rank_correlation"]

STATED = 0.9
"""Share of found values that the stated intervals should hold."""
DEVIATIONS = 1.6448536269514722
"""Half the width of such an interval of a normal distribution, in deviations."""


class Honesty(NamedTuple):
    """Predictions of one objective beside what was found."""

    rank_correlation: float | None
    """Spearman's, in [-1, 1]; see `rank_correlation`."""
    coverage: float | None
    """Share of found values within their 90 % intervals; None without predictions."""


def honesty(entries: Iterable[Entry]) -> dict[str, Honesty]:
    """Predicted objective -> how well its predictions hold, over the successful evaluations that have some."""
    pairs: dict[str, list[tuple[float, float, float]]] = {}
    for entry in entries:
        for name, (mean, deviation) in (entry.predicted or {}).items():
            there = pairs.setdefault(name, [])
            if entry.result.ok and name in entry.result.objectives:
                there.append((mean, deviation, entry.result.objectives[name]))
    found: dict[str, Honesty] = {}
    for name, rows in pairs.items():
        inside = [abs(value - mean) <= DEVIATIONS * deviation for mean, deviation, value in rows]
        coverage = round(sum(inside) / len(inside), 6) if inside else None
        found[name] = Honesty(rank_correlation([row[0] for row in rows], [row[2] for row in rows]), coverage)
    return found


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation in [-1, 1], 6 digits; None for fewer than three pairs, or where one is constant."""
    import numpy as np
    from scipy.stats import spearmanr

    if len(first) < 3 or min(map(len, map(set, (first, second)))) < 2:
        return None
    pair = (np.asarray(values, dtype=np.float64) for values in (first, second))
    return round(float(spearmanr(*pair).statistic), 6)
