"""TRADES-YOPO: most steps of the attack stay in the first layer (Zhang et al., 2019, You Only Propagate Once)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.training.attacking import attacking
from evonas.training.trades import check_radius, divergence, start, trades_loss

__all__ = ["TradesYopo", "split_first_layer", "trades_yopo_perturbation", "yopo_step"]


def yopo_step(epsilon: float) -> float:
    """Length of an inner step: 0.007 for a radius of 0.031 (the authors' code), and in proportion."""
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
) -> Tensor:
    """The perturbation of TRADES-YOPO-m-n: m passes through the whole network, n steps in its first layer after each.

    With p = -d KL(probabilities || softmax(rest(first_layer(x + eta)))) / d first_layer(x + eta), each of the n steps
    lowers H(eta) = <first_layer(clamp(x + eta, 0, 1)), p>: eta -= step * sign(dH / d eta), then eta is cut to the ball
    and x + eta to [0, 1]. The first layer is linear, so dH / d eta is the same for all n steps but where the clamp
    holds a pixel: one backward pass through the first layer serves them all. Gradients of weights are left alone.

    Args:
        first_layer: affine, such as a convolution; `rest` takes what it gives to (B, K) logits.
        images: (B, C, H, W) in [0, 1]; probabilities: (B, K) answers to the clean images.
        eta0: (B, C, H, W) where it starts.
    Returns:
        (B, C, H, W) with |eta| <= epsilon and x + eta in [0, 1].
    """
    eta = eta0.detach()
    for _ in range(m):
        with torch.enable_grad():
            pixels = (images + eta).detach().requires_grad_()
            maps = first_layer(pixels)
            held = maps.detach().requires_grad_()
            (slope,) = torch.autograd.grad(divergence(rest(held), probabilities, "sum"), held)
            (gradient,) = torch.autograd.grad(maps, pixels, -slope)
        down = step * gradient.sign()
        for _ in range(n):
            eta = eta - down * _passed(images + eta)
            eta = (images + eta.clamp(-epsilon, epsilon)).clamp(0, 1) - images
    return eta


def _passed(pixels: Tensor) -> Tensor:
    """1 where clamping to [0, 1] passes a gradient and 0 elsewhere, at the bounds as this version of torch has it."""
    with torch.enable_grad():
        held = pixels.detach().requires_grad_()
        (passed,) = torch.autograd.grad(held.clamp(0, 1).sum(), held)
    return passed


@dataclass(frozen=True, kw_only=True)
class TradesYopo:
    """A training recipe: TRADES's loss with the attack of `trades_yopo_perturbation` (TAM-NAS, III-D)."""

    epsilon: float = 8 / 255
    """Radius of the L-inf ball, pixels in [0, 1]."""
    step: float = 0.007
    m: int = 5
    """Passes through the whole network; m x n a little more than the attack steps it stands for."""
    n: int = 3
    """Steps in the first layer after each of them."""
    balance: float = 1.0
    """lambda of TAM-NAS's Eq. 3, which divides the divergence."""

    name: ClassVar[str] = "trades_yopo"

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.step, self.balance, {"m": self.m, "n": self.n})

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch; the network is left in train mode."""
        with attacking(network):
            with torch.no_grad():
                probabilities = functional.softmax(network(images).float(), dim=1)
            parts = split_first_layer(network, images)
            eta0 = start(images, generator)
            eta = trades_yopo_perturbation(*parts, images, probabilities, eta0, self.m, self.n, self.step, self.epsilon)
        network.train()
        return trades_loss(network, images, (images + eta).clamp(0, 1), labels, self.balance)


def split_first_layer(
    network: nn.Module, images: Tensor
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """(first layer, rest) of a network whose first convolution reads the normalised images and nothing else does.

    Args:
        images: any of the shape that `rest` runs the network on.
    Raises:
        ConfigurationError: there is no convolution; from `rest`: something else reads the images, too.
    """
    convolution = next((part for part in network.modules() if isinstance(part, nn.Conv2d)), None)
    if convolution is None:
        raise ConfigurationError(f"expected a network with a convolution, got {type(network).__name__}")
    normalize = getattr(network, "normalize", nn.Identity())

    def first_layer(pixels: Tensor) -> Tensor:
        maps: Tensor = convolution(normalize(pixels))
        return maps

    def rest(maps: Tensor) -> Tensor:
        unseen = torch.full_like(images, torch.nan)  # whatever else reads the images says so
        logits = behind(maps, unseen)
        if bool(logits.isnan().any()) and not bool(behind(maps, unseen.zero_()).isnan().any()):
            raise ConfigurationError(
                f"expected a network whose first convolution alone reads the normalised images, "
                f"{type(network).__name__} is another; TRADES trains any network"
            )
        return logits

    def behind(maps: Tensor, shown: Tensor) -> Tensor:
        convolution.forward = lambda given: maps  # type: ignore[method-assign, assignment]
        try:
            logits: Tensor = network(shown)
        finally:
            del convolution.forward
        return logits

    return first_layer, rest
