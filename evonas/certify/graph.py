"""The graph that bounds are propagated through: the operations of a network, as one forward pass records them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

__all__ = ["Box", "Graph", "GraphNode", "Operation", "Patch", "Planes", "Relaxation", "Shape"]

Shape = tuple[int, ...]
"""Shape of the values of one image, without the batch dimension."""

Relaxation = str
"""adaptive or same_slope: choice of the lower line of a ReLU whose input may have either sign. plain: as adaptive, with
other planes for max pooling."""


class Box(NamedTuple):
    """Elementwise bounds."""

    lower: Tensor
    """(B, *shape)"""
    upper: Tensor

    @property
    def middle(self) -> Tensor:
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Half of the width."""
        return (self.upper - self.lower) / 2


class Patch(NamedTuple):
    """A rectangle of the positions of a map: rows top to bottom, columns left to right, without the ends."""

    top: int
    bottom: int
    left: int
    right: int

    @property
    def positions(self) -> int:
        return (self.bottom - self.top) * (self.right - self.left)


class Planes(Protocol):
    """Affine functions of the inputs of an operation, one below and one above each output."""

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """A lower bound of sum(coefficients * outputs) as an affine function of the inputs.

        Args:
            coefficients: (S, B, *shape) of the outputs, for S functions of each image.
        Returns:
            Coefficients (S, B, *shape) of each input, None for 0; and (S, B) constants.
        """
        ...

    def within(self, patch: Patch) -> "Planes":
        """The planes of the outputs in a patch of a map, in terms of the input patches that `Operation.reach` names."""
        ...


class Operation(Protocol):
    """One step of a network. Values are (N, *shape) for any N."""

    @property
    def moves(self) -> bool:
        """Whether each output is an affine function of a single input value, so that exact boxes stay exact."""
        ...

    @property
    def distinct(self) -> bool:
        """Whether `moves` holds and no two outputs depend on the same input value."""
        ...

    def interval(self, boxes: Sequence[Box]) -> Box:
        """The box of the outputs for boxes of the inputs."""
        ...

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Planes:
        """Planes that are valid for inputs in the boxes; those of affine operations do not depend on the boxes."""
        ...

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        """For each input a mask (*shape) of the values for which tighter bounds give tighter planes; None: no value."""
        ...

    def reach(self, patch: Patch) -> list[Patch] | None:
        """For each input the patch that the outputs in a patch of a map depend on; None: not known, so all of it."""
        ...


@dataclass(frozen=True, eq=False)
class GraphNode:
    """Intermediate values of a network: the outputs of an operation, or the images."""

    shape: Shape
    operation: Operation | None
    """None: the images."""
    inputs: tuple[int, ...] = ()
    """Numbers of the input nodes, all below its own number."""
    layer: str = ""
    """Name of the module that called the operation, for messages."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order of computation: first the images, last the logits."""

    nodes: tuple[GraphNode, ...]
    precision: torch.dtype | None = None
    """Precision of constants; None: that of the images."""

    def ancestors(self, number: int) -> frozenset[int]:
        """Numbers of the nodes that a node depends on, including itself."""
        found, open_ = {number}, [number]
        while open_:
            for each in self.nodes[open_.pop()].inputs:
                if each not in found:
                    found.add(each)
                    open_.append(each)
        return frozenset(found)
