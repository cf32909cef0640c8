"""A network while training attacks it: its statistics stand still, and its weights ask for nothing."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from evonas.attacks.attack import frozen

__all__ = ["attacking"]


@contextlib.contextmanager
def attacking(network: nn.Module) -> Iterator[nn.Module]:
    """Within, the network is in eval mode without gradients of weights; afterwards modes and flags are as before.

    Batch normalisations whose statistics stand still are one multiply-add, the same up to rounding: their backward
    pass is the greatest part of an attack step on small channels. Those that get another dtype than their own, as
    under autocast, are left to torch.
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
    """A batch normalisation of images that nobody has changed, with running statistics."""
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
