"""The table from torch operations to rules, functions that add the equivalent operation to the graph."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify import affine, moves
from evonas.certify.graph import Operation
from evonas.certify.joint import Product
from evonas.certify.lines import HardSwish, PiecewiseLinear, ReLU, SShaped
from evonas.certify.recording import BATCH, Call, Recorded, Rule
from evonas.certify.rule_helpers import DeferredConstant, constant_of, like, refuse_merged_batch, scaled
from evonas.certify.rules_layers import LAYERS
from evonas.certify.rules_moves import MOVES, expand

__all__ = ["RULES"]

broadcast: Callable[..., Sequence[int]] = torch.broadcast_shapes


def _add(call: Call, sign: int = 1) -> Recorded:
    given = call.arguments
    return _plus(call, given["self"], given["other"], sign * given.get("alpha", 1))


def _plus(call: Call, a: Any, b: Any, alpha: float, first: float = 1) -> Recorded:
    """Add the node first * a + alpha * b."""
    if isinstance(a, Recorded) and isinstance(b, Recorded):
        a, b = _broadcast(call, a, b)
        return like(call, affine.Add(factors=(first, alpha)), [a, b])
    value, factor, other, other_factor = (a, first, b, alpha) if isinstance(a, Recorded) else (b, alpha, a, first)
    shift = constant_of(call, value, other)
    value = _expanded(call, value, shift)
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
    return scaled(call, _expanded(call, value, factor), factor, None)


def _div(call: Call) -> Recorded:
    value, other = call.arguments["self"], call.arguments["other"]
    if isinstance(other, Recorded) or call.arguments.get("rounding_mode") is not None:
        raise call.unsupported("division by values that depend on the image, or with rounding")
    divisor = constant_of(call, value, other)
    return scaled(call, _expanded(call, value, divisor), divisor._replace(make=lambda: 1 / divisor.make()), None)


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
    return _elementwise(PiecewiseLinear(partial(functional.leaky_relu, negative_slope=slope), (0.0,)), call)


def _hardtanh(call: Call) -> Recorded:
    low, high = call.arguments.get("min_val"), call.arguments.get("max_val")
    return _clamped(call, low, high)


def _clamp(call: Call) -> Recorded:
    low, high = call.arguments.get("min"), call.arguments.get("max")
    if isinstance(low, Tensor) or isinstance(high, Tensor):
        raise call.unsupported("limits given as tensors")
    return _clamped(call, low, high)


def _clamped(call: Call, low: float | None, high: float | None) -> Recorded:
    points = tuple(float(each) for each in (low, high) if each is not None)
    return _elementwise(PiecewiseLinear(partial(torch.clamp, min=low, max=high), points), call)


def _expanded(call: Call, value: Recorded, constant: DeferredConstant) -> Recorded:
    """The value, broadcast to the shape of its combination with a constant."""
    shape = call.node(value).shape
    wanted = tuple(broadcast(shape, constant.shape))
    if wanted == shape:
        return value
    refuse_merged_batch(call, value)
    return call.add(moves.Expand(shape=shape, out=wanted), [value], (BATCH, *wanted))


def _broadcast(call: Call, a: Recorded, b: Recorded) -> tuple[Recorded, Recorded]:
    """Both values, broadcast to one shape."""
    if a.shape == b.shape and call.node(a).shape == call.node(b).shape:
        return a, b
    refuse_merged_batch(call, a, b)
    if a.ndim != b.ndim:
        raise call.unsupported("values with different numbers of dimensions")
    wanted = tuple(broadcast(a.shape, b.shape))
    return (
        expand(Call(call.recorder, call.name, {"self": a, "size": wanted})),
        expand(Call(call.recorder, call.name, {"self": b, "size": wanted})),
    )


_ELEMENTWISE: dict[str, Operation] = {
    "hardsigmoid": PiecewiseLinear(functional.hardsigmoid, (-3.0, 3.0)),
    "hardswish": HardSwish(),
    "relu": ReLU(),
    "relu6": PiecewiseLinear(functional.relu6, (0.0, 6.0)),
    "sigmoid": SShaped(torch.sigmoid, lambda value: value * (1 - value)),
    "tanh": SShaped(torch.tanh, lambda value: 1 - value * value),
}

RULES: dict[str, Rule] = {
    **MOVES,
    **LAYERS,
    **{name: partial(_elementwise, operation) for name, operation in _ELEMENTWISE.items()},
    **dict.fromkeys(("clamp", "clamp_max", "clamp_min"), _clamp),
    "add": _add,
    "addcmul": _addcmul,
    "div": _div,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky,
    "mul": _mul,
    "neg": _neg,
    "rsub": _rsub,
    "sub": partial(_add, sign=-1),
}
"""Name of a torch operation -> rule. Operations outside the table are refused."""
