"""Supernet: shared weights for all networks of a shuffle plan (TAM-NAS, III-C; SPOS, Guo et al., 2020).

Every choice is stored once, at its largest width; a network uses the first channels of each. Its weights are views, so
that training the network trains the supernet.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from evonas.networks.blocks import Normalization
from evonas.networks.shuffle import ShuffleBlock, ShuffleNetwork
from evonas.networks.shuffle_plan import ShufflePlan, Unit

__all__ = ["ShuffleSupernet", "share_weights"]


class ShuffleSupernet(nn.Module):
    """Weights of all choices at all places.

    Args:
        choices: for every place of the plan its possible units, each at its largest width.
    """

    def __init__(
        self,
        plan: ShufflePlan,
        choices: Sequence[Sequence[Unit]],
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: Normalization = None,
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
        """The network of these units, with weights that are views of the supernet's.

        Args:
            own_statistics: give batch normalisations new, reset statistics instead of views of the supernet's.
        Raises:
            ValueError: a unit is not a choice of its place, or is wider than it.
        """
        with torch.device("meta"):
            network = ShuffleNetwork(self.plan, units, self.n_classes, self.in_channels)
        network.normalize = self.normalize
        share_weights(network.stem, self.stem, own_statistics)
        share_weights(network.head, self.head, own_statistics)
        blocks = zip(network.blocks, units, self.choices, self._kinds, strict=True)
        for block, unit, choices, kinds in blocks:
            if unit.kind not in kinds:
                raise ValueError(f"expected one of the choices of its place, got {unit.kind.name}")
            assert isinstance(choices, nn.ModuleList)
            share_weights(block, choices[kinds.index(unit.kind)], own_statistics)
        return network.train(self.training)

    def forward(self, images: Tensor) -> Tensor:
        raise NotImplementedError("call one of the supernet's networks instead: supernet.network(units)(images)")


def share_weights(narrow: nn.Module, wide: nn.Module, own_statistics: bool) -> None:
    """Make every parameter and buffer of `narrow` a view of the first entries of the equally named one of `wide`.

    Args:
        own_statistics: buffers become new, reset ones of the narrow size instead.
    """
    modules = dict(wide.named_modules())
    for name, module in narrow.named_modules():
        source = modules[name]
        for key, parameter in module.named_parameters(recurse=False):
            weights = getattr(source, key)
            setattr(module, key, nn.Parameter(_first(weights.detach(), parameter.shape)))
        for key, buffer in module.named_buffers(recurse=False):
            shared = _first(getattr(source, key), buffer.shape)
            setattr(module, key, torch.empty_like(shared) if own_statistics else shared)
        if own_statistics and isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()


def _first(wide: Tensor, shape: torch.Size) -> Tensor:
    """A view of the first entries along each dimension."""
    if any(narrow > available for narrow, available in zip(shape, wide.shape, strict=True)):
        raise ValueError(
            f"expected at most {tuple(wide.shape)} weights of the supernet, got a network of {tuple(shape)}"
        )
    return wide[tuple(slice(0, size) for size in shape)]
