"""Parameters, MACs and FLOPs of a candidate, from the cost tables of its space."""

from dataclasses import dataclass
from typing import Any, ClassVar

from evonas.errors import ConfigurationError
from evonas.objectives.objective import Candidate, Column, CostedSpace

__all__ = ["Flops", "Macs", "Params"]


@dataclass(frozen=True, kw_only=True)
class Macs:
    """Multiply-adds of one image, to be minimised (RoCo-NAS, III-D: FLOPs, which count a multiply-add as one)."""

    name: ClassVar[str] = "macs"
    stage: ClassVar[str] = "before"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=float(space.max_cost(n_classes).macs)),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: candidate.cost.macs}


@dataclass(frozen=True, kw_only=True)
class Params:
    """Trainable parameters, to be minimised."""

    name: ClassVar[str] = "params"
    stage: ClassVar[str] = "before"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=float(space.max_cost(n_classes).params)),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: candidate.cost.params}


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs as counted by NSGA-Net's code, to be minimised: MACs, normalisation, activations and pooling.

    For spaces with that counter only (`phase`).
    """

    name: ClassVar[str] = "flops"
    stage: ClassVar[str] = "before"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        counted: Any = space
        if not hasattr(space, "flops"):
            raise ConfigurationError(f"expected a space with NSGA-Net's FLOPs, got {space.name!r}; use macs")
        return (Column(self.name, reference=float(counted.flops(counted.designs()["dense"], n_classes))),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        space: Any = candidate.space
        return {self.name: space.flops(candidate.genome, candidate.data.n_classes)}
