"""Training a network of cells from scratch, as DARTS evaluates the cells it finds (Liu et al., 2019, 3.2)."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Protocol, cast

import tyro

from evonas.errors import ConfigurationError
from evonas.parts import part_identity, part_name
from evonas.ranges import CHANNELS, LAYERS, PENALTY, Range, check_ranges
from evonas.training.settings import TrainingConfig

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

__all__ = ["IMAGENET_CELLS", "CellNetwork", "CellPreset", "CellTraining", "EpochDropPath", "drops"]


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
    """A training recipe: cross-entropy of both heads, or another loss of both, with drop-path that grows by the epoch.

    `begin_epoch` sets the probability of drop-path; without that call there is none. Attacks see the network's own
    head, and no drop-path.
    """

    auxiliary_weight: Annotated[float, PENALTY] = 0.4
    """Weight of the auxiliary head's loss; at 0 the network needs no such head."""
    drop_path: Annotated[float, Range(least=0, below=1)] = 0.2
    """Probability of drop-path after the last epoch, approached on a line from 0; 0.3 in PC-DARTS."""
    label_smoothing: Annotated[float, Range(least=0, below=1)] = 0.0
    """Share of each label spread over all classes; 0.1 on ImageNet."""
    robust: Annotated[Callable[..., Any] | None, tyro.conf.Suppress] = None
    """Recipe whose loss each head is trained by; None: cross-entropy on clean images."""

    name: ClassVar[str] = "cells"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.robust is None:
            return
        if self.label_smoothing:
            raise ConfigurationError(
                f"expected label_smoothing 0 with recipe {part_name(self.robust)!r}, got {self.label_smoothing}"
            )
        if self.auxiliary_weight and not hasattr(self.robust, "of_heads"):
            raise ConfigurationError(
                f"expected an auxiliary weight of 0 with recipe {part_name(self.robust)!r}, which trains one head, got "
                f"{self.auxiliary_weight}"
            )

    def identity(self) -> dict[str, Any]:
        """Its settings, with those of another loss where there is one."""
        plain = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "robust"}
        if self.robust is None:
            return plain
        return {**plain, "robust": {"name": part_name(self.robust), **part_identity(self.robust)}}

    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> CellTraining:
        """The loss of an epoch, counted from 0."""
        from evonas.training.loop import of_epoch

        if self.drop_path:
            _checked(network, "drop_path").drop_path = EpochDropPath(self.drop_path * epoch / epochs)
        return self if self.robust is None else replace(self, robust=of_epoch(self.robust, network, epoch, epochs))

    def unperturbed(self) -> CellTraining:
        """The recipe at the weights themselves, by which batch statistics are measured."""
        robust: Any = self.robust
        return replace(self, robust=robust.unperturbed()) if hasattr(robust, "unperturbed") else self

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, float32."""
        heads = partial(self._heads, network, generator)
        if self.robust is None:
            losses = [weight * self._cross_entropy(logits, labels) for weight, logits in heads(images)]
            return losses[0] if len(losses) == 1 else losses[0] + losses[1]
        if hasattr(self.robust, "of_heads"):
            loss: Tensor = self.robust.of_heads(network, heads, images, labels, generator)
            return loss
        with _dropping(network, generator):
            loss = self.robust(network, images, labels, generator)
            return loss

    def _heads(self, network: nn.Module, generator: torch.Generator, images: Tensor) -> Sequence[tuple[float, Tensor]]:
        """(weight, (B, K) logits) of the network's own head and, where it counts, of the auxiliary one."""
        with _dropping(network, generator):
            if not self.auxiliary_weight:
                return [(1.0, network(images))]
            logits, auxiliary = _checked(network, "forward_auxiliary").forward_auxiliary(images)
            return [(1.0, logits), (self.auxiliary_weight, auxiliary)]

    def _cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(logits.float(), labels, label_smoothing=self.label_smoothing)


@contextlib.contextmanager
def _dropping(network: nn.Module, generator: torch.Generator) -> Iterator[None]:
    """A context in which drop-path, where the network has it, draws from a generator."""
    path = getattr(network, "drop_path", None)
    if not isinstance(path, EpochDropPath):
        yield
        return
    path.generator = generator
    try:
        yield
    finally:
        path.generator = None


def drops(network: nn.Module) -> bool:
    """Whether the network has drop-path that `CellTraining` makes active in its passes."""
    path = getattr(network, "drop_path", None)
    return isinstance(path, EpochDropPath) and path.probability > 0


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
