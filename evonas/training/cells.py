"""Training a network of cells from scratch, as DARTS evaluates the cells it finds (Liu et al., 2019, 3.2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol, cast

from evonas.errors import ConfigurationError
from evonas.ranges import CHANNELS, LAYERS, PENALTY, Range, check_ranges
from evonas.training.settings import TrainingConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["IMAGENET_CELLS", "CellNetwork", "CellPreset", "CellTraining", "EpochDropPath"]


class CellNetwork(Protocol):
    """A network as the recipe sees it, such as `DartsNetwork` with an auxiliary head; also an `nn.Module`."""

    drop_path: Callable[[Tensor], Tensor] | None
    """Called in train mode on the (B, C, H, W) maps of every edge that is not the identity; None: no call."""

    def __call__(self, images: Tensor) -> Tensor:
        """(B, K) logits."""
        ...

    def forward_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits of both heads, the auxiliary one last."""
        ...


@dataclass
class EpochDropPath:
    """Drop-path with the probability of one epoch: zeroes the maps of an edge for single images, scales up the rest.

    Active only while it has a generator, which a recipe lends it for one batch.
    """

    probability: float
    """In [0, 1)."""
    generator: torch.Generator | None = None

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) maps -> maps of the same shape and mean; draws nothing at probability 0."""
        import torch

        if self.generator is None or self.probability == 0:
            return maps
        keep = 1 - self.probability
        mask = torch.rand(len(maps), generator=self.generator, device=self.generator.device) < keep
        return maps / keep * mask.to(maps.device, maps.dtype)[:, None, None, None]


@dataclass(frozen=True, kw_only=True)
class CellTraining:
    """A training recipe: cross-entropy of both heads, with drop-path that grows from epoch to epoch.

    `begin_epoch` sets the probability of drop-path; without that call there is none.
    """

    auxiliary_weight: Annotated[float, PENALTY] = 0.4
    """Weight of the auxiliary head's loss; at 0 the network needs no such head."""
    drop_path: Annotated[float, Range(least=0, below=1)] = 0.2
    """Probability of drop-path after the last epoch, approached on a line from 0; 0.3 in PC-DARTS."""
    label_smoothing: Annotated[float, Range(least=0, below=1)] = 0.0
    """Share of each label spread over all classes; 0.1 on ImageNet."""

    name: ClassVar[str] = "cells"

    def __post_init__(self) -> None:
        check_ranges(self)

    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        if self.drop_path:
            _checked(network, "drop_path").drop_path = EpochDropPath(self.drop_path * epoch / epochs)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, float32."""
        path = getattr(network, "drop_path", None)
        if not isinstance(path, EpochDropPath):
            return self._loss(network, images, labels)
        path.generator = generator
        try:
            return self._loss(network, images, labels)
        finally:
            path.generator = None

    def _loss(self, network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        if not self.auxiliary_weight:
            return self._cross_entropy(network(images), labels)
        logits, auxiliary = _checked(network, "forward_auxiliary").forward_auxiliary(images)
        return self._cross_entropy(logits, labels) + self.auxiliary_weight * self._cross_entropy(auxiliary, labels)

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)


def _checked(network: nn.Module, name: str) -> CellNetwork:
    if not hasattr(network, name):
        raise ConfigurationError(
            f"expected a network of cells for recipe 'cells', got {type(network).__name__}, which has no {name}"
        )
    return cast(CellNetwork, network)


@dataclass(frozen=True, kw_only=True)
class CellPreset:
    """Width, depth and training of a network of cells."""

    channels: Annotated[int, CHANNELS]
    """Channels of a node of its first cell."""
    layers: Annotated[int, LAYERS]
    """Its cells."""
    training: TrainingConfig
    recipe: CellTraining = field(default_factory=CellTraining)

    def __post_init__(self) -> None:
        check_ranges(self)


IMAGENET_CELLS = CellPreset(
    channels=48,
    layers=14,
    training=TrainingConfig(epochs=250, batch_size=128, lr=0.1, weight_decay=3e-5, lr_decay=0.97),
    recipe=CellTraining(drop_path=0.0, label_smoothing=0.1),
)
"""DARTS on ImageNet: images of 224x224, no cutout."""
