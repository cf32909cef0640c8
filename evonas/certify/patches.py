"""Patches: rectangles of a map that hold everything that some later values depend on, as a receptive field."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify.graph import Patch, Shape

__all__ = ["Reach", "centre", "cut", "is_map", "patch_of", "placed", "reach_of_windows", "tiled", "union", "whole"]


def is_map(shape: Shape) -> bool:
    """Whether the last two dimensions of (*shape) are height and width, with channels before them."""
    return len(shape) >= 3


def whole(shape: Shape) -> Patch:
    """The patch that is all of a map."""
    return Patch(0, shape[-2], 0, shape[-1])


def centre(shape: Shape, side: int) -> Patch:
    """A square patch in the middle of a map."""
    (top, height), (left, width) = (((size - min(size, side)) // 2, min(size, side)) for size in shape[-2:])
    return Patch(top, top + height, left, left + width)


def patch_of(places: Tensor, shape: Shape) -> tuple[Patch, Tensor]:
    """The smallest patch around some flat indices into (*shape), and the same places as indices into (*shape) of it."""
    layers, rows, columns = _coordinates(places, shape)
    top, left = int(rows.min()), int(columns.min())
    patch = Patch(top, int(rows.max()) + 1, left, int(columns.max()) + 1)
    height, width = patch.bottom - top, patch.right - left
    return patch, (layers * height + rows - top) * width + columns - left


def tiled(places: Tensor, shape: Shape, side: int) -> tuple[Tensor, ...]:
    """Flat indices into (*shape), grouped by square tiles of the map."""
    _, rows, columns = _coordinates(places, shape)
    tiles = (rows // side) * shape[-1] + columns // side
    order = tiles.argsort(stable=True)
    _, counts = tiles[order].unique_consecutive(return_counts=True)
    return torch.split(places[order], counts.tolist())


def _coordinates(places: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    height, width = shape[-2:]
    return places // (height * width), places // width % height, places % width


def union(patches: Sequence[Patch]) -> Patch:
    """The smallest patch that contains all of these."""
    top, bottom, left, right = zip(*patches, strict=True)
    return Patch(min(top), max(bottom), min(left), max(right))


def cut(values: Tensor, patch: Patch) -> Tensor:
    """The part of (..., H, W) within a patch; dimensions of size 1, or absent ones, broadcast and are kept."""
    if values.ndim > 1 and values.shape[-2] > 1:
        values = values[..., patch.top : patch.bottom, :]
    if values.ndim > 0 and values.shape[-1] > 1:
        values = values[..., patch.left : patch.right]
    return values


def placed(values: Tensor, patch: Patch, outer: Patch) -> Tensor:
    """(S, B, ..., h, w) on a patch -> the same on a patch that contains it, 0 around."""
    if patch == outer:
        return values
    around = (
        patch.left - outer.left,
        outer.right - patch.right,
        patch.top - outer.top,
        outer.bottom - patch.bottom,
    )
    padded = functional.pad(values.flatten(0, 1), around)
    return padded.view(*values.shape[:2], *padded.shape[1:])


@dataclass(frozen=True)
class Reach:
    """Inputs that windows at the outputs of a patch see, as an operation on those inputs alone."""

    patch: Patch
    """Positions of the inputs, without padding."""
    size: tuple[int, int]
    """Height and width that the windows span with `padding`; up to as much again as the patch cuts off."""
    padding: tuple[int, int]
    kept: tuple[slice, slice]
    """Rows and columns of `size` that are the patch."""


class _Side(NamedTuple):
    start: int
    end: int
    size: int
    padding: int
    kept: slice


def reach_of_windows(
    patch: Patch,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    size: Sequence[int],
) -> Reach:
    """Reach of the outputs of a patch, for windows over maps of a height and width."""
    ends = ((patch.top, patch.bottom), (patch.left, patch.right))
    rows, columns = (_side(*each) for each in zip(ends, kernel, stride, padding, dilation, size, strict=True))
    return Reach(
        Patch(rows.start, rows.end, columns.start, columns.end),
        (rows.size, columns.size),
        (rows.padding, columns.padding),
        (rows.kept, columns.kept),
    )


def _side(ends: tuple[int, int], kernel: int, stride: int, padding: int, dilation: int, size: int) -> _Side:
    first = ends[0] * stride - padding
    last = (ends[1] - 1) * stride - padding + dilation * (kernel - 1) + 1
    before, after = max(0, -first), max(0, last - size)
    both = min(before, after)
    start, end = first + before, last - after
    return _Side(start, end, last - first - 2 * both, both, slice(before - both, before - both + end - start))
