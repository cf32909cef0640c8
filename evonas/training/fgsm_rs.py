"""Fast adversarial training: one step of the sign of the gradient from a random start (Wong et al., 2020)."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.ranges import check_radius

__all__ = ["FastAdversarial", "fast_adversarial_images", "untouched"]


def fast_adversarial_images(
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    step: float,
    generator: torch.Generator,
) -> Tensor:
    """Attacked images: one step of the sign of the cross-entropy's gradient, from a random start in the whole ball.

    delta ~ U(-epsilon, epsilon), clipped to the range of pixels; delta += step * sign(gradient); then clipped to the
    ball and to the range again. A step of 1.25 epsilon leaves the ball from most starts, and is clipped there.

    Calls `forward` once, in the current mode of its network, and differentiates the images alone. A call in train mode
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
    with torch.enable_grad():
        start = (clean + noise).clamp(0, 1).requires_grad_()
        loss = functional.cross_entropy(forward(start).float(), labels)
        (gradient,) = torch.autograd.grad(loss, start)
    moved = start.detach() + step * gradient.sign()
    return torch.clamp(moved, clean - epsilon, clean + epsilon).clamp(0, 1)


@contextlib.contextmanager
def untouched(network: nn.Module) -> Iterator[nn.Module]:
    """A context in which forward passes change no running statistics and need no gradients of weights; modes stay.

    Modules in train mode write to copies of their buffers: batch normalisation uses the statistics of its batch as
    always, and its updates are discarded. On exit, also by an error, the buffers are the same tensors with the same
    values, so a backward pass through an older graph still works.
    """
    buffers = [
        (part, name, buffer)
        for part in network.modules()
        if part.training
        for name, buffer in part.named_buffers(recurse=False)
    ]
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    try:
        for part, name, buffer in buffers:
            setattr(part, name, buffer.clone())
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield network
    finally:
        for part, name, buffer in buffers:
            setattr(part, name, buffer)
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@dataclass(frozen=True, kw_only=True)
class FastAdversarial:
    """A training recipe: cross-entropy on the images of `fast_adversarial_images` alone (E2RNAS v1, Eq. 3).

    The attack sees the network in train mode, with the statistics of the batch, as in the authors' code; unlike there,
    its forward pass does not change the running statistics, which come from the attacked images alone.
    """

    epsilon: float = 2 / 255
    """Radius of the L-inf ball, pixels in [0, 1] (E2RNAS v1, IV)."""
    step: float | None = None
    """Length of the step; None: 1.25 epsilon."""

    name: ClassVar[str] = "fast_adversarial"

    def __post_init__(self) -> None:
        check_radius(self.epsilon)
        if not (self.step is None or self.step > 0):
            raise ConfigurationError(f"expected a step > 0, got {self.step}")

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, float32."""
        step = 1.25 * self.epsilon if self.step is None else self.step
        with untouched(network):
            attacked = fast_adversarial_images(network, images, labels, self.epsilon, step, generator)
        return functional.cross_entropy(network(attacked).float(), labels)
