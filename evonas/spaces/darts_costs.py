"""Parameters, MACs and the papers' FLOPs of the parts of DARTS's networks, by arithmetic."""

import functools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from evonas.costs import count_macs
from evonas.errors import ConfigurationError
from evonas.networks.darts import STEMS, CellPlace, cell_places
from evonas.networks.darts_operations import PRIMITIVES
from evonas.types import Cost

__all__ = ["OperationCosts", "edges", "fixed_cost", "operation_costs", "paper_flops"]

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class OperationCosts:
    """What each operation costs at each edge, summed over all cells of a kind.

    Each (2, edges, 8): [normal, reduction] x `edges` x `PRIMITIVES`. Read-only.
    """

    params: Counts
    macs: Counts
    flops: Counts
    """As E2RNAS (second version, IV-B) counts: an element through a ReLU 1, through batch normalisation 2, through
    average pooling 1; multiply-adds 1. Maps are as large as the operation's output."""


def edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """(node, input) of every edge of a cell in DARTS's order: node 2 from 0 and 1, node 3 from 0 to 2, ...."""
    return tuple((node, state) for node in range(2, nodes + 2) for state in range(node))


@functools.lru_cache(maxsize=64, typed=True)
def operation_costs(
    channels: int, layers: int, affine: bool = True, nodes: int = 4, image_size: int = 32, stem: str = "cifar"
) -> OperationCosts:
    """Costs of the operations on all edges, equal to those of built ones.

    Args:
        channels, layers, stem: as `cell_places` takes them.
        affine: whether batch normalisation has parameters; a supernet's has none.
    Raises:
        ConfigurationError (a ValueError): no such network, or none for such images.
    """
    counts = np.zeros((3, 2, len(edges(nodes)), len(PRIMITIVES)), dtype=np.int64)
    for place in _checked_places(channels, layers, nodes, image_size, stem):
        area = (image_size // place.size) ** 2
        for edge, (_, state) in enumerate(edges(nodes)):
            halves = place.reduction and state < 2
            costs = [_operation_cost(name, place.channels, halves, area, affine) for name in PRIMITIVES]
            counts[:, int(place.reduction), edge] += np.array(costs).T
    counts.setflags(write=False)
    return OperationCosts(*counts)


@functools.lru_cache(maxsize=64, typed=True)
def fixed_cost(
    channels: int, layers: int, nodes: int, image_size: int, n_classes: int, in_channels: int, stem: str = "cifar"
) -> Cost:
    """Of all that no genome changes: stem, the inputs of the cells, classifier."""
    places = _checked_places(channels, layers, nodes, image_size, stem)
    parts = _stem_costs(stem, in_channels, channels, image_size)
    for place in places:
        area = (image_size // place.size * (2 if place.reduction else 1)) ** 2
        parts += [_conv(width, place.channels, 1, area) for width in (place.before_last, place.last)]
    features = nodes * places[-1].channels
    parts.append(Cost((features + 1) * n_classes, features * n_classes))
    return Cost(sum(part.params for part in parts), sum(part.macs for part in parts))


def paper_flops(network: nn.Module, image_shape: tuple[int, int, int] = (3, 32, 32)) -> int:
    """FLOPs of a network as the tables of E2RNAS (second version) give them: 539M for DARTS's second-order cells.

    Multiply-adds, plus 2 an element of what batch normalisation reads and 1 an element of what average pooling gives.
    ReLU and max-pooling are free there, although the formula of `OperationCosts.flops` counts ReLU.

    Args:
        image_shape: (C, H, W).
    """
    extra = 0

    def count(part: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal extra
        extra += 2 * inputs[0].numel() if isinstance(part, nn.BatchNorm2d) else output.numel()

    counted = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d | nn.AvgPool2d)]
    handles = [part.register_forward_hook(count) for part in counted]
    try:
        macs = count_macs(network, image_shape)  # one pass of one image
    finally:
        for handle in handles:
            handle.remove()
    return macs + extra


def _checked_places(channels: int, layers: int, nodes: int, image_size: int, stem: str) -> tuple[CellPlace, ...]:
    places = cell_places(channels, layers, nodes, nodes, stem)
    smallest = STEMS[stem] * 4
    if not isinstance(image_size, int) or image_size < smallest or image_size % smallest:
        raise ConfigurationError(f"expected image_size to be a multiple of {smallest}, got {image_size!r}")
    return places


def _operation_cost(name: str, channels: int, halves: bool, area: int, affine: bool) -> tuple[int, int, int]:
    """(params, macs, flops) on an output of `area` positions."""
    norm = 2 * channels * affine
    if name == "skip_connect" and halves:
        weights = channels**2
        return weights + norm, weights * area, (weights + 2 * channels) * area
    if name == "avg_pool_3x3":
        return 0, 0, channels * area
    if name.startswith(("sep_conv", "dil_conv")):
        times, kernel = 2 if name.startswith("sep") else 1, int(name[-1])
        weights = kernel**2 * channels + channels**2
        return times * (weights + norm), times * weights * area, times * (weights + 3 * channels) * area
    return 0, 0, 0


def _stem_costs(stem: str, in_channels: int, channels: int, image_size: int) -> list[Cost]:
    if stem == "cifar":
        return [_conv(in_channels, 3 * channels, 3, image_size**2)]
    halves = [(image_size // factor) ** 2 for factor in (2, 4, 8)]
    widths = [in_channels, channels // 2, channels, channels]
    return [_conv(widths[i], widths[i + 1], 3, area) for i, area in enumerate(halves)]


def _conv(in_channels: int, out_channels: int, kernel: int, area: int) -> Cost:
    """With batch normalisation, on an output of `area` positions."""
    weights = in_channels * out_channels * kernel**2
    return Cost(weights + 2 * out_channels, weights * area)
