"""Early stopping: a training ends when its network cannot enter the front any more.

Whatever decides is taken from the results that are known when a network is proposed, and travels with its job, so
that a search stays a deterministic function of its results. The optimistic end of a training, from a rung on:

- An objective that is measured there falls, until the end, by no more than the `QUANTILE` of the falls of finished
  trainings from that rung on. Costs are final from the beginning: they have never fallen.
- One that is measured only at the end, such as an error under attack, is as far below the clean error of that rung.

A network whose optimistic end a member of the front dominates is stopped. A share of them, drawn by seed, is finished
all the same, to count how often that was wrong.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from evonas.errors import StoppedEarly
from evonas.search.pareto import minimised, non_dominated
from evonas.search.settings import EvolutionConfig
from evonas.seeding import generator
from evonas.types import Curve, EvaluationResult, arch_id

__all__ = ["FINISHED", "QUANTILE", "Limits", "Stopping", "Stops", "Watch", "stops_of"]

QUANTILE = 0.9
"""Chance that a further training, if it is like those before, falls by no more than is allowed for in an objective."""
LEAST_CURVES = 9
"""Finished trainings that are known at a rung before any is stopped there: the largest fall of so many is exceeded with
a chance of 1 in 10."""
FINISHED = 0.1
"""Share of the stopped that is finished all the same."""
CLEAN = "clean_error"
ROUNDING = 1e-9
"""Fall that is granted beyond a known one, for the rounding of differences."""


@dataclass(frozen=True)
class Limits:
    """Knowledge of one moment, against which a training is held; a plain value that travels with its job."""

    objectives: tuple[str, ...]
    maximize: tuple[str, ...] = ()
    front: tuple[tuple[float, ...], ...] = ()
    """Objectives of the front, minimised."""
    falls: Mapping[int, Mapping[str, float]] = field(default_factory=dict, hash=False)
    """Rung -> objective -> largest fall that is allowed for, minimised."""
    finish: bool = False
    """Whether a training that would be stopped is finished all the same."""

    def admits(self, row: Sequence[float]) -> bool:
        """Whether no member of the front dominates these objectives, minimised."""
        return not any(
            tuple(row) != each and all(a <= b for a, b in zip(each, row, strict=True)) for each in self.front
        )

    def optimistic(self, rung: int, values: Mapping[str, float]) -> list[float]:
        """Best objectives, minimised, that are expected of a training with these values at a rung."""
        falls = self.falls.get(rung, {})
        starts = _starts(values, self.objectives, self.maximize)
        ends = []
        for name in self.objectives:
            fall = falls.get(name, math.inf)
            ends.append(starts.get(name, -math.inf) - (fall + ROUNDING if fall else 0.0))  # costs stay exact
        return ends


class Watch:
    """Learning curve of one evaluation, and its end where the limits say so."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._epochs = 0
        self._rungs: list[tuple[int, Mapping[str, float]]] = []
        self._stopped: int | None = None

    def reach(self, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        """See `evonas.types.Reach`."""
        known = {str(name): float(value) for name, value in values.items() if math.isfinite(value)}
        self._epochs = epochs
        self._rungs.append((epoch, known))
        if epoch == epochs and known.keys() >= {*self.limits.objectives}:
            return  # nothing that is searched is left to measure: it has its rank
        if self._stopped is not None or self.limits.admits(self.limits.optimistic(epoch, known)):
            return
        self._stopped = epoch
        if not self.limits.finish:
            trained = f" after {epoch} of {epochs} epochs" if epochs else ""
            before = " before the rest is measured" if epoch == epochs else ""
            raise StoppedEarly(f"stopped{trained}{before}: it cannot enter the front")

    def closed(self, result: EvaluationResult) -> EvaluationResult:
        """The result with its learning curve; a failure has none."""
        if result.status == "failed" or not self._rungs:
            return result
        limits, entered = self.limits, None
        if result.ok and self._stopped is not None and all(name in result.objectives for name in limits.objectives):
            entered = limits.admits(minimised(result.objectives, limits.objectives, limits.maximize))
        return result.changed(curve=Curve(self._epochs, tuple(self._rungs), self._stopped, entered))


class Stopping:
    """Results so far, and the limits that follow from them.

    Args:
        maximize: objectives that are maximised.
    """

    def __init__(self, config: EvolutionConfig, maximize: Sequence[str]) -> None:
        self.config = config
        self._finished: dict[str, EvaluationResult] = {}
        self._limits: Limits | None = None
        self._empty = Limits(config.objectives, tuple(maximize))

    def tell(self, result: EvaluationResult) -> None:
        """Take in a result; it replaces an earlier one of the same genome."""
        key = arch_id(result.genome)
        self._finished.pop(key, None)
        if result.ok:
            self._finished[key] = result
        self._limits = None

    def limits(self) -> Limits:
        """Limits by what is known now."""
        if self._limits is None:
            self._limits = self._make()
        return self._limits

    def of(self, key: str, limits: Limits) -> Limits:
        """The limits for one network: some are finished all the same."""
        return replace(limits, finish=bool(generator(self.config.seed, "finish", key).random() < FINISHED))

    def _make(self) -> Limits:
        results, limits = [*self._finished.values()], self._empty
        rows = [minimised(each.objectives, limits.objectives, limits.maximize) for each in results]
        seen: dict[int, dict[str, list[float]]] = {}
        for result, row in zip(results, rows, strict=True):
            ends = dict(zip(limits.objectives, row, strict=True))
            for rung, values in () if result.curve is None else result.curve.rungs:
                for name, start in _starts(values, limits.objectives, limits.maximize).items():
                    seen.setdefault(rung, {}).setdefault(name, []).append(start - ends[name])
        falls = {
            rung: {name: _largest(each) for name, each in by.items() if len(each) >= LEAST_CURVES}
            for rung, by in seen.items()
        }
        front = np.array(rows, dtype=np.float64).reshape(-1, len(limits.objectives))
        best = tuple(tuple(row) for row in front[non_dominated(front)].tolist())
        return replace(limits, front=best, falls=falls)


class Stops(NamedTuple):
    """Stops of a search, and how many of those that were tried were wrong."""

    stopped: int
    """Evaluations that were stopped."""
    epochs_saved: int
    """Epochs that they were not trained for."""
    finished: int
    """Further ones that would have been stopped, and were finished all the same."""
    wrong: int
    """Number of them that entered the front of their time."""
    trained: int = 0
    """Stopped ones whose training was over: what is measured last was left out."""

    @property
    def share(self) -> float | None:
        """Share of wrong stops, in [0, 1]; None where none was tried."""
        return self.wrong / self.finished if self.finished else None

    @property
    def interval(self) -> tuple[float, float]:
        """95% interval of that share (Clopper and Pearson); (0, 1) where none was tried."""
        from scipy.stats import beta

        n, k = self.finished, self.wrong
        low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
        high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
        return round(low, 6), round(high, 6)

    def __str__(self) -> str:
        late = f" ({self.trained} of them after their training, before the rest was measured)" if self.trained else ""
        saved = f"{self.stopped} stopped{late}, {self.epochs_saved} epochs saved"
        if not self.finished:
            return f"{saved}; no stop was tried"
        low, high = self.interval
        tried = f"of {self.finished} that were finished all the same {self.wrong} entered the front of their time"
        share = f"wrong stops {self.share:.0%}, 95% interval {low:.0%} to {high:.0%}"
        return f"{saved}; {tried} ({share})"


def stops_of(results: Iterable[EvaluationResult]) -> Stops | None:
    """Counts over the results of a search; None where early stopping was off: no result has a curve."""
    curves = [(result.status, result.curve) for result in results if result.curve is not None]
    if not curves:
        return None
    saved = [each.epochs - each.rungs[-1][0] for status, each in curves if status == "stopped"]
    entered = [each.entered for status, each in curves if status == "ok" and each.stopped is not None]
    return Stops(len(saved), sum(saved), len(entered), sum(map(bool, entered)), saved.count(0))


def _starts(values: Mapping[str, float], objectives: Sequence[str], maximize: Sequence[str]) -> dict[str, float]:
    """Objective -> the value at a rung that its end is expected from, minimised: its own, or else the clean error."""
    error = next((values[name] for name in (CLEAN, *values) if name in values and name.endswith("error")), None)
    found: dict[str, float] = {}
    for name in objectives:
        if name in values:
            found[name] = -values[name] if name in maximize else values[name]
        elif error is not None:
            found[name] = error
    return found


def _largest(falls: Sequence[float]) -> float:
    """The fall that a further one exceeds with a chance of at most 1 - QUANTILE; of few the largest."""
    rank = math.ceil((len(falls) + 1) * QUANTILE)
    return sorted(falls)[min(rank, len(falls)) - 1]
