"""Operations on the edges of DARTS's cells (Liu et al., 2019): (B, C, H, W) maps to (B, C, H / stride, W / stride).

No operation changes its input: a state of a cell is read by several edges and by the next two cells.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from evonas.errors import choose
from evonas.networks.darts_plan import PRIMITIVES

__all__ = ["PRIMITIVES", "DilConv", "FactorizedReduce", "ReluConvBN", "SepConv", "Zero", "operation"]


def operation(name: str, channels: int, stride: int, affine: bool = True) -> nn.Module:
    """The operation called `name` in `PRIMITIVES`.

    Args:
        stride: 1, or 2 to halve height and width, which must then be even.
        affine: whether batch normalisation has weights and biases.
    """
    return choose(_OPERATIONS, name, "operation")(channels, stride, affine)


class ReluConvBN(nn.Sequential):
    """ReLU, convolution, batch normalisation."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel: int, stride: int, padding: int, affine: bool = True
    ) -> None:
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(in_channels, out_channels, kernel, stride, padding, bias=False),
            nn.BatchNorm2d(out_channels, affine=affine),
        )


class SepConv(nn.Sequential):
    """Twice: ReLU, depthwise and pointwise convolution, batch normalisation; only the first time with the stride."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        padding = kernel // 2
        super().__init__(
            nn.ReLU(),
            *_depthwise_pointwise(channels, kernel, stride, padding, 1, affine),
            nn.ReLU(inplace=True),
            *_depthwise_pointwise(channels, kernel, 1, padding, 1, affine),
        )


class DilConv(nn.Sequential):
    """ReLU, depthwise convolution of dilation 2, pointwise convolution, batch normalisation."""

    def __init__(self, channels: int, kernel: int, stride: int, affine: bool = True) -> None:
        super().__init__(nn.ReLU(), *_depthwise_pointwise(channels, kernel, stride, kernel - 1, 2, affine))


class FactorizedReduce(nn.Module):
    """Halve height and width: half of the output channels read even rows and columns, the other half odd ones.

    Raises:
        ValueError: `out_channels` is odd.
    """

    def __init__(self, in_channels: int, out_channels: int, affine: bool = True) -> None:
        super().__init__()
        if out_channels % 2:
            raise ValueError(f"expected an even number of channels of a reduced skip connection, got {out_channels}")
        self.relu = nn.ReLU()
        self.even = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.odd = nn.Conv2d(in_channels, out_channels // 2, 1, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, affine=affine)

    def forward(self, maps: Tensor) -> Tensor:
        active = self.relu(maps)
        even, odd = active[:, :, ::2, ::2], active[:, :, 1::2, 1::2]
        # not by a stride of 2: its weight gradient in channels_last can crash torch 2.15 on large maps of few channels
        reduced: Tensor = self.bn(torch.cat([self.even(even), self.odd(odd)], dim=1))
        return reduced


class Zero(nn.Module):
    """The operation `none`: zeros, which pass no gradient."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, maps: Tensor) -> Tensor:
        return maps[:, :, :: self.stride, :: self.stride] * 0.0


def _depthwise_pointwise(
    channels: int, kernel: int, stride: int, padding: int, dilation: int, affine: bool
) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, channels, kernel, stride, padding, dilation, groups=channels, bias=False),
        nn.Conv2d(channels, channels, 1, bias=False),
        nn.BatchNorm2d(channels, affine=affine),
    )


_OPERATIONS: dict[str, Callable[[int, int, bool], nn.Module]] = {
    "none": lambda channels, stride, affine: Zero(stride),
    "max_pool_3x3": lambda channels, stride, affine: nn.MaxPool2d(3, stride, padding=1),
    "avg_pool_3x3": lambda channels, stride, affine: nn.AvgPool2d(3, stride, padding=1, count_include_pad=False),
    "skip_connect": lambda channels, stride, affine: (
        nn.Identity() if stride == 1 else FactorizedReduce(channels, channels, affine)
    ),
    "sep_conv_3x3": lambda channels, stride, affine: SepConv(channels, 3, stride, affine),
    "sep_conv_5x5": lambda channels, stride, affine: SepConv(channels, 5, stride, affine),
    "dil_conv_3x3": lambda channels, stride, affine: DilConv(channels, 3, stride, affine),
    "dil_conv_5x5": lambda channels, stride, affine: DilConv(channels, 5, stride, affine),
}
