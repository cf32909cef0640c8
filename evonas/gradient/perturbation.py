"""Weights trained at an adversarial architecture nearby: SDARTS-ADV and PC-DARTS-ADV (Chen and Hsieh, 2020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from evonas.errors import ConfigurationError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evonas.gradient.architecture import Mixture

__all__ = ["AlphaPerturbation", "worst_mixture"]


@dataclass(frozen=True, kw_only=True)
class AlphaPerturbation:
    """The lower level is min_w max_d L_train(w, A + d) with A = softmax(alpha) and |d| <= epsilon.

    As in the authors' code, the attack changes the shares of operations after the softmax, not the edge weights of
    PC-DARTS; PGD takes 7 steps of 2 epsilon / 7 from a random start; shares are clipped to [0, 1] and those of every
    edge normalised to a sum of 1. The radius grows linearly over the epochs. Unlike there, the attack uses the
    statistics of the batch, as the other attacks on a supernet do here.
    """

    epsilon: float = 0.3
    """L-inf radius after the last epoch."""
    start: float = 0.03
    """Radius of the first epoch, at most epsilon."""
    steps: int = 7
    """Steps of PGD."""

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1 or not 0 < self.start <= 1 or self.steps < 1:
            raise ConfigurationError(
                f"expected a perturbation of alpha in (0, 1] and steps >= 1, got {self.epsilon}, {self.start} and "
                f"{self.steps}"
            )

    def radius(self, epoch: int, epochs: int) -> float:
        """L-inf radius of an epoch, counted from 0."""
        start = min(self.start, self.epsilon)
        return start + (self.epsilon - start) * epoch / epochs


def worst_mixture(
    loss: Callable[[Mixture], Tensor], mixture: Mixture, radius: float, steps: int, generator: torch.Generator
) -> Mixture:
    """Shares of operations within an L-inf ball that make a loss large.

    Args:
        loss: from a mixture to () loss, differentiable.
        generator: randomness of the start, on the device of the mixture.
    Returns:
        The mixture, detached, with shares in [0, 1] that sum to 1 over the operations of every edge. Normalisation may
        move a share slightly out of the ball, as in the authors' code.
    """
    import torch

    clean = [mixture.normal.detach(), mixture.reduce.detach()]
    attacked = []
    for shares in clean:
        noise = torch.empty_like(shares).uniform_(-radius, radius, generator=generator)
        attacked.append(_normalised(shares + noise))
    for _ in range(steps):
        with torch.enable_grad():
            leaves = [shares.requires_grad_() for shares in attacked]
            gradients = torch.autograd.grad(loss(_with(mixture, leaves)), leaves)
        moved = [s.detach() + 2 * radius / steps * g.sign() for s, g in zip(leaves, gradients, strict=True)]
        attacked = [_normalised(c + (m - c).clamp(-radius, radius)) for c, m in zip(clean, moved, strict=True)]
    return _with(mixture, attacked)


def _with(mixture: Mixture, shares: list[Tensor]) -> Mixture:
    return replace(mixture, normal=shares[0], reduce=shares[1])


def _normalised(values: Tensor) -> Tensor:
    """(edges, kept) in [0, 1] with rows of sum 1; a row without a positive value becomes one-hot at its largest."""
    import torch

    clipped = values.clamp(0, 1)
    total = clipped.sum(dim=1, keepdim=True)
    largest = torch.nn.functional.one_hot(values.argmax(dim=1), values.shape[1]).to(values.dtype)
    return torch.where(total > 0, clipped / total.where(total > 0, torch.ones_like(total)), largest)
