"""Target networks: built from a seed, trained on the search's train part."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import nn

from evonas.adversarial_sets.settings import SetSettings, TargetSettings
from evonas.data import DeviceData, DevicePart, batches
from evonas.networks.blocks import seeded
from evonas.networks.victims import VICTIMS
from evonas.seeding import derive_seed
from evonas.training import TrainingConfig, standard, train

__all__ = ["build_target", "correct", "target_training", "train_target"]


def target_training(settings: SetSettings, target: TargetSettings, precision: str) -> TrainingConfig:
    """How a target is trained; weight decay and learning rate are ours, for the paper gives none."""
    return replace(
        TrainingConfig(), epochs=target.epochs, batch_size=settings.target_batch_size, lr=settings.target_lr,
        weight_decay=settings.target_weight_decay, precision=precision,
    )  # fmt: skip


def build_target(target: TargetSettings, data: DeviceData, seed: int) -> nn.Module:
    """The network with its initial weights, on the device of `data`."""
    depth = {} if target.depth is None else {"depth": target.depth}
    network = seeded(
        lambda: VICTIMS[target.name](data.n_classes, target.width, data.normalization, **depth),
        derive_seed(seed, "target", target.name, "weights"),
    )
    return network.to(data.device)


def train_target(
    network: nn.Module, target: TargetSettings, data: DeviceData, training: TrainingConfig, seed: int,
    on_step: Callable[[int, int, str], None] | None = None,
) -> None:  # fmt: skip
    """Train in place on the train part; left in eval mode. DivergedError where the loss leaves the finite numbers."""
    generator = torch.Generator(data.device).manual_seed(derive_seed(seed, "target", target.name, "training"))
    train(network, data.train, data.augmentation, training, standard, generator, on_step)


@torch.no_grad()
def correct(network: nn.Module, part: DevicePart, batch_size: int = 500) -> torch.Tensor:
    """(N,) bool on the CPU: which images of a part a network, in eval mode, gets right."""
    right = [(network(images).argmax(dim=1) == labels).cpu() for images, labels in batches(part, batch_size)]
    return torch.cat(right)
