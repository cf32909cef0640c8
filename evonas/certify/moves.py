"""Affine operations that move values without changing them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify.affine import Affine
from evonas.certify.graph import Box, Patch, Shape
from evonas.certify.patches import is_map

__all__ = ["Cat", "Expand", "Index", "Move", "Pad", "Permute", "Reshape", "Select", "Slice"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Move(Affine):
    """A rearrangement of the input's values."""

    moves: ClassVar[bool] = True
    distinct: ClassVar[bool] = True
    shape: Shape
    """Shape of the input."""

    def interval(self, boxes: Sequence[Box]) -> Box:
        return Box(self.linear(*(box.lower for box in boxes)), self.linear(*(box.upper for box in boxes)))

    def within(self, patch: Patch) -> "Move":
        return replace(self, shape=_resized(self.shape, patch))


def _resized(shape: Shape, patch: Patch) -> Shape:
    return (*shape[:-2], patch.bottom - patch.top, patch.right - patch.left)


@dataclass(frozen=True, eq=False, kw_only=True)
class Reshape(Move):
    """Another shape, in the same order of values."""

    out: Shape

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].reshape(-1, *self.out)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs.reshape(-1, *self.shape)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch] if is_map(self.shape) and is_map(self.out) and self.shape[-2:] == self.out[-2:] else None

    def within(self, patch: Patch) -> "Reshape":
        return replace(self, shape=_resized(self.shape, patch), out=_resized(self.out, patch))


@dataclass(frozen=True, eq=False, kw_only=True)
class Permute(Move):
    """Dimensions of (N, *shape) in another order; `dims` starts with 0."""

    dims: tuple[int, ...]

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].permute(self.dims)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        inverse = sorted(range(len(self.dims)), key=self.dims.__getitem__)
        return [outputs.permute(inverse)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch] if self.dims[-2:] == (len(self.shape) - 1, len(self.shape)) else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Slice(Move):
    """start:end:step along a dimension of (N, *shape)."""

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

    def reach(self, patch: Patch) -> list[Patch] | None:
        if self.dim < len(self.shape) - 1:
            return [patch]
        top, bottom, left, right = patch
        if self.dim == len(self.shape) - 1:
            return [Patch(*self._seen(top, bottom), left, right)]
        return [Patch(top, bottom, *self._seen(left, right))]

    def within(self, patch: Patch) -> "Slice":
        (inputs,) = self.reach(patch) or [patch]
        made = replace(self, shape=_resized(self.shape, inputs))
        if self.dim < len(self.shape) - 1:
            return made
        return replace(made, start=0, end=made.shape[self.dim - 1])

    def _seen(self, first: int, last: int) -> tuple[int, int]:
        """Range of the input for a range of the output, without the values that are left out behind the last one."""
        return self.start + first * self.step, self.start + (last - 1) * self.step + 1


@dataclass(frozen=True, eq=False, kw_only=True)
class Select(Move):
    """One index of a dimension of (N, *shape), which is removed."""

    dim: int
    index: int

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].select(self.dim, self.index)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        whole = outputs.new_zeros(len(outputs), *self.shape)
        return [torch.select_scatter(whole, outputs, self.dim, self.index)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch] if self.dim < len(self.shape) - 1 else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Pad(Move):
    """Padding of the last dimensions by constants, or cropping where a number is below 0."""

    pads: tuple[int, ...]
    """Sizes in the order of `torch.nn.functional.pad`."""
    fill: Tensor | None
    """Padding in the shape of the output, 0 elsewhere; None: padding with 0."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return functional.pad(inputs[0], self.pads)

    def interval(self, boxes: Sequence[Box]) -> Box:
        box = super().interval(boxes)
        return box if self.fill is None else Box(*(each + self.fill for each in box))

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [functional.pad(outputs, [-each for each in self.pads])]

    def constant(self) -> Tensor | None:
        return self.fill


@dataclass(frozen=True, eq=False, kw_only=True)
class Index(Move):
    """Indices into a dimension of (N, *shape), in any order, possibly repeated."""

    distinct: ClassVar[bool] = False
    dim: int
    index: Tensor

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0].index_select(self.dim, self.index)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs.new_zeros(len(outputs), *self.shape).index_add(self.dim, self.index, outputs)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch] if self.dim < len(self.shape) - 1 else None


@dataclass(frozen=True, eq=False, kw_only=True)
class Expand(Move):
    """Broadcasting to new dimensions and along dimensions of size 1."""

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
    """Concatenation of inputs along a dimension of (N, *shape)."""

    moves: ClassVar[bool] = True
    dim: int
    sizes: tuple[int, ...]
    """Sizes of the inputs along the dimension."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return torch.cat(inputs, dim=self.dim)

    def interval(self, boxes: Sequence[Box]) -> Box:
        lower, upper = zip(*boxes, strict=True)
        return Box(torch.cat(lower, dim=self.dim), torch.cat(upper, dim=self.dim))

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return list(torch.split(outputs, list(self.sizes), dim=self.dim))

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch] * len(self.sizes) if self.dim == 1 else None

    def within(self, patch: Patch) -> "Cat":
        return self
