"""What every objective is, and what it is given."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from evonas.data import DeviceData
from evonas.types import Cost, Genome

__all__ = ["Candidate", "Column", "CostedSpace", "Objective"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network with its weights, and all that an objective may look at."""

    network: nn.Module
    """In eval mode, on `data.device`; from images in [0, 1] to logits."""
    genome: Genome
    space: "CostedSpace"
    data: DeviceData
    cost: Cost
    generator: torch.Generator
    """For objectives that draw; on `data.device`, seeded for this candidate."""

    @property
    def device(self) -> torch.device:
        return self.data.device


class CostedSpace(Protocol):
    """What objectives ask of a search space."""

    @property
    def name(self) -> str: ...
    def max_cost(self, n_classes: int = 10) -> Cost: ...


@dataclass(frozen=True)
class Column:
    """One measured value of a candidate."""

    name: str
    reference: float
    """Coordinate of the hypervolume's reference point: the worst value that counts."""
    maximize: bool = False
    about: str = ""
    """A few words on what was measured, for a picture's axis: `white-box: PGD, linf 8/255, 10 steps`."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Plain values that say exactly what was measured, such as an attack's numbers; kept in config.json."""


class Objective(Protocol):
    """`objective(candidate) -> {column: value}`, in natural values. A frozen value: it travels to workers."""

    name: ClassVar[str]
    """Its name in `OBJECTIVES` and of its first column."""

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        """What it returns; the first column is the one that a search of this name minimises or maximises."""
        ...

    def __call__(self, candidate: Candidate) -> Mapping[str, float]: ...

    def __eq__(self, other: Any) -> bool: ...
