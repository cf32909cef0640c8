"""Affine operations. Their boxes are exact for independent inputs, and linear bounds pass through them without loss.

Each has a linear part, its transpose, and for boxes and Euclidean balls the linear part with the absolute values or
squares of its weights.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from evonas.certify.graph import Box, Patch, Relaxation, Shape
from evonas.certify.patches import cut

__all__ = ["Add", "Affine", "Linear", "Mean", "Scale", "powered"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Affine:
    """linear(inputs) + constant."""

    moves: ClassVar[bool] = False
    distinct: ClassVar[bool] = False

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        """(N, *shape) of each input -> (N, *out), without the constant; `power` 1 or 2 takes |w| or w^2."""
        raise NotImplementedError

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        """(N, *out) -> (N, *shape) of each input."""
        raise NotImplementedError

    def constant(self) -> Tensor | None:
        """The constant term, in a shape that broadcasts to (*out); None: 0."""
        return None

    def constant_terms(self) -> Tensor | None:
        """Sums of the absolute values of what the constant was computed from: its rounding error follows them."""
        constant = self.constant()
        return None if constant is None else constant.detach().abs()

    def interval(self, boxes: Sequence[Box]) -> Box:
        middle = self.linear(*(box.middle for box in boxes))
        constant = self.constant()
        middle = middle if constant is None else middle + constant
        radius = self.linear(*(box.radius for box in boxes), power=1)
        return Box(middle - radius, middle + radius)

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> "Affine":
        return self

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        return [None] * len(boxes)

    def reach(self, patch: Patch) -> list[Patch] | None:
        return None

    def within(self, patch: Patch) -> "Affine":
        raise NotImplementedError

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        lead = coefficients.shape[:2]
        constant = self.constant()
        added = coefficients.new_zeros(lead) if constant is None else _with_constant(coefficients, constant)
        parts = self.transpose(coefficients.flatten(0, 1))
        return [part if part is None else part.reshape(*lead, *part.shape[1:]) for part in parts], added


def _with_constant(coefficients: Tensor, constant: Tensor) -> Tensor:
    """(S, B) sums of (S, B, *shape) coefficients times a constant that broadcasts to (*shape)."""
    shape = coefficients.shape[2:]
    filled = constant.reshape((1,) * (len(shape) - constant.ndim) + constant.shape)
    same = [dim for dim, (one, many) in enumerate(zip(filled.shape, shape, strict=True), start=2) if one != many]
    total = coefficients.sum(dim=same, keepdim=True) if same else coefficients
    return total.flatten(2) @ filled.flatten()


def powered(weights: Tensor, power: int) -> Tensor:
    """w, |w| or w^2 for a power of 0, 1 or 2."""
    return weights if power == 0 else weights.abs() if power == 1 else weights.square()


@dataclass(frozen=True, eq=False, kw_only=True)
class Add(Affine):
    """Sum of factor * input over inputs of one shape."""

    factors: tuple[float, ...]

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        factors = [factor if power == 0 else abs(factor) ** power for factor in self.factors]
        total = inputs[0] if factors[0] == 1 else inputs[0] * factors[0]
        for each, factor in zip(inputs[1:], factors[1:], strict=True):
            total = torch.add(total, each, alpha=factor)
        return total

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs if factor == 1 else outputs * factor for factor in self.factors]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch] * len(self.factors)

    def within(self, patch: Patch) -> "Add":
        return self


@dataclass(frozen=True, eq=False, kw_only=True)
class Linear(Affine):
    """x @ weight + bias over the last dimension; weight (in, out)."""

    weight: Tensor
    bias: Tensor | None = None

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0] @ powered(self.weight, power)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs @ self.weight.t()]

    def constant(self) -> Tensor | None:
        return self.bias


@dataclass(frozen=True, eq=False, kw_only=True)
class Mean(Affine):
    """Sums over dimensions of (N, *shape), times a factor."""

    dims: tuple[int, ...]
    shape: Shape
    factor: float
    keepdim: bool

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        factor = self.factor if power == 0 else abs(self.factor) ** power
        return inputs[0].sum(dim=self.dims, keepdim=self.keepdim) * factor

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        if not self.keepdim:
            for dim in sorted(self.dims):
                outputs = outputs.unsqueeze(dim)
        return [(outputs * self.factor).expand(len(outputs), *self.shape)]


@dataclass(frozen=True, eq=False, kw_only=True)
class Scale(Affine):
    """x * factor + shift, elementwise; both broadcast to the shape of x and may have any sign."""

    moves: ClassVar[bool] = True
    distinct: ClassVar[bool] = True
    factor: Tensor | None = None
    shift: Tensor | None = None
    shift_terms: Tensor | None = None
    """See `constant_terms`; None: the absolute values of the shift."""

    def linear(self, *inputs: Tensor, power: int = 0) -> Tensor:
        return inputs[0] if self.factor is None else inputs[0] * powered(self.factor, power)

    def transpose(self, outputs: Tensor) -> list[Tensor | None]:
        return [outputs if self.factor is None else outputs * self.factor]

    def constant(self) -> Tensor | None:
        return self.shift

    def constant_terms(self) -> Tensor | None:
        return super().constant_terms() if self.shift_terms is None else self.shift_terms

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch]

    def within(self, patch: Patch) -> "Scale":
        parts = self.factor, self.shift, self.shift_terms
        factor, shift, terms = (each if each is None else cut(each, patch) for each in parts)
        return replace(self, factor=factor, shift=shift, shift_terms=terms)
