"""Predictors of robust errors, the networks that have them, and how well both agree."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from evonas.studies.association import Effect, Groups, Point, effect, kendall, spearman
from evonas.studies.intervals import spread
from evonas.studies.proxies_runs import PREDICTED, TARGET
from evonas.studies.study import Row, Studied

__all__ = [
    "KINDS",
    "PREDICTORS",
    "QUICK",
    "Compared",
    "Pairs",
    "Predictor",
    "Values",
    "agreement",
    "compared",
    "seconds",
]

Values = tuple[float, ...]
Pairs = tuple[tuple[Values, Values], ...]
"""Two values of the same networks, once for every seed."""


class Predictor(NamedTuple):
    """A measure of a search that is cheaper than the target."""

    words: str
    column: str
    trained: bool = False
    """Whether it is measured on the search's own clean training."""
    scored: str = ""
    """Objective that gives it; empty: by arithmetic."""
    sign: float = 1.0
    """-1: more of it counts as better."""

    def value(self, row: Row) -> float:
        """Less is better; NaN where it was not measured."""
        found = row.get(self.column)
        return self.sign * float(found) if isinstance(found, float | int) else math.nan

    def seconds(self, row: Row) -> float:
        """Wall time of training and scoring one network for it."""
        training = float(row.get("train_seconds", math.nan)) if self.trained else 0.0
        return training + (float(row.get(f"{self.scored}_seconds", math.nan)) if self.scored else 0.0)


QUICK = "quick_robust_error"
PREDICTORS = {
    each.column: each
    for each in (
        Predictor("quick adversarial training, FGSM", QUICK, scored=QUICK),
        Predictor("quick adversarial training, PGD", "quick_robust_pgd_error", scored=QUICK),
        Predictor("clean training, RoCo-NAS's set", "adversarial_set_error", True, "adversarial_set_error"),
        Predictor("clean training, PGD", "pgd_error", True, "pgd_error"),
        Predictor("clean training, no attack", "clean_error", True, "clean_error"),
        Predictor("more parameters", "params", sign=-1),
        Predictor("more MACs", "macs", sign=-1),
    )
}
"""Column -> predictor."""
KINDS: Mapping[str, Callable[[Groups], float]] = {"tau": kendall, "Spearman": spearman}


class Compared(NamedTuple):
    """Networks that have all that is compared."""

    rows: tuple[Row, ...]
    """Values that the search measured."""
    targets: tuple[Values, ...]
    """Robust errors of these networks, seed by seed."""
    trained: tuple[float, ...]
    """Seconds of the target's trainings."""
    seeds: tuple[int, ...]
    """Those of the targets."""

    @property
    def means(self) -> Values:
        """Robust error of each network, the mean over seeds."""
        return tuple(sum(each) / len(each) for each in zip(*self.targets, strict=True))

    def half(self) -> Compared:
        """The half of the networks with the least robust error, of an odd number the larger one."""
        means = self.means
        best = sorted(range(len(means)), key=lambda place: (means[place], place))[: math.ceil(len(means) / 2)]
        chosen = tuple(tuple(each[place] for place in best) for each in self.targets)
        return Compared(tuple(self.rows[place] for place in best), chosen, self.trained, self.seeds)

    def pairs(self, predictor: Predictor) -> Pairs:
        """The predictor beside each seed of the target."""
        values = tuple(map(predictor.value, self.rows))
        return tuple((values, each) for each in self.targets)


def compared(studied: Studied, target: str) -> Compared:
    """Networks with predictors and with this robust error in every seed that has any."""
    known = {str(row["arch_id"]): row for row in studied.labelled(PREDICTED)}
    seeds: dict[int, dict[str, Row]] = {}
    for row in studied.labelled(TARGET):
        if target in row:
            seeds.setdefault(row["seed"], {})[str(row["arch_id"])] = row
    common = [key for key in sorted(known) if seeds and all(key in found for found in seeds.values())]
    targets = tuple(tuple(float(seeds[seed][key][target]) for key in common) for seed in sorted(seeds))
    trained = tuple(float(found[key].get("train_seconds", math.nan)) for found in seeds.values() for key in common)
    rows, numbers = tuple(known[key] for key in common), tuple(sorted(seeds))
    return Compared(rows, targets if common else (), trained, numbers if common else ())


@lru_cache(maxsize=256)
def agreement(pairs: Pairs, kind: str, minus: Pairs = ()) -> Effect | None:
    """Rank correlation of pairs, the mean over seeds, or how much more it is than that of other pairs, seed by seed.

    Networks are resampled, the same ones for all seeds and both sides. A seed in which a side has no order is left out.

    Args:
        minus: other pairs of the same networks and seeds; empty: nothing is subtracted.
    Returns:
        the correlation, with the number of networks; the mean difference, with the number of seeds in which both sides
        have a correlation. None where a value is missing, or where no seed is left.
    """
    if not pairs or any(map(math.isnan, (each for pair in (*pairs, *minus) for side in pair for each in side))):
        return None
    everyone = range(len(pairs[0][0]))

    def statistic(drawn: Groups) -> float:
        chosen = [int(each.value) for each in drawn[0]]
        if not minus:
            return KINDS[kind](_groups(pairs, chosen))
        found = _differences(pairs, minus, kind, chosen)
        return sum(found) / len(found) if found else math.nan

    places = tuple(Point(True, 1.0, 0.0, float(place)) for place in everyone)
    return effect((places,), statistic, len(_differences(pairs, minus, kind, everyone)) if minus else None)


def _differences(first: Pairs, second: Pairs, kind: str, chosen: Sequence[int]) -> list[float]:
    """First correlation minus second, of the seeds that have both."""
    both = zip(_groups(first, chosen), _groups(second, chosen), strict=True)
    found = (KINDS[kind]((one,)) - KINDS[kind]((other,)) for one, other in both)
    return [each for each in found if math.isfinite(each)]


def _groups(pairs: Pairs, chosen: Sequence[int]) -> Groups:
    return tuple(
        tuple(Point(True, 1.0, 0.0, first[place], second[place]) for place in chosen) for first, second in pairs
    )


def seconds(networks: Compared, predictor: Predictor) -> float:
    """Mean wall time of a network; NaN where it is not known."""
    found = spread(predictor.seconds(row) for row in networks.rows)
    return math.nan if found is None else found.mean
