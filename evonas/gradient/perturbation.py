"""Weights trained at the worst architecture nearby: SDARTS-ADV and PC-DARTS-ADV (Chen and Hsieh, 2020)."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evonas.errors import ConfigurationError
from evonas.gradient.architecture import Mixture

__all__ = ["AlphaPerturbation", "worst_mixture"]


@dataclass(frozen=True, kw_only=True)
class AlphaPerturbation:
    """The lower level is min_w max_d L_train(w, A + d) with A = softmax(alpha) and |d| <= epsilon.

    Our reading, as in the authors' code: the shares of operations are attacked, after the softmax; edges' weights of
    PC-DARTS are left alone; PGD takes 7 steps of 2 epsilon / 7 from a random start; shares that leave [0, 1] are cut,
    and every edge's are brought back to a sum of 1. The radius grows on a line over the epochs. Unlike there, the
    attack sees the batch's statistics, as our other attacks on a supernet do.
    """

    epsilon: float = 0.3
    """L-inf radius that the last epoch comes near."""
    start: float = 0.03
    """That of the first epoch, or epsilon, where that is less."""
    steps: int = 7

    def __post_init__(self) -> None:
        if not 0 < self.epsilon <= 1 or not 0 < self.start <= 1 or self.steps < 1:
            raise ConfigurationError(
                f"expected a perturbation of alpha in (0, 1] and steps >= 1, got {self.epsilon}, {self.start} and "
                f"{self.steps}"
            )

    def radius(self, epoch: int, epochs: int) -> float:
        """Of an epoch, counted from 0."""
        start = min(self.start, self.epsilon)
        return start + (self.epsilon - start) * epoch / epochs


def worst_mixture(
    loss: Callable[[Mixture], Tensor], mixture: Mixture, radius: float, steps: int, generator: torch.Generator
) -> Mixture:
    """Shares of operations within an L-inf ball that make a loss large.

    Args:
        loss: of a mixture, () and differentiable in it.
        generator: of the start, on the mixture's device.
    Returns:
        Without a gradient; shares in [0, 1] that sum to 1 over every edge's operations. Normalising may take a share a
        little out of the ball, as in the authors' code.
    """
    clean = [mixture.normal.detach(), mixture.reduce.detach()]
    found = []
    for shares in clean:
        drawn = torch.empty_like(shares).uniform_(-radius, radius, generator=generator)
        found.append(_shares(shares + drawn))
    for _ in range(steps):
        with torch.enable_grad():
            asked = [shares.requires_grad_() for shares in found]
            gradients = torch.autograd.grad(loss(_with(mixture, asked)), asked)
        moved = [s.detach() + 2 * radius / steps * g.sign() for s, g in zip(asked, gradients, strict=True)]
        found = [_shares(c + (m - c).clamp(-radius, radius)) for c, m in zip(clean, moved, strict=True)]
    return _with(mixture, found)


def _with(mixture: Mixture, shares: list[Tensor]) -> Mixture:
    return replace(mixture, normal=shares[0], reduce=shares[1])


def _shares(values: Tensor) -> Tensor:
    """(edges, kept) in [0, 1] with rows of sum 1; a row that is cut to 0 becomes its largest value alone."""
    cut = values.clamp(0, 1)
    total = cut.sum(dim=1, keepdim=True)
    largest = torch.nn.functional.one_hot(values.argmax(dim=1), values.shape[1]).to(values.dtype)
    return torch.where(total > 0, cut / total.where(total > 0, torch.ones_like(total)), largest)
