"""Recipes that train on attacked images: an attack, and a loss of the answers to what it made."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import reduce
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["AdversarialRecipe", "Heads", "cross_entropy", "sign_steps"]

Heads = Callable[[Tensor], Sequence[tuple[float, Tensor]]]
"""(B, C, H, W) images -> (weight, (B, K) logits) of every head of a network, its own one first."""


class AdversarialRecipe(ABC):
    """A training recipe: the loss of each head on images that were attacked through the network's own answers.

    With the network in train mode; it comes back in the mode that it was in, and so do flags and, but for the passes
    of the loss, running statistics.
    """

    name: ClassVar[str]
    reads_clean: ClassVar[bool] = False
    """Whether the loss needs answers to the clean images, too."""

    @abstractmethod
    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """Attacked images, detached; `images` itself, and nothing drawn, where the settings leave nothing to attack."""

    @abstractmethod
    def loss(self, attacked: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        """() loss of a head, float32, from its (B, K) logits; `clean` are those of `attacked` unless `reads_clean`."""

    def minimised(self, network: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
        """() loss whose gradient the step follows, from the one on a batch that is attacked already."""
        return loss()

    def unperturbed(self) -> "AdversarialRecipe":
        """The recipe at the weights themselves, by which batch statistics are measured."""
        return self

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, float32."""
        return self.of_heads(network, lambda batch: [(1.0, network(batch))], images, labels, generator)

    def of_heads(
        self, network: nn.Module, heads: Heads, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        """() weighted sum of the losses of all heads, on one attack through the network's own head."""
        return self.of_attacked(network, heads, self.attack(network, images, labels, generator), images, labels)

    def of_attacked(self, network: nn.Module, heads: Heads, attacked: Tensor, images: Tensor, labels: Tensor) -> Tensor:
        """() weighted sum of the losses of all heads, on what `attack` made of the images."""

        def loss() -> Tensor:
            if attacked is images:
                return reduce(torch.add, [weight * cross_entropy(logits, labels) for weight, logits in heads(images)])
            clean = heads(images) if self.reads_clean else None
            found = heads(attacked)
            pairs = zip(found, clean or found, strict=True)
            return reduce(torch.add, [weight * self.loss(mine, own, labels) for (weight, mine), (_, own) in pairs])

        return self.minimised(network, loss)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """() mean cross-entropy, float32."""
    return functional.cross_entropy(logits.float(), labels)


def sign_steps(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    *,
    epsilon: float,
    step: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Attacked images: steps of the sign of the cross-entropy's gradient, from a random start in the whole ball.

    delta ~ U(-epsilon, epsilon), clipped to the range of pixels; then, `steps` times, delta += step * sign(gradient),
    clipped to the ball and to the range again. The last iterate counts.

    Calls `forward` in the current mode of its network, and differentiates the images alone. A call in train mode
    updates batch statistics unless the caller prevents it: see `untouched`.

    Args:
        forward: (B, C, H, W) images in [0, 1] -> (B, K) logits.
        labels: (B,) true classes.
        epsilon: radius of the L-inf ball, pixels in [0, 1]; 0 gives the clean images.
        generator: randomness of the start, on the device of `images`.
    Returns:
        (B, C, H, W) detached, in [0, 1], within `epsilon` of `images`.
    """
    clean = images.detach()
    noise = torch.empty_like(clean, memory_format=torch.contiguous_format)  # the same draws for any memory layout
    noise.uniform_(-epsilon, epsilon, generator=generator)
    attacked = (clean + noise).clamp(0, 1)
    for _ in range(steps):
        with torch.enable_grad():
            leaf = attacked.requires_grad_()
            (gradient,) = torch.autograd.grad(cross_entropy(forward(leaf), labels), leaf)
        moved = leaf.detach() + step * gradient.sign()
        attacked = torch.clamp(moved, clean - epsilon, clean + epsilon).clamp(0, 1)
    return attacked
