"""Adversarial training by projected gradient descent (Madry et al., 2018)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.errors import ConfigurationError
from evonas.ranges import check_radius
from evonas.training.adversarial import AdversarialRecipe, cross_entropy, sign_steps
from evonas.training.attacking import untouched

__all__ = ["PgdTraining"]


@dataclass(frozen=True, kw_only=True)
class PgdTraining(AdversarialRecipe):
    """A training recipe: cross-entropy on the images of `sign_steps` alone (Madry et al., 2018, Eq. 2.1).

    The defaults are those of the paper's CIFAR-10 networks: 7 steps of 2/255 within 8/255 from a random start. The
    attack sees the network in train mode, with the statistics of the batch, as in the authors' code; unlike there, its
    passes do not change the running statistics, which come from the attacked images alone.
    """

    epsilon: float = 8 / 255
    """Radius of the L-inf ball, pixels in [0, 1]; 0: plain training."""
    step: float = 2 / 255
    """Length of a step."""
    steps: int = 7

    name: ClassVar[str] = "pgd_at"

    def __post_init__(self) -> None:
        check_radius(self.epsilon)
        if not self.step > 0 or self.steps < 1:
            raise ConfigurationError(f"expected step > 0 and steps >= 1, got {self.step} and {self.steps}")

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.epsilon:
            return images
        step, steps = self.step, self.steps
        with untouched(network):
            return sign_steps(
                network, images, labels, epsilon=self.epsilon, step=step, steps=steps, generator=generator
            )

    def loss(self, attacked: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(attacked, labels)
