"""A network while training attacks it: no gradients of weights, and statistics that stay as they are."""

import contextlib
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from evonas.attacks.attack import frozen

__all__ = ["attacking", "same_buffers", "untouched"]


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


@contextlib.contextmanager
def same_buffers(network: nn.Module) -> Iterator[nn.Module]:
    """A context in which forward passes change no running statistics; modes stay.

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
    try:
        for part, name, buffer in buffers:
            setattr(part, name, buffer.clone())
        yield network
    finally:
        for part, name, buffer in buffers:
            setattr(part, name, buffer)


@contextlib.contextmanager
def untouched(network: nn.Module) -> Iterator[nn.Module]:
    """`same_buffers`, in which forward passes need no gradients of weights, either."""
    flags = [(parameter, parameter.requires_grad) for parameter in network.parameters()]
    with same_buffers(network):
        try:
            for parameter, _ in flags:
                parameter.requires_grad_(False)
            yield network
        finally:
            for parameter, flag in flags:
                parameter.requires_grad_(flag)


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
