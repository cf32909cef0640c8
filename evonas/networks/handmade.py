"""Hand-made networks for comparison with TAM-NAS (Xie et al., Table X), in their usual forms for 32x32 images."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.networks.blocks import Normalization, first_layer

__all__ = ["HANDMADE", "Handmade", "MobileNetV3", "ResNet18", "ShuffleNetV2"]


class _Network(nn.Module):
    """From (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits; the first convolution has stride 1.

    Args:
        width: factor of the channels of every layer, for quick runs.
        normalization: (mean, deviation) per channel become the first layer; None: the bare network, as in the paper.
    """

    body: nn.Sequential

    def __init__(self, n_classes: int, width: float, normalization: Normalization, in_channels: int) -> None:
        super().__init__()
        if n_classes < 1 or not 0 < width < float("inf"):
            raise ConfigurationError(f"expected n_classes >= 1 and width > 0, got {n_classes} and {width}")
        self.normalize = first_layer(normalization, in_channels)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(self.normalize(images))
        return logits


class _BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: the identity, or a 1x1 convolution where the shape changes."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            *_conv(before, channels, 3, stride), nn.ReLU(inplace=True), *_conv(channels, channels, 3)
        )
        changed = stride > 1 or before != channels
        self.shortcut = nn.Sequential(*_conv(before, channels, 1, stride)) if changed else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        return functional.relu(self.residual(maps) + self.shortcut(maps))


class ResNet18(_Network):
    """ResNet-18 (He et al., 2016) with a 3x3 stem of stride 1 and no pooling after it; 11,173,962 parameters."""

    def __init__(
        self, n_classes: int = 10, width: float = 1.0, normalization: Normalization = None, in_channels: int = 3
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        stages = [_rounded(channels * width, 4) for channels in (64, 128, 256, 512)]
        layers: list[nn.Module] = [*_conv(in_channels, stages[0], 3), nn.ReLU(inplace=True)]
        before = stages[0]
        for number, channels in enumerate(stages):
            layers += [_BasicBlock(before, channels, 2 if number else 1), _BasicBlock(channels, channels, 1)]
            before = channels
        self.body = nn.Sequential(*layers, *_classifier(before, n_classes))


class _ShuffleUnit(nn.Module):
    """Stride 1: half of the channels pass, half go through the branch. Stride 2: two branches read all channels."""

    def __init__(self, before: int, channels: int, stride: int) -> None:
        super().__init__()
        half = channels // 2
        inside = before if stride == 2 else half
        relu = partial(nn.ReLU, inplace=True)
        self.stride = stride
        self.branch = nn.Sequential(
            *_conv(inside, half, 1), relu(), *_conv(half, half, 3, stride, half), *_conv(half, half, 1), relu()
        )
        self.projection = (
            nn.Sequential(*_conv(before, before, 3, 2, before), *_conv(before, half, 1), relu())
            if stride == 2
            else nn.Identity()
        )

    def forward(self, maps: Tensor) -> Tensor:
        passed, seen = (maps, maps) if self.stride == 2 else maps.chunk(2, dim=1)
        both = torch.stack([self.projection(passed), self.branch(seen)], dim=2)  # shuffles two groups of channels
        return both.flatten(1, 2)


class ShuffleNetV2(_Network):
    """ShuffleNetV2 2x (Ma et al., 2018) with a 3x3 stem of stride 1 and no pooling after it; 5,365,486 parameters."""

    STAGES = ((244, 4), (488, 8), (976, 4))
    """(channels, units) of every stage; the first unit of a stage has stride 2."""

    def __init__(
        self, n_classes: int = 10, width: float = 1.0, normalization: Normalization = None, in_channels: int = 3
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        before = _rounded(24 * width, 4)
        layers: list[nn.Module] = [*_conv(in_channels, before, 3), nn.ReLU(inplace=True)]
        for base, units in self.STAGES:
            channels = _rounded(base * width, 2)
            layers += [_ShuffleUnit(before, channels, 2)]
            layers += [_ShuffleUnit(channels, channels, 1) for _ in range(units - 1)]
            before = channels
        last = _rounded(2048 * width, 4)
        self.body = nn.Sequential(
            *layers, *_conv(before, last, 1), nn.ReLU(inplace=True), *_classifier(last, n_classes)
        )


class Bottleneck(NamedTuple):
    """A row of MobileNetV3-Large (Howard et al., 2019, Table 1)."""

    kernel: int
    expanded: int
    channels: int
    excited: bool
    hard_swish: bool
    stride: int


LARGE = tuple(
    Bottleneck(*row)
    for row in (
        (3, 16, 16, False, False, 1),
        (3, 64, 24, False, False, 2),
        (3, 72, 24, False, False, 1),
        (5, 72, 40, True, False, 2),
        (5, 120, 40, True, False, 1),
        (5, 120, 40, True, False, 1),
        (3, 240, 80, False, True, 2),
        (3, 200, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 184, 80, False, True, 1),
        (3, 480, 112, True, True, 1),
        (3, 672, 112, True, True, 1),
        (5, 672, 160, True, True, 2),
        (5, 960, 160, True, True, 1),
        (5, 960, 160, True, True, 1),
    )
)


class _Excite(nn.Module):
    """Squeeze-and-excitation: scales channels by a function of their means (Hu et al., 2018)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = _divisible(channels / 4)
        self.scale = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        scale: Tensor = self.scale(maps)
        return maps * scale


class _Inverted(nn.Module):
    """An inverted bottleneck: 1x1 expansion, depthwise convolution, 1x1 projection; plus its input if shapes match."""

    def __init__(self, before: int, row: Bottleneck, width: float) -> None:
        super().__init__()
        expanded, channels = _divisible(row.expanded * width), _divisible(row.channels * width)
        layers: list[nn.Module] = []
        if expanded != before:
            layers += [*_conv(before, expanded, 1), _activation(row.hard_swish)]
        layers += [*_conv(expanded, expanded, row.kernel, row.stride, expanded), _activation(row.hard_swish)]
        layers += [_Excite(expanded)] if row.excited else []
        self.residual = nn.Sequential(*layers, *_conv(expanded, channels, 1))
        self.added = row.stride == 1 and before == channels

    def forward(self, maps: Tensor) -> Tensor:
        found: Tensor = self.residual(maps)
        return maps + found if self.added else found


class MobileNetV3(_Network):
    """MobileNetV3-Large 1.0 (Howard et al., 2019) with a stem of stride 1 and no dropout; 4,214,842 parameters."""

    def __init__(
        self, n_classes: int = 10, width: float = 1.0, normalization: Normalization = None, in_channels: int = 3
    ) -> None:
        super().__init__(n_classes, width, normalization, in_channels)
        before = _divisible(16 * width)
        layers: list[nn.Module] = [*_conv(in_channels, before, 3), nn.Hardswish()]
        for row in LARGE:
            layers += [_Inverted(before, row, width)]
            before = _divisible(row.channels * width)
        last, features = 6 * before, _divisible(1280 * width)
        self.body = nn.Sequential(
            *layers,
            *_conv(before, last, 1),
            nn.Hardswish(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(last, features),
            nn.Hardswish(),
            nn.Linear(features, n_classes),
        )


def _conv(before: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> tuple[nn.Module, ...]:
    """Convolution without bias, padded to keep height and width up to the stride, and batch normalisation."""
    return (
        nn.Conv2d(before, channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(channels),
    )


def _classifier(features: int, n_classes: int) -> tuple[nn.Module, ...]:
    return nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(features, n_classes)


def _activation(hard_swish: bool) -> nn.Module:
    return nn.Hardswish() if hard_swish else nn.ReLU(inplace=True)


def _rounded(channels: float, step: int) -> int:
    """The nearest multiple of `step`, at least one."""
    return max(step, step * round(channels / step))


def _divisible(channels: float) -> int:
    """The nearest multiple of 8, at least 8, rounded up where rounding down loses more than a tenth."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


class Handmade(NamedTuple):
    """A network of Table X."""

    build: Callable[..., nn.Module]
    """Called as build(n_classes=10, width=1.0, normalization=None, in_channels=3)."""
    paper_params: float
    """Parameter count in Table X. The table names no variants; ours are the standard ones of closest size."""


HANDMADE: dict[str, Handmade] = {
    "MobileNetV3": Handmade(MobileNetV3, 4.93e6),
    "ResNet-18": Handmade(ResNet18, 11.17e6),
    "ShuffleNetV2": Handmade(ShuffleNetV2, 4.82e6),
}
"""Name in Table X -> network."""
