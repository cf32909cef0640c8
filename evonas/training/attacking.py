"""A network while training attacks it: fixed statistics, and no gradients of weights."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from evonas.attacks.attack import frozen

__all__ = ["attacking"]


@contextlib.contextmanager
def attacking(network: nn.Module) -> Iterator[nn.Module]:
    """A context in which the network is in eval mode without gradients of weights; restores modes and flags.

    Batch normalisation with fixed statistics runs as one multiply-add, equal up to rounding: its backward pass is the
    largest part of an attack step on few channels. Input of another dtype than its own, as under autocast, takes
    torch's path.
    """
    with frozen(network), torch.no_grad():
        replaced = [part for part in network.modules() if _is_fixed(part)]
        for part in replaced:
            part.forward = _multiply_add(part)
        try:
            with torch.enable_grad():
                yield network
        finally:
            for part in replaced:
                del part.forward


def _is_fixed(part: nn.Module) -> bool:
    """Whether a module is a plain batch normalisation of images with running statistics, without hooks."""
    changed = "forward" in part.__dict__ or part._forward_hooks or part._forward_pre_hooks
    return type(part) is nn.BatchNorm2d and not changed and part.running_mean is not None


def _multiply_add(norm: nn.Module) -> Callable[[Tensor], Tensor]:
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    scale = scale if norm.weight is None else scale * norm.weight
    shift = -norm.running_mean * scale
    shift = shift if norm.bias is None else shift + norm.bias
    scale, shift = scale.view(-1, 1, 1), shift.view(-1, 1, 1)

    def forward(maps: Tensor) -> Tensor:
        if maps.dtype != scale.dtype:
            return nn.BatchNorm2d.forward(norm, maps)
        return torch.addcmul(shift, maps, scale)

    return forward
