"""Networks of ShuffleNetV2 blocks with squeeze-and-excitation and non-local parts (TAM-NAS, III-B, Table I).

A linear stem is followed by choice blocks in three stages, which each begin with stride 2, and a head. Choices that the
paper leaves open are listed in `docs/papers/tam-nas.md`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.networks.blocks import Normalization, first_layer
from evonas.networks.shuffle_plan import BLOCKS, BlockKind, Place, ShufflePlan, Unit, squeezed

__all__ = ["BLOCKS", "BlockKind", "NonLocal", "ShuffleBlock", "ShuffleNetwork", "ShufflePlan", "SqueezeExcite", "Unit"]


class SqueezeExcite(nn.Sequential):
    """Scales channels by a function of their means (Hu et al., 2018); hidden width as `squeezed`."""

    def __init__(self, channels: int) -> None:
        hidden = squeezed(channels)
        super().__init__(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(channels, hidden, 1),
            nn.ReLU(inplace=True),
            nn.Conv2d(hidden, channels, 1),
            nn.Hardsigmoid(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        scale = maps
        for part in self:
            scale = part(scale)
        return maps * scale


class NonLocal(nn.Module):
    """Non-local block: attention between all positions, added to the input (Wang et al., 2018).

    Weights over positions are softmax(theta(x)^T phi(x)) for the embedded Gaussian, softmax(x^T x) for the Gaussian.
    The last layer is initialised to 0, so that the block starts as the identity.
    """

    def __init__(self, channels: int, mid: int, embedded: bool, batch_norm: bool) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, mid, 1) if embedded else nn.Identity()
        self.phi = nn.Conv2d(channels, mid, 1) if embedded else nn.Identity()
        self.g = nn.Conv2d(channels, mid, 1)
        self.out = nn.Conv2d(mid, channels, 1)
        self.bn = nn.BatchNorm2d(channels) if batch_norm else nn.Identity()
        last = self.bn if isinstance(self.bn, nn.BatchNorm2d) else self.out
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, maps: Tensor) -> Tensor:
        theta, phi, g = (part(maps).flatten(2) for part in (self.theta, self.phi, self.g))  # (B, mid, N)
        attention = functional.softmax(theta.transpose(1, 2) @ phi, dim=-1)  # (B, N, N): over keys
        seen = (attention @ g.transpose(1, 2)).transpose(1, 2).unflatten(2, maps.shape[2:])
        added: Tensor = self.bn(self.out(seen))
        return maps + added


class ShuffleBlock(nn.Module):
    """A choice block.

    Stride 1: even channels pass, odd ones go through the main branch. Stride 2: both branches read all channels, and
    their outputs are concatenated.
    """

    def __init__(self, place: Place, unit: Unit) -> None:
        super().__init__()
        kind, branch = unit.kind, place.branch
        self.stride = place.stride
        inside = place.in_channels if place.stride == 2 else place.in_channels // 2
        if not kind.main and place.stride == 2:
            raise ValueError(f"expected a block with a main branch at stride 2, got {kind.name}")
        parts: list[nn.Module] = []
        if kind.main == "S":
            parts += [
                *_pointwise(inside, unit.mid),
                *_depthwise(unit.mid, kind.kernel, place.stride),
                *_pointwise(unit.mid, branch),
            ]
        elif kind.main == "SX":
            parts += [
                *_depthwise(inside, kind.kernel, place.stride),
                *_pointwise(inside, unit.mid),
                *_depthwise(unit.mid, kind.kernel, 1),
                *_pointwise(unit.mid, unit.mid),
                *_depthwise(unit.mid, kind.kernel, 1),
                *_pointwise(unit.mid, branch),
            ]
        if kind.non_local:
            inter = branch // 2 if kind.main else unit.mid
            parts.append(NonLocal(branch, inter, kind.non_local == "NE", kind.batch_norm))
        self.main = nn.Sequential(*parts, SqueezeExcite(branch))
        self.projection = (
            nn.Sequential(*_depthwise(inside, kind.kernel, 2), *_pointwise(inside, inside))
            if place.stride == 2
            else nn.Identity()
        )

    def forward(self, maps: Tensor) -> Tensor:
        if self.stride == 2:
            return torch.cat([self.projection(maps), self.main(maps)], dim=1)
        return torch.cat([maps[:, 0::2], self.main(maps[:, 1::2])], dim=1)


class ShuffleNetwork(nn.Module):
    """From (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

    Args:
        units: one unit per place of the plan.
        normalization: (mean, deviation) per channel become the first layer; None: the bare network, as in the paper.
    """

    def __init__(
        self,
        plan: ShufflePlan,
        units: Sequence[Unit],
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: Normalization = None,
    ) -> None:
        super().__init__()
        self.normalize = first_layer(normalization, in_channels)
        self.stem = stem(plan, in_channels)
        self.blocks = nn.Sequential(
            *(ShuffleBlock(place, unit) for place, unit in zip(plan.places, units, strict=True))
        )
        self.head = head(plan, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.blocks(self.stem(self.normalize(images))))
        return logits


def stem(plan: ShufflePlan, in_channels: int) -> nn.Sequential:
    """A convolution and its batch normalisation, without activation (Table I)."""
    return nn.Sequential(nn.Conv2d(in_channels, plan.stem, 3, padding=1, bias=False), nn.BatchNorm2d(plan.stem))


def head(plan: ShufflePlan, n_classes: int) -> nn.Sequential:
    """From the last stage's maps to logits."""
    width, (wide, features) = plan.stages[-1][0], plan.head
    return nn.Sequential(
        *_pointwise(width, wide),
        nn.AdaptiveAvgPool2d(1),
        SqueezeExcite(wide),
        nn.Conv2d(wide, features, 1),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(features, n_classes),
    )


def _pointwise(in_channels: int, out_channels: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(in_channels, out_channels, 1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def _depthwise(channels: int, kernel: int, stride: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False),
        nn.BatchNorm2d(channels),
    )
