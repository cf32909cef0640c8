"""TRADES under adversarial weight perturbation (Wu et al., 2020): the loss at the worst weights nearby."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from evonas.ranges import SHARE, Range, check_ranges
from evonas.training.attacking import same_buffers
from evonas.training.trades import Trades

__all__ = ["TradesAwp", "moved", "weight_perturbation"]


@dataclass(frozen=True, kw_only=True)
class TradesAwp(Trades):
    """A training recipe: the gradient of TRADES' loss at weights that one step has moved to raise that very loss.

    The defaults are those of the authors' code for CIFAR-10. Its proxy is a copy of the network with plain SGD, whose
    step is rescaled to `gamma` times the norm of each weight; so only the direction of the gradient counts, and there
    is no proxy here to keep. A weight that several layers share moves alike in all of them. Running statistics are
    those of the second pass alone, as there. Weights are never changed in place: what is undone is undone exactly, and,
    unlike there, weight decay sees the weights themselves.
    """

    epsilon: float = 8 / 255
    """Radius of the L-inf ball, pixels in [0, 1]; 0: plain training, with its weights perturbed."""
    step: float = 2 / 255
    """Length of a step."""
    gamma: Annotated[float, Range(least=0, below=1)] = 0.005
    """Norm of a perturbation, relative to that of the layer's weight; 0: TRADES."""
    warmup: Annotated[float, SHARE] = 0.05
    """Times all epochs, rounded up, the number of the first with perturbation: the 10th of 200 in the authors' code."""

    name: ClassVar[str] = "trades_awp"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_ranges(self)

    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> "TradesAwp":
        """The loss of an epoch, counted from 0."""
        return self if epoch + 1 >= self.warmup * epochs else replace(self, gamma=0.0)

    def unperturbed(self) -> "TradesAwp":
        return replace(self, gamma=0.0)

    def minimised(self, network: nn.Module, loss: Callable[[], Tensor]) -> Tensor:
        if not self.gamma:
            return loss()
        weights = {name: each for name, each in network.named_parameters() if each.ndim > 1 and each.requires_grad}
        with same_buffers(network):
            gradients = torch.autograd.grad(loss(), [*weights.values()], allow_unused=True)
        found = dict(zip(weights, gradients, strict=True))
        offsets = weight_perturbation(weights, found, self.gamma)
        own = {weights[name]: offset for name, offset in offsets.items()}
        places = network.named_parameters(remove_duplicate=False)
        with moved(network, {name: own[weight] for name, weight in places if weight in own}):
            return loss()


@torch.no_grad()
def weight_perturbation(
    weights: Mapping[str, Tensor], gradients: Mapping[str, Tensor | None], gamma: float
) -> dict[str, Tensor]:
    """Name -> offset of a weight along its gradient, of `gamma` times the weight's L2 norm (Wu et al., Eq. 10).

    Weights without a gradient have none; a gradient of 0 gives an offset of 0.
    """
    return {
        name: gamma * weights[name].norm() / (gradient.norm() + 1e-20) * gradient
        for name, gradient in gradients.items()
        if gradient is not None
    }


@contextlib.contextmanager
def moved(network: nn.Module, offsets: Mapping[str, Tensor]) -> Iterator[nn.Module]:
    """A context in which weights are the network's own plus offsets; gradients go to the network's own, unchanged.

    Args:
        offsets: name of a parameter -> offset of its shape; of a shared one every name that is to move.
    """
    own = []
    for name, offset in offsets.items():
        path, _, attribute = name.rpartition(".")
        table = network.get_submodule(path)._parameters
        own.append((table, attribute, table[attribute], offset))
    try:
        for table, attribute, weight, offset in own:
            assert weight is not None
            table[attribute] = weight + offset  # type: ignore[assignment]
        yield network
    finally:
        for table, attribute, weight, _ in own:
            table[attribute] = weight
