"""The interface of objectives, and the candidates they score."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Protocol

import torch
from torch import nn

from evonas.attacks import FixedModel
from evonas.data import DeviceData
from evonas.types import Cost, Genome

__all__ = ["Candidate", "Column", "CostedSpace", "Objective"]


@dataclass(frozen=True, eq=False)
class Candidate:
    """A network with its weights, and everything an objective may use."""

    network: nn.Module
    """In eval mode, on `data.device`; from images in [0, 1] to logits."""
    genome: Genome
    space: "CostedSpace"
    data: DeviceData
    cost: Cost
    generator: torch.Generator
    """Randomness of an objective; on `data.device`, seeded for this candidate."""

    @property
    def device(self) -> torch.device:
        return self.data.device

    @cached_property
    def attacked(self) -> FixedModel:
        """The network as attacks are given it, so that all of them share its fast copies."""
        return FixedModel(self.network)


class CostedSpace(Protocol):
    """A search space as objectives see it."""

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
    """Short description for the axis of a plot: `white-box: PGD, linf 8/255, 10 steps`."""
    metadata: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Exact definition of the measurement in plain values, such as the settings of an attack; kept in config.json."""


class Objective(Protocol):
    """`objective(candidate) -> {column: value}`, in natural values. A frozen dataclass: it travels to workers.

    Its fields are part of a run's identity (`evonas.parts.part_identity`); a method `identity()` may replace them. A
    class attribute `stage` may say when early stopping measures it: `before` the training (costs), at every one of its
    `rungs` (cheap, and drawing nothing from the candidate's generator), or at the `end`, as without it.
    """

    name: ClassVar[str]
    """Key in `OBJECTIVES`, and name of the first column."""

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        """Columns of the result; a search for this objective minimises or maximises the first one."""
        ...

    def __call__(self, candidate: Candidate) -> Mapping[str, float]: ...

    def __eq__(self, other: Any) -> bool: ...
