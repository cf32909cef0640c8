"""What a node of a supernet's cell adds up: on a CPU several times faster than layer by layer, and equal to it.

The fast way is for train mode in float32 or float64. In eval mode, under autocast, on other devices, and where the
gradient is itself differentiated, the layers are torch's own.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from evonas.gradient.supernet_depthwise import rows

__all__ = ["Term", "add_up"]


class Term(NamedTuple):
    """A summand: scale * maps, or scale * norm(convolution(maps))."""

    maps: Tensor
    """(B, C, H, W)"""
    scale: Tensor | None = None
    """() of any sign; None: 1."""
    convolution: nn.Conv2d | None = None
    """Pointwise, without bias."""
    norm: nn.BatchNorm2d | None = None
    """Without weights of its own; there if `convolution` is."""


class _Inputs(NamedTuple):
    """Of n terms, the last k of which have a convolution."""

    maps: list[Any]
    """n"""
    scales: list[Any]
    """n"""
    weights: list[Any]
    """k"""

    @classmethod
    def of(cls, flat: Sequence[Any], k: int) -> "_Inputs":
        n = (len(flat) - k) // 2
        return cls(list(flat[:n]), list(flat[n : 2 * n]), list(flat[2 * n :]))


def add_up(terms: Sequence[Term]) -> Tensor:
    """(B, C', H, W) sum of the terms."""
    convolved = [term for term in terms if term.convolution is not None]
    terms = [*(term for term in terms if term.convolution is None), *convolved]
    norms = [term.norm for term in convolved if term.norm is not None]
    inputs = _Inputs(
        [term.maps for term in terms],
        [term.scale for term in terms],
        [term.convolution.weight for term in convolved if term.convolution is not None],
    )
    fast = (
        all(maps.device.type == "cpu" and maps.dtype in (torch.float32, torch.float64) for maps in inputs.maps)
        and all(norm.training for norm in norms)
        and not torch.is_autocast_enabled("cpu")
    )
    if not fast:
        return _layer_by_layer(inputs, norms)
    total: Tensor = _Sum.apply(norms, *inputs.maps, *inputs.scales, *inputs.weights)  # type: ignore[no-untyped-call]
    return total


def _layer_by_layer(inputs: _Inputs, norms: Sequence[nn.BatchNorm2d], again: bool = False) -> Tensor:
    """
    Args:
        again: running statistics have been updated.
    """
    plain = len(inputs.maps) - len(norms)
    total: Tensor | None = None
    for number, (maps, scale) in enumerate(zip(inputs.maps, inputs.scales, strict=True)):
        part = maps
        if number >= plain:
            norm, part = norms[number - plain], functional.conv2d(maps, inputs.weights[number - plain])
            part = functional.batch_norm(part, None, None, training=True, eps=norm.eps) if again else norm(part)
        part = part if scale is None else part * scale
        total = part if total is None else total + part
    assert total is not None
    return total


class _Sum(Function):
    """Normalised maps are never written: a node is one buffer that every convolution's output is scaled and added to.

    Kept for the backward pass are what comes into the convolutions, means and deviations. The rest are products of
    these maps with the gradient and with themselves, as small as a convolution's weight.
    """

    @staticmethod
    def forward(ctx: Any, norms: Sequence[nn.BatchNorm2d], *flat: Tensor | None) -> Tensor:
        maps, scales, weights = _Inputs.of(flat, len(norms))
        plain = len(maps) - len(norms)
        batch, channels, height, width = maps[0].shape
        channels = len(weights[0]) if weights else channels
        total = torch.empty(
            (batch, channels, height, width), dtype=maps[0].dtype, memory_format=torch.channels_last
        )  # fmt: skip
        adder = _Adder(rows(total))
        for part, scale in zip(maps[:plain], scales[:plain], strict=True):
            adder.add(rows(part), scale)
        offset, found = maps[0].new_zeros(channels), []
        convolved = torch.empty_like(adder.total)  # (B H W, C'), of one term after another
        for part, scale, norm, weight in zip(maps[plain:], scales[plain:], norms, weights, strict=True):
            torch.mm(rows(part), weight.flatten(1).t(), out=convolved)
            mean, inverse = _statistics(norm, convolved.view(batch, height, width, channels).permute(0, 3, 1, 2))
            factor = inverse if scale is None else inverse * scale
            adder.add(convolved, factor)
            offset.addcmul_(mean, factor, value=-1)
            found += [mean, inverse]
        if norms:
            adder.total.add_(offset)
        ctx.norms = norms
        ctx.save_for_backward(*flat, *found)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        flat, found = ctx.saved_tensors[: len(needed)], ctx.saved_tensors[len(needed) :]
        inputs, needs = _Inputs.of(flat, len(ctx.norms)), _Inputs.of(needed, len(ctx.norms))
        if torch.is_grad_enabled():
            return (None, *_differentiable(gradient, inputs, needs, ctx.norms))
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        plain = len(inputs.maps) - len(ctx.norms)
        of_maps: list[Tensor | None] = [None] * plain
        of_scales: list[Tensor | None] = [None] * plain
        for number, (maps, scale) in enumerate(zip(inputs.maps[:plain], inputs.scales[:plain], strict=True)):
            if needs.maps[number]:
                of_maps[number] = gradient if scale is None else gradient * scale
            if needs.scales[number]:
                of_scales[number] = torch.dot(rows(gradient).reshape(-1), rows(maps).reshape(-1))
        if not ctx.norms:
            return (None, *of_maps, *of_scales)
        convolved, needs = (_Inputs(each.maps[plain:], each.scales[plain:], each.weights) for each in (inputs, needs))
        last = _of_convolved(gradient, convolved, torch.stack(found[::2]), torch.stack(found[1::2]), needs)
        return (None, *of_maps, *last.maps, *of_scales, *last.scales, *last.weights)


class _Adder:
    """Adds parts times factors into one buffer, whatever that holds at first."""

    def __init__(self, total: Tensor) -> None:
        self.total = total
        self.empty = True

    def add(self, part: Tensor, factor: Tensor | None) -> None:
        if self.empty:
            self.total.copy_(part) if factor is None else torch.mul(part, factor, out=self.total)
        else:
            self.total.add_(part) if factor is None else self.total.addcmul_(part, factor)
        self.empty = False


def _statistics(norm: nn.BatchNorm2d, maps: Tensor) -> tuple[Tensor, Tensor]:
    """(C,) mean and inverse deviation of the batch; running statistics are updated."""
    if norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
    momentum = norm.momentum
    if momentum is None:
        momentum = 1 / float(norm.num_batches_tracked) if norm.num_batches_tracked is not None else 0.0
    mean, variance = torch.batch_norm_update_stats(maps, norm.running_mean, norm.running_var, momentum)
    return mean, variance.add_(norm.eps).rsqrt_()


def _of_convolved(gradient: Tensor, inputs: _Inputs, mean: Tensor, inverse: Tensor, needs: _Inputs) -> _Inputs:
    """Gradients of k terms scale * (y - mean) * inverse, with y = W z, z the maps. Sizes: O x C of W.

    Batch normalisation turns the gradient g of its output into inverse * (g - mean(g) - y' mean(g y')), y' being its
    output; with W on both sides of it, all of it is products of W with mean(g) and mean(g z^T).

    Args:
        mean, inverse: (k, O)
    """
    g, n = rows(gradient), gradient.numel() // gradient.shape[1]
    ones = g.new_ones(1, n)
    products, spreads, means = [], [], []
    for maps in inputs.maps:
        z = rows(maps)
        products.append(g.t() @ z)
        if any(needs.weights):
            spreads.append(z.t() @ z)
            means.append(ones @ z)
    mean_g, cross = ones @ g / n, torch.stack(products) / n  # (1, O), (k, O, C)
    weight = torch.stack([each.flatten(1) for each in inputs.weights])  # (k, O, C)
    along = ((cross * weight).sum(2) - mean * mean_g) * inverse  # (k, O), mean of g y'
    factor = inverse * torch.stack([ones[0, 0] if scale is None else scale for scale in inputs.scales])[:, None]
    pull = factor * inverse * along
    through = (factor[:, :, None] * weight).transpose(1, 2)[..., None, None].contiguous()  # (k, C, O, 1, 1)
    back = weight.transpose(1, 2) @ (pull[:, :, None] * weight)  # (k, C, C)
    constant = ((pull * mean - factor * mean_g)[:, None] @ weight)[:, 0]  # (k, C)
    found = _Inputs([None] * len(inputs.maps), [None] * len(inputs.maps), [None] * len(inputs.maps))
    for k, maps in enumerate(inputs.maps):
        if needs.maps[k]:
            found.maps[k] = functional.conv2d(gradient, through[k], constant[k])
            rows(found.maps[k]).addmm_(rows(maps), back[k], alpha=-1)
    if any(needs.weights):
        mean_z = torch.stack(means) / n  # (k, 1, C)
        spread = torch.stack(spreads) / n - mean_z.transpose(1, 2) @ mean_z
        bent = factor[:, :, None] * (cross - mean_g.t() @ mean_z) - pull[:, :, None] * (weight @ spread)
        found.weights[:] = [n * each.view_as(like) for each, like in zip(bent, inputs.weights, strict=True)]
    if any(needs.scales):
        found.scales[:] = n * along.sum(1)
    return found


def _differentiable(gradient: Tensor, inputs: _Inputs, needs: _Inputs, norms: Sequence[nn.BatchNorm2d]) -> list[Any]:
    """Gradients of all inputs, in a graph of their own; None where none is needed."""
    # views: what comes to one input by way of another is not this sum's
    apart = _Inputs(*([each if each is None else each.view_as(each) for each in part] for part in inputs))
    wanted = [need for part in needs for need in part]
    chosen = [each for each, need in zip((each for part in apart for each in part), wanted, strict=True) if need]
    found = iter(torch.autograd.grad(_layer_by_layer(apart, norms, again=True), chosen, gradient, create_graph=True))
    return [next(found) if need else None for need in wanted]
