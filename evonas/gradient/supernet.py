"""The supernet of gradient methods: cells with all operations at every edge (DARTS; Liu et al., 2019), on part of the
channels (PC-DARTS; Xu et al., 2020), or with fewer operations at each edge (P-DARTS; Chen et al., 2019)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.gradient.architecture import Architecture, Mixture, SupernetPlan
from evonas.gradient.supernet_cells import MixedCell, SkipDropout
from evonas.networks.blocks import first_layer
from evonas.networks.darts import cell_places

__all__ = ["Architecture", "DartsSupernet", "Mixture", "SupernetPlan"]


class DartsSupernet(nn.Module):
    """From (B, in_channels, H, W) images in [0, 1] and a mixture to (B, n_classes) logits. H and W are multiples of 4.

    Its parameters are weights only. Batch normalisation has no parameters except in the stem. `none` is not computed:
    its share is missing from the sum of its edge. On a CPU in train mode, gradients of weights take nearly as long as
    the rest of a backward pass: weights should not require gradients that nobody uses.

    `skip_dropout` is the rate of dropout on identity skip_connects in train mode (P-DARTS); above 0 it needs
    `generator`, on the device of the images.

    Args:
        normalization: (mean, deviation) per channel become the first layer; None: the bare network.
    """

    def __init__(
        self,
        plan: SupernetPlan,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        self.plan = plan
        self.skip_dropout = 0.0
        self.generator: torch.Generator | None = None
        self.normalize = first_layer(normalization, in_channels)
        stem = 3 * plan.channels
        self.stem = nn.Sequential(nn.Conv2d(in_channels, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem))
        places = cell_places(plan.channels, plan.layers, plan.nodes, plan.nodes)
        self.cells = nn.ModuleList(
            MixedCell(place, plan.edge_operations[place.reduction], plan.sources, plan.partial) for place in places
        )
        self.classifier = nn.Linear(plan.nodes * places[-1].channels, plan.n_classes)

    def forward(self, images: Tensor, mixture: Mixture) -> Tensor:
        dropout = self._dropout()
        convolution, norm = self.stem
        maps = norm(convolution(self.normalize(images)).contiguous())  # torch's sums over channels_last maps are coarse
        before_last = last = functional.relu_(maps).contiguous(memory_format=torch.channels_last)
        for number, cell in enumerate(self.cells):
            weights, edges = (
                (mixture.reduce, mixture.reduce_edges) if cell.reduction else (mixture.normal, mixture.normal_edges)
            )
            output = cell(before_last, last, weights, edges, dropout)
            if number + 1 < len(self.cells):
                output = functional.relu_(output)  # both cells that read it start with a ReLU
            before_last, last = last, output
        logits: Tensor = self.classifier(last.mean(dim=(2, 3)))
        return logits

    def _dropout(self) -> SkipDropout | None:
        if not self.training or self.skip_dropout == 0:
            return None
        if self.generator is None:
            raise ValueError("expected a generator for dropout on skip_connect, got none; set supernet.generator")
        return SkipDropout(self.skip_dropout, self.generator)
