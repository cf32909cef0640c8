"""Helpers that several rules use."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evonas.certify.affine import Affine, Scale
from evonas.certify.graph import Operation
from evonas.certify.recording import BATCH, Call, Deferred, Recorded

__all__ = [
    "DeferredConstant",
    "constant_of",
    "constants",
    "like",
    "moved",
    "pair",
    "refuse_merged_batch",
    "scaled",
    "shape_of",
]


def refuse_merged_batch(call: Call, *values: Recorded) -> None:
    """Refuse values whose first dimension merges the batch with another one."""
    if any(call.merged(value) for value in values):
        raise call.unsupported("the batch is merged with positions")


def constants(*values: Any) -> bool:
    """Whether no value depends on the images."""
    return not any(isinstance(value, Recorded) for value in values)


def pair(values: Sequence[int]) -> Any:
    """A list of one or two numbers as a pair; an empty list as ()."""
    values = tuple(int(each) for each in values)
    return values * 2 if len(values) == 1 else values


def shape_of(operation: Affine, values: Sequence[Recorded], shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """Shape (BATCH, *out) of an operation's outputs, found without computing them."""
    like = [torch.empty(BATCH, *(shape or value.shape[1:]), device="meta") for value in values]
    weights = {name: value.to("meta") for name, value in vars(operation).items() if isinstance(value, Tensor)}
    made = type(operation)(**{**vars(operation), **weights})
    return tuple(made.linear(*(each.to(_dtype(weights)) for each in like)).shape)


def _dtype(weights: dict[str, Tensor]) -> torch.dtype:
    return next((value.dtype for value in weights.values()), torch.float32)


def like(call: Call, operation: Operation | Deferred, values: Sequence[Recorded]) -> Recorded:
    """Add a node of the first value's shape; returns a tensor with the first value's view of it."""
    made = call.add(operation, values, (BATCH, *call.node(values[0]).shape))
    return call.recorder.view_of(made, made.node, values[0].shape)


def moved(call: Call, move: Affine, shape: Sequence[int], *values: Recorded, view: bool = True) -> Recorded:
    """Add a node and return its tensor in this shape, in which the batch may be merged.

    Args:
        view: whether the result shares memory with the first value.
    """
    values = values or (call.arguments["self"],)
    merged = call.merged(values[0])
    inner = (len(values[0]) // BATCH, *shape[1:]) if merged else tuple(shape[1:])
    made = call.add(move, values, (BATCH, *inner))
    return call.recorder.view_of(values[0] if view else made, made.node, shape)


class DeferredConstant(NamedTuple):
    """A tensor that is the same for every image, computed after the recorded pass: see `Deferred`."""

    shape: tuple[int, ...]
    """Shape that broadcasts to (*shape) of the values it is combined with."""
    make: Callable[[], Tensor]


def constant_of(call: Call, value: Recorded, other: Any) -> DeferredConstant:
    """A number, or a tensor that is equal for all images, as a constant."""
    dtype, device = call.recorder.precision or value.dtype, value.device
    if not isinstance(other, Tensor):
        return DeferredConstant((), lambda: torch.tensor(float(other), dtype=dtype, device=device))
    if other.ndim == 0:
        return DeferredConstant((), lambda: other.to(dtype))
    if call.merged(value) and other.ndim >= value.ndim:
        raise call.unsupported("a constant where the batch is merged with positions")
    if other.ndim < value.ndim:
        return DeferredConstant(tuple(other.shape), lambda: other.to(dtype))
    if len(other) != 1 and not bool((other == other[:1]).all()):
        raise call.unsupported("constants that differ between images of a batch")
    return DeferredConstant(tuple(other.shape[1:]), lambda: other[0].to(dtype))


def scaled(
    call: Call,
    value: Recorded,
    factor: DeferredConstant | None,
    shift: DeferredConstant | None,
    shift_terms: DeferredConstant | None = None,
) -> Recorded:
    """Add the node factor * value + shift; returns its tensor.

    Args:
        shift_terms: see `Affine.constant_terms`; None: nothing cancels in the shift.
    """

    def make() -> Scale:
        made = [each if each is None else each.make() for each in (factor, shift, shift_terms)]
        return Scale(factor=made[0], shift=made[1], shift_terms=made[2])

    return like(call, Deferred(make), [value])
