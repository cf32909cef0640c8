"""Rounding errors: how far computed boxes and substituted functions may be off, so that bounds can be rounded outwards.

The error of n products and sums is at most gamma(n) = n u / (1 - n u) of the sum of their absolute values, in any order
(Higham, 2002, section 3.1), with u half the distance from 1 to the next number. What an error of coefficients does to a
bound is at most the error times the largest absolute value that they are multiplied with. Convolutions by Winograd or
FFT, which cuDNN may choose, are not such sums.
"""

from collections.abc import Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from evonas.certify.affine import Affine, Linear
from evonas.certify.graph import Box, Operation, Planes
from evonas.certify.joint import MatMul, MaxPool, Product, Saddle, Softmax, Windows
from evonas.certify.lines import ConstantPlanes, Lines, ReLU
from evonas.certify.moves import Expand, Index, Move
from evonas.certify.windows import AvgPool, Conv

__all__ = ["SAFETY", "cast", "gamma", "magnitude", "nudged", "rounded_down", "substitution_error", "widened"]

SAFETY = 64
"""Roundings in the construction of a plane or in an elementary function, at most."""


def gamma(count: int, dtype: torch.dtype) -> float:
    """Error of so many roundings in a row, relative to the sum of absolute values; 1 % more for its own rounding."""
    unit = count * torch.finfo(dtype).eps / 2
    return 1.01 * unit / (1 - unit)


def rounded_down(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in a precision, none above what it was."""
    if values.dtype == dtype:
        return values
    near = values.to(dtype)
    below = torch.where(near.to(values) > values, torch.nextafter(near, near.new_tensor(-torch.inf)), near)
    return near + (below - near).detach()


def magnitude(box: Box) -> Tensor:
    """(B, *shape) largest absolute values."""
    return torch.maximum(box.lower.abs(), box.upper.abs()).detach()


def nudged(box: Box) -> Box:
    """The box with room for a few roundings of its ends."""
    apart = gamma(4, box.lower.dtype) * magnitude(box)
    return Box(box.lower - apart, box.upper + apart)


def widened(operation: Operation, inputs: Sequence[Box], box: Box) -> Box:
    """The box of an operation's outputs, computed from boxes of its inputs, with room for the rounding errors."""
    if isinstance(operation, ReLU | MaxPool | Move):
        return box
    sizes, dtype = [magnitude(each) for each in inputs], box.lower.dtype
    terms = max(each[0].numel() for each in sizes)
    if isinstance(operation, Affine):
        constant = operation.constant_terms()
        total = operation.linear(*sizes, power=1) + (0 if constant is None else constant)
    elif isinstance(operation, MatMul):
        total = sizes[0] @ sizes[1]
    elif isinstance(operation, Product):
        total = sizes[0] * sizes[1]
    else:
        total, terms = 1 + sizes[0] + magnitude(box), terms if isinstance(operation, Softmax) else 1
    apart = gamma(SAFETY + terms, dtype) * total.detach() + terms * torch.finfo(dtype).tiny
    return Box(box.lower - apart, box.upper + apart)


def substitution_error(
    planes: Planes, inputs: Sequence[Box], shape: tuple[int, ...], readers: int, nodes: int, dtype: torch.dtype
) -> Tensor:
    """(B, *shape) error of a function of a node's inputs, for a coefficient of 1 of each output.

    Args:
        planes: in float64; they are rounded to `dtype`, in which coefficients are computed.
        inputs: boxes of the inputs.
        shape: of the outputs.
        readers: of one node, whose coefficients are added, at most.
        nodes: whose constants are added, at most.
    """
    sizes = [magnitude(each) for each in inputs]
    slopes, constants = _sums(planes, sizes)
    built = gamma(SAFETY, torch.float64)
    in_slopes = gamma(_terms(planes) + 4 + readers, dtype)
    error = (in_slopes + built) * slopes + _terms(planes) * torch.finfo(dtype).tiny
    if constants is not None:
        in_constants = gamma(_constants_added(planes, constants, shape) + 4 + nodes, dtype)
        terms = planes.constant_terms() if isinstance(planes, Affine) else None
        error = error + in_constants * constants + built * (constants if terms is None else terms)
    if isinstance(planes, Lines | ConstantPlanes):
        error = error + built * (1 + (sizes[0] if isinstance(planes, Lines) else 0.0))
    return error.detach().expand(len(sizes[0]), *shape)


def _sums(planes: Planes, sizes: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
    """(B, *shape) sums of the absolute values of slopes times inputs, and absolute values of constants."""
    if isinstance(planes, Affine):
        constant = planes.constant()
        return planes.linear(*sizes, power=1), None if constant is None else constant.abs()
    if isinstance(planes, Lines):
        shift = planes.upper_shift.abs()
        shift = shift if planes.lower_shift is None else shift + planes.lower_shift.abs()
        return (planes.lower_slope.abs() + planes.upper_slope.abs()) * sizes[0], shift
    if isinstance(planes, Saddle):
        (*low, low_shift), (*high, high_shift) = planes.below, planes.above
        pairs = zip(low, high, sizes, strict=True)
        slopes = torch.stack([(one.abs() + other.abs()) * size for one, other, size in pairs]).sum(dim=0)
        return slopes, low_shift.abs() + high_shift.abs()
    if isinstance(planes, Windows):
        seen = planes.pool.windows(sizes[0]).clamp(min=0)
        slopes = ((planes.below.abs() + planes.above.abs()) * seen).sum(dim=2)
        shifts = planes.below_shift.abs() + planes.above_shift.abs()
        height, width = planes.pool.out_size
        return slopes.unflatten(2, (height, width)), shifts.squeeze(2).unflatten(2, (height, width))
    assert isinstance(planes, ConstantPlanes)
    ends = planes.box.lower.abs() + planes.box.upper.abs()
    return torch.zeros_like(ends), ends


def _constants_added(planes: Planes, constants: Tensor, shape: tuple[int, ...]) -> int:
    """Length of the sums of coefficients times constants, without those that are 0."""
    if isinstance(planes, Affine):  # sums where the constant is the same, and then of products
        return _numel(shape) // constants.numel() + constants.numel()
    return int(constants.count_nonzero())


def _terms(planes: Planes) -> int:
    """Outputs that depend on one input, at most."""
    if isinstance(planes, Conv):
        return planes.weight[:, 0].numel() // planes.groups
    if isinstance(planes, Linear):
        return planes.weight.shape[1]
    if isinstance(planes, AvgPool):
        return planes.kernel[0] * planes.kernel[1]
    if isinstance(planes, Windows):
        return planes.pool.kernel[0] * planes.pool.kernel[1]
    if isinstance(planes, Expand):
        return _numel(planes.out)
    return len(planes.index) if isinstance(planes, Index) else 1


def cast(value: Any, dtype: torch.dtype) -> Any:
    """An operation, or planes, with all floating-point tensors in another precision."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, Box):
        return Box(*(cast(each, dtype) for each in value))
    if isinstance(value, tuple):
        return tuple(cast(each, dtype) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: cast(getattr(value, each.name), dtype) for each in fields(value)})
    return value


def _numel(shape: tuple[int, ...]) -> int:
    return int(torch.Size(shape).numel())
