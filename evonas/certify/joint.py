"""Operations on several values at once: max pooling, products, softmax."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify.graph import Box, Patch, Planes, Relaxation
from evonas.certify.lines import ConstantPlanes, summed
from evonas.certify.patches import Reach, cut, reach_of_windows

__all__ = ["MatMul", "MaxPool", "Product", "Saddle", "Softmax", "Windows"]

PRODUCTS_AT_ONCE = 2**24
"""Limit on the elementwise products that the bounds of a matrix product hold at once."""


@dataclass(frozen=True, eq=False)
class _AllInputs:
    """An operation with planes that depend on the boxes of all its inputs."""

    moves: ClassVar[bool] = False
    distinct: ClassVar[bool] = False

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        return [torch.ones_like(box.lower[0], dtype=torch.bool) for box in boxes]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return None


@dataclass(frozen=True, eq=False)
class MaxPool(_AllInputs):
    """Largest value of each window; windows may overlap, padding is never the largest.

    Upper plane: CNN-Cert's sum of w (x - l) + g over the values that can be the largest, w = (u - g) / (u - l), or the
    constant max u where that is lower at the middle of the box. Lower plane: adaptive takes the value with the highest
    middle; same_slope takes the weights of the upper plane with a constant that keeps the plane below. plain is the
    common rule of verifiers: below, the value with the highest lower bound; above, the constant, unless only one value
    can be the largest.
    """

    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    size: tuple[int, int]
    """Height and width of the input."""

    def interval(self, boxes: Sequence[Box]) -> Box:
        lower, upper = (
            functional.max_pool2d(each, self.kernel, self.stride, self.padding, self.dilation) for each in boxes[0]
        )
        return Box(lower, upper)

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        lower, upper = self.windows(boxes[0].lower), self.windows(boxes[0].upper)
        rival = upper > lower.amax(dim=2, keepdim=True)  # can be the largest
        several = (rival.sum(dim=2, keepdim=True) > 1) & rival
        ones = self.overlapped(several.to(lower))
        return [(ones > 0).any(dim=0)]

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> "Windows":
        lower, upper = self.windows(boxes[0].lower), self.windows(boxes[0].upper)  # (B, C, k, L)
        highest, ceiling = lower.amax(dim=2, keepdim=True), upper.amax(dim=2, keepdim=True)
        rival = upper > highest  # can be the largest
        width = torch.where(rival, upper - lower, 1.0)
        safe_upper = torch.where(rival, upper, 0.0)
        inverse = torch.where(rival, 1 / width, 0.0)
        total = inverse.sum(dim=2, keepdim=True)
        level = ((safe_upper * inverse).sum(dim=2, keepdim=True) - 1) / torch.where(total > 0, total, 1.0)
        lowest = torch.where(rival, upper, torch.inf).amin(dim=2, keepdim=True)
        level = torch.where(total > 0, torch.maximum(torch.minimum(level, lowest), highest), highest)
        weights = torch.where(rival, (safe_upper - level) * inverse, 0.0)
        shift = level - (weights * torch.where(rival, lower, 0.0)).sum(dim=2, keepdim=True)
        middle = level + (weights * torch.where(rival, width, 0.0)).sum(dim=2, keepdim=True) / 2
        plain = relaxation == "plain"
        rank = lower + upper if not plain else torch.where(lower >= highest, upper, -torch.inf)
        best = torch.zeros_like(lower).scatter(2, rank.argmax(dim=2, keepdim=True), 1.0)
        first = (rival & (lower >= highest)).sum(dim=2, keepdim=True)
        decided, single = total == 0, (rival.sum(dim=2, keepdim=True) == 1) & (first == 1)
        tilted = single if plain else middle <= ceiling
        above = torch.where(decided, best, torch.where(tilted, weights, 0.0))
        above_shift = torch.where(decided, 0.0, torch.where(tilted, shift, ceiling))
        if relaxation != "same_slope":
            below, below_shift = best, torch.zeros_like(shift)
        else:
            share = weights.sum(dim=2, keepdim=True)
            below, below_shift = weights, (1 - share) * torch.where(share <= 1, highest, ceiling)
        return Windows(self, below, below_shift, above, above_shift)

    def windows(self, values: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, k, L): the k values of each of L windows; padding is a very low value."""
        left, top = self.padding[1], self.padding[0]
        low = -1e30 if values.is_floating_point() else 0
        padded = functional.pad(values, (left, left, top, top), value=low) if left or top else values
        found = functional.unfold(padded, self.kernel, self.dilation, 0, self.stride)  # (B, C k, L)
        return found.view(len(values), values.shape[1], -1, found.shape[2])

    def overlapped(self, windows: Tensor) -> Tensor:
        """(N, C, k, L) -> (N, C, H, W): for every position the sum over the windows that contain it."""
        return functional.fold(windows.flatten(1, 2), self.size, self.kernel, self.dilation, self.padding, self.stride)

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [self.reach_of(patch).patch]

    @property
    def out_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        sides = zip(self.size, self.kernel, self.stride, self.padding, self.dilation, strict=True)
        height, width = ((size + 2 * pad - apart * (k - 1) - 1) // step + 1 for size, k, step, pad, apart in sides)
        return height, width

    def reach_of(self, patch: Patch) -> Reach:
        return reach_of_windows(patch, self.kernel, self.stride, self.padding, self.dilation, self.size)


@dataclass(frozen=True, eq=False)
class Windows:
    """Planes over windows: weights (B, C, k, L) and shifts (B, C, 1, L)."""

    pool: MaxPool
    below: Tensor
    below_shift: Tensor
    above: Tensor
    above_shift: Tensor
    kept: tuple[slice, slice] | None = None
    """Rows and columns of the input that are returned; None: all."""

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        flat = coefficients.flatten(3)[:, :, :, None]  # (S, B, C, 1, L)
        negative = flat.clamp(max=0)
        added = summed(flat, self.below_shift) + summed(negative, self.above_shift - self.below_shift)
        spread = torch.addcmul(flat * self.below, negative, self.above - self.below)
        inputs = self.pool.overlapped(spread.flatten(0, 1))
        inputs = inputs if self.kept is None else inputs[(..., *self.kept)]
        return [inputs.reshape(*coefficients.shape[:2], *inputs.shape[1:])], added

    def within(self, patch: Patch) -> "Windows":
        reach = self.pool.reach_of(patch)
        below, below_shift, above, above_shift = (
            cut(each.unflatten(3, self.pool.out_size), patch).flatten(3)
            for each in (self.below, self.below_shift, self.above, self.above_shift)
        )
        pool = replace(self.pool, size=reach.size, padding=reach.padding)
        return Windows(pool, below, below_shift, above, above_shift, reach.kept)


@dataclass(frozen=True, eq=False)
class Product(_AllInputs):
    """Elementwise x y, between McCormick's planes through the corner with the lowest x and y, and the one with the
    highest x and the lowest y. The two other planes are as close at the middle of the box, and on its average."""

    def interval(self, boxes: Sequence[Box]) -> Box:
        return Box(*_product_ends(boxes[0], boxes[1]))

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> "Saddle":
        x, y = boxes
        below, above = ((y.lower, corner, -corner * y.lower) for corner in x)  # (x - corner) (y - y.lower) = 0
        return Saddle(below, above)

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch, patch]


