"""What the rules have in common."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from evonas.certify.affine import Affine, Scale
from evonas.certify.graph import Operation
from evonas.certify.recording import BATCH, Call, Deferred, Recorded

__all__ = ["Constant", "batch_apart", "constant_of", "constants", "like", "moved", "pair", "scaled", "shape_of"]


def batch_apart(call: Call, *values: Recorded) -> None:
    if any(call.merged(value) for value in values):
        raise call.unsupported("it works on what was batch and positions merged")


def constants(*values: Any) -> bool:
    return not any(isinstance(value, Recorded) for value in values)


def pair(values: Sequence[int]) -> Any:
    """A pair of a list of one or two; () of an empty one."""
    values = tuple(int(each) for each in values)
    return values * 2 if len(values) == 1 else values


def shape_of(operation: Affine, values: Sequence[Recorded], shape: Sequence[int] | None = None) -> tuple[int, ...]:
    """(BATCH, *out) of the outputs."""
    like = [torch.empty(BATCH, *(shape or value.shape[1:]), device="meta") for value in values]
    weights = {name: value.to("meta") for name, value in vars(operation).items() if isinstance(value, Tensor)}
    made = type(operation)(**{**vars(operation), **weights})
    return tuple(made.linear(*(each.to(_dtype(weights)) for each in like)).shape)


def _dtype(weights: dict[str, Tensor]) -> torch.dtype:
    return next((value.dtype for value in weights.values()), torch.float32)


def like(call: Call, operation: Operation | Deferred, values: Sequence[Recorded]) -> Recorded:
    """A node of the first value's shape, seen as that is."""
    made = call.add(operation, values, (BATCH, *call.node(values[0]).shape))
    return call.recorder.seen_as(made, made.node, values[0].shape)


def moved(call: Call, move: Affine, shape: Sequence[int], *values: Recorded, view: bool = True) -> Recorded:
    """A node, seen in a shape of the recorded tensors, whose batch may be merged."""
    values = values or (call.arguments["self"],)
    merged = call.merged(values[0])
    inner = (len(values[0]) // BATCH, *shape[1:]) if merged else tuple(shape[1:])
    made = call.add(move, values, (BATCH, *inner))
    return call.recorder.seen_as(values[0] if view else made, made.node, shape)


class Constant(NamedTuple):
    """A tensor that is the same for every image, computed when it is asked for: see `Deferred`."""

    shape: tuple[int, ...]
    """Which broadcasts to (*shape) of the values that it meets."""
    make: Callable[[], Tensor]


def constant_of(call: Call, value: Recorded, other: Any) -> Constant:
    """A number or a tensor of one image or of equal ones."""
    dtype, device = value.dtype, value.device
    if not isinstance(other, Tensor):
        return Constant((), lambda: torch.tensor(float(other), dtype=dtype, device=device))
    if other.ndim == 0:
        return Constant((), lambda: other.to(dtype))
    if call.merged(value) and other.ndim >= value.ndim:
        raise call.unsupported("constants of merged batch and positions")
    if other.ndim < value.ndim:
        return Constant(tuple(other.shape), lambda: other.to(dtype))
    if len(other) != 1 and not bool((other == other[:1]).all()):
        raise call.unsupported("constants that differ from image to image of a batch")
    return Constant(tuple(other.shape[1:]), lambda: other[0].to(dtype))


def scaled(call: Call, value: Recorded, factor: Constant | None, shift: Constant | None) -> Recorded:
    """factor * value + shift"""

    def make() -> Scale:
        return Scale(factor=None if factor is None else factor.make(), shift=None if shift is None else shift.make())

    return like(call, Deferred(make), [value])
