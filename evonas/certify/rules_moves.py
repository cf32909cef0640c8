"""Rules for the operations that only move values, make views or copies of them, or create constants."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify import moves
from evonas.certify.recording import BATCH, Call, Recorded, Rule
from evonas.certify.rule_helpers import moved, refuse_merged_batch

__all__ = ["MOVES", "expand"]


def _same(call: Call) -> Recorded:
    """The same values in memory of their own."""
    value: Recorded = call.arguments["self"]
    node = call.recorder.current(value)
    return Recorded(tuple(value.shape), value.dtype, value.device, call.recorder, node)


def _alias(call: Call) -> Recorded:
    value: Recorded = call.arguments["self"]
    return call.recorder.view_of(value, call.recorder.current(value), value.shape)


def _cast(call: Call) -> Recorded:
    wanted = call.arguments.get("dtype")
    if wanted not in (None, call.arguments["self"].dtype):
        raise call.unsupported(f"a change of precision to {wanted}")
    return _same(call)


def _view(call: Call) -> Recorded:
    value = call.arguments["self"]
    wanted: Any = call.arguments.get("size", call.arguments.get("shape"))
    sizes = [int(each) for each in wanted]
    if -1 in sizes:
        rest = math.prod(each for each in sizes if each != -1)
        sizes[sizes.index(-1)] = value.numel() // rest
    return _reshaped(call, value, sizes)


def _reshaped(call: Call, value: Recorded, sizes: Sequence[int]) -> Recorded:
    """A view in another shape; row-major order keeps the values of each image together."""
    if not sizes or sizes[0] % BATCH:
        raise call.unsupported("it mixes images of a batch")
    out = tuple(sizes[1:]) if sizes[0] == BATCH else (sizes[0] // BATCH, *sizes[1:])
    node = call.node(value)
    number = call.recorder.current(value)
    if out != node.shape:
        made = call.add(moves.Reshape(shape=node.shape, out=out), [value], (BATCH, *out))
        number = made.node
    return call.recorder.view_of(value, number, sizes)


def _unsqueeze(call: Call) -> Recorded:
    value = call.arguments["self"]
    dim = call.arguments["dim"] % (value.ndim + 1)
    return _reshaped(call, value, [*value.shape[:dim], 1, *value.shape[dim:]])


def _squeeze(call: Call) -> Recorded:
    value, dims = call.arguments["self"], call.arguments.get("dim", list(range(call.arguments["self"].ndim)))
    dims = {dim % value.ndim for dim in ([dims] if isinstance(dims, int) else dims)}
    return _reshaped(call, value, [n for dim, n in enumerate(value.shape) if dim not in dims or n != 1])


def _permuted(call: Call, dims: Sequence[int]) -> Recorded:
    """The recorded tensor with its dimensions in another order."""
    value, node = call.arguments["self"], call.node(call.arguments["self"])
    dims = [dim % value.ndim for dim in dims]
    if dims[0] != 0:
        raise call.unsupported("it mixes images of a batch")
    merged = call.merged(value)
    axes = (0, *([1] if merged else []), *(dim + merged for dim in dims[1:]))
    move = moves.Permute(shape=node.shape, dims=axes)
    return moved(call, move, [value.shape[dim] for dim in dims])


def _permute(call: Call) -> Recorded:
    return _permuted(call, call.arguments["dims"])


def _transpose(call: Call) -> Recorded:
    value = call.arguments["self"]
    dims = list(range(value.ndim))
    first, second = (call.arguments[name] % value.ndim for name in ("dim0", "dim1"))
    dims[first], dims[second] = dims[second], dims[first]
    return _permuted(call, dims)


def _slice(call: Call) -> Recorded:
    given, value = call.arguments, call.arguments["self"]
    size = value.shape[given["dim"]]
    start, end, step = slice(given["start"], given["end"], given["step"]).indices(size)
    return _part(call, value, given["dim"], start, end, step)


def _part(call: Call, value: Recorded, dim: int, start: int, end: int, step: int = 1) -> Recorded:
    dim = dim % value.ndim
    if (start, end, step) == (0, value.shape[dim], 1):
        return call.recorder.view_of(value, call.recorder.current(value), value.shape)
    axis, end = call.axis(value, dim), max(start, end)
    move = moves.Slice(shape=call.node(value).shape, dim=axis, start=start, end=end, step=step)
    shape = list(value.shape)
    shape[dim] = len(range(start, end, step))
    return moved(call, move, shape, value)


def _split(call: Call) -> list[Recorded]:
    given, value = call.arguments, call.arguments["self"]
    sizes: Any = given.get("split_size", given.get("split_sizes"))
    dim = given["dim"] % value.ndim
    if isinstance(sizes, int):
        whole = value.shape[dim]
        sizes = [min(sizes, whole - start) for start in range(0, whole, sizes)]
    ends = [sum(sizes[: number + 1]) for number in range(len(sizes))]
    return [_part(call, value, dim, end - size, end) for size, end in zip(sizes, ends, strict=True)]


def _select(call: Call, index: int | None = None) -> Recorded:
    given, value = call.arguments, call.arguments["self"]
    dim = given["dim"] % value.ndim
    axis = call.axis(value, dim)
    at = (given["index"] if index is None else index) % value.shape[dim]
    move = moves.Select(shape=call.node(value).shape, dim=axis, index=at)
    return moved(call, move, [n for other, n in enumerate(value.shape) if other != dim])


def _unbind(call: Call) -> list[Recorded]:
    value = call.arguments["self"]
    return [_select(call, index) for index in range(value.shape[call.arguments["dim"]])]


def _index_select(call: Call) -> Recorded:
    given = call.arguments
    return _indexed(call, given["self"], given["dim"], given["index"])


def _index(call: Call) -> Recorded:
    value, indices = call.arguments["self"], call.arguments["indices"]
    used = [(dim, index) for dim, index in enumerate(indices) if index is not None]
    if len(used) != 1 or used[0][1].ndim != 1 or used[0][1].dtype == torch.bool:
        raise call.unsupported("indices along several dimensions, or masks")
    return _indexed(call, value, *used[0])


def _indexed(call: Call, value: Recorded, dim: int, index: Tensor) -> Recorded:
    dim = dim % value.ndim
    index = index % value.shape[dim]
    move = moves.Index(shape=call.node(value).shape, dim=call.axis(value, dim), index=index)
    shape = list(value.shape)
    shape[dim] = len(index)
    made = moved(call, move, shape)
    made.memory, made.version = type(made.memory)(), 0  # a copy
    return made


def _flip(call: Call) -> Recorded:
    value, (dim, *more) = call.arguments["self"], call.arguments["dims"]
    flipped = _indexed(call, value, dim, torch.arange(value.shape[dim] - 1, -1, -1, device=value.device))
    return _flip(Call(call.recorder, call.name, {"self": flipped, "dims": more})) if more else flipped


def _pad(call: Call) -> Recorded:
    given, value = call.arguments, call.arguments["self"]
    refuse_merged_batch(call, value)
    pads, shape = tuple(given["pad"]), call.node(value).shape
    if len(pads) > 2 * len(shape):
        raise call.unsupported("it pads the batch")
    zeros = torch.zeros(1, *shape, dtype=call.recorder.precision or value.dtype, device=value.device)
    around = functional.pad(zeros, pads, value=given["value"])
    pad = moves.Pad(shape=shape, pads=pads, fill=around[0] if given["value"] else None)
    return call.add(pad, [value], (BATCH, *around.shape[1:]))


def _cat(call: Call) -> Recorded:
    values, dim = call.arguments["tensors"], call.arguments["dim"]
    if not all(isinstance(value, Recorded) for value in values):
        raise call.unsupported("concatenation of constants with values that depend on the image")
    axis = call.axis(values[0], dim)
    dim = dim % values[0].ndim
    sizes = tuple(value.shape[dim] for value in values)
    shape = list(values[0].shape)
    shape[dim] = sum(sizes)
    return moved(call, moves.Cat(dim=axis, sizes=sizes), shape, *values, view=False)


def _stack(call: Call) -> Recorded:
    values, dim = call.arguments["tensors"], call.arguments["dim"]
    wide = [_unsqueeze(Call(call.recorder, call.name, {"self": value, "dim": dim})) for value in values]
    return _cat(Call(call.recorder, call.name, {"tensors": wide, "dim": dim}))


def expand(call: Call) -> Recorded:
    value, sizes = call.arguments["self"], list(call.arguments["size"])
    new = len(sizes) - value.ndim
    sizes = [value.shape[dim - new] if size == -1 else size for dim, size in enumerate(sizes)]
    if sizes == list(value.shape):
        return _alias(call)
    refuse_merged_batch(call, value)
    if new or sizes[0] != BATCH:
        raise call.unsupported("it expands the batch")
    return moved(call, moves.Expand(shape=call.node(value).shape, out=tuple(sizes[1:])), sizes)


def _filled(call: Call) -> Tensor:
    """A constant tensor of the size that was asked for."""
    value = call.arguments["self"]
    size = call.arguments.get("size", value.shape)
    fill = {"ones_like": 1.0, "new_ones": 1.0}.get(call.name, call.arguments.get("fill_value", 0.0))
    dtype = call.arguments.get("dtype") or value.dtype
    return torch.full(tuple(size), fill, dtype=dtype, device=value.device)


def _dropout(call: Call) -> Any:
    if call.arguments.get("train"):
        raise call.unsupported("dropout in train mode")
    return _same(Call(call.recorder, call.name, {"self": call.arguments["input"]})), torch.empty(0)


MOVES: dict[str, Rule] = {
    **dict.fromkeys(("alias", "detach", "lift_fresh"), _alias),
    **dict.fromkeys(("_reshape_alias", "_unsafe_view", "view"), _view),
    **dict.fromkeys(("full_like", "new_ones", "new_zeros", "ones_like", "zeros_like"), _filled),
    **dict.fromkeys(("split", "split_with_sizes"), _split),
    "_to_copy": _cast,
    "cat": _cat,
    "clone": _same,
    "constant_pad_nd": _pad,
    "expand": expand,
    "flip": _flip,
    "index": _index,
    "index_select": _index_select,
    "native_dropout": _dropout,
    "permute": _permute,
    "select": _select,
    "slice": _slice,
    "squeeze": _squeeze,
    "stack": _stack,
    "transpose": _transpose,
    "unbind": _unbind,
    "unsqueeze": _unsqueeze,
}
"""Name of a torch operation -> rule."""
