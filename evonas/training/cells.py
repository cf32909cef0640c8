"""Training a network of cells from scratch, as DARTS evaluates what it has found (Liu et al., 2019, 3.2)."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.training.loop import TrainingConfig

__all__ = ["IMAGENET_CELLS", "CellNetwork", "CellPreset", "CellTraining", "EpochDropPath"]


class CellNetwork(Protocol):
    """What the recipe asks of a network, such as `DartsNetwork` with an auxiliary head, which is an `nn.Module`."""

    drop_path: Callable[[Tensor], Tensor] | None
    """In train mode it is called on the (B, C, H, W) maps of every edge that is not the identity; None: nothing is."""

    def __call__(self, images: Tensor) -> Tensor:
        """(B, K) logits."""
        ...

    def forward_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K) logits, and those of the auxiliary head."""
        ...


@dataclass
class EpochDropPath:
    """Drop-path at the probability of an epoch: leaves out an edge for single images, and scales up the others.

    It works only while it has a generator, which a recipe lends it for a batch; else maps pass as they are.
    """

    probability: float
    """In [0, 1)."""
    generator: torch.Generator | None = None

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) -> the same, of the same mean; nothing is drawn where the probability is 0."""
        if self.generator is None or self.probability == 0:
            return maps
        keep = 1 - self.probability
        kept = torch.rand(len(maps), generator=self.generator, device=self.generator.device) < keep
        return maps / keep * kept.to(maps.device, maps.dtype)[:, None, None, None]


@dataclass(frozen=True, kw_only=True)
class CellTraining:
    """A training recipe: cross-entropy of both heads, with drop-path that grows from epoch to epoch.

    The loop's `begin_epoch` sets the drop-path's probability; without it there is none.
    """

    auxiliary_weight: float = 0.4
    """Of the auxiliary head's loss; at 0 the network needs no such head."""
    drop_path: float = 0.2
    """Probability of leaving out an edge, which epoch / epochs of it has come to; 0.3 in PC-DARTS."""
    label_smoothing: float = 0.0
    """Share of each label that is spread over all classes; 0.1 on ImageNet."""

    name: ClassVar[str] = "cells"

    def __post_init__(self) -> None:
        if not self.auxiliary_weight >= 0:
            raise ConfigurationError(f"expected auxiliary_weight >= 0, got {self.auxiliary_weight}")
        if not 0 <= self.drop_path < 1 or not 0 <= self.label_smoothing < 1:
            raise ConfigurationError(
                f"expected drop_path and label_smoothing in [0, 1), got {self.drop_path} and {self.label_smoothing}"
            )

    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        if self.drop_path:
            _checked(network, "drop_path").drop_path = EpochDropPath(self.drop_path * epoch / epochs)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, in float32 whatever the network computes in."""
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
        return functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)


def _checked(network: nn.Module, name: str) -> CellNetwork:
    if not hasattr(network, name):
        raise ConfigurationError(
            f"expected a network of cells for recipe 'cells', got {type(network).__name__}, which has no {name}"
        )
    return cast(CellNetwork, network)


@dataclass(frozen=True, kw_only=True)
class CellPreset:
    """How wide and deep a network of found cells is, and how it is trained."""

    channels: int
    layers: int
    training: TrainingConfig
    recipe: CellTraining = field(default_factory=CellTraining)


IMAGENET_CELLS = CellPreset(
    channels=48,
    layers=14,
    training=TrainingConfig(epochs=250, batch_size=128, lr=0.1, weight_decay=3e-5, lr_decay=0.97),
    recipe=CellTraining(drop_path=0.0, label_smoothing=0.1),
)
"""DARTS on ImageNet: images of 224x224, no cutout."""
