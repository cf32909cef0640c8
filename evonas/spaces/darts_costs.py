"""Parameters, MACs and FLOPs (as the papers count them) of the parts of DARTS networks, by arithmetic."""

import functools
from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

from evonas.costs import count_macs
from evonas.errors import ConfigurationError
from evonas.networks.darts_plan import PRIMITIVES, STEMS, CellPlace, cell_places
from evonas.types import Cost, Genome

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = [
    "OperationCosts",
    "OperationTimes",
    "edges",
    "edges_into_nodes",
    "fixed_cost",
    "operation_costs",
    "paper_flops",
    "width_for",
]

Counts = npt.NDArray[np.int64]

MOST_PARAMS = 1e12
"""Upper limit of a requested number of parameters, far above any network."""


class WidthSpace(Protocol):
    """A space of cells, such as `DartsSpace`."""

    @property
    def stem(self) -> str: ...
    def cost(self, genome: Genome, n_classes: int = 10, channels: int | None = None) -> Cost: ...


@dataclass(frozen=True, eq=False)
class OperationCosts:
    """Cost of each operation at each edge, summed over all cells of a kind.

    Read-only arrays of shape (2, edges, 8): [normal, reduction] x `edges` x `PRIMITIVES`.
    """

    params: Counts
    macs: Counts
    flops: Counts
    """As in E2RNAS (second version, IV-B): 1 for each multiply-add; for each element 1 of a ReLU, 2 of batch
    normalisation, 1 of average pooling. All maps count with the size of the operation's output."""


@dataclass(frozen=True)
class OperationTimes:
    """Predicted milliseconds of the parts of networks, whose sum is what a latency table predicts of a network."""

    table: str
    """Fingerprint of the table."""
    rest: float
    """Parts that no genome changes: stem, inputs and sums of the cells, classifier."""
    operations: tuple[tuple[tuple[float, ...], ...], ...]
    """(2, edges, 8) of each operation at each edge, summed over all cells of a kind; 0 for `none`."""


def edges(nodes: int) -> tuple[tuple[int, int], ...]:
    """(node, input) of every edge of a cell in the order of DARTS: node 2 from 0 and 1, node 3 from 0 to 2, ...."""
    return tuple((node, state) for node in range(2, nodes + 2) for state in range(node))


def edges_into_nodes(count: int) -> list[slice]:
    """Places of the edges into each node, node by node, of so many `edges` in all."""
    found, first, inputs = [], 0, 2
    while first < count:
        found.append(slice(first, first + inputs))
        first, inputs = first + inputs, inputs + 1
    return found


@functools.lru_cache(maxsize=64, typed=True)
def operation_costs(
    channels: int, layers: int, affine: bool = True, nodes: int = 4, image_size: int = 32, stem: str = "cifar"
) -> OperationCosts:
    """Costs of the operations at all edges, equal to those of built operations.

    Args:
        channels, layers, stem: as in `cell_places`.
        affine: whether batch normalisation has parameters; it has none in a supernet.
    Raises:
        ConfigurationError (a ValueError): settings that no network has, or an image size that does not fit.
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
    """Cost of the parts that no genome changes: stem, inputs of the cells, classifier."""
    places = _checked_places(channels, layers, nodes, image_size, stem)
    parts = _stem_costs(stem, in_channels, channels, image_size)
    for place in places:
        area = (image_size // place.size * (2 if place.reduction else 1)) ** 2
        parts += [_conv(width, place.channels, 1, area) for width in (place.before_last, place.last)]
    features = nodes * places[-1].channels
    parts.append(Cost((features + 1) * n_classes, features * n_classes))
    return Cost(sum(part.params for part in parts), sum(part.macs for part in parts))


def paper_flops(network: "nn.Module", image_shape: tuple[int, int, int] = (3, 32, 32)) -> int:
    """FLOPs of a network as in the tables of E2RNAS (second version): 539M for the second-order cells of DARTS.

    Multiply-adds, plus 2 for each input element of batch normalisation and 1 for each output element of average
    pooling. The tables do not count ReLU, unlike the formula behind `OperationCosts.flops`.

    Args:
        image_shape: (C, H, W).
    """
    from torch import nn

    extra = 0

    def count(part: nn.Module, inputs: "tuple[Tensor, ...]", output: "Tensor") -> None:
        nonlocal extra
        extra += 2 * inputs[0].numel() if isinstance(part, nn.BatchNorm2d) else output.numel()

    counted = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d | nn.AvgPool2d)]
    handles = [part.register_forward_hook(count) for part in counted]
    try:
        macs = count_macs(network, image_shape)  # runs one forward pass of one image
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
    """(params, macs, flops) of an operation on an output of `area` positions."""
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
    """Convolution with batch normalisation, on an output of `area` positions."""
    weights = in_channels * out_channels * kernel**2
    return Cost(weights + 2 * out_channels, weights * area)


def width_for(space: WidthSpace, genome: Genome, n_classes: int, params: float) -> int:
    """Channels of the first cell that bring the network closest to a number of parameters; the smaller of two equals.

    By table lookup, at the depth of the space: C46 ... C12 of E2RNAS have about 3.35, 2.1, 1.05 and 0.42 million.

    Raises:
        ConfigurationError: params out of range.
    """
    if not 0 < params <= MOST_PARAMS:
        raise ConfigurationError(f"expected a number of parameters > 0 and <= {MOST_PARAMS:g}, got {params}")

    def counted(channels: int) -> int:
        return space.cost(genome, n_classes, channels).params

    step = 2 if space.stem == "imagenet" else 1  # its stem halves the width
    most = step
    while counted(most) < params:
        most *= 2
    widths = range(step, most + 1, step)
    index = bisect_left(widths, params, key=counted)
    return min(widths[max(index - 1, 0) : index + 1], key=lambda channels: abs(counted(channels) - params))
