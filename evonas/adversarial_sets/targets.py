"""Target networks: built from a seed, trained on the train part of the search's data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from evonas.adversarial_sets.settings import TargetSettings, build_victim
from evonas.data import DeviceData, DevicePart, batches
from evonas.networks.blocks import seeded
from evonas.seeding import derive_seed
from evonas.training import Training, TrainingConfig, standard
from evonas.training.checkpoints import train_reporting
from evonas.types import Report

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
    checkpoint: Path | None = None,
    identity: Mapping[str, Any] | None = None,
    key: str = "",
    report: Report = lambda progress: None,
) -> float:
    """Train in place on the train part, or continue with the checkpoint; ends in eval mode.

    Args:
        checkpoint: where every epoch is kept; None: nowhere.
        identity: what the weights follow from.
        key: name of the job in what is reported.
    Returns:
        The seconds of all epochs, those of earlier processes too.
    Raises:
        DivergedError: the loss left the finite numbers.
        StorageError: the checkpoint cannot be read or written.
    """
    generator = torch.Generator(data.device).manual_seed(derive_seed(seed, "target", target.name, "training"))
    state = Training(network, data.train, data.augmentation, training, standard, generator)
    rows = train_reporting(
        state, checkpoint, identity or {}, "a target network", lambda loss: {"loss": loss}, key, report
    )
    network.eval()
    return float(sum(row["seconds"] for row in rows))


@torch.no_grad()
def correct(network: nn.Module, part: DevicePart, batch_size: int = 500) -> torch.Tensor:
    """(N,) bool on the CPU: whether a network in eval mode classifies each image of a part correctly."""
    right = [(network(images).argmax(dim=1) == labels).cpu() for images, labels in batches(part, batch_size)]
    return torch.cat(right)
