"""Target networks: built from a seed, trained on the train part of the search's data."""

from collections.abc import Callable

import torch
from torch import nn

from evonas.adversarial_sets.settings import TargetSettings, build_victim
from evonas.data import DeviceData, DevicePart, batches
from evonas.networks.blocks import seeded
from evonas.seeding import derive_seed
from evonas.training import TrainingConfig, standard, train

__all__ = ["build_target", "correct", "train_target"]


def build_target(target: TargetSettings, data: DeviceData, seed: int) -> nn.Module:
    """The network with its initial weights, on the device of `data`, channels_last."""
    network = seeded(
        lambda: build_victim(target, data.n_classes, data.normalization),
        derive_seed(seed, "target", target.name, "weights"),
    )
    return network.to(data.device).to(memory_format=torch.channels_last)  # as after training


def train_target(
    network: nn.Module,
    target: TargetSettings,
    data: DeviceData,
    training: TrainingConfig,
    seed: int,
    on_step: Callable[[int, int, str], None] | None = None,
) -> None:
    """Train in place on the train part; ends in eval mode. DivergedError if the loss leaves the finite numbers."""
    generator = torch.Generator(data.device).manual_seed(derive_seed(seed, "target", target.name, "training"))
    train(network, data.train, data.augmentation, training, standard, generator, on_step)


@torch.no_grad()
def correct(network: nn.Module, part: DevicePart, batch_size: int = 500) -> torch.Tensor:
    """(N,) bool on the CPU: whether a network in eval mode classifies each image of a part correctly."""
    right = [(network(images).argmax(dim=1) == labels).cpu() for images, labels in batches(part, batch_size)]
    return torch.cat(right)
