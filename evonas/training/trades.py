"""TRADES: cross-entropy on clean images plus the divergence of predictions under attack (Zhang et al., 2019)."""

from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.ranges import RADIUS
from evonas.training.adversarial import AdversarialRecipe
from evonas.training.attacking import attacking

__all__ = ["Trades", "divergence", "trades_loss"]

START_DEVIATION = 0.001
"""Standard deviation of the normal noise at the start of an attack (the authors' code)."""


@dataclass(frozen=True, kw_only=True)
class Trades(AdversarialRecipe):
    """A training recipe: projected gradient steps maximise the divergence between clean and attacked predictions.

    The defaults are those of the authors' code for CIFAR-10. The attack runs in eval mode, as there; the loss in the
    network's own mode, with gradients through both of its terms and both sides of the divergence.
    """

    epsilon: float = 0.031
    """Radius of the L-inf ball, pixels in [0, 1]; 0: plain training."""
    step: float = 0.007
    """Length of a step."""
    steps: int = 10
    beta: float = 6.0
    """Weight of the divergence; 0: plain training."""
    balance: float | None = None
    """Divisor of the divergence in place of beta: lambda in Eq. 3 of TAM-NAS."""

    name: ClassVar[str] = "trades"
    reads_clean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.step, 1.0 if self.balance is None else self.balance, {"steps": self.steps})
        if not 0 <= self.beta < float("inf"):
            raise ConfigurationError(f"expected beta >= 0, got {self.beta}")

    def identity(self) -> dict[str, Any]:
        """Its settings; of beta and balance the one that counts."""
        unused = "beta" if self.balance is not None else "balance"
        return {name: value for name, value in asdict(self).items() if name != unused}

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.epsilon or (not self.beta and self.balance is None):
            return images
        with attacking(network):
            with torch.no_grad():
                probabilities = functional.softmax(network(images).float(), dim=1)
            attacked = images + start(images, generator)
            for _ in range(self.steps):
                attacked = attacked.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(divergence(network(attacked), probabilities, "sum"), attacked)
                attacked = attacked.detach() + self.step * gradient.sign()
                attacked = torch.clamp(attacked, images - self.epsilon, images + self.epsilon).clamp(0, 1)
        return attacked.detach()

    def loss(self, attacked: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        return trades_loss(attacked, clean, labels, beta=self.beta, balance=self.balance)


def trades_loss(
    attacked: Tensor, clean: Tensor, labels: Tensor, *, beta: float = 1.0, balance: float | None = None
) -> Tensor:
    """() mean cross-entropy of clean logits plus `beta` times the mean divergence of attacked ones from them.

    Args:
        attacked, clean: (B, K) logits.
        balance: divisor of the divergence, in place of beta.
    """
    clean = clean.float()
    distance = divergence(attacked, functional.softmax(clean, dim=1), "batchmean")
    return functional.cross_entropy(clean, labels) + (beta * distance if balance is None else distance / balance)


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