@dataclass(frozen=True, eq=False)
class Saddle:
    """Two planes, each given by slopes in x and y and a shift, all (B, *shape)."""

    below: tuple[Tensor, Tensor, Tensor]
    above: tuple[Tensor, Tensor, Tensor]

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        negative = coefficients.clamp(max=0)
        (*slopes, shift), (*above, above_shift) = self.below, self.above
        added = summed(coefficients, shift) + summed(negative, above_shift - shift)
        pairs = zip(slopes, above, strict=True)
        return [torch.addcmul(coefficients * low, negative, high - low) for low, high in pairs], added

    def within(self, patch: Patch) -> "Saddle":
        below, above = (tuple(cut(each, patch) for each in plane) for plane in (self.below, self.above))
        return Saddle(below, above)  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class Softmax(_AllInputs):
    """Softmax over a dimension of (N, *shape): smallest where the own input is low and all other inputs are high."""

    dim: int

    def interval(self, boxes: Sequence[Box]) -> Box:
        lower, upper = (each.movedim(self.dim, -1) for each in boxes[0])
        least, most = (
            torch.sigmoid(lower - _logsumexp_of_others(upper)),
            torch.sigmoid(upper - _logsumexp_of_others(lower)),
        )
        return Box(least.movedim(-1, self.dim), most.movedim(-1, self.dim))

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Planes:
        return ConstantPlanes(self.interval(boxes), 1)


@dataclass(frozen=True, eq=False)
class MatMul(_AllInputs):
    """(N, i, k) @ (N, k, j), both dependent on the image; bounded by a box only."""

    def interval(self, boxes: Sequence[Box]) -> Box:
        left, right = boxes
        if bool((left.lower >= 0).all()):  # such as attention weights
            return Box(
                left.lower @ right.lower.clamp(min=0) + left.upper @ right.lower.clamp(max=0),
                left.upper @ right.upper.clamp(min=0) + left.lower @ right.upper.clamp(max=0),
            )
        step = max(1, PRODUCTS_AT_ONCE // right.lower.numel())
        rows = []
        for low, high in zip(torch.split(left.lower, step, dim=1), torch.split(left.upper, step, dim=1), strict=True):
            wide = Box(low[..., None], high[..., None])  # (B, i, k, 1)
            least, most = _product_ends(wide, Box(right.lower[:, None], right.upper[:, None]))
            rows.append((least.sum(dim=2), most.sum(dim=2)))
        lower, upper = zip(*rows, strict=True)
        return Box(torch.cat(lower, dim=1), torch.cat(upper, dim=1))

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Planes:
        return ConstantPlanes(self.interval(boxes), 2)


def _product_ends(x: Box, y: Box) -> tuple[Tensor, Tensor]:
    """Smallest and largest elementwise products of two boxes."""
    corners = torch.stack([x.lower * y.lower, x.lower * y.upper, x.upper * y.lower, x.upper * y.upper])
    return corners.amin(dim=0), corners.amax(dim=0)


def _logsumexp_of_others(values: Tensor) -> Tensor:
    """(..., k) -> for each value the logsumexp of all other values in its row, without cancellation."""
    size = values.shape[-1]
    if size == 1:
        return torch.full_like(values, -torch.inf)
    highest, places = values.topk(2, dim=-1)
    first, second, at = highest[..., :1], highest[..., 1:], places[..., :1]
    but_one = 1 - torch.eye(size, dtype=values.dtype, device=values.device)
    sums = first + ((values - first).exp() @ but_one).clamp(min=1).log()  # right for all but the largest value
    rest = (values - second).scatter(-1, at, -torch.inf).exp().sum(dim=-1, keepdim=True)
    logarithms: Tensor = sums.scatter(-1, at, second + rest.log())
    return logarithms
