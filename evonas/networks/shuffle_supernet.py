"""One set of weights for every network of a shuffle plan (TAM-NAS, III-C; SPOS, Guo et al., 2020).

Every choice is kept once, at its widest; a network takes the first channels of each. Nothing is copied: its weights are
views, so that training it trains the supernet.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evonas.networks.shuffle import ShuffleBlock, ShuffleNetwork, ShufflePlan, Unit

__all__ = ["ShuffleSupernet", "share_weights"]


class ShuffleSupernet(nn.Module):
    """Weights of all choices at all places.

    Args:
        choices: for every place of the plan the units that may stand there, each as wide as it can be.
    """

    def __init__(
        self,
        plan: ShufflePlan,
        choices: Sequence[Sequence[Unit]],
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.n_classes = n_classes
        self.in_channels = in_channels
        self._kinds = [[unit.kind for unit in units] for units in choices]
        first = ShuffleNetwork(plan, [units[0] for units in choices], n_classes, in_channels, normalization)
        self.normalize, self.stem, self.head = first.normalize, first.stem, first.head
        self.choices = nn.ModuleList(
            nn.ModuleList(ShuffleBlock(place, unit) for unit in units)
            for place, units in zip(plan.places, choices, strict=True)
        )

    def network(self, units: Sequence[Unit], own_statistics: bool = False) -> ShuffleNetwork:
        """The network of these units over the supernet's weights.

        Args:
            own_statistics: batch normalisation gets statistics of its own, reset, instead of the supernet's.
        Raises:
            ValueError: a unit is not among the choices of its place, or wider than they are.
        """
        with torch.device("meta"):
            network = ShuffleNetwork(self.plan, units, self.n_classes, self.in_channels)
        network.normalize = self.normalize
        share_weights(network.stem, self.stem, own_statistics)
        share_weights(network.head, self.head, own_statistics)
        blocks = zip(network.blocks, units, self.choices, self._kinds, strict=True)
        for block, unit, choices, kinds in blocks:
            if unit.kind not in kinds:
                raise ValueError(f"expected a choice of its place, got {unit.kind.name}")
            assert isinstance(choices, nn.ModuleList)
            share_weights(block, choices[kinds.index(unit.kind)], own_statistics)
        return network.train(self.training)

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError("a supernet is run as one of its networks: supernet.network(units)(images)")


def share_weights(narrow: nn.Module, wide: nn.Module, own_statistics: bool) -> None:
    """Make every parameter and buffer of `narrow` a view of the first entries of the equally named one of `wide`.

    Args:
        own_statistics: buffers become new ones of that size, reset.
    """
    modules = dict(wide.named_modules())
    for name, module in narrow.named_modules():
        source = modules[name]
        for key, parameter in module.named_parameters(recurse=False):
            weights = getattr(source, key)
            setattr(module, key, nn.Parameter(_first(weights.detach(), parameter.shape)))
        for key, buffer in module.named_buffers(recurse=False):
            kept = getattr(source, key)
            setattr(
                module,
                key,
                torch.empty_like(_first(kept, buffer.shape)) if own_statistics else _first(kept, buffer.shape),
            )
        if own_statistics and isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def _first(wide: Tensor, shape: torch.Size) -> Tensor:
    if any(few > many for few, many in zip(shape, wide.shape, strict=True)):
        raise ValueError(
            f"expected at most {tuple(wide.shape)} weights of the supernet, got a network of {tuple(shape)}"
        )
    return wide[tuple(slice(0, few) for few in shape)]
