"""Elementwise operations: ReLU and other functions of a single value, bounded by two lines."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify.graph import Box, Patch, Relaxation
from evonas.certify.patches import cut

__all__ = ["ConstantPlanes", "HardSwish", "Lines", "PiecewiseLinear", "ReLU", "SShaped", "summed"]


@dataclass(frozen=True, eq=False)
class Lines:
    """lower_slope x + lower_shift <= f(x) <= upper_slope x + upper_shift; each (B, *shape)."""

    lower_slope: Tensor
    lower_shift: Tensor | None
    """None: 0."""
    upper_slope: Tensor
    upper_shift: Tensor

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        negative = coefficients.clamp(max=0)
        below, apart = self.lower_shift, self.upper_shift
        if below is not None:
            apart = apart - below
        added = summed(negative, apart)
        if below is not None:
            added = added + summed(coefficients, below)
        return [torch.addcmul(coefficients * self.lower_slope, negative, self.upper_slope - self.lower_slope)], added

    def within(self, patch: Patch) -> "_LinesWithin":
        below = self.lower_shift
        lines = [self.lower_slope, torch.zeros_like(self.upper_shift) if below is None else below]
        lines += [self.upper_slope, self.upper_shift]
        return _LinesWithin.of(*(_in_memory(cut(each, patch)).flatten(1) for each in lines))


@dataclass(frozen=True, eq=False)
class _LinesWithin:
    """Lines on a patch. Most functions of stable values have one line through 0, which takes one product."""

    slope: Tensor
    """(B, n) slopes of the lower lines, in the order of memory."""
    bent: Tensor
    """(m,) indices into (B n) of the values with two lines, or with a line that does not go through 0."""
    rise: Tensor
    """(m,) slopes of their upper lines less those of their lower lines."""
    lower_shift: Tensor
    """(m, B) shifts of their lower lines in the column of their image, 0 in the others."""
    upper_shift: Tensor
    """Shifts of their upper lines less those of their lower lines."""

    @classmethod
    def of(cls, lower_slope: Tensor, lower_shift: Tensor, upper_slope: Tensor, upper_shift: Tensor) -> "_LinesWithin":
        """All (B, n)."""
        bent = ((lower_slope != upper_slope) | (lower_shift != 0) | (upper_shift != 0)).flatten().nonzero()[:, 0]
        images = functional.one_hot(bent // max(1, lower_slope.shape[1]), len(lower_slope)).to(lower_slope)
        rise, apart, below = (
            each.flatten()[bent] for each in (upper_slope - lower_slope, upper_shift - lower_shift, lower_shift)
        )
        return cls(lower_slope, bent, rise, below[:, None] * images, apart[:, None] * images)

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        rows = _in_memory(coefficients.flatten(0, 1)).view(len(coefficients), -1)  # (S, B n)
        few = rows.index_select(1, self.bent)
        negative = few.clamp(max=0)
        added = few @ self.lower_shift + negative @ self.upper_shift
        below = self.slope.flatten()
        inputs = rows * below
        inputs.index_copy_(1, self.bent, few * below[self.bent] + negative * self.rise)
        return [_from_memory(inputs, coefficients.shape)], added

    def within(self, patch: Patch) -> "_LinesWithin":
        raise NotImplementedError


def _in_memory(values: Tensor) -> Tensor:
    """(N, *shape) as a view or copy in the order of memory that convolutions like best: channels last."""
    return values.movedim(1, -1).contiguous() if values.ndim == 4 else values.contiguous()


def _from_memory(rows: Tensor, shape: torch.Size) -> Tensor:
    """Undo `_in_memory` for (S, B, *shape) rows."""
    if len(shape) != 5:
        return rows.view(shape)
    functions, images, channels, height, width = shape
    return rows.view(functions, images, height, width, channels).movedim(-1, 2)


def summed(coefficients: Tensor, values: Tensor) -> Tensor:
    """(S, B, *shape), (B, *shape) -> (S, B) sums of products."""
    return torch.einsum("sbf,bf->sb", coefficients.flatten(2), values.flatten(1))


@dataclass(frozen=True, eq=False)
class ConstantPlanes:
    """The box of the outputs, as planes with slope 0."""

    box: Box
    inputs: int

    def substitute(self, coefficients: Tensor) -> tuple[list[Tensor | None], Tensor]:
        lower, upper = self.box
        ends = summed(coefficients, lower) + summed(coefficients.clamp(max=0), upper - lower)
        return [None] * self.inputs, ends

    def within(self, patch: Patch) -> "ConstantPlanes":
        return ConstantPlanes(Box(*(cut(each, patch) for each in self.box)), self.inputs)


@dataclass(frozen=True)
class ReLU:
    """max(x, 0).

    Where x may have either sign, the upper line goes through both ends. The lower line goes through 0, with the slope
    of the upper one (same_slope: Fast-Lin), or with slope 1 where u >= -l and slope 0 elsewhere (adaptive: CROWN).
    """

    moves: ClassVar[bool] = False
    distinct: ClassVar[bool] = False

    def interval(self, boxes: Sequence[Box]) -> Box:
        return Box(functional.relu(boxes[0].lower), functional.relu(boxes[0].upper))

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        return [((boxes[0].lower < 0) & (boxes[0].upper > 0)).any(dim=0)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch]

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Lines:
        lower, upper = boxes[0]
        either = (lower < 0) & (upper > 0)
        width = torch.where(either, upper - lower, 1.0)
        slope = torch.where(either, upper / width, ((lower >= 0) & (upper > 0)).to(lower))
        shift = torch.where(either, -lower * slope, 0.0)
        below = torch.where(either, (upper >= -lower).to(lower), slope) if relaxation != "same_slope" else slope
        return Lines(below, None, slope, shift)


@dataclass(frozen=True, eq=False)
class PiecewiseLinear:
    """A function that is affine between breakpoints, such as hard sigmoid, leaky ReLU and clamping.

    Both lines have the slope of the chord over the box; the function is farthest from it at an end or a breakpoint.
    """

    moves: ClassVar[bool] = False
    distinct: ClassVar[bool] = False
    function: Callable[[Tensor], Tensor]
    breakpoints: tuple[float, ...]
    monotone: ClassVar[bool] = True

    def interval(self, boxes: Sequence[Box]) -> Box:
        values = [self.function(each) for each in self._candidates(boxes[0], None)]
        return Box(*_ends(values))

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        lower, upper = boxes[0]
        crossed = torch.zeros_like(lower, dtype=torch.bool)
        for point in self.breakpoints:
            crossed = crossed | ((lower < point) & (upper > point))
        return [crossed.any(dim=0)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch]

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Lines:
        lower, upper = boxes[0]
        wide = upper > lower
        slope = torch.where(
            wide, (self.function(upper) - self.function(lower)) / torch.where(wide, upper - lower, 1.0), 0.0
        )
        apart = [self.function(each) - slope * each for each in self._candidates(boxes[0], slope)]
        least, most = _ends(apart)
        return Lines(slope, least, slope, most)

    def _candidates(self, box: Box, slope: Tensor | None) -> list[Tensor]:
        """Points where the function minus a line of this slope (None: 0) may be smallest or largest."""
        return [box.lower, box.upper, *(torch.clamp(box.lower.new_tensor(p), *box) for p in self.breakpoints)]


@dataclass(frozen=True, eq=False)
class HardSwish(PiecewiseLinear):
    """x clamp(x + 3, 0, 6) / 6: affine outside -3 to 3, a parabola between."""

    function: Callable[[Tensor], Tensor] = functional.hardswish
    breakpoints: tuple[float, ...] = (-3.0, 3.0)

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        lower, upper = boxes[0]
        return [((lower < 3) & (upper > -3)).any(dim=0)]

    def _candidates(self, box: Box, slope: Tensor | None) -> list[Tensor]:
        turning = 3 * (torch.zeros_like(box.lower) if slope is None else slope) - 1.5  # (2 x + 3) / 6 = slope
        return [*super()._candidates(box, slope), torch.clamp(turning.clamp(-3, 3), *box)]


@dataclass(frozen=True, eq=False)
class SShaped:
    """Sigmoid and tanh: increasing, steepest at 0, flatter away from it.

    Both lines have the smaller of the slopes at the ends; the function is at least as steep everywhere between.
    """

    moves: ClassVar[bool] = False
    distinct: ClassVar[bool] = False
    function: Callable[[Tensor], Tensor]
    derivative: Callable[[Tensor], Tensor]
    """Derivative as a function of the function's value."""

    def interval(self, boxes: Sequence[Box]) -> Box:
        return Box(self.function(boxes[0].lower), self.function(boxes[0].upper))

    def needs(self, boxes: Sequence[Box]) -> list[Tensor | None]:
        return [torch.ones_like(boxes[0].lower[0], dtype=torch.bool)]

    def reach(self, patch: Patch) -> list[Patch] | None:
        return [patch]

    def planes(self, boxes: Sequence[Box], relaxation: Relaxation) -> Lines:
        lower, upper = boxes[0]
        ends = self.function(lower), self.function(upper)
        slope = torch.minimum(self.derivative(ends[0]), self.derivative(ends[1]))
        return Lines(slope, ends[0] - slope * lower, slope, ends[1] - slope * upper)


def _ends(values: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Elementwise minimum and maximum of several tensors."""
    stacked = torch.stack(list(values))
    return stacked.amin(dim=0), stacked.amax(dim=0)
