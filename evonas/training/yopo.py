"""TRADES-YOPO: most attack steps run through the first layer only (Zhang et al., 2019, You Only Propagate Once)."""

import contextlib
import weakref
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.training.adversarial import AdversarialRecipe, Heads
from evonas.training.attacking import attacking
from evonas.training.fast_layers import fast_layers
from evonas.training.trades import check_radius, divergence, start, trades_loss

__all__ = ["TradesYopo", "split_first_layer", "trades_yopo_perturbation", "yopo_step"]


_CUT: weakref.WeakSet[nn.Module] = weakref.WeakSet()
"""Networks of which `split_first_layer` has seen that only the first convolution reads the images."""


def yopo_step(epsilon: float) -> float:
    """Length of an inner step: 0.007 for a radius of 0.031 (the authors' code), proportional for other radii."""
    return max(0.007 / 0.031 * epsilon, 1e-12)


def trades_yopo_perturbation(
    first_layer: Callable[[Tensor], Tensor],
    rest: Callable[[Tensor], Tensor],
    images: Tensor,
    probabilities: Tensor,
    eta0: Tensor,
    m: int,
    n: int,
    step: float,
    epsilon: float,
    closed: bool = True,
) -> Tensor:
    """Perturbation of TRADES-YOPO-m-n: m passes through the whole network, n first-layer steps after each.

    With p = -d KL(probabilities || softmax(rest(first_layer(x + eta)))) / d first_layer(x + eta), each of the n steps
    lowers H(eta) = <first_layer(clamp(x + eta, 0, 1)), p>: eta -= step * sign(dH / d eta), then eta is clipped to the
    ball and x + eta to [0, 1]. The first layer is linear, so dH / d eta is the same for all n steps except at clamped
    pixels: one backward pass through the first layer serves all of them. Computes no gradients of weights.

    Args:
        first_layer: affine, such as a convolution.
        rest: from the output of `first_layer` to (B, K) logits.
        images: (B, C, H, W) in [0, 1].
        probabilities: (B, K) predictions for the clean images.
        eta0: (B, C, H, W) start.
        closed: the derivative of clamping is 1 on the closed interval, so that saturated pixels step at once; False: at
            its bounds it is what this version of torch takes.
    Returns:
        (B, C, H, W) with |eta| <= epsilon and x + eta in [0, 1].
    """
    eta = eta0.detach()
    for _ in range(m):
        with torch.enable_grad():
            pixels = (images + eta).detach().requires_grad_()
            maps = first_layer(pixels)
            leaf = maps.detach().requires_grad_()
            (slope,) = torch.autograd.grad(divergence(rest(leaf), probabilities, "sum"), leaf)
            (gradient,) = torch.autograd.grad(maps, pixels, -slope)
        descent = step * gradient.sign()
        for _ in range(n):
            moved = images + eta
            eta = eta - descent * ((moved >= 0) & (moved <= 1) if closed else _clamp_gradient(moved))
            eta = (images + eta.clamp(-epsilon, epsilon)).clamp(0, 1) - images
    return eta


def _clamp_gradient(pixels: Tensor) -> Tensor:
    """Gradient of clamping to [0, 1] as this version of torch has it: some pass none at the bounds."""
    with torch.enable_grad():
        leaf = pixels.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(leaf.clamp(0, 1).sum(), leaf)
    return gradient


@dataclass(frozen=True, kw_only=True)
class TradesYopo(AdversarialRecipe):
    """A training recipe: the loss of TRADES with the attack of `trades_yopo_perturbation` (TAM-NAS, III-D)."""

    epsilon: float = 8 / 255
    """Radius of the L-inf ball, pixels in [0, 1]; 0: plain training."""
    step: float = 0.007
    m: int = 5
    """Passes through the whole network; m x n should slightly exceed the number of attack steps it replaces."""
    n: int = 3
    """First-layer steps after each of them."""
    balance: float = 1.0
    """lambda in Eq. 3 of TAM-NAS, the divisor of the divergence."""

    closed: bool = True
    """Whether saturated pixels step at once, and layers take the faster kernels of `fast_layers` on a CPU; False: as
    version 0.1.0, by what this version of torch takes."""

    name: ClassVar[str] = "trades_yopo"
    reads_clean: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.step, self.balance, {"m": self.m, "n": self.n})

    def identity(self) -> dict[str, Any]:
        """Its settings; those of version 0.1.0 say nothing of clamping, nor of kernels, which came with it."""
        settings = {name: value for name, value in asdict(self).items() if name != "closed"}
        return {**settings, "clamp": "closed"} if self.closed else settings

    def of_heads(
        self, network: nn.Module, heads: Heads, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        faster = self.closed and self.epsilon > 0 and images.device.type == "cpu"
        with fast_layers(network) if faster else contextlib.nullcontext():
            return super().of_heads(network, heads, images, labels, generator)

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.epsilon:
            return images
        with attacking(network):
            with torch.no_grad():
                probabilities = functional.softmax(network(images).float(), dim=1)
            parts = split_first_layer(network, images)
            m, n, step, epsilon = self.m, self.n, self.step, self.epsilon
            eta0 = start(images, generator)
            eta = trades_yopo_perturbation(*parts, images, probabilities, eta0, m, n, step, epsilon, self.closed)
        return (images + eta).clamp(0, 1)

    def loss(self, attacked: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        return trades_loss(attacked, clean, labels, balance=self.balance)


def split_first_layer(
    network: nn.Module, images: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """(first layer, rest) of a network in which only the first convolution reads the normalised images.

    Args:
        images: any images of the shape that `rest` will run on.
    Raises:
        ConfigurationError: a network without convolution; from `rest`: another layer reads the images as well.
    """
    convolution = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    if convolution is None:
        raise ConfigurationError(f"expected a network with a convolution, got {type(network).__name__}")
    normalize = getattr(network, "normalize", nn.Identity())
    unread = torch.full_like(images, torch.nan)  # logits become nan if any other layer reads the images

    def first_layer(pixels: Tensor) -> Tensor:
        maps: Tensor = convolution(normalize(pixels))
        return maps

    def rest(maps: Tensor) -> Tensor:
        logits = logits_of(maps, unread)
        if network not in _CUT:
            if bool(logits.isnan().any()) and not bool(logits_of(maps, torch.zeros_like(images)).isnan().any()):
                raise ConfigurationError(
                    f"expected a network whose first convolution alone reads the normalised images, "
                    f"{type(network).__name__} is another; TRADES trains any network"
                )
            _CUT.add(network)
        return logits

    def logits_of(maps: Tensor, pixels: Tensor) -> Tensor:
        own = convolution.__dict__.get("forward")
        convolution.forward = lambda _: maps  # type: ignore[method-assign, assignment]
        try:
            logits: Tensor = network(pixels)
        finally:
            del convolution.forward
            if own is not None:
                convolution.forward = own  # type: ignore[method-assign]
        return logits

    return first_layer, rest
