"""Plans of networks of cells: operations to choose from, channels and sizes (DARTS, Liu et al., 2019); no torch."""

from typing import NamedTuple

from evonas.errors import ConfigurationError, choose

__all__ = ["PRIMITIVES", "STEMS", "CellPlace", "cell_places"]

PRIMITIVES: tuple[str, ...] = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations of an edge, in the order of the columns of DARTS's architecture parameters."""

STEMS: dict[str, int] = {"cifar": 1, "imagenet": 8}
"""Name -> factor by which the stem reduces height and width."""


class CellPlace(NamedTuple):
    """Position of a cell in its network: channels and sizes around it."""

    before_last: int
    """Channels of its input 0, the output of the cell before the last one."""
    last: int
    """Channels of its input 1, the output of the last cell."""
    channels: int
    """Channels of each node."""
    reduction: bool
    """Whether the cell halves its maps."""
    after_reduction: bool
    """Whether the last cell, or the last part of the stem, halved its maps; input 0 is then halved, too."""
    size: int
    """Factor between the height and width of the image and of the cell's output."""


def cell_places(
    channels: int, layers: int, normal_states: int = 4, reduce_states: int = 4, stem: str = "cifar"
) -> tuple[CellPlace, ...]:
    """The place of each of `layers` cells.

    Args:
        channels: channels of a node in the first cell.
        normal_states, reduce_states: number of nodes that are concatenated to the output of a normal and a reduction
            cell; each has its cell's channels.
        stem: `cifar` keeps height and width; `imagenet` divides them by 8.
    Raises:
        ConfigurationError (a ValueError): channels or layers are not whole numbers >= 1, or odd channels with the stem
            `imagenet`.
    """
    for name, value in (("channels", channels), ("layers", layers)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigurationError(f"expected a whole number of {name} >= 1, got {value!r}")
    size, small = choose(STEMS, stem, "stem"), stem == "cifar"
    if not small and channels % 2:
        raise ConfigurationError(f"expected an even number of channels with the stem 'imagenet', got {channels}")
    before_last = last = 3 * channels if small else channels
    after_reduction, places = not small, []
    for number in range(layers):
        reduction = number in (layers // 3, 2 * layers // 3)
        channels, size = (2 * channels, 2 * size) if reduction else (channels, size)
        places.append(CellPlace(before_last, last, channels, reduction, after_reduction, size))
        before_last, last = last, channels * (reduce_states if reduction else normal_states)
        after_reduction = reduction
    return tuple(places)
