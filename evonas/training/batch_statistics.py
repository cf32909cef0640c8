"""Batch normalisation by the statistics of one batch, held still: an affine map, as bounds need it."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import cycle

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["Statistics", "observed", "with_statistics"]

Statistics = dict[_BatchNorm, list[tuple[Tensor, Tensor]]]
"""Layer -> (mean, variance) of its input, each (C,) with its gradient, for each call in a pass."""


@contextlib.contextmanager
def observed(network: nn.Module) -> Iterator[Statistics]:
    """A context that collects the statistics of the batches that pass through, for layers that normalise by them."""
    found: Statistics = {}

    def note(norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(norm, _BatchNorm)
        maps = inputs[0] if inputs[0].dtype == torch.float64 else inputs[0].float()
        variance, mean = torch.var_mean(maps, dim=[dim for dim in range(maps.ndim) if dim != 1], correction=0)
        found.setdefault(norm, []).append((mean, variance))

    norms = [part for part in network.modules() if isinstance(part, _BatchNorm)]
    by_batch = [part for part in norms if part.training or part.running_mean is None]
    hooks = [part.register_forward_pre_hook(note) for part in by_batch]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@contextlib.contextmanager
def with_statistics(network: nn.Module, statistics: Statistics) -> Iterator[nn.Module]:
    """A context in which layers normalise by what was observed, whatever passes through; running ones stay.

    A layer that is called several times in a pass takes its statistics in turn.
    """
    try:
        for norm, each in statistics.items():
            norm.forward = _normalisation(norm, each)  # type: ignore[assignment, method-assign]
        yield network
    finally:
        for norm in statistics:
            norm.__dict__.pop("forward", None)


def _normalisation(norm: _BatchNorm, calls: list[tuple[Tensor, Tensor]]) -> Callable[[Tensor], Tensor]:
    turns = cycle(calls)

    def forward(maps: Tensor) -> Tensor:
        mean, variance = next(turns)
        scale = (variance + norm.eps).rsqrt()
        scale = scale if norm.weight is None else scale * norm.weight
        shift = -mean * scale if norm.bias is None else norm.bias - mean * scale
        still = torch.zeros_like(mean), torch.ones_like(mean)  # torch differentiates through weights, not through these
        return functional.batch_norm(maps, *still, scale, shift, False, 0.0, 0.0)

    return forward
