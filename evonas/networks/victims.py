"""Target networks for 32x32 images, against which adversarial sets are made (RoCo-NAS, Table I)."""

from itertools import pairwise

import torch.fx
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError, DataError
from evonas.networks.blocks import Normalization, first_layer
from evonas.networks.victim_plan import DEPTHS, IMAGE_SIZE, VICTIMS, blocks_of

__all__ = ["MIN_CHANNELS", "VGG16", "VICTIMS", "DenseNet", "LeNet", "ResNet", "scaled_channels"]

MIN_CHANNELS = 4
"""Smallest number of channels of a layer in a narrow target network (LeNet's first has 6 at full width)."""


def scaled_channels(channels: int, width: float) -> int:
    """`channels` times `width`, rounded, at least `MIN_CHANNELS`; unchanged at width 1."""
    return channels if width == 1 else max(MIN_CHANNELS, round(channels * width))


class _Victim(nn.Module):
    """Maps (B, in_channels, 32, 32) images in [0, 1] to (B, n_classes) logits.

    Args:
        width: factor of the channels of every layer, see `scaled_channels`.
        normalization: (mean, deviation) per channel become the first layer; None: the bare network.
    Raises:
        DataError: forward is called with images of another size.
    """

    body: nn.Module

    def __init__(self, n_classes: int, width: float, normalization: Normalization, in_channels: int) -> None:
        super().__init__()
        if n_classes < 1 or not 0 < width < float("inf"):
            raise ConfigurationError(f"expected n_classes >= 1 and width > 0, got {n_classes} and {width}")
        self.normalize = first_layer(normalization, in_channels)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(self.normalize(_checked_size(images)))
        return logits


@torch.fx.wrap
def _checked_size(images: Tensor) -> Tensor:
    """The images, if they are 32x32; a graph traced by torch.fx keeps this check as one step."""
    if images.ndim != 4 or images.shape[2:] != (IMAGE_SIZE, IMAGE_SIZE):
        raise DataError(
            f"expected images of shape (B, C, {IMAGE_SIZE}, {IMAGE_SIZE}) for a target network, "
            f"got {tuple(images.shape)}; pad or resize them"
        )
    return images


class LeNet(_Victim):
    """LeNet-5 (LeCun et al., 1998) with ReLU and max-pooling, as in Kotyan and Vargas; 62,006 parameters.

    Two 5x5 convolutions without padding, 6 and 16 channels; linear layers of 120, 84 and n_classes. No batch
    normalisation.
    """

    def __init__(
        self, n_classes: int = 10, width: float = 1.0, normalization: Normalization = None, in_channels: int = 3
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        first, second, third, fourth = (scaled_channels(channels, width) for channels in (6, 16, 120, 84))
        self.body = nn.Sequential(
            nn.Conv2d(in_channels, first, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # 14x14
            nn.Conv2d(first, second, 5),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),  # 5x5
            nn.Flatten(),
            nn.Linear(second * 5 * 5, third),
            nn.ReLU(inplace=True),
            nn.Linear(third, fourth),
            nn.ReLU(inplace=True),
            nn.Linear(fourth, n_classes),
        )
        _initialise(self)


class VGG16(_Victim):
    """VGG-16's convolutions (Simonyan and Zisserman, 2015, configuration D) with batch normalisation and one linear
    layer, the usual form for 32x32 images; 14,728,266 parameters.

    Thirteen 3x3 convolutions with bias in five stages of 64, 128, 256, 512 and 512 channels; each stage halves the
    maps, down to 1x1.
    """

    STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))
    """(channels, convolutions) of each stage."""

    def __init__(
        self, n_classes: int = 10, width: float = 1.0, normalization: Normalization = None, in_channels: int = 3
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        layers: list[nn.Module] = []
        channels = in_channels
        for base, count in self.STAGES:
            for _ in range(count):
                layers += [nn.Conv2d(channels, scaled_channels(base, width), 3, padding=1)]
                channels = scaled_channels(base, width)
                layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            layers += [nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels, n_classes))
        _initialise(self)


