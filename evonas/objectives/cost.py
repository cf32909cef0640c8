"""What a candidate costs, by its space's lookup."""

from dataclasses import dataclass
from typing import ClassVar

from evonas.objectives.objective import Candidate, Column, CostedSpace

__all__ = ["Macs", "Params"]


@dataclass(frozen=True, kw_only=True)
class Macs:
    """Multiply-adds of one image, to be minimised (RoCo-NAS, III-D: FLOPs, which count a multiply-add as one)."""

    name: ClassVar[str] = "macs"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=float(space.max_cost(n_classes).macs)),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: candidate.cost.macs}


@dataclass(frozen=True, kw_only=True)
class Params:
    """Trainable parameters, to be minimised."""

    name: ClassVar[str] = "params"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=float(space.max_cost(n_classes).params)),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: candidate.cost.params}
