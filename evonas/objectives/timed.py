"""Seconds of another objective, as a column of their own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from evonas.devices import seconds
from evonas.objectives.objective import Candidate, Column, CostedSpace, Objective
from evonas.parts import part_identity

__all__ = ["SECONDS", "Timed"]

SECONDS = "_seconds"
"""Ending of columns of wall time, which no evaluation repeats."""

DAY = 86_400.0
"""Hypervolume reference, in seconds."""


@dataclass(frozen=True)
class Timed:
    """An objective, and the seconds of its call as the column `NAME_seconds`: these differ from run to run."""

    objective: Objective

    @property
    def name(self) -> str:
        return self.objective.name

    @property
    def stage(self) -> str:
        return str(getattr(self.objective, "stage", "end"))

    def identity(self) -> dict[str, Any]:
        return {**part_identity(self.objective), "timed": True}

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        own = Column(self.name + SECONDS, reference=DAY, about=f"wall time of scoring {self.name}")
        return (*self.objective.columns(space, n_classes), own)

    def __call__(self, candidate: Candidate) -> Mapping[str, float]:
        started = seconds(candidate.device)
        values = self.objective(candidate)
        return {**values, self.name + SECONDS: seconds(candidate.device) - started}
