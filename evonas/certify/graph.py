"""What bounds are propagated through: the operations of a network, as one forward pass has shown them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

__all__ = ["Box", "Graph", "Node", "Operation", "Planes", "Relaxation", "Shape"]

Shape = tuple[int, ...]
"""Of one image's values, without the batch."""

Relaxation = str
"""adaptive or same_slope: the line below a ReLU that may be on either side of 0. plain: as adaptive, with other planes
of max pooling."""


class Box(NamedTuple):
    """Bounds of every value by itself."""

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


class Planes(Protocol):
    """Affine functions of an operation's inputs, one below and one above each of its outputs."""

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        """A lower bound of sum(coefficients * outputs) as an affine function of the inputs.

        Args:
            coefficients: (S, B, *shape) of the outputs, S functions of each image.
        Returns:
            Coefficients (S, B, *shape) of each input, None for 0; and (S, B) constants.
        """
        ...


class Operation(Protocol):
    """One step of a network. Values are (N, *shape), whatever N is."""

    @property
    def moves(self) -> bool:
        """Whether each output is an affine function of one input value, so that exact boxes stay exact."""
        ...

    @property
    def distinct(self) -> bool:
        """Whether it `moves`, and no two outputs depend on the same input value."""
        ...

    def interval(self, boxes: Sequence[Box]) -> Box:
        """The box of the outputs for boxes of the inputs."""
        ...

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Planes:
        """Planes that hold for inputs in the boxes; affine operations do not look at them."""
        ...

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        """Of each input a mask (*shape) of the values whose tighter bounds would give tighter planes; None: none."""
        ...


@dataclass(frozen=True, eq=False)
class Node:
    """Values of a network: what an operation gives, or its images."""

    shape: Shape
    operation: Operation | None
    """None: the images."""
    inputs: tuple[int, ...] = ()
    """Numbers of the nodes it reads, all below its own."""
    layer: str = ""
    """Name of the module that asked for it, for messages."""


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order in which they were computed; the first are the images, the last the logits."""

    nodes: tuple[Node, ...]

    def ancestors(self, number: int) -> frozenset[int]:
        """Nodes that a node depends on, itself among them."""
        found, open_ = {number}, [number]
        while open_:
            for each in self.nodes[open_.pop()].inputs:
                if each not in found:
                    found.add(each)
                    open_.append(each)
        return frozenset(found)
