"""Affine operations that put values at other places, and change none."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify.affine import Affine
from evonas.certify.graph import Box, Shape

__all__ = ["Cat", "Expand", "Index", "Move", "Pad", "Permute", "Reshape", "Select", "Slice"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Move(Affine):
    """Values at other places."""

    moves: ClassVar[bool] = True
    distinct: ClassVar[bool] = True
    shape: Shape
    """Of the input."""

    def interval(self, boxes: Sequence[Box]) -> Box:
        return Box(self.linear(*(box.lower for box in boxes)), self.linear(*(box.upper for box in boxes)))


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Move):
    """Another shape of the same order."""

    out: Shape

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].reshape(-1, *self.out)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs.reshape(-1, *self.shape)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Move):
    """Dimensions in another order; that of (N, *shape), whose first is 0."""

    dims: tuple[int, ...]

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].permute(self.dims)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        inverse = sorted(range(len(self.dims)), key=self.dims.__getitem__)
        return [outputs.permute(inverse)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Move):
    """Every so many values of a dimension of (N, *shape)."""

    dim: int
    start: int
    end: int
    step: int

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        at = [slice(None)] * inputs[0].ndim
        at[self.dim] = slice(self.start, self.end, self.step)
        return inputs[0][tuple(at)]

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        whole = outputs.new_zeros(len(outputs), *self.shape)
        return [torch.slice_scatter(whole, outputs, self.dim, self.start, self.end, self.step)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Move):
    """One place of a dimension of (N, *shape), which goes."""

    dim: int
    index: int

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].select(self.dim, self.index)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        whole = outputs.new_zeros(len(outputs), *self.shape)
        return [torch.select_scatter(whole, outputs, self.dim, self.index)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Move):
    """Constant values around the last dimensions, or less of them where a number is below 0."""

    pads: tuple[int, ...]
    """As `torch.nn.functional.pad` takes them."""
    fill: Tensor | None
    """What stands around, in the shape of the output; None: 0."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return functional.pad(inputs[0], self.pads)

    def interval(self, boxes: Sequence[Box]) -> Box:
        return Affine.interval(self, boxes)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [functional.pad(outputs, [-each for each in self.pads])]

    def constant(self) -> Tensor | None:
        return self.fill


@dataclass(frozen=True, eq=False, kw_only=True)
class Index(Move):
    """Places of a dimension of (N, *shape), in any order, some perhaps twice."""

    distinct: ClassVar[bool] = False
    dim: int
    index: Tensor

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].index_select(self.dim, self.index)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs.new_zeros(len(outputs), *self.shape).index_add(self.dim, self.index, outputs)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Expand(Move):
    """The same values for every place of dimensions that had one, or that are new."""

    distinct: ClassVar[bool] = False
    out: Shape

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        filled = inputs[0].reshape(-1, *self._filled)
        return filled.expand(-1, *self.out)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        pairs = enumerate(zip(self._filled, self.out, strict=True), start=1)
        dims = [dim for dim, (one, many) in pairs if one != many]
        total = outputs.sum(dim=dims, keepdim=True) if dims else outputs
        return [total.reshape(-1, *self.shape)]

    @property
    def _filled(self) -> Shape:
        return (1,) * (len(self.out) - len(self.shape)) + self.shape


@dataclass(frozen=True, eq=False, kw_only=True)
class Cat(Affine):
    """Inputs one behind the other along a dimension of (N, *shape)."""

    moves: ClassVar[bool] = True
    dim: int
    sizes: tuple[int, ...]
    """Of the inputs along it."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return torch.cat(inputs, dim=self.dim)

    def interval(self, boxes: Sequence[Box]) -> Box:
        lower, upper = zip(*boxes, strict=True)
        return Box(torch.cat(lower, dim=self.dim), torch.cat(upper, dim=self.dim))

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return list(torch.split(outputs, list(self.sizes), dim=self.dim))
