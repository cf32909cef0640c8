"""Sums of the nodes of a supernet's cell: on a CPU several times faster than layer by layer, with equal results.

The fast path is for train mode in float32 and float64. Eval mode, autocast, other devices and second derivatives of
convolutions use torch's own layers.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.nn import functional

from evonas.training.depthwise import rows

__all__ = ["Term", "add_up"]


class Term(NamedTuple):
    """A summand: scale * maps, or scale * norm(conv2d(maps, weight)); terms of a sum with a norm share one shape."""

    maps: Tensor
    """(B, C, H, W)"""
    scale: Tensor | None = None
    """() factor of any sign; None: 1."""
    norm: nn.BatchNorm2d | None = None
    """Batch normalisation without weights; None: no normalisation, no convolution."""
    weight: Tensor | None = None
    """(C', C, 1, 1) weight of a pointwise convolution before the norm; None: no convolution."""


class _Normalised(NamedTuple):
    """Inputs of k terms with a norm, or their gradients."""

    maps: list[Any]
    scales: list[Any]
    weights: list[Any]

    @classmethod
    def of(cls, flat: Sequence[Any]) -> "_Normalised":
        k = len(flat) // 3
        return cls(list(flat[:k]), list(flat[k : 2 * k]), list(flat[2 * k :]))


def add_up(terms: Sequence[Term]) -> Tensor:
    """(B, C', H, W) sum of the terms."""
    plain = [term for term in terms if term.norm is None]
    flat = [*(term.maps for term in plain), *(term.scale for term in plain)]
    parts: list[Tensor] = [_ScaledSum.apply(*flat)] if plain else []
    norms = [term.norm for term in terms if term.norm is not None]
    if norms:
        maps, scales, _, weights = zip(*(term for term in terms if term.norm is not None), strict=True)
        fast = (
            all(part.device.type == "cpu" and part.dtype in (torch.float32, torch.float64) for part in maps)
            and all(norm.training for norm in norms)
            and not torch.is_autocast_enabled("cpu")
        )
        inputs = _Normalised(list(maps), list(scales), list(weights))
        parts.append(_NormalisedSum.apply(norms, *maps, *scales, *weights) if fast else _layer_by_layer(inputs, norms))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


class _ScaledSum(Function):
    """Sum of scale * maps, without storing the products."""

    @staticmethod
    def forward(ctx: Any, *flat: Any) -> Tensor:
        maps, scales = flat[: len(flat) // 2], flat[len(flat) // 2 :]
        ctx.save_for_backward(*flat)
        total: Tensor = maps[0].clone() if scales[0] is None else maps[0] * scales[0]
        for each, scale in zip(maps[1:], scales[1:], strict=True):
            total = total.add_(each) if scale is None else total.addcmul_(each, scale)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        n = len(ctx.saved_tensors) // 2
        maps, scales, needed = ctx.saved_tensors[:n], ctx.saved_tensors[n:], ctx.needs_input_grad
        flat = rows(gradient).reshape(-1)
        of_maps = [
            (gradient if scale is None else gradient * scale) if need else None
            for scale, need in zip(scales, needed[:n], strict=True)
        ]
        of_scales = [
            torch.dot(flat, rows(each).reshape(-1)) if need else None
            for each, need in zip(maps, needed[n:], strict=True)
        ]
        return (*of_maps, *of_scales)


def _layer_by_layer(inputs: _Normalised, norms: Sequence[nn.BatchNorm2d], again: bool = False) -> Tensor:
    """Sum of the terms by torch's own layers.

    Args:
        again: an earlier call has updated the running statistics.
    """
    total: Tensor | None = None
    for maps, scale, weight, norm in zip(*inputs, norms, strict=True):
        part = maps if weight is None else functional.conv2d(maps, weight)
        part = functional.batch_norm(part, None, None, training=True, eps=norm.eps) if again else norm(part)
        part = part if scale is None else part * scale
        total = part if total is None else total + part
    assert total is not None
    return total


class _NormalisedSum(Function):
    """Sum of normalised convolutions without storing normalised maps: scale each output and add it to one buffer.

    Stores the inputs of the convolutions for the backward pass, which needs only products of these maps with the
    gradient and with themselves, no larger than the weight of a convolution.
    """

    @staticmethod
    def forward(ctx: Any, norms: Sequence[nn.BatchNorm2d], *flat: Any) -> Tensor:
        inputs = _Normalised.of(flat)
        first, channels = inputs.maps[0], norms[0].num_features
        shape = (len(first), channels, *first.shape[2:])
        total, buffer = (
            torch.empty(shape, dtype=first.dtype, memory_format=torch.channels_last) for _ in ("sum", "summand")
        )
        offset, statistics = first.new_zeros(channels), []
        for number, (maps, scale, weight, norm) in enumerate(zip(*inputs, norms, strict=True)):
            part = rows(maps) if weight is None else torch.mm(rows(maps), weight.flatten(1).t(), out=rows(buffer))
            mean, inverse = _statistics(norm, part, width=shape[3])
            factor = inverse if scale is None else inverse * scale
            if number == 0:
                torch.mul(part, factor, out=rows(total))
            else:
                rows(total).addcmul_(part, factor)
            offset.addcmul_(mean, factor, value=-1)
            statistics += [mean, inverse]
        rows(total).add_(offset)
        ctx.norms = norms
        ctx.save_for_backward(*flat, *statistics)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        needed = ctx.needs_input_grad[1:]
        inputs, statistics = _Normalised.of(ctx.saved_tensors[: len(needed)]), ctx.saved_tensors[len(needed) :]
        if torch.is_grad_enabled():
            return (None, *_differentiable(gradient, inputs, needed, ctx.norms))
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        mean, inverse = torch.stack(statistics[::2]), torch.stack(statistics[1::2])
        gradients = _gradients(gradient, inputs, mean, inverse, _Normalised.of(needed))
        return (None, *gradients.maps, *gradients.scales, *gradients.weights)


def _statistics(norm: nn.BatchNorm2d, maps: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """(C,) mean and inverse deviation of the (B H W, C) maps of a batch; updates running statistics.

    Sums every column of pixels separately: a single float32 sum would lose two digits, as torch's own does here.
    """
    n, channels = maps.shape
    columns = maps.reshape(-1, width * channels, 1, 1)
    means, variances = (each.view(width, channels) for each in torch.batch_norm_update_stats(columns, None, None, 0.0))
    mean, variance = means.mean(0), variances.mean(0) + means.var(0, correction=0)
    if norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None:
        norm.num_batches_tracked.add_(1)
        momentum = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
        norm.running_mean.lerp_(mean, momentum)
        norm.running_var.lerp_(variance * (n / (n - 1)), momentum)
    return mean, (variance + norm.eps).rsqrt_()


def _sums(maps: Tensor, width: int) -> Tensor:
    """(1, C) sums of (B H W, C) maps, column of pixels by column."""
    columns = maps.reshape(-1, width * maps.shape[1])
    return (columns.new_ones(1, len(columns)) @ columns).view(width, -1).sum(0, keepdim=True)


def _gradients(gradient: Tensor, inputs: _Normalised, mean: Tensor, inverse: Tensor, needs: _Normalised) -> _Normalised:
    """Gradients of k terms scale * u, u = (W z - mean) * inverse, with maps z and an O x C weight W.

    Normalisation turns the gradient g of u into inverse * (g - mean(g) - u mean(g u)). As u is linear in z, all means
    follow from mean(g), mean(g z^T) and, for the gradient of W, mean(z) and mean(z z^T). W is 1 without a convolution.

    Args:
        mean, inverse: (k, O) statistics of the batch.
        needs: bool for each gradient; None takes the place of the rest.
    """
    g, n, width = rows(gradient), gradient.numel() // gradient.shape[1], gradient.shape[3]
    products, squares, sums = [], [], []
    for z in map(rows, inputs.maps):
        products.append(g.t() @ z)
        if any(needs.weights):
            squares.append(z.t() @ z)
            sums.append(_sums(z, width))
    one, identity = g.new_ones(()), torch.eye(g.shape[1], dtype=g.dtype)
    weight = torch.stack([identity if each is None else each.flatten(1) for each in inputs.weights])  # (k, O, C)
    mean_g, mean_gz = _sums(g, width) / n, torch.stack(products) / n  # (1, O), (k, O, C)
    mean_gu = ((mean_gz * weight).sum(2) - mean * mean_g) * inverse  # (k, O)
    factor = inverse * torch.stack([one if scale is None else scale for scale in inputs.scales])[:, None]
    pull = factor * inverse * mean_gu
    gradients = _Normalised([None] * len(inputs.maps), [None] * len(inputs.maps), [None] * len(inputs.maps))
    if any(needs.scales):
        gradients.scales[:] = _where(needs.scales, n * mean_gu.sum(1))
    if any(needs.weights):
        mean_z = torch.stack(sums) / n  # (k, 1, C)
        spread = torch.stack(squares) / n - mean_z.transpose(1, 2) @ mean_z  # (k, C, C)
        of_weight = factor[:, :, None] * (mean_gz - mean_g.t() @ mean_z) - pull[:, :, None] * (weight @ spread)
        gradients.weights[:] = _where(needs.weights, n * of_weight[..., None, None])
    through = (factor[:, :, None] * weight).transpose(1, 2)[..., None, None].contiguous()  # (k, C, O, 1, 1)
    constant = ((pull * mean - factor * mean_g)[:, None] @ weight)[:, 0]  # (k, C)
    back = weight.transpose(1, 2) @ (pull[:, :, None] * weight)  # (k, C, C)
    for k, maps in enumerate(inputs.maps):
        if needs.maps[k]:
            gradients.maps[k] = functional.conv2d(gradient, through[k], constant[k])
            rows(gradients.maps[k]).addmm_(rows(maps), back[k], alpha=-1)
    return gradients


def _where(needs: Sequence[bool], gradients: Tensor) -> list[Tensor | None]:
    return [each if need else None for each, need in zip(gradients, needs, strict=True)]


def _differentiable(
    gradient: Tensor, inputs: _Normalised, needed: Sequence[bool], norms: Sequence[nn.BatchNorm2d]
) -> list[Tensor | None]:
    """Gradients of all inputs, themselves differentiable; None where not needed."""
    # with respect to views: an input may depend on another one, whose gradient must not include that path
    views = _Normalised(*([each if each is None else each.view_as(each) for each in part] for part in inputs))
    flat = [each for part in views for each in part]
    chosen = [each for each, need in zip(flat, needed, strict=True) if need]
    gradients = torch.autograd.grad(_layer_by_layer(views, norms, again=True), chosen, gradient, create_graph=True)
    remaining = iter(gradients)
    return [next(remaining) if need else None for need in needed]
