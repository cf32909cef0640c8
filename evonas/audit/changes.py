"""Changes that an audit makes: the order of networks, their front, its hypervolume; and how sure that is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np

from evonas.audit.intervals import Bits, Floats, drawn_errors
from evonas.audit.presets import ROBUST
from evonas.search import hypervolume, minimised, non_dominated
from evonas.seeding import generator
from evonas.ship import wilson

__all__ = ["Scores", "changes", "compared", "intervals", "on_front", "replicated", "tau"]

Row = Mapping[str, Any]
"""A network's row of an audit; `wrong` holds column -> which images it gets wrong."""

DRAWS = 1000
"""Times that images, networks and seeds are drawn again."""


@dataclass(frozen=True)
class Scores:
    """Scores that a search gave the networks of an audit."""

    values: Mapping[str, Mapping[str, float]]
    """arch_id -> column -> natural value."""
    objectives: tuple[str, ...]
    maximize: tuple[str, ...]
    reference: tuple[float, ...]
    """Reference point of the hypervolume, natural values."""


def compared(scored: Sequence[str], audited: Sequence[str]) -> dict[str, str]:
    """Column of a search -> that of the audit which stands in its place.

    The clean error for the clean error, the certified one for the certified one, and for every other error the audit's
    robust one: the first of `ROBUST` that was measured. What has none keeps the search's values.
    """
    robust = next((name for name in ROBUST if name in audited), None)
    found = {}
    for name in scored:
        other = name if name in ("clean_error", "certified_error") else robust
        if name.endswith("_error") and other in audited:
            found[name] = str(other)
    return found


def tau(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Kendall's tau-b in [-1, 1]; None for fewer than two networks, or where one side is constant."""
    from scipy.stats import kendalltau

    if len(first) < 2 or min(len({*first}), len({*second})) < 2:
        return None
    return round(float(kendalltau(first, second).statistic), 6)


def changes(rows: Sequence[Row], scores: Scores) -> dict[str, Any]:
    """Plain values: columns compared, tau with its interval, flips, networks that left the front, hypervolume.

    Args:
        rows: networks that were measured, each once. None of them may have failed.
    """
    columns = dict.fromkeys(name for row in rows for name in row)
    pairs = compared([*dict.fromkeys(name for each in scores.values.values() for name in each)], [*columns])
    pairs = {name: other for name, other in pairs.items() if all(other in row for row in rows)}
    agreements = [_agreement(rows, scores, name, other) for name, other in pairs.items()]
    main = next((each for each in agreements if each["audit"] != "clean_error"), next(iter(agreements), {}))
    before, after = _objectives(rows, scores, {}), _objectives(rows, scores, pairs)
    first, second = non_dominated(before), non_dominated(after)
    volumes = [hypervolume(each, _reference(scores)) for each in (before, after)]
    return {
        "compared": pairs,
        "tau": main.get("tau"),
        "interval": main.get("interval"),
        "flips": main.get("flips", []),
        "columns": agreements,
        "left_front": [str(rows[at]["arch_id"]) for at in first if at not in second],
        "hypervolume": {
            "search": volumes[0],
            "audit": volumes[1],
            "lost": volumes[0] - volumes[1],
            "share_lost": 1 - volumes[1] / volumes[0] if volumes[0] else None,
        },
    }


def _agreement(rows: Sequence[Row], scores: Scores, name: str, other: str) -> dict[str, Any]:
    """How alike a column of the search and one of the audit order the networks."""
    first = [scores.values[row["arch_id"]][name] for row in rows]
    second = [float(row[other]) for row in rows]
    flips = [
        [str(rows[a]["arch_id"]), str(rows[b]["arch_id"])]
        for a, b in combinations(range(len(rows)), 2)
        if (first[a] - first[b]) * (second[a] - second[b]) < 0
    ]
    interval = _tau_interval(first, [row.get("wrong", {}).get(other) for row in rows], second)
    return {
        "search": name,
        "audit": other,
        "tau": tau(first, second),
        "interval": interval,
        "flips": flips,
        "pairs": len(rows) * (len(rows) - 1) // 2,
    }


def _tau_interval(first: list[float], wrong: Sequence[Bits | None], second: list[float]) -> list[float] | None:
    """95% of tau over networks, and test images where they are known, drawn with replacement."""
    if len(first) < 3:
        return None
    rng = generator("tau")
    known = [each for each in wrong if each is not None]
    drawn: Floats = np.tile(second, (DRAWS, 1))
    if len(known) == len(first):
        drawn = drawn_errors([[each] for each in known], DRAWS, rng)
    found = []
    for errors in drawn:
        chosen = rng.integers(len(first), size=len(first))
        value = tau([first[at] for at in chosen], errors[chosen].tolist())
        found += [] if value is None else [value]
    if len(found) < DRAWS / 2:
        return None
    return [round(float(each), 6) for each in np.quantile(found, (0.025, 0.975))]


def _objectives(rows: Sequence[Row], scores: Scores, pairs: Mapping[str, str]) -> Floats:
    """(networks, objectives) minimised; `pairs` from the audit, costs from its networks, all others from the search."""
    found = []
    for row in rows:
        values = dict(scores.values[row["arch_id"]])
        if pairs:
            values |= {name: float(row[other]) for name, other in pairs.items()}
            values |= {name: float(row[name]) for name in ("params", "macs") if row.get(name) is not None}
        found.append(minimised(values, scores.objectives, scores.maximize))
    return np.array(found, dtype=np.float64).reshape(len(rows), len(scores.objectives))


def _reference(scores: Scores) -> list[float]:
    named = dict(zip(scores.objectives, scores.reference, strict=True))
    return minimised(named, scores.objectives, scores.maximize)


def intervals(row: Row) -> dict[str, list[float]]:
    """Column -> 95% interval (Wilson) of every error of a row that counts images."""
    return {
        name: [round(each, 6) for each in wilson(float(wrong.mean()), len(wrong))]
        for name, wrong in row.get("wrong", {}).items()
    }


def replicated(repeats: Sequence[Row], columns: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Column -> mean, standard deviation (of a sample; None of one) and values of a network's trainings."""
    found = {}
    for name in columns:
        values = [float(row[name]) for row in repeats if row.get(name) is not None]
        if values:
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
            found[name] = {"mean": float(np.mean(values)), "deviation": deviation, "values": values}
    return found


def on_front(repeats: Sequence[Sequence[Row]], scores: Scores, pairs: Mapping[str, str]) -> dict[str, float]:
    """arch_id -> probability of being on the audited front, over test images and seeds drawn with replacement.

    Args:
        repeats: rows of every network, one a seed of its training.
        pairs: see `compared`.
    """
    rng = generator("on front")
    base = [rows[0] for rows in repeats]
    pairs = {
        name: other
        for name, other in pairs.items()
        if name in scores.objectives and all(other in row.get("wrong", {}) for rows in repeats for row in rows)
    }
    drawn = {
        name: drawn_errors([[row["wrong"][other] for row in rows] for rows in repeats], DRAWS, rng)
        for name, other in pairs.items()
    }
    fixed = _objectives(base, scores, {name: other for name, other in pairs.items() if other in base[0]})
    counts = np.zeros(len(base))
    for at in range(DRAWS):
        values = fixed.copy()
        for name, errors in drawn.items():
            values[:, scores.objectives.index(name)] = errors[at]
        counts[non_dominated(values)] += 1
    return {str(row["arch_id"]): float(count / DRAWS) for row, count in zip(base, counts, strict=True)}
