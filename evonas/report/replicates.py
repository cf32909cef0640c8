"""The front trained again by other seeds: means, intervals, and how optimistic it was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.report.table import Searched
from evonas.search import Entry, minimised, non_dominated, ranks

__all__ = ["Replicates"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Replicates:
    """Networks of a front, and further evaluations of each by other seeds; those that failed are left out.

    Args:
        front: entries of the search.
        further: of each of these, its further entries with status ok, at least one.
    """

    searched: Searched
    front: Sequence[Entry]
    further: Sequence[Sequence[Entry]]

    @property
    def columns(self) -> list[str]:
        """Searched columns that another seed changed: no costs."""
        before = {name: [entry.result.objectives[name] for entry in self.front] for name in self.searched.objectives}
        return [
            name
            for name, own in before.items()
            if any((v != x).any() for v, x in zip(self.found(name), own, strict=True))
        ]

    def found(self, name: str) -> list[Floats]:
        """For each network, (n,) values of a column by the further seeds."""
        return [np.array([each.result.objectives[name] for each in entries]) for entries in self.further]

    def means(self, without: int | None = None) -> Floats:
        """(networks, m) searched objectives, minimised, means over the further seeds.

        Args:
            without: number of a seed that is left out.
        """
        rows = []
        for entries in self.further:
            values = [self._minimised(each) for number, each in enumerate(entries) if number != without]
            rows.append(np.mean(values, axis=0))
        return np.array(rows).reshape(-1, len(self.searched.objectives))

    def interval(self, name: str) -> Floats:
        """(networks,) half the width of the 95% interval of each mean; NaN where no network has two further seeds.

        Student's, with one deviation of seeds that all networks share.
        """
        from scipy.stats import t

        found = self.found(name)
        freedom = sum(len(values) - 1 for values in found)
        if not freedom:
            return np.full(len(found), np.nan)
        deviation = np.sqrt(sum(((values - values.mean()) ** 2).sum() for values in found) / freedom)
        return np.array([t.ppf(0.975, freedom) * deviation / np.sqrt(len(values)) for values in found])

    def optimism(self, name: str) -> float:
        """How much worse the further seeds are than what the search found, in natural values, the mean over the front.

        The search chose the front by these values, chance included, so that they are too good: the winner's curse.
        """
        sign = -1 if name in self.searched.maximize else 1
        before = [entry.result.objectives[name] for entry in self.front]
        return sign * float(np.mean([values.mean() for values in self.found(name)]) - np.mean(before))

    def optimism_of_means(self, name: str) -> float | None:
        """The same of the front by means, each seed held against the front by the means of the others.

        None with fewer than two further seeds of every network.
        """
        seeds = min(map(len, self.further))
        if seeds < 2:
            return None
        column = self.searched.objectives.index(name)
        gaps: list[float] = []
        for left_out in range(seeds):
            means = self.means(left_out)
            chosen = non_dominated(means)
            new = np.array([self._minimised(self.further[i][left_out])[column] for i in chosen])
            gaps.append(float(np.mean(new - means[chosen, column])))
        return float(np.mean(gaps))

    def table(self) -> dict[str, dict[str, Any]]:
        """arch_id -> replicates, COLUMN_mean, COLUMN_low, COLUMN_high, rank_by_means and beaten_beyond_intervals.

        The rank is that among these networks by their means. `beaten_beyond_intervals`: another one is better by the
        whole width of the intervals, in every objective that a seed changes; 95% each, not corrected for many pairs.
        """
        rank, beaten = ranks(self.means()), self._beaten()
        rows: dict[str, dict[str, Any]] = {}
        for i, entry in enumerate(self.front):
            row: dict[str, Any] = {"replicates": len(self.further[i])}
            for name in self.columns:
                mean, half = float(self.found(name)[i].mean()), float(self.interval(name)[i])
                ends = (mean, mean - half, mean + half)
                names = f"{name}_mean", f"{name}_low", f"{name}_high"
                row |= {label: round(v, 6) if np.isfinite(v) else None for label, v in zip(names, ends, strict=True)}
            rows[entry.key] = {**row, "rank_by_means": int(rank[i]), "beaten_beyond_intervals": bool(beaten[i])}
        return rows

    def summary(self) -> dict[str, Any]:
        """Plain values for config.json."""
        after = {name: self.optimism_of_means(name) for name in self.columns}
        return {
            "networks": len(self.front),
            "trainings": sum(map(len, self.further)),
            "optimism": {name: round(self.optimism(name), 6) for name in self.columns},
            "optimism_of_means": {name: None if v is None else round(v, 6) for name, v in after.items()},
            "front_by_means": int((ranks(self.means()) == 0).sum()),
            "beaten_beyond_intervals": int(self._beaten().sum()),
        }

    def words(self) -> str:
        """The summary in a line."""
        found, parts = self.summary(), list[str]()
        for name, before in found["optimism"].items():
            after = found["optimism_of_means"][name]
            parts.append(f"{name} {before:+.3g}{'' if after is None else f' (of the front by means {after:+.3g})'}")
        trained = f"replicates: {found['trainings']} further evaluations of {found['networks']} networks of the front"
        if not parts:
            return f"{trained}; no objective changed with the seed"
        beaten = f"{found['beaten_beyond_intervals']} are beaten beyond their intervals"
        kept = f"{found['front_by_means']} stay on the front by means, {beaten}"
        return f"{trained}; optimism, how much worse they are than the search found: {', '.join(parts)}; {kept}"

    def _minimised(self, entry: Entry) -> list[float]:
        return minimised(entry.result.objectives, self.searched.objectives, self.searched.maximize)

    def _beaten(self) -> npt.NDArray[np.bool_]:
        """(networks,) whether another one is at least as good by the ends of all intervals, and better in one."""
        means = self.means()
        half = np.zeros_like(means)
        for name in self.columns:
            half[:, self.searched.objectives.index(name)] = self.interval(name)
        best, worst = means - half, means + half  # NaN compares as no better
        return np.array(
            [any((w <= b).all() and (w < b).any() for j, w in enumerate(worst) if j != i) for i, b in enumerate(best)]
        )
