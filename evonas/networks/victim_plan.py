"""Target networks by name, and the widths and depths that they have; no torch."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from evonas.errors import ConfigurationError
from evonas.lazy import Table

if TYPE_CHECKING:
    from torch import nn

__all__ = ["DEPTHS", "IMAGE_SIZE", "VICTIMS", "blocks_of", "check_victim"]

IMAGE_SIZE = 32


DEPTHS = {"DenseNet": (4, "6 n + 4, such as 10, 16, 22, 40 or 100"), "ResNet": (2, "6 n + 2, such as 8, 14, 20 or 32")}
"""Network with a choice of depths -> (layers outside its three stages, description of valid depths)."""


def check_victim(name: str, width: float, depth: int | None) -> None:
    """ConfigurationError unless width and depth are valid for the network `name`; depth None: its default."""
    if not 0 < width < float("inf"):
        raise ConfigurationError(f"expected a width > 0 for {name}, got {width}")
    if depth is not None and name not in DEPTHS:
        raise ConfigurationError(f"expected depth 0 for {name}, which has only one, got {depth}")
    if depth is not None:
        blocks_of(depth, *DEPTHS[name])


def blocks_of(depth: int, outside: int, expected: str) -> int:
    """Number of blocks in each of the three stages of a network with `depth` layers, `outside` of them elsewhere."""
    n, rest = divmod(depth - outside, 6)
    if rest or n < 1:
        raise ConfigurationError(f"expected a depth of {expected}, got {depth}")
    return n


VICTIMS: "Table[Callable[..., nn.Module]]" = Table(
    {
        "DenseNet": "evonas.networks.victims:DenseNet",
        "LeNet": "evonas.networks.victims:LeNet",
        "ResNet": "evonas.networks.victims:ResNet",
        "VGG-16": "evonas.networks.victims:VGG16",
    }
)
"""Name in Table I of RoCo-NAS -> class; called as (n_classes=10, width=1.0, normalization=None, in_channels=3)."""
