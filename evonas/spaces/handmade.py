"""A hand-made network in the form of a search space."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError, choose
from evonas.types import Cost, Genome

if TYPE_CHECKING:
    from torch import nn

__all__ = ["HandmadeSpace"]


@dataclass(frozen=True)
class HandmadeSpace:
    """A single network of `HANDMADE` in the form of a search space; its genome is empty.

    Raises:
        UnknownNameError: there is no such network.
        ConfigurationError: a width that is not > 0.
    """

    name: str
    width: float = 1.0
    """Factor on the channels of every layer."""
    image_size: int = 32

    def __post_init__(self) -> None:
        from evonas.networks import HANDMADE

        choose(HANDMADE, self.name, "hand-made network")
        if not 0 < self.width < math.inf:
            raise ConfigurationError(f"expected a width > 0 for {self.name}, got {self.width}")

    def build(self, genome: Genome, n_classes: int = 10) -> "nn.Module":
        from evonas.networks import HANDMADE

        return HANDMADE[self.name].build(n_classes, self.width)

    def cost(self, genome: Genome, n_classes: int = 10) -> Cost:
        return _handmade_cost(self, n_classes)

    def max_cost(self, n_classes: int = 10) -> Cost:
        return _handmade_cost(self, n_classes)


@lru_cache(maxsize=32)
def _handmade_cost(space: HandmadeSpace, n_classes: int) -> Cost:
    from evonas.networks.blocks import seeded
    from evonas.networks.handmade import HANDMADE

    network = seeded(lambda: HANDMADE[space.name].build(n_classes, space.width), 0)
    return Cost(count_params(network), count_macs(network, (3, space.image_size, space.image_size)))
