"""TRADES: cross-entropy on clean images, and closeness of the answers to attacked ones (Zhang et al., 2019)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.training.attacking import attacking

__all__ = ["Trades", "divergence", "trades_loss"]

NOISE = 0.001
"""Deviation of the normal noise that an attack starts from (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class Trades:
    """A training recipe: the perturbation climbs the divergence between answers, by projected gradient steps.

    The attack runs in eval mode; the loss is taken in train mode, with gradients through both of its terms.
    """

    epsilon: float = 0.031
    """Radius of the L-inf ball, pixels in [0, 1]."""
    step: float = 0.007
    steps: int = 10
    balance: float = 1.0
    """lambda of TAM-NAS's Eq. 3, which divides the divergence; TRADES's beta is one over it (6 there)."""

    name: ClassVar[str] = "trades"

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.step, self.balance, {"steps": self.steps})

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch; the network is left in train mode."""
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
    """() mean of cross-entropy on clean images and 1 / `balance` times the divergence of both answers."""
    logits = network(images).float()
    apart = divergence(network(attacked), functional.softmax(logits, dim=1), "batchmean")
    return functional.cross_entropy(logits, labels) + apart / balance


def divergence(logits: Tensor, probabilities: Tensor, reduction: str) -> Tensor:
    """() KL(probabilities || softmax(logits)), in the precision of `probabilities`, which is float32 in training.

    Args:
        reduction: `sum` over the batch, or `batchmean`.
    """
    logits = logits.to(probabilities.dtype)
    return functional.kl_div(functional.log_softmax(logits, dim=1), probabilities, reduction=reduction)


def start(images: Tensor, generator: torch.Generator) -> Tensor:
    """The noise that an attack starts from, of the images' shape."""
    noise = torch.empty_like(images, memory_format=torch.contiguous_format)
    return NOISE * noise.normal_(generator=generator)


def check_radius(epsilon: float, step: float, balance: float, counts: dict[str, int]) -> None:
    """ConfigurationError where an attack of a recipe makes no sense."""
    if not 0 <= epsilon <= 1 or not step > 0 or not balance > 0:
        raise ConfigurationError(
            f"expected epsilon in [0, 1], step > 0 and balance > 0, got {epsilon}, {step} and {balance}"
        )
    for name, value in counts.items():
        if value < 1:
            raise ConfigurationError(f"expected {name} >= 1, got {value}")
