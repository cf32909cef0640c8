"""The one training loop; what is minimised is a recipe that it is given."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from evonas.data import Augmentation, ImagePart, training_batches
from evonas.errors import ConfigurationError, DivergedError
from evonas.training.precision import PRECISIONS

__all__ = ["EpochRecipe", "OnEpoch", "OnStep", "Recipe", "TrainingConfig", "train"]

Recipe = Callable[[nn.Module, Tensor, Tensor, torch.Generator], Tensor]
"""(network, images (B, C, H, W), labels (B,), generator) -> () loss to be minimised.

One that changes from epoch to epoch has a method `begin_epoch` besides: see `EpochRecipe`.
"""


@runtime_checkable
class EpochRecipe(Protocol):
    """A recipe that is told when an epoch begins."""

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor: ...
    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Called before the first batch of every epoch, counted from 0, of so many."""
        ...


OnStep = Callable[[int, int, str], None]
"""(steps done, steps in all, one line) for the screen; called a few times a second at most."""

OnEpoch = Callable[[dict[str, Any]], None]
"""What training goes on from, after every epoch: `epoch` are done, `loss` is the mean of the last one's batches.

Tensors and plain values, for `torch.save`. The tensors are those that training changes: save or copy them at once.
"""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How a candidate is trained; the defaults are the paper's (RoCo-NAS, IV-A; NSGA-Net's search)."""

    epochs: int = 25
    """Passes over the train part (RoCo-NAS, Table II)."""
    batch_size: int = 128
    lr: float = 0.025
    """Learning rate of the first epoch; falls to 0 along a cosine, epoch by epoch, unless the next ones say more."""
    momentum: float = 0.9
    weight_decay: float = 3e-4
    milestones: tuple[int, ...] = ()
    """Epochs after which the learning rate is a tenth of what it was, instead of the cosine (TAM-NAS, IV-A)."""
    lr_decay: float = 1.0
    """Factor on the learning rate after every epoch, instead of the cosine (DARTS on ImageNet: 0.97); 1: none."""
    grad_clip: float = 5.0
    """Largest L2 norm of the gradient; inf: any."""
    precision: str = "auto"
    """auto, fp32 or bf16 (autocast with channels_last). auto takes bf16 where the hardware has it."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "lr", "grad_clip"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"expected {name} > 0, got {getattr(self, name)}")
        if self.batch_size < 2:  # batches of one image are left out, since batch statistics need two
            raise ConfigurationError(f"expected batch_size >= 2, got {self.batch_size}")
        if not 0 <= self.momentum < 1 or not self.weight_decay >= 0:
            raise ConfigurationError(
                f"expected 0 <= momentum < 1 and weight_decay >= 0, got {self.momentum} and {self.weight_decay}"
            )
        if list(self.milestones) != sorted({each for each in self.milestones if each > 0}):
            raise ConfigurationError(f"expected ascending milestones > 0, got {self.milestones}")
        if not 0 < self.lr_decay <= 1 or (self.lr_decay < 1 and self.milestones):
            raise ConfigurationError(
                f"expected lr_decay in (0, 1], and 1 with milestones, got {self.lr_decay} and {self.milestones}"
            )
        if self.precision not in PRECISIONS:
            raise ConfigurationError(f"expected a precision of {', '.join(PRECISIONS)}, got {self.precision!r}")

    def identity(self) -> dict[str, Any]:
        """The settings as plain values; milestones and lr_decay only where they are used."""
        unused = {"milestones": (), "lr_decay": 1.0}
        return {name: value for name, value in asdict(self).items() if name not in unused or value != unused[name]}


def train(
    network: nn.Module,
    part: ImagePart,
    augmentation: Augmentation,
    config: TrainingConfig,
    recipe: Recipe,
    generator: torch.Generator,
    on_step: OnStep | None = None,
    on_epoch: OnEpoch | None = None,
    begun: Mapping[str, Any] | None = None,
) -> None:
    """Train `network`, which lives on the device of `part`, in place; it is left in eval mode.

    SGD with momentum, a learning rate that falls epoch by epoch, clipped gradients.

    Args:
        config: with a resolved precision, `fp32` or `bf16`.
        generator: of order and augmentation, on the device of `part`.
        begun: what `on_epoch` was given, of the same training: goes on from there, on the CPU bit for bit. What a
            recipe remembers from epoch to epoch is not in it.
    Raises:
        DivergedError: the loss left the finite numbers.
    """
    device = part.device
    network.to(memory_format=torch.channels_last)
    network.train()
    parameters = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.SGD(parameters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay)
    schedule = _schedule(optimiser, config)
    first = 0 if begun is None else _restored(begun, network, optimiser, schedule, generator)
    steps = math.ceil(len(part) / config.batch_size)
    shown = time.monotonic()
    for epoch in range(first, config.epochs):
        if isinstance(recipe, EpochRecipe):
            recipe.begin_epoch(network, epoch, config.epochs)
        total = torch.zeros((), device=device)
        for step, (images, labels) in enumerate(training_batches(part, config.batch_size, augmentation, generator)):
            with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
                loss = recipe(network, images, labels, generator)
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(parameters, config.grad_clip)
            optimiser.step()
            total += loss.detach()
            if on_step is not None and time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                note = f"epoch {epoch + 1}/{config.epochs}, loss {float(total) / (step + 1):.3f}"
                on_step(epoch * steps + step + 1, config.epochs * steps, note)
        schedule.step()
        if not math.isfinite(float(total)):
            raise DivergedError(f"training diverged: the loss of epoch {epoch + 1} is {float(total)}")
        if on_epoch is not None:
            on_epoch(
                {
                    "epoch": epoch + 1,
                    "loss": float(total) / (step + 1),
                    "network": network.state_dict(),
                    "optimiser": optimiser.state_dict(),
                    "schedule": schedule.state_dict(),
                    "generator": generator.get_state(),
                }
            )
    network.eval()


def _restored(
    begun: Mapping[str, Any],
    network: nn.Module,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    generator: torch.Generator,
) -> int:
    """Epochs that are done; everything else is put where it was after them."""
    network.load_state_dict(begun["network"])
    optimiser.load_state_dict(begun["optimiser"])
    schedule.load_state_dict(begun["schedule"])
    generator.set_state(begun["generator"].cpu())
    return int(begun["epoch"])


def _schedule(optimiser: torch.optim.Optimizer, config: TrainingConfig) -> torch.optim.lr_scheduler.LRScheduler:
    if config.milestones:
        return torch.optim.lr_scheduler.MultiStepLR(optimiser, config.milestones)
    if config.lr_decay < 1:
        return torch.optim.lr_scheduler.ExponentialLR(optimiser, config.lr_decay)
    return torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, config.epochs)
