"""Parameters and MACs of the parts of shuffle networks, by arithmetic."""

import functools
from dataclasses import dataclass

from evonas.costs import CostTable
from evonas.networks.shuffle_plan import BLOCKS, Place, ShufflePlan, Unit, squeezed
from evonas.types import Cost

__all__ = ["N_RATIOS", "Tables", "cost_tables", "fixed_cost", "unit_cost"]

N_RATIOS = 10
"""Ratios 0.2, 0.4, ..., 2.0 of the channels inside a block (III-B4)."""


@dataclass(frozen=True)
class Tables:
    """Cost of each choice at each place; choice = block x 10 + ratio."""

    mids: list[list[list[int]]]
    """[place][block][ratio] inner channels."""
    params: CostTable
    macs: CostTable


@functools.lru_cache(maxsize=32)
def cost_tables(plan: ShufflePlan, intermediate: int, image_size: int) -> Tables:
    """Inner channels and costs of all choices at all places; 0 for blocks that do not fit at stride 2."""
    mids, params, macs = [], [], []
    for place in plan.places:
        by_block = [
            [
                _mid(bool(kind.main), place.out_channels, place.branch, (ratio + 1) * intermediate)
                for ratio in range(N_RATIOS)
            ]
            for kind in BLOCKS
        ]
        costs = [
            unit_cost(place, Unit(kind, mid), image_size) if kind.main or place.stride == 1 else Cost(0, 0)
            for kind, row in zip(BLOCKS, by_block, strict=True)
            for mid in row
        ]
        mids.append(by_block)
        params.append([cost.params for cost in costs])
        macs.append([cost.macs for cost in costs])
    return Tables(mids, CostTable(params), CostTable(macs))


def _mid(branched: bool, out_channels: int, branch: int, fifths: int) -> int:
    """int(c x ratio) in integer arithmetic: c is half the channels of a block, a quarter in a pure robust block."""
    return max(1, out_channels // 2 * fifths // 5) if branched else max(1, branch * fifths // 10)


def unit_cost(place: Place, unit: Unit, image_size: int) -> Cost:
    """Cost of a choice block, equal to that of the built one."""
    kind, mid, branch = unit.kind, unit.mid, place.branch
    inside = place.in_channels if place.stride == 2 else place.in_channels // 2
    area = _area(image_size, place.reduction)
    before = _area(image_size, place.reduction // place.stride)
    parts = [_squeeze_excite(branch)]
    if kind.main == "S":
        parts += [_conv(inside, mid, 1, before), _depthwise(mid, kind.kernel, area), _conv(mid, branch, 1, area)]
    elif kind.main == "SX":
        parts += [
            _depthwise(inside, kind.kernel, area),
            _conv(inside, mid, 1, area),
            _depthwise(mid, kind.kernel, area),
            _conv(mid, mid, 1, area),
            _depthwise(mid, kind.kernel, area),
            _conv(mid, branch, 1, area),
        ]
    if kind.non_local:
        parts.append(
            _non_local(branch, branch // 2 if kind.main else mid, kind.non_local == "NE", kind.batch_norm, area)
        )
    if place.stride == 2:
        parts += [_depthwise(inside, kind.kernel, area), _conv(inside, inside, 1, area)]
    return _sum(parts)


@functools.lru_cache(maxsize=128)
def fixed_cost(plan: ShufflePlan, image_size: int, n_classes: int, in_channels: int) -> Cost:
    """Cost of stem and head, the same in every network of a plan."""
    wide, features = plan.head
    area = _area(image_size, plan.places[-1].reduction)
    last = Cost((features + 1) * n_classes, features * n_classes)
    return _sum(
        [
            _conv(in_channels, plan.stem, 3, image_size**2),
            _conv(plan.stages[-1][0], wide, 1, area),
            _squeeze_excite(wide),
            Cost((wide + 1) * features, wide * features),
            last,
        ]
    )


def _area(image_size: int, reduction: int) -> int:
    """Number of positions of a map; halving rounds up."""
    return int((-(-image_size // reduction)) ** 2)


def _conv(in_channels: int, out_channels: int, kernel: int, area: int) -> Cost:
    """Convolution with batch normalisation, on an output of `area` positions."""
    weights = in_channels * out_channels * kernel**2
    return Cost(weights + 2 * out_channels, weights * area)


def _depthwise(channels: int, kernel: int, area: int) -> Cost:
    return _conv(1, channels, kernel, area)


def _squeeze_excite(channels: int) -> Cost:
    weights = 2 * channels * squeezed(channels)
    return Cost(weights + squeezed(channels) + channels, weights)


def _non_local(channels: int, mid: int, embedded: bool, batch_norm: bool, area: int) -> Cost:
    convolutions = 4 if embedded else 2  # theta, phi, g, out
    params = convolutions * channels * mid + (convolutions - 1) * mid + channels + 2 * channels * batch_norm
    macs = convolutions * channels * mid * area + area**2 * ((mid if embedded else channels) + mid)
    return Cost(params, macs)


def _sum(parts: list[Cost]) -> Cost:
    return Cost(sum(part.params for part in parts), sum(part.macs for part in parts))
