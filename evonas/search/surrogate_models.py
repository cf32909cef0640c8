"""Models of a search's objectives, fitted to the results of one moment."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from evonas.search.honesty import rank_correlation
from evonas.search.improvement import choose_batch, expected_improvement
from evonas.search.pareto import hypervolume, non_dominated
from evonas.search.settings import SURROGATES
from evonas.types import Cost, Genome, Space

__all__ = ["Models", "Skill", "Views"]

Floats = npt.NDArray[np.float64]

MARGIN = 0.1
"""Distance from the worst result to the reference point, as a share of the range of the results."""
SOFT = 0.2
"""Share of that range, added to a learned value before its logarithm is taken."""
FAR = 3.0
"""Interquartile ranges above the third quartile from where on a value counts as merely bad."""


class Regression(Protocol):
    """A fitted surrogate model; see `GaussianProcess`."""

    @property
    def noise(self) -> float: ...
    def predict(self, distances: Sequence[Floats]) -> tuple[Floats, Floats, Floats]: ...
    def covariance(self, distances: Sequence[Floats], explained: Floats) -> Floats: ...
    def leave_one_out(self) -> Floats: ...


@dataclass(frozen=True)
class Views:
    """Genomes as a model sees them: (n, d) features of the space, and (n, 2) logarithms of costs where they are known.

    A space may declare `features(genomes) -> (n, d)`, in which near networks are alike; else every gene is one-hot.
    """

    groups: tuple[Floats, ...]

    @classmethod
    def of(cls, space: Space, genomes: Sequence[Genome], costs: Sequence[Cost | None] | None) -> "Views":
        stacked = np.array(genomes, dtype=np.int64).reshape(len(genomes), space.n_genes)
        declared: Any = getattr(space, "features", None)
        if declared is None:
            values = [np.arange(top + 1) for top in np.asarray(space.upper)]
            own = np.concatenate([stacked[:, [i]] == each for i, each in enumerate(values)], axis=1)
        else:
            own = np.asarray(declared(stacked), dtype=np.float64)
        groups = [own.astype(np.float64)]
        if costs is not None:
            groups.append(np.log1p(np.array(costs, dtype=np.float64).reshape(-1, 2)))
        return cls(tuple(groups))

    def distances(self, other: "Views") -> list[Floats]:
        """For each group the (n, k) squared distances to others."""
        return [_squared(a, b) for a, b in zip(self.groups, other.groups, strict=True)]

    def __getitem__(self, rows: Any) -> "Views":
        return Views(tuple(group[rows] for group in self.groups))


@dataclass(frozen=True)
class Skill:
    """Rank correlation of predictions with what was found, the mean over the learned objectives."""

    surrogate: float
    """Each value predicted from all others."""
    params: float
    """The same of the parameter count alone, whichever its sign; 0 where it is not known."""
    n: int
    """Results that both are counted over."""

    @property
    def suffices(self) -> bool:
        """Whether the surrogate is better than chance, and not worse than the parameter count by more than chance.

        Chance: 2.33 standard errors of a correlation of 0, one time in 100, and 2 of that of the parameter count.
        """
        of_params = self.params - 2 * (1 - self.params**2) / math.sqrt(self.n - 1)
        return self.surrogate > self.chance and self.surrogate >= of_params

    @property
    def chance(self) -> float:
        """Correlation in [0, 1] that chance alone reaches one time in 100."""
        return 2.33 / math.sqrt(self.n - 1)

    def __str__(self) -> str:
        return (
            f"rank correlation {self.surrogate:.2f}, of chance up to {self.chance:.2f}, of the parameters alone "
            f"{self.params:.2f}"
        )


class Models:
    """One model for each learned objective, and one of success where evaluations have failed.

    Args:
        kind: name in `SURROGATES`.
        known: of the successful genomes; found: (n, m) their objectives, minimised.
        learned: columns of `found` that are not exact.
        failed: of the genomes whose evaluations failed.
        params: (n,) parameters of the successful ones; None: unknown.
    """

    def __init__(
        self, kind: str, known: Views, found: Floats, learned: Sequence[int], failed: Views, params: Floats | None
    ) -> None:
        self._known, self._found, self._learned, self._params = known, found, learned, params
        low = found[non_dominated(found)].min(axis=0)
        quarter, most = np.quantile(found, (0.25, 0.75), axis=0)
        far = np.where(most > quarter, most + FAR * (most - quarter), np.inf)
        self._low, worst = low, np.minimum(found, far).max(axis=0)
        self._span = np.where(worst > low, worst - low, 1.0)
        scaled = np.minimum((np.minimum(found, far) - low) / self._span, 1.0)
        scaled[:, list(learned)] = _warped(scaled[:, list(learned)])
        self._front, self._reference = scaled[non_dominated(scaled)], np.full(found.shape[1], 1 + MARGIN)
        self._reference[list(learned)] = _warped(self._reference[list(learned)])
        distances = known.distances(known)
        make = SURROGATES[kind]
        self._models: dict[int, Regression] = {j: make(distances, scaled[:, j]) for j in learned}
        self._all, self._success = known, None
        if len(failed.groups[0]):
            both = zip(known.groups, failed.groups, strict=True)
            self._all = Views(tuple(np.concatenate(pair) for pair in both))
            labels = np.repeat([1.0, 0.0], [len(found), len(failed.groups[0])])
            self._success = make(self._all.distances(self._all), labels)

    def skill(self) -> Skill:
        """How well each known value is predicted from all others."""
        ours, params = [], []
        for j, model in self._models.items():
            values = self._found[:, j].tolist()
            ours.append(rank_correlation(model.leave_one_out().tolist(), values) or 0.0)
            if self._params is not None:
                params.append(abs(rank_correlation(self._params.tolist(), values) or 0.0))
        if not ours:  # everything is exact
            return Skill(1.0, 0.0, len(self._found))
        return Skill(float(np.mean(ours)), float(np.mean(params or [0.0])), len(self._found))

    def natural(self, views: Views) -> tuple[Floats, Floats]:
        """(n, learned) means and deviations of what would be found, minimised, in natural units."""
        mean, deviation, _ = self._predict(views, None)
        noise = np.array([self._models[j].noise for j in self._learned])
        columns, span = list(self._learned), self._span[list(self._learned)]
        unwarped = np.exp(mean[:, columns])
        return self._low[columns] + (unwarped - SOFT) * span, np.hypot(deviation[:, columns], noise) * unwarped * span

    def gain(self, views: Views, exact: Floats) -> Floats:
        """(n,) expected improvement of each alone."""
        mean, deviation, _ = self._predict(views, exact)
        return self._succeed(views) * expected_improvement(mean, deviation, self._front, self._reference_with(mean))

    def choose(self, views: Views, exact: Floats, wanted: int, pending: int) -> tuple[list[int], list[float]]:
        """See `choose_batch`; gains are shares of the present hypervolume."""
        mean, deviation, explained = self._predict(views, exact)
        among = views.distances(views)
        m = len(self._reference)
        covariances = [self._models[j].covariance(among, explained[j]) if j in explained else None for j in range(m)]
        noise = np.array([self._models[j].noise if j in self._models else 0.0 for j in range(m)])
        success, front, reference = self._succeed(views), self._front, self._reference_with(mean)
        chosen, gains = choose_batch(mean, deviation, success, covariances, noise, front, reference, wanted, pending)
        whole = hypervolume(front, reference)
        return chosen, [gain / whole for gain in gains]

    def _predict(self, views: Views, exact: Floats | None) -> tuple[Floats, Floats, dict[int, Floats]]:
        """(n, m) means and deviations, scaled and warped as what is learned from; exact objectives have deviation 0."""
        distances = views.distances(self._known)
        n, m = len(views.groups[0]), len(self._reference)
        mean = np.zeros((n, m)) if exact is None else (exact - self._low) / self._span
        deviation, explained = np.zeros((n, m)), {}
        for j, model in self._models.items():
            mean[:, j], deviation[:, j], explained[j] = model.predict(distances)
        return mean, deviation, explained

    def _reference_with(self, mean: Floats) -> Floats:
        """(m,) reference point, beyond the dearest of these networks, too: one dearer than all so far may be better."""
        reference = self._reference.copy()
        for j in range(len(reference)):
            if j not in self._models:
                reference[j] = max(reference[j], mean[:, j].max(initial=1.0) + MARGIN)
        return reference

    def _succeed(self, views: Views) -> Floats:
        """(n,) probability that an evaluation does not fail."""
        if self._success is None:
            return np.ones(len(views.groups[0]))
        return np.clip(self._success.predict(views.distances(self._all))[0], 0.0, 1.0)


def _warped(scaled: Floats) -> Floats:
    """Logarithms, which learn small differences among the best and do not mind large ones among the worst."""
    found: Floats = np.log(scaled + SOFT)
    return found


def _squared(a: Floats, b: Floats) -> Floats:
    found: Floats = np.maximum((a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * a @ b.T, 0.0)
    return found
