"""Which operation of torch becomes which operation of the graph: a table of functions that record it."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify import affine, moves
from evonas.certify.graph import Operation
from evonas.certify.joint import Product
from evonas.certify.lines import Bent, HardSwish, ReLU, SShaped
from evonas.certify.recording import BATCH, Call, Recorded, Rule
from evonas.certify.rule_words import Constant, batch_apart, constant_of, like, scaled
from evonas.certify.rules_layers import LAYERS
from evonas.certify.rules_moves import MOVES, expand

__all__ = ["RULES"]

broadcast: Callable[..., Sequence[int]] = torch.broadcast_shapes


def _add(call: Call, sign: int = 1) -> Recorded:
    given = call.arguments
    a, b, alpha = given["self"], given["other"], sign * given.get("alpha", 1)
    return _plus(call, a, b, alpha)


def _plus(call: Call, a: Any, b: Any, alpha: float, first: float = 1) -> Recorded:
    """first * a + alpha * b"""
    if isinstance(a, Recorded) and isinstance(b, Recorded):
        a, b = _broadcast(call, a, b)
        return like(call, affine.Add(factors=(first, alpha)), [a, b])
    value, factor, other, other_factor = (a, first, b, alpha) if isinstance(a, Recorded) else (b, alpha, a, first)
    shift = constant_of(call, value, other)
    value = _room(call, value, shift)
    added = shift._replace(make=lambda: shift.make() * other_factor)
    return scaled(call, value, constant_of(call, value, factor) if factor != 1 else None, added)


def _rsub(call: Call) -> Recorded:
    return _plus(call, call.arguments["other"], call.arguments["self"], -call.arguments.get("alpha", 1))


def _mul(call: Call) -> Recorded:
    a, b = call.arguments["self"], call.arguments["other"]
    if isinstance(a, Recorded) and isinstance(b, Recorded):
        return like(call, Product(), list(_broadcast(call, a, b)))
    value, other = (a, b) if isinstance(a, Recorded) else (b, a)
    factor = constant_of(call, value, other)
    return scaled(call, _room(call, value, factor), factor, None)


def _div(call: Call) -> Recorded:
    value, other = call.arguments["self"], call.arguments["other"]
    if isinstance(other, Recorded) or call.arguments.get("rounding_mode") is not None:
        raise call.unsupported("a division by values that depend on the image, or one that rounds")
    divisor = constant_of(call, value, other)
    return scaled(call, _room(call, value, divisor), divisor._replace(make=lambda: 1 / divisor.make()), None)


def _addcmul(call: Call) -> Recorded:
    given = call.arguments
    inner = Call(call.recorder, call.name, {"self": given["tensor1"], "other": given["tensor2"]})
    product = _mul(inner) if isinstance(given["tensor1"], Recorded) or isinstance(given["tensor2"], Recorded) else None
    product = given["tensor1"] * given["tensor2"] if product is None else product
    return _plus(call, given["self"], product, given["value"])


def _neg(call: Call) -> Recorded:
    return like(call, affine.Add(factors=(-1.0,)), [call.arguments["self"]])


def _elementwise(operation: Operation, call: Call) -> Recorded:
    return like(call, operation, [call.arguments["self"]])


def _leaky(call: Call) -> Recorded:
    slope = call.arguments["negative_slope"]
    return _elementwise(Bent(partial(functional.leaky_relu, negative_slope=slope), (0.0,)), call)


def _hardtanh(call: Call) -> Recorded:
    low, high = call.arguments.get("min_val"), call.arguments.get("max_val")
    return _clamped(call, low, high)


def _clamp(call: Call) -> Recorded:
    low, high = call.arguments.get("min"), call.arguments.get("max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise call.unsupported("limits that are tensors")
    return _clamped(call, low, high)


def _clamped(call: Call, low: float | None, high: float | None) -> Recorded:
    points = tuple(float(each) for each in (low, high) if each is not None)
    return _elementwise(Bent(partial(torch.clamp, min=low, max=high), points), call)


def _room(call: Call, value: Recorded, constant: Constant) -> Recorded:
    """The value expanded to what it is combined with."""
    shape = call.node(value).shape
    wanted = tuple(broadcast(shape, constant.shape))
    if wanted == shape:
        return value
    batch_apart(call, value)
    return call.add(moves.Expand(shape=shape, out=wanted), [value], (BATCH, *wanted))


def _broadcast(call: Call, a: Recorded, b: Recorded) -> tuple[Recorded, Recorded]:
    if a.shape == b.shape and call.node(a).shape == call.node(b).shape:
        return a, b
    batch_apart(call, a, b)
    if a.ndim != b.ndim:
        raise call.unsupported("values of different dimensions")
    wanted = tuple(broadcast(a.shape, b.shape))
    return (
        expand(Call(call.recorder, call.name, {"self": a, "size": wanted})),
        expand(Call(call.recorder, call.name, {"self": b, "size": wanted})),
    )


RULES: dict[str, Rule] = (
    MOVES
    | LAYERS
    | {
        "add": _add,
        "addcmul": _addcmul,
        "clamp": _clamp,
        "clamp_max": _clamp,
        "clamp_min": _clamp,
        "div": _div,
        "hardsigmoid": partial(_elementwise, Bent(functional.hardsigmoid, (-3.0, 3.0))),
        "hardswish": partial(_elementwise, HardSwish()),
        "hardtanh": _hardtanh,
        "leaky_relu": _leaky,
        "mul": _mul,
        "neg": _neg,
        "relu": partial(_elementwise, ReLU()),
        "relu6": partial(_elementwise, Bent(functional.relu6, (0.0, 6.0))),
        "rsub": _rsub,
        "sigmoid": partial(_elementwise, SShaped(torch.sigmoid, lambda value: value * (1 - value))),
        "sub": partial(_add, sign=-1),
        "tanh": partial(_elementwise, SShaped(torch.tanh, lambda value: 1 - value * value)),
    }
)
"""Name of torch's operation -> what records it. Everything else is refused."""
