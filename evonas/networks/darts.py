"""Networks of cells (DARTS, Liu et al., 2019).

All cells are the normal cell of a genotype, except at one third and two thirds of the depth: there stand reduction
cells, which halve maps and double channels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evonas.errors import ConfigurationError
from evonas.networks.blocks import Normalization, first_layer
from evonas.networks.darts_genotypes import GENOTYPES, Genotype, Pairs
from evonas.networks.darts_operations import FactorizedReduce, ReluConvBN, operation
from evonas.networks.darts_plan import STEMS, CellPlace, cell_places

__all__ = ["GENOTYPES", "STEMS", "Cell", "CellPlace", "DartsNetwork", "DropPath", "Genotype", "cell_places"]


EdgeNoise = Callable[[Tensor], Tensor]
"""Function applied in training to the maps (B, C, H, W) of an edge; keeps their shape."""


@dataclass(frozen=True)
class DropPath:
    """Drop-path: an edge of a cell is dropped for random images of a batch, and scaled up for the rest."""

    probability: float
    """Probability of a drop, in [0, 1). DARTS raises it linearly from 0 to 0.2 over the epochs."""
    generator: torch.Generator
    """Draws one number per image and edge, on its own device."""

    def __post_init__(self) -> None:
        if not 0 <= self.probability < 1:
            raise ConfigurationError(f"expected a probability of drop-path in [0, 1), got {self.probability}")

    def __call__(self, maps: Tensor) -> Tensor:
        """(B, C, H, W) maps -> the same shape; draws nothing at probability 0."""
        if self.probability == 0:
            return maps
        keep = 1 - self.probability
        kept = torch.rand(len(maps), generator=self.generator, device=self.generator.device) < keep
        return maps / keep * kept.to(maps.device, maps.dtype)[:, None, None, None]


class Cell(nn.Module):
    """A cell: two inputs, nodes that add two operations on earlier states, and a concatenation of nodes as output."""

    def __init__(self, pairs: Pairs, concat: Sequence[int], place: CellPlace) -> None:
        super().__init__()
        self.inputs = tuple(state for _, state in pairs)
        self.concat = tuple(concat)
        self.preprocess0 = (
            FactorizedReduce(place.before_last, place.channels)
            if place.after_reduction
            else ReluConvBN(place.before_last, place.channels, 1, 1, 0)
        )
        self.preprocess1 = ReluConvBN(place.last, place.channels, 1, 1, 0)
        self.operations = nn.ModuleList(
            operation(name, place.channels, 2 if place.reduction and state < 2 else 1) for name, state in pairs
        )

    def forward(self, before_last: Tensor, last: Tensor, drop_path: EdgeNoise | None = None) -> Tensor:
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for first in range(0, len(self.inputs), 2):
            left, right = (self._edge(number, states, drop_path) for number in (first, first + 1))
            states.append(left + right)
        return torch.cat([states[node] for node in self.concat], dim=1)

    def _edge(self, number: int, states: Sequence[Tensor], drop_path: EdgeNoise | None) -> Tensor:
        part = self.operations[number]
        maps: Tensor = part(states[self.inputs[number]])
        return maps if drop_path is None or isinstance(part, nn.Identity) else drop_path(maps)


class DartsNetwork(nn.Module):
    """From (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits.

    H and W are multiples of 4, or of 32 with the stem of ImageNet. Training may set `drop_path`, for instance to a
    `DropPath`; it is applied in train mode only, and never to an edge that is the identity.

    Args:
        channels: channels of a node in the first cell.
        layers: number of cells.
        auxiliary: add the head that `forward_auxiliary` needs; published parameter counts exclude it.
        normalization: (mean, deviation) per channel become the first layer; None: the bare network.
        stem: `cifar`, or `imagenet` for 224x224 images, which divides height and width by 8.
    """

    def __init__(
        self,
        genotype: Genotype,
        channels: int = 36,
        layers: int = 20,
        n_classes: int = 10,
        auxiliary: bool = False,
        in_channels: int = 3,
        normalization: Normalization = None,
        stem: str = "cifar",
    ) -> None:
        super().__init__()
        normal, reduce = (genotype.normal, genotype.normal_concat), (genotype.reduce, genotype.reduce_concat)
        places = cell_places(channels, layers, len(normal[1]), len(reduce[1]), stem)
        self.drop_path: EdgeNoise | None = None
        self.normalize = first_layer(normalization, in_channels)
        self.stem, self.second_stem = _stems(stem, in_channels, channels)
        self.cells = nn.ModuleList(Cell(*(reduce if place.reduction else normal), place) for place in places)
        widths = [place.channels * len((reduce if place.reduction else normal)[1]) for place in places]
        self.tapped = 2 * layers // 3
        """Number of the cell whose output the auxiliary head reads."""
        self.auxiliary = _auxiliary_head(stem, widths[self.tapped], n_classes) if auxiliary else None
        self.classifier = nn.Linear(widths[-1], n_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for output in self._cell_outputs(images):
            maps = output  # the last one counts
        return self._classified(maps)

    def forward_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the network and of the auxiliary head, for images of 32x32 (224x224 with the stem of ImageNet)."""
        if self.auxiliary is None:
            raise ValueError("expected a network with an auxiliary head, got one without; build it with auxiliary=True")
        for number, last in enumerate(self._cell_outputs(images)):
            if number == self.tapped:
                auxiliary: Tensor = self.auxiliary(last)
        return self._classified(last), auxiliary

    def _cell_outputs(self, images: Tensor) -> Iterator[Tensor]:
        drop_path = self.drop_path if self.training else None
        before_last = self.stem(self.normalize(images))
        last = self.second_stem(before_last)
        for cell in self.cells:
            before_last, last = last, cell(before_last, last, drop_path)
            yield last

    def _classified(self, maps: Tensor) -> Tensor:
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


def _stems(stem: str, in_channels: int, channels: int) -> tuple[nn.Module, nn.Module]:
    """Modules from images to input 0 of the first cell, and from input 0 to input 1."""
    if stem == "cifar":
        return nn.Sequential(*_conv_bn(in_channels, 3 * channels, 1)), nn.Identity()
    first = nn.Sequential(
        *_conv_bn(in_channels, channels // 2, 2), nn.ReLU(inplace=True), *_conv_bn(channels // 2, channels, 2)
    )
    return first, nn.Sequential(nn.ReLU(), *_conv_bn(channels, channels, 2))


def _conv_bn(in_channels: int, out_channels: int, stride: int) -> tuple[nn.Module, ...]:
    return nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False), nn.BatchNorm2d(out_channels)


def _auxiliary_head(stem: str, channels: int, n_classes: int) -> nn.Sequential:
    """Auxiliary classifier: maps of 8x8 (7x7 with the stem of ImageNet) are reduced to 2x2, then 1x1.

    With the stem of ImageNet there is no batch normalisation behind the last convolution. DARTS omitted it by mistake
    and published its networks without it.
    """
    small = stem == "cifar"
    return nn.Sequential(
        nn.ReLU(),
        nn.AvgPool2d(5, 3 if small else 2, count_include_pad=False),
        nn.Conv2d(channels, 128, 1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(inplace=True),
        nn.Conv2d(128, 768, 2, bias=False),
        *([nn.BatchNorm2d(768)] if small else []),
        nn.ReLU(inplace=True),
        nn.Flatten(),
        nn.Linear(768, n_classes),
    )
