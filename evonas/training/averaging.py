"""Averages of a network's weights over its training: exponential (EMA), or over its last epochs (SWA)."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from evonas.training.settings import TrainingConfig

__all__ = ["WeightAverage", "average_of", "recalibrate"]


class WeightAverage:
    """A running average of weights and running statistics, on the network's device.

    EMA after every step: average += (1 - d) (weights - average), where d is the decay, and at first (1 + t) / (10 + t)
    after t updates, so that a short training does not average its initial weights (Rebuffi et al., 2021). Running
    statistics are averaged like weights. SWA after every epoch from `average_from` on, all with equal weight (Izmailov
    et al., 2018); its running statistics are measured anew: see `recalibrate`.
    """

    def __init__(self, network: nn.Module, config: TrainingConfig) -> None:
        self.network = network
        self.config = config
        self._present = network.state_dict()  # shares memory with the network
        self.values = {name: value.clone() for name, value in self._present.items()}
        self.updates = torch.zeros((), device=next(network.parameters()).device)
        """Updates so far, on the device: a replayed step counts them, too."""

    def after_step(self) -> None:
        if self.config.average == "ema":
            self._move(1 - ((1 + self.updates) / (10 + self.updates)).clamp(max=self.config.average_decay))

    def after_epoch(self, epoch: int) -> None:
        """Called with the number of the finished epoch, counted from 0."""
        if self.config.average == "swa" and epoch >= self.config.first_averaged:
            self._move(1 / (1 + self.updates))

    @torch.no_grad()
    def _move(self, share: Tensor) -> None:
        """Go a share of the way to the present weights; counters become the present ones."""
        for name, value in self._present.items():
            if value.is_floating_point():
                self.values[name].lerp_(value, share.to(value.dtype))
            else:
                self.values[name].copy_(value)
        self.updates += 1

    def install(self) -> None:
        """Give the network the average."""
        self.network.load_state_dict(self.values)

    def changing(self) -> list[Tensor]:
        """Tensors that an update changes."""
        return [*self.values.values(), self.updates]

    def state(self) -> dict[str, Any]:
        return {"values": self.values, "updates": self.updates}

    def restore(self, state: Mapping[str, Any]) -> None:
        for name, value in state["values"].items():
            self.values[name].copy_(value)
        self.updates.copy_(state["updates"])


def average_of(network: nn.Module, config: TrainingConfig) -> WeightAverage | None:
    """The average that a training keeps; None: it delivers its last weights."""
    return None if config.average == "none" else WeightAverage(network, config)


def recalibrate(network: nn.Module, passes: Iterable[Callable[[], object]]) -> None:
    """Measure the running statistics of batch normalisation anew: their mean over some passes, in train mode.

    Passes of a recipe's loss on an epoch of batches give those of the images that it trains on, attacked ones too.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [part.momentum for part in norms]
    for part in norms:
        part.momentum = None  # the mean of all batches
        if part.num_batches_tracked is not None:
            part.num_batches_tracked.zero_()
    network.train()
    for forward in passes:
        forward()
    for part, momentum in zip(norms, momenta, strict=True):
        part.momentum = momentum
