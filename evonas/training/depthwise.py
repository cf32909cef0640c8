"""Depthwise convolutions whose backward pass on a CPU is as fast as their forward pass.

oneDNN has fast forward kernels for all depthwise convolutions of our networks, but fast backward kernels for few of
them: gradients of dilated or 5x5 ones take up to fifty times as long. (In bfloat16 its weight gradient of dilated ones
is wrong.)
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

__all__ = ["depthwise", "rows"]


def rows(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B H W, C); a view of channels_last maps."""
    return maps.permute(0, 2, 3, 1).reshape(-1, maps.shape[1])


def depthwise(maps: Tensor, weight: Tensor, stride: int, padding: int, dilation: int, fast: bool) -> Tensor:
    """Depthwise convolution of (B, C, H, W) maps with a (C, 1, k, k) weight.

    Args:
        fast: use the backward pass of this module on a CPU; otherwise, and on other devices, that of torch.
    """
    if not fast or maps.device.type != "cpu":
        return functional.conv2d(maps, weight, None, stride, padding, dilation, len(weight))
    if torch.is_autocast_enabled("cpu"):  # autocast does not reach into a Function
        dtype = torch.get_autocast_dtype("cpu")
        maps, weight = maps.to(dtype), weight.to(dtype)
    convolved: Tensor = _Depthwise.apply(maps, weight, stride, padding, dilation)
    return convolved


class _Depthwise(Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor, weight: Tensor, stride: int, padding: int, dilation: int) -> Tensor:
        ctx.shape, ctx.how = maps.shape, (stride, padding, dilation)
        ctx.save_for_backward(maps if ctx.needs_input_grad[1] else None, weight)
        return functional.conv2d(maps, weight, None, stride, padding, dilation, len(weight))

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        maps, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        of_maps = _of_maps(gradient, weight, ctx.shape, *ctx.how) if ctx.needs_input_grad[0] else None
        of_weight = _of_weight(maps, gradient, weight.shape[-1], *ctx.how) if ctx.needs_input_grad[1] else None
        return of_maps, of_weight, None, None, None


def _of_maps(gradient: Tensor, weight: Tensor, shape: torch.Size, stride: int, padding: int, dilation: int) -> Tensor:
    """Gradient of the maps; at stride 1 a forward convolution with the rotated kernel."""
    if stride == 1 and 2 * padding == dilation * (weight.shape[-1] - 1):
        return functional.conv2d(gradient, weight.flip(2, 3), None, 1, padding, dilation, len(weight))
    dtype = gradient.dtype
    if dtype == torch.bfloat16:  # at a stride of 2 a hundred times slower than float32
        gradient, weight = gradient.float(), weight.float()
    like = torch.empty(shape, dtype=gradient.dtype, memory_format=torch.channels_last)
    return _backward(gradient, like, weight, stride, (padding, padding), dilation)[0].to(dtype)


def _of_weight(maps: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int, dilation: int) -> Tensor:
    """(C, 1, k, k) gradient of the weight; by kernels of three columns if possible, for which oneDNN is fast."""
    n, channels, height, width = maps.shape
    if dilation == 2 and stride == 1 and height % 2 == width % 2 == padding % 2 == 0:
        # an ordinary convolution on each of the four phases of rows and columns
        return _of_weight(_phases(maps), _phases(gradient), kernel, 1, padding // 2, 1)
    if kernel == 3 and dilation == 1:
        return _three_columns(maps, gradient, (3, 3), stride, (padding, padding))
    if kernel == 5 and (stride, padding, dilation) == (1, 2, 1) and width % 2 == 0 and width >= 8:
        # with pairs of columns as channels, even and odd columns of the kernel form kernels of three columns
        even = _three_columns(_pairs(maps), _pairs(gradient), (5, 3), 1, (2, 1))
        odd = _three_columns(_pairs(functional.pad(maps, (1, 3))), _pairs(gradient), (5, 3), 1, (2, 0))
        even, odd = (part.view(2, channels, 1, 5, 3).sum(0) for part in (even, odd))
        return torch.stack([even[..., 0], odd[..., 0], even[..., 1], odd[..., 1], even[..., 2]], dim=-1)
    # convolve each channel of each image with its gradient, with stride and dilation exchanged
    kernels = gradient.contiguous().view(n * channels, 1, *gradient.shape[2:])
    convolved = functional.conv2d(
        maps.contiguous().view(1, n * channels, height, width), kernels, None, dilation, padding, stride, n * channels
    )
    return convolved.view(n, channels, 1, *convolved.shape[2:])[..., :kernel, :kernel].sum(0)


def _three_columns(
    maps: Tensor, gradient: Tensor, kernel: tuple[int, int], stride: int, padding: tuple[int, int]
) -> Tensor:
    like = gradient.new_empty(1).expand(maps.shape[1], 1, *kernel)
    return _backward(gradient, maps, like, stride, padding, 1, of_weight=True)[1]


def _backward(
    gradient: Tensor,
    maps: Tensor,
    weight: Tensor,
    stride: int,
    padding: tuple[int, int],
    dilation: int,
    of_weight: bool = False,
) -> tuple[Tensor, Tensor]:
    """torch's own gradients (of maps, of weight); only the requested one is computed."""
    gradients: tuple[Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient,
        maps,
        weight,
        None,
        (stride, stride),
        padding,
        (dilation, dilation),
        False,
        (0, 0),
        len(weight),
        (not of_weight, of_weight, False),
    )[:2]
    return gradients


def _pairs(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, 2 C, H, W / 2): pairs of columns become channels."""
    n, channels, height, width = maps.shape
    return maps.permute(0, 2, 3, 1).reshape(n, height, width // 2, 2 * channels).permute(0, 3, 1, 2)


def _phases(maps: Tensor) -> Tensor:
    """(B, C, H, W) -> (4 B, C, H / 2, W / 2): even and odd rows and columns become separate images."""
    n, channels, height, width = maps.shape
    split = maps.permute(0, 2, 3, 1).reshape(n, height // 2, 2, width // 2, 2, channels).permute(2, 4, 0, 1, 3, 5)
    return split.reshape(4 * n, height // 2, width // 2, channels).permute(0, 3, 1, 2)
