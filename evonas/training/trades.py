"""TRADES: cross-entropy on clean images plus the divergence of predictions under attack (Zhang et al., 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.ranges import RADIUS
from evonas.training.attacking import attacking

__all__ = ["Trades", "divergence", "trades_loss"]

START_DEVIATION = 0.001
"""Standard deviation of the normal noise at the start of an attack (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class Trades:
    """A training recipe: projected gradient steps maximise the divergence between clean and attacked predictions.

    The attack runs in eval mode; the loss in train mode, with gradients through both of its terms.
    """

    epsilon: float = 0.031
    """Radius of the L-inf ball, pixels in [0, 1]."""
    step: float = 0.007
    steps: int = 10
    balance: float = 1.0
    """lambda in Eq. 3 of TAM-NAS, the divisor of the divergence; beta in TRADES is its inverse (6 there)."""

    name: ClassVar[str] = "trades"

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.step, self.balance, {"steps": self.steps})

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, float32; leaves the network in train mode."""
        with attacking(network):
            with torch.no_grad():
                probabilities = functional.softmax(network(images).float(), dim=1)
            attacked = images + start(images, generator)
            for _ in range(self.steps):
                attacked = attacked.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(divergence(network(attacked), probabilities, "sum"), attacked)
                attacked = attacked.detach() + self.step * gradient.sign()
                attacked = torch.clamp(attacked, images - self.epsilon, images + self.epsilon).clamp(0, 1)
        network.train()
        return trades_loss(network, images, attacked.detach(), labels, self.balance)


def trades_loss(network: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor, balance: float) -> Tensor:
    """() mean cross-entropy on clean images plus the mean divergence of attacked predictions over `balance`."""
    logits = network(images).float()
    distance = divergence(network(attacked), functional.softmax(logits, dim=1), "batchmean")
    return functional.cross_entropy(logits, labels) + distance / balance


def divergence(logits: Tensor, probabilities: Tensor, reduction: str) -> Tensor:
    """() KL(probabilities || softmax(logits)), in the precision of `probabilities`, which is float32 in training.

    Args:
        reduction: `sum` over the batch, or `batchmean`.
    """
    logits = logits.to(probabilities.dtype)
    return functional.kl_div(functional.log_softmax(logits, dim=1), probabilities, reduction=reduction)


def start(images: Tensor, generator: torch.Generator) -> Tensor:
    """Noise at the start of an attack, of the shape of the images."""
    noise = torch.empty_like(images, memory_format=torch.contiguous_format)
    return START_DEVIATION * noise.normal_(generator=generator)


def check_radius(epsilon: float, step: float, balance: float, counts: dict[str, int]) -> None:
    """ConfigurationError unless the settings of a recipe's attack are in range."""
    RADIUS.check("epsilon", epsilon)
    if not step > 0 or not balance > 0:
        raise ConfigurationError(f"expected step > 0 and balance > 0, got {step} and {balance}")
    for name, value in counts.items():
        if value < 1:
            raise ConfigurationError(f"expected {name} >= 1, got {value}")