class _ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut without parameters: every `stride`-th pixel, zeros for new channels."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.stride, self.new = stride, out_channels - in_channels
        self.residual = nn.Sequential(
            nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x
        if self.stride > 1 or self.new:
            before = self.new // 2
            shortcut = x[:, :, :: self.stride, :: self.stride]
            shortcut = functional.pad(shortcut, (0, 0, 0, 0, before, self.new - before))
        return functional.relu(self.residual(x) + shortcut)


class ResNet(_Victim):
    """ResNet for CIFAR with shortcuts of type A (He et al., 2016, 4.2); 464,154 parameters at depth 32.

    A 3x3 convolution, three stages of (depth - 2) / 6 blocks with 16, 32 and 64 channels, average pooling, a linear
    layer.

    Args:
        depth: 6 n + 2: 8, 14, 20, 32 (Kotyan and Vargas: n = 5), 44, 56, 110.
    """

    def __init__(
        self,
        n_classes: int = 10,
        width: float = 1.0,
        normalization: Normalization = None,
        in_channels: int = 3,
        depth: int = 32,
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        blocks = blocks_of(depth, *DEPTHS["ResNet"])
        stem, *stages = (scaled_channels(channels, width) for channels in (16, 16, 32, 64))
        layers: list[nn.Module] = [
            nn.Conv2d(in_channels, stem, 3, padding=1, bias=False),
            nn.BatchNorm2d(stem),
            nn.ReLU(inplace=True),
        ]
        for position, (before, channels) in enumerate(pairwise((stem, *stages))):
            layers += [_ResidualBlock(before, channels, stride=2 if position else 1)]
            layers += [_ResidualBlock(channels, channels, stride=1) for _ in range(blocks - 1)]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(stages[-1], n_classes))
        _initialise(self)


class _DenseLayer(nn.Module):
    """BN, ReLU, 1x1 convolution to 4 x growth, BN, ReLU, 3x3 convolution to growth; appended to the input."""

    def __init__(self, in_channels: int, growth: int) -> None:
        super().__init__()
        self.new = nn.Sequential(*_bn_relu_conv(in_channels, 4 * growth, 1), *_bn_relu_conv(4 * growth, growth, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.new(x)], dim=1)


class DenseNet(_Victim):
    """DenseNet-BC with growth 12 (Huang et al., 2017); 769,162 parameters at depth 100.

    A 3x3 convolution to 24 channels, three dense blocks of (depth - 4) / 6 layers, between them a 1x1 convolution that
    halves the channels and 2x2 average pooling, then BN, ReLU, average pooling, a linear layer.

    Args:
        width: factor of the growth, from which all other widths follow.
        depth: 6 n + 4: 10, 16, 22, 40, 100 (Kotyan and Vargas: n = 16).
    """

    GROWTH = 12

    def __init__(
        self,
        n_classes: int = 10,
        width: float = 1.0,
        normalization: Normalization = None,
        in_channels: int = 3,
        depth: int = 100,
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        count = blocks_of(depth, *DEPTHS["DenseNet"])
        growth = scaled_channels(self.GROWTH, width)
        channels = 2 * growth
        layers: list[nn.Module] = [nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)]
        for position in range(3):
            if position:
                layers += [*_bn_relu_conv(channels, channels // 2, 1), nn.AvgPool2d(2)]
                channels //= 2
            layers += [_DenseLayer(channels + i * growth, growth) for i in range(count)]
            channels += count * growth
        layers += [nn.BatchNorm2d(channels), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
        self.body = nn.Sequential(*layers, nn.Linear(channels, n_classes))
        _initialise(self)


def _bn_relu_conv(in_channels: int, out_channels: int, kernel_size: int) -> tuple[nn.Module, ...]:
    convolution = nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False)
    return nn.BatchNorm2d(in_channels), nn.ReLU(inplace=True), convolution


def _initialise(network: nn.Module) -> None:
    """Set normal weights with deviation sqrt(2 / inputs) (He et al., 2015) and biases 0, except in the last layer."""
    *layers, _ = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear))
    for layer in layers:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
