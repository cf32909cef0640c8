"""The one training loop; what is minimised is a recipe that it is given."""

import math
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from evonas.data import Augmentation, ImagePart, augmented
from evonas.devices import float32
from evonas.errors import DivergedError
from evonas.graphs import Graphed, moments
from evonas.training.averaging import average_of, recalibrate
from evonas.training.settings import TrainingConfig

__all__ = ["EpochRecipe", "OnStep", "Recipe", "Training", "TrainingConfig", "of_epoch", "train", "whole"]

Recipe = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""(network, images (B, C, H, W), labels (B,), generator) -> () loss to be minimised.

One that changes from epoch to epoch has a method `begin_epoch` besides: see `EpochRecipe`. On a CUDA device its steps
may be replayed, so within an epoch it decides nothing on the host by the values of tensors or by its own counts.
"""


@runtime_checkable
class EpochRecipe(Protocol):
    """A recipe that is told when an epoch begins."""

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor: ...
    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> Recipe | None:
        """The loss of an epoch, counted from 0, called before its first batch; None: the recipe itself."""
        ...


def of_epoch(recipe: Recipe, network: nn.Module, epoch: int, epochs: int) -> Recipe:
    """The loss of an epoch, whose recipe is told that it begins."""
    begun = recipe.begin_epoch(network, epoch, epochs) if isinstance(recipe, EpochRecipe) else None
    return begun or recipe


OnStep = Callable[[int, int, str], None]
"""(steps done, total steps, message) for the screen; called at most twice a second."""


class Training:
    """The training of one network, an epoch at a time; the same arguments give the same weights, also when continued.

    SGD with momentum, a learning rate that falls epoch by epoch, clipped gradients.

    Args:
        network: on the device of `part`; trained in place.
        config: with a resolved precision: `fp32`, `bf16` or `tf32`.
        generator: of order and augmentation, on the device of `part`.
    """

    def __init__(
        self,
        network: nn.Module,
        part: ImagePart,
        augmentation: Augmentation,
        config: TrainingConfig,
        recipe: Recipe,
        generator: torch.Generator,
    ) -> None:
        self.network = network.to(memory_format=torch.channels_last)
        self.part = part
        self.augmentation = augmentation
        self.config = config
        self.recipe = recipe
        self.generator = generator
        self.epoch = 0
        """Finished epochs."""
        self._shown = time.monotonic()
        self._weights = [p for p in network.parameters() if p.requires_grad]
        self._optimiser = torch.optim.SGD(
            self._weights, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay
        )
        self._schedule = _schedule(self._optimiser, config)
        self._average = average_of(self.network, config)
        self._loss = recipe
        self._step = Graphed("training")

    @property
    def epochs(self) -> int:
        return self.config.epochs

    def run_epoch(self, on_step: OnStep | None = None) -> float:
        """Train for one more epoch; the network stays in train mode.

        Returns:
            Mean loss of its batches.
        Raises:
            DivergedError: the loss left the finite numbers.
        """
        with float32(tf32=self.config.precision == "tf32"):
            return self._run_epoch(on_step)

    def _run_epoch(self, on_step: OnStep | None) -> float:
        config = self.config
        self.network.train()
        self._loss = of_epoch(self.recipe, self.network, self.epoch, config.epochs)
        self._step.renew()  # the learning rate is another one, and the recipe may be
        steps = math.ceil(len(self.part) / config.batch_size)
        total = torch.zeros((), device=self.part.device)
        for step, batch in enumerate(self.part.shuffled(config.batch_size, self.generator)):
            (loss,) = self._step(self._descend, *batch, state=self._changing, generators=(self.generator,))
            total += loss
            if on_step is not None and time.monotonic() - self._shown > 0.5:
                self._shown = time.monotonic()
                on_step(step + 1, steps, f"loss {float(total) / (step + 1):.3f}")
        self._schedule.step()
        if not math.isfinite(float(total)):
            raise DivergedError(f"training diverged: the loss of epoch {self.epoch + 1} is {float(total)}")
        if self._average is not None:
            self._average.after_epoch(self.epoch)
        self.epoch += 1
        if self.epoch == config.epochs:
            self._deliver()
        return float(total) / (step + 1)

    def _deliver(self) -> None:
        """Give the network the average of its weights, where one is kept."""
        if self._average is None:
            return
        self._average.install()
        if self.config.average == "swa":
            if hasattr(self._loss, "unperturbed"):
                self._loss = self._loss.unperturbed()
            batches = self.part.shuffled(self.config.batch_size, self.generator)
            recalibrate(self.network, (partial(self._batch_loss, *batch) for batch in batches))

    def _descend(self, images: Tensor, labels: Tensor) -> tuple[Tensor]:
        """One step on a batch of a part; its loss."""
        loss = self._batch_loss(images, labels)
        self._optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self._weights, self.config.grad_clip)
        self._optimiser.step()
        if self._average is not None:
            self._average.after_step()
        return (loss.detach(),)

    def _batch_loss(self, images: Tensor, labels: Tensor) -> Tensor:
        pixels = augmented(images, self.augmentation, self.generator)
        with torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            return self._loss(self.network, pixels, labels, self.generator)

    def _changing(self) -> list[Tensor]:
        """Tensors that a step changes."""
        averaged = [] if self._average is None else self._average.changing()
        return [*self.network.parameters(), *self.network.buffers(), *moments(self._optimiser), *averaged]

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `restore` continues from; training goes on changing the tensors."""
        return {
            "epoch": self.epoch,
            "network": self.network.state_dict(),
            "optimiser": self._optimiser.state_dict(),
            "schedule": self._schedule.state_dict(),
            "generator": self.generator.get_state(),
            **({} if self._average is None else {"average": self._average.state()}),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state` gave; what a recipe itself remembers from epoch to epoch is not in it."""
        self.network.load_state_dict(state["network"])
        self._optimiser.load_state_dict(state["optimiser"])
        self._schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"].cpu())
        if self._average is not None:
            self._average.restore(state["average"])
        self.epoch = int(state["epoch"])


def train(
    network: nn.Module,
    part: ImagePart,
    augmentation: Augmentation,
    config: TrainingConfig,
    recipe: Recipe,
    generator: torch.Generator,
    on_step: OnStep | None = None,
    on_epoch: Callable[[float], None] | None = None,
) -> None:
    """Train `network` in place from its first epoch to its last; it is left in eval mode.

    Args:
        on_step: told the steps of the whole training.
        on_epoch: told the mean loss of every epoch.
        network, part, augmentation, config, recipe, generator: as `Training` takes them.
    Raises:
        DivergedError: the loss left the finite numbers.
    """
    training = Training(network, part, augmentation, config, recipe, generator)
    while training.epoch < config.epochs:
        loss = training.run_epoch(None if on_step is None else whole(on_step, training.epoch, config.epochs))
        if on_epoch is not None:
            on_epoch(loss)
    network.eval()


def whole(on_step: OnStep, epoch: int, epochs: int) -> OnStep:
    """Steps within an epoch, told to `on_step` as steps of all epochs."""

    def told(done: int, steps: int, note: str) -> None:
        on_step(epoch * steps + done, epochs * steps, f"epoch {epoch + 1}/{epochs}, {note}")

    return told


def _schedule(optimiser: torch.optim.Optimizer, config: TrainingConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.cyclic:
        return torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda epoch: 1 - abs(2 * (epoch + 0.5) / config.epochs - 1)
        )
    if config.milestones:
        return torch.optim.lr_scheduler.MultiStepLR(optimiser, config.milestones)
    if config.lr_decay < 1:
        return torch.optim.lr_scheduler.ExponentialLR(optimiser, config.lr_decay)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
