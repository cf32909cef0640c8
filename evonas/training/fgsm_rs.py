"""Fast adversarial training: one step of the sign of the gradient from a random start (Wong et al., 2020)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.errors import ConfigurationError
from evonas.ranges import check_radius
from evonas.training.adversarial import AdversarialRecipe, cross_entropy, sign_steps
from evonas.training.attacking import untouched

__all__ = ["FastAdversarial", "fast_adversarial_images"]


def fast_adversarial_images(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    step: float,
    generator: torch.Generator,
) -> Tensor:
    """Images of `sign_steps` after one step; one of 1.25 epsilon leaves the ball from most starts, and is clipped.

    Args:
        forward, images, labels, epsilon, step, generator: as `sign_steps` takes them.
    Returns:
        (B, C, H, W) detached, in [0, 1], within `epsilon` of `images`.
    """
    return sign_steps(forward, images, labels, epsilon=epsilon, step=step, steps=1, generator=generator)


@dataclass(frozen=True, kw_only=True)
class FastAdversarial(AdversarialRecipe):
    """A training recipe: cross-entropy on the images of `fast_adversarial_images` alone (Wong et al., 2020).

    E2RNAS v1, Eq. 3, has the same loss within 2/255. The attack sees the network in train mode, with the statistics of
    the batch, as in the authors' code; unlike there, its forward pass does not change the running statistics, which
    come from the attacked images alone.
    """

    epsilon: float = 8 / 255
    """Radius of the L-inf ball, pixels in [0, 1]; 0: plain training (Wong et al., CIFAR-10)."""
    step: float | None = None
    """Length of the step; None: 1.25 epsilon (10/255 there)."""

    name: ClassVar[str] = "fast_adversarial"

    def __post_init__(self) -> None:
        check_radius(self.epsilon)
        if not (self.step is None or self.step > 0):
            raise ConfigurationError(f"expected a step > 0, got {self.step}")

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.epsilon:
            return images
        step = 1.25 * self.epsilon if self.step is None else self.step
        with untouched(network):
            return fast_adversarial_images(network, images, labels, self.epsilon, step, generator)

    def loss(self, attacked: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(attacked, labels)
