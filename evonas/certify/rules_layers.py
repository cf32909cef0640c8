"""Rules for the operations of layers: convolution, normalisation, pooling, matrix products, sums, softmax."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify import affine, windows
from evonas.certify.joint import MatMul, MaxPool, Softmax
from evonas.certify.recording import BATCH, Call, Recorded, Rule
from evonas.certify.rule_helpers import DeferredConstant, constants, like, pair, refuse_merged_batch, scaled, shape_of

__all__ = ["LAYERS"]


def _convolution(call: Call) -> Recorded:
    given = call.arguments
    value, weight, bias = given["input"], given["weight"], given["bias"]
    if given["transposed"] or weight.ndim != 4 or not constants(weight, bias):
        raise call.unsupported("only two-dimensional convolutions with constant weights are supported")
    refuse_merged_batch(call, value)
    window: dict[str, Any] = {name: pair(given[name]) for name in ("stride", "padding", "dilation")}
    conv = windows.Conv(weight=weight, bias=bias, groups=given["groups"], size=pair(value.shape[2:]), **window)
    return call.add(conv, [value], shape_of(conv, [value]))


def _batch_norm(call: Call) -> tuple[Any, ...]:
    given = call.arguments
    value, mean, variance = given["input"], given["running_mean"], given["running_var"]
    if given.get("training") or mean is None:
        raise call.unsupported("batch statistics; use eval mode and running statistics")
    shape = (value.shape[1], *(1,) * (value.ndim - 2))
    weight, bias, exactly = given["weight"], given["bias"], call.recorder.exactly
    epsilon = next(given[name] for name in ("eps", "epsilon") if name in given)  # cuDNN spells it out

    def scale() -> Tensor:
        plain: Tensor = (exactly(variance) + epsilon).rsqrt()
        return plain if weight is None else exactly(weight) * plain

    def shift() -> Tensor:
        moved = exactly(mean) * scale()
        added: Tensor = -moved if bias is None else exactly(bias) - moved
        return added.view(shape)

    def shift_terms() -> Tensor:
        moved = (exactly(mean) * scale()).detach().abs()
        return (moved if bias is None else moved + exactly(bias).detach().abs()).view(shape)

    refuse_merged_batch(call, value)
    parts = (DeferredConstant(shape, make) for make in (lambda: scale().view(shape), shift, shift_terms))
    out = scaled(call, value, *parts)
    empty = torch.empty(0)
    return (out, empty, empty, empty)[: 3 if call.name != "cudnn_batch_norm" else 4]


def _addmm(call: Call) -> Recorded:
    given = call.arguments
    if given["beta"] != 1 or given["alpha"] != 1 or not constants(given["self"]):
        raise call.unsupported("a matrix product with factors beta or alpha")
    return _matrix(call, given["mat1"], given["mat2"], given["self"])


def _mm(call: Call) -> Recorded:
    return _matrix(call, call.arguments["self"], call.arguments["mat2"], None)


def _matrix(call: Call, value: Any, weight: Any, bias: Tensor | None) -> Recorded:
    if not isinstance(value, Recorded) or isinstance(weight, Recorded):
        raise call.unsupported("a matrix product that mixes images of a batch")
    node = call.node(value)
    made = call.add(affine.Linear(weight=weight, bias=bias), [value], (BATCH, *node.shape[:-1], weight.shape[1]))
    return call.recorder.view_of(made, made.node, (len(value), weight.shape[1]))


def _bmm(call: Call) -> Recorded:
    left, right = call.arguments["self"], call.arguments["mat2"]
    if not (isinstance(left, Recorded) and isinstance(right, Recorded)) or len(left) != BATCH:
        raise call.unsupported("a batch of matrix products with a constant, or with heads merged into the batch")
    refuse_merged_batch(call, left, right)
    return call.add(MatMul(), [left, right], (BATCH, left.shape[1], right.shape[2]))


def _avg_pool(call: Call) -> Recorded:
    given, value = call.arguments, call.arguments["self"]
    refuse_merged_batch(call, value)
    kernel, padding = pair(given["kernel_size"]), pair(given["padding"])
    stride = pair(given["stride"]) or kernel
    pool = windows.AvgPool(
        kernel=kernel,
        stride=stride,
        padding=padding,
        counts_padding=given["count_include_pad"],
        divisor=given["divisor_override"],
        channels=value.shape[1],
        size=pair(value.shape[2:]),
    )
    shape = shape_of(pool, [value])
    if given["ceil_mode"]:
        one_map = torch.empty(1, 1, *value.shape[2:], device="meta")
        if functional.avg_pool2d(one_map, kernel, stride, padding, True).shape[2:] != shape[2:]:
            raise call.unsupported("ceil_mode")
    return call.add(pool, [value], shape)


def _adaptive_avg_pool(call: Call) -> Recorded:
    value, out = call.arguments["self"], call.arguments["output_size"]
    sizes = value.shape[2:]
    if any(size % wanted for size, wanted in zip(sizes, out, strict=True)):
        raise call.unsupported(f"windows of different sizes, from {tuple(sizes)} to {tuple(out)}")
    kernel = tuple(size // wanted for size, wanted in zip(sizes, out, strict=True))
    call.arguments |= {"kernel_size": kernel, "stride": kernel, "padding": (0, 0)}
    call.arguments |= {"count_include_pad": True, "divisor_override": None, "ceil_mode": False}
    return _avg_pool(call)


def _max_pool(call: Call) -> tuple[Recorded, Any]:
    given, value = call.arguments, call.arguments["self"]
    refuse_merged_batch(call, value)
    kernel = pair(given["kernel_size"])
    stride, padding, dilation = pair(given["stride"]) or kernel, pair(given["padding"]), pair(given["dilation"])
    pool = MaxPool(kernel, stride, padding, dilation, pair(value.shape[2:]))
    like = torch.empty(1, *value.shape[1:], device="meta")
    shape = functional.max_pool2d(like, kernel, stride, padding, dilation, given["ceil_mode"]).shape
    if given["ceil_mode"] and functional.max_pool2d(like, kernel, stride, padding, dilation).shape != shape:
        raise call.unsupported("ceil_mode")
    return call.add(pool, [value], (BATCH, *shape[1:])), torch.empty(0)


def _sum(call: Call, mean: bool) -> Recorded:
    given, value = call.arguments, call.arguments["self"]
    dims = given.get("dim") or list(range(value.ndim))
    axes = tuple(call.axis(value, dim) for dim in dims)
    node = call.node(value)
    count = math.prod(node.shape[axis - 1] for axis in axes) if mean else 1
    total = affine.Mean(dims=axes, shape=node.shape, factor=1 / count, keepdim=given.get("keepdim", False))
    made = call.add(total, [value], shape_of(total, [value], node.shape))
    lead = len(value) // BATCH
    return call.recorder.view_of(made, made.node, (len(value), *call.node(made).shape[1:])) if lead > 1 else made


def _softmax(call: Call) -> Recorded:
    value = call.arguments["self"]
    return like(call, Softmax(call.axis(value, call.arguments["dim"])), [value])


LAYERS: dict[str, Rule] = {
    **dict.fromkeys(("_native_batch_norm_legit_no_training", "cudnn_batch_norm", "native_batch_norm"), _batch_norm),
    "_adaptive_avg_pool2d": _adaptive_avg_pool,
    "_softmax": _softmax,
    "addmm": _addmm,
    "avg_pool2d": _avg_pool,
    "bmm": _bmm,
    "convolution": _convolution,
    "max_pool2d_with_indices": _max_pool,
    "mean": partial(_sum, mean=True),
    "mm": _mm,
    "sum": partial(_sum, mean=False),
}
"""Name of a torch operation -> rule."""
