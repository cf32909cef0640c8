"""Objectives measured as early as they can be, so that a training is ended, or attacks are left out."""

import math
from collections.abc import Mapping, Sequence

from evonas.errors import ConfigurationError
from evonas.objectives import Candidate, CleanError, Objective
from evonas.types import Reach

__all__ = ["Staged", "check_early_stop", "measured", "rungs", "stage_of"]

SHARES = tuple(eighth / 8 for eighth in range(1, 8))
"""Rungs, as shares of the epochs."""


def rungs(epochs: int) -> tuple[int, ...]:
    """Finished epochs after which a training may be stopped, ascending, before its last one."""
    return tuple(sorted({math.ceil(share * epochs) for share in SHARES} - {epochs, 0}))


def check_early_stop(epochs: int | None, objectives: Sequence[Objective]) -> None:
    """ConfigurationError where early stopping has no moment at which it could stop anything."""
    if not rungs(epochs or 0) and all(stage_of(each) != "end" for each in objectives):
        trained = "no training" if epochs is None else f"{epochs} epoch"
        raise ConfigurationError(
            f"expected trainings of at least 2 epochs with early_stop, or objectives measured after them such as "
            f"pgd_error, got {trained} and {', '.join(each.name for each in objectives)}; leave --early-stop out"
        )


def stage_of(objective: Objective) -> str:
    """Moment of an objective: `before` the training, at `rungs`, or at the `end`, where it declares no `stage`."""
    return str(getattr(objective, "stage", "end"))


class Staged:
    """The objectives of one evaluation: costs and what is cheap at every rung, the rest at the end.

    Values are those of an evaluation without rungs: cheap ones draw nothing from the candidate's generator. Where none
    is cheap, the clean error stands in at the rungs.

    Args:
        epochs: of the training; 0: weights are inherited.
        reach: told what is known at a rung; may raise StoppedEarly.
    """

    def __init__(self, objectives: Sequence[Objective], epochs: int, reach: Reach) -> None:
        self.objectives, self.epochs, self.reach = objectives, epochs, reach
        self.final: dict[str, float] = {}
        """Values so far that stay as they are."""
        self._stand_in = [] if any(stage_of(each) == "rungs" for each in objectives) else [CleanError()]

    def after_epoch(self, epoch: int, candidate: Candidate) -> None:
        """Measure at a rung, before the end of the training."""
        if epoch in rungs(self.epochs):
            self.final = self._costs(candidate)
            cheap = [each for each in self.objectives if stage_of(each) == "rungs"]
            self.reach(epoch, self.epochs, {**self.final, **measured([*cheap, *self._stand_in], candidate)})

    def at_end(self, candidate: Candidate) -> dict[str, float]:
        """Every value of a trained candidate, the objectives in their order."""
        late = [stage_of(each) == "end" for each in self.objectives]
        pairs = [*zip(self.objectives, late, strict=True)]
        early = [{} if last else each(candidate) for each, last in pairs]
        self.final = _joined(early) | self._costs(candidate)
        if any(late):
            self.reach(self.epochs, self.epochs, {**self.final, **measured(self._stand_in, candidate)})
        return _joined([each(candidate) if last else there for (each, last), there in zip(pairs, early, strict=True)])

    def _costs(self, candidate: Candidate) -> dict[str, float]:
        known = [each for each in self.objectives if stage_of(each) == "before"]
        return {**measured(known, candidate), "params": candidate.cost.params, "macs": candidate.cost.macs}


def measured(objectives: Sequence[Objective], candidate: Candidate) -> dict[str, float]:
    """Values of objectives, one after another."""
    return _joined([objective(candidate) for objective in objectives])


def _joined(parts: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: value for part in parts for name, value in part.items()}
