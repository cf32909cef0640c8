"""Networks of NAS-Bench-201 (Dong and Yang, 2020): three stages of equal cells, residual blocks between them."""

from collections.abc import Sequence

from torch import Tensor, nn

from evonas.errors import ConfigurationError, choose
from evonas.networks.blocks import Normalization, first_layer
from evonas.networks.darts_operations import ReluConvBN
from evonas.networks.nasbench201_plan import EDGES, OPERATIONS, STAGES, live_edges

__all__ = ["NasBench201Network"]


class NasBench201Network(nn.Module):
    """From (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits; H and W are multiples of 4.

    Edges that are on no path from the input of a cell to its output are not built.

    Args:
        operations: name in `OPERATIONS` of each of the six `EDGES`.
        channels: width of the first stage; doubles from stage to stage.
        cells: cells of each stage.
        normalization: (mean, deviation) per channel become the first layer; None: the bare network.
    """

    def __init__(
        self,
        operations: Sequence[str],
        channels: int = 16,
        cells: int = 5,
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: Normalization = None,
    ) -> None:
        super().__init__()
        if len(operations) != len(EDGES):
            raise ConfigurationError(f"expected an operation for each of {len(EDGES)} edges, got {len(operations)}")
        self.normalize = first_layer(normalization, in_channels)
        self.stem = nn.Sequential(nn.Conv2d(in_channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))
        body: list[nn.Module] = []
        for stage in range(STAGES):
            width = channels * 2**stage
            body += [_HalvingBlock(width // 2, width)] if stage else []
            body += [_Cell(operations, width) for _ in range(cells)]
        self.body = nn.Sequential(*body)
        self.last = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU(inplace=True))
        self.classifier = nn.Linear(width, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.last(self.body(self.stem(self.normalize(images))))
        logits: Tensor = self.classifier(maps.mean(dim=(2, 3)))
        return logits


class _Cell(nn.Module):
    """A cell of four nodes: each but the first is the sum of its edges, the last is the output. No edge, zeros."""

    def __init__(self, operations: Sequence[str], channels: int) -> None:
        super().__init__()
        named = zip(EDGES, operations, live_edges(operations), strict=True)
        self.edges = nn.ModuleDict(
            {f"{start}-{end}": _operation(name, channels) for (start, end), name, lives in named if lives}
        )

    def forward(self, maps: Tensor) -> Tensor:
        nodes = {0: maps}
        for edge, part in self.edges.items():
            start, end = map(int, edge.split("-"))
            read = part(nodes[start])
            nodes[end] = nodes[end] + read if end in nodes else read
        output: Tensor = nodes[3] if 3 in nodes else maps * 0.0
        return output


class _HalvingBlock(nn.Module):
    """Two 3x3 convolutions, the first with stride 2, beside average pooling and a 1x1 convolution."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        self.residual = nn.Sequential(
            ReluConvBN(before, channels, 3, 2, 1),
            ReluConvBN(channels, channels, 3, 1, 1),
        )
        self.shortcut = nn.Sequential(nn.AvgPool2d(2), nn.Conv2d(before, channels, 1, bias=False))

    def forward(self, maps: Tensor) -> Tensor:
        shortcut: Tensor = self.shortcut(maps)
        residual: Tensor = self.residual(maps)
        return shortcut + residual


def _operation(name: str, channels: int) -> nn.Module:
    choose(dict.fromkeys(OPERATIONS), name, "operation")
    if name.startswith("nor_conv"):
        kernel = int(name[-1])
        return ReluConvBN(channels, channels, kernel, 1, kernel // 2)
    return nn.Identity() if name == "skip_connect" else nn.AvgPool2d(3, 1, padding=1, count_include_pad=False)
