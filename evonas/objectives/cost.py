"""What a candidate costs, by its space's lookup."""

from dataclasses import dataclass
from typing import Any, ClassVar

from evonas.errors import ConfigurationError
from evonas.objectives.objective import Candidate, Column, CostedSpace

__all__ = ["Flops", "Macs", "Params"]


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


@dataclass(frozen=True, kw_only=True)
class Flops:
    """FLOPs as NSGA-Net's own counter has them, to be minimised: MACs, normalisation, activations and pooling.

    Only spaces that know this counter have it (`phase`).
    """

    name: ClassVar[str] = "flops"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        counting: Any = space
        if not hasattr(space, "flops"):
            raise ConfigurationError(f"expected a space with NSGA-Net's FLOPs, got {space.name!r}; use macs")
        return (Column(self.name, reference=float(counting.flops(counting.designs()["dense"], n_classes))),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        counting: Any = candidate.space
        return {self.name: counting.flops(candidate.genome, candidate.data.n_classes)}
