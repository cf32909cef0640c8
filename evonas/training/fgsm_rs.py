"""Fast adversarial training: one step of the gradient's sign from a random start (Wong et al., 2020)."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError

__all__ = ["FastAdversarial", "fast_adversarial_images", "untouched"]


def fast_adversarial_images(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    step: float,
    generator: torch.Generator,
) -> Tensor:
    """Images that one step of the sign of the cross-entropy's gradient has changed, from a start in the whole ball.

    delta ~ U(-epsilon, epsilon), cut to the images' range; delta += step * sign(gradient); then cut to the ball and to
    the range again. A step of 1.25 epsilon can cross the ball's border from most starts, and is cut there.

    `forward` is called once, in whatever mode its network is in, and nothing but the images is differentiated. What
    that call does to batch statistics is the caller's to prevent: see `untouched`.

    Args:
        forward: (B, C, H, W) images in [0, 1] -> (B, K) logits.
        labels: (B,) true classes.
        epsilon: radius of the L-inf ball, pixels in [0, 1]; 0 gives the clean images.
        generator: of the start, on the device of `images`.
    Returns:
        (B, C, H, W) without a gradient, in [0, 1], nowhere farther than `epsilon` from `images`.
    """
    clean = images.detach()
    noise = torch.empty_like(clean, memory_format=torch.contiguous_format)  # drawn alike whatever the layout
    noise.uniform_(-epsilon, epsilon, generator=generator)
    with torch.enable_grad():
        start = (clean + noise).clamp(0, 1).requires_grad_()
        loss = functional.cross_entropy(forward(start).float(), labels)
        (gradient,) = torch.autograd.grad(loss, start)
    moved = start.detach() + step * gradient.sign()
    return torch.clamp(moved, clean - epsilon, clean + epsilon).clamp(0, 1)


@contextlib.contextmanager
def untouched(network: nn.Module) -> Iterator[nn.Module]:
    """Within, forward passes leave running statistics alone and ask for no gradients of weights; modes stay.

    Modules in train mode write to copies of their buffers: batch normalisations use their batch's statistics, as ever,
    and what they note down is lost. Afterwards the buffers are the same tensors with the same values, whatever
    happens; older graphs through the network can still be gone backward through.
    """
    kept = [
        (part, name, buffer)
        for part in network.modules()
        if part.training
        for name, buffer in part.named_buffers(recurse=False)
    ]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for part, name, buffer in kept:
            setattr(part, name, buffer.clone())
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield network
    finally:
        for part, name, buffer in kept:
            setattr(part, name, buffer)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@dataclass(frozen=True, kw_only=True)
class FastAdversarial:
    """A training recipe: cross-entropy on the images of `fast_adversarial_images` alone (E2RNAS v1, Eq. 3).

    The attack sees the network in the mode in which it is trained, with its batch's statistics, as in the authors'
    code; unlike there, its forward pass leaves the running statistics alone: they are those of the attacked images.
    """

    epsilon: float = 2 / 255
    """Radius of the L-inf ball, pixels in [0, 1] (E2RNAS v1, IV)."""
    step: float | None = None
    """Length of the step; 1.25 epsilon unless given."""

    name: ClassVar[str] = "fast_adversarial"

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1 or not (self.step is None or self.step > 0):
            raise ConfigurationError(f"expected epsilon in [0, 1] and a step > 0, got {self.epsilon} and {self.step}")

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch."""
        step = 1.25 * self.epsilon if self.step is None else self.step
        with untouched(network):
            attacked = fast_adversarial_images(network, images, labels, self.epsilon, step, generator)
        return functional.cross_entropy(network(attacked).float(), labels)
