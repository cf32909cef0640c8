"""Networks of phases: small graphs of 3x3 convolutions (Genetic CNN; NSGA-Net, Lu et al., 2019; RoCo-NAS, III-B)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.networks.blocks import Normalization, conv_bn_relu, first_layer
from evonas.networks.phase_plan import PhaseGraph, PhasePlan, plan_phases

__all__ = ["Merge", "PhaseGraph", "PhaseNetwork", "PhasePlan", "plan_phases"]


class Merge(nn.Conv2d):
    """Concatenation of several maps of `channels` channels and a 1x1 convolution back to `channels`."""

    def __init__(self, count: int, channels: int) -> None:
        super().__init__(count * channels, channels, 1, bias=False)

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """(B, channels, H, W) of each input -> the same shape.

        On the CPU it is computed as a sum over the inputs, each with its slice of the weights: equal up to rounding,
        and faster than interleaving many narrow channels_last maps.
        """
        if inputs[0].device.type != "cpu":
            return super().forward(torch.cat(list(inputs), dim=1))
        weights = torch.split(self.weight, self.out_channels, dim=1)  # (channels, channels, 1, 1) each
        merged = functional.conv2d(inputs[0], weights[0])
        for one, weight in zip(inputs[1:], weights[1:], strict=True):
            merged.add_(functional.conv2d(one, weight))
        return merged


class _Phase(nn.Module):
    """A phase; nodes merge several inputs by concatenation and a 1x1 convolution, never by addition."""

    def __init__(self, graph: PhaseGraph, plan: PhasePlan) -> None:
        super().__init__()
        self.graph = graph
        channels = plan.out_channels
        self.first_conv = (
            nn.Conv2d(plan.in_channels, channels, plan.kernel_size, bias=False) if plan.kernel_size else nn.Identity()
        )
        self.nodes = nn.ModuleDict(
            {
                str(node): conv_bn_relu(channels, channels, 3)
                for node, inputs in enumerate(graph.node_inputs, start=1)
                if inputs
            }
        )
        self.merges = nn.ModuleDict({str(node): Merge(count, channels) for node, count in graph.merges})
        self.output = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        outputs = {0: self.first_conv(x)}  # node -> (B, C, H, W)
        for node, inputs in enumerate(self.graph.node_inputs, start=1):
            if inputs:
                outputs[node] = self.nodes[str(node)](self._merge(node, inputs, outputs))
        last = len(self.graph.node_inputs) + 1
        merged: Tensor = self.output(self._merge(last, self.graph.output_inputs, outputs))
        return merged

    def _merge(self, node: int, inputs: Sequence[int], outputs: dict[int, Tensor]) -> Tensor:
        read = [outputs[i] for i in inputs]
        if len(read) == 1:
            return read[0]
        merged: Tensor = self.merges[str(node)](read)
        return merged


class PhaseNetwork(nn.Module):
    """Active phases with 2x2 max-pooling between them, global average pooling, a linear classifier.

    Maps (B, in_channels, H, W) images in [0, 1] to (B, n_classes) logits. Without phases it is a classifier on the mean
    colour, as in the reference implementation.

    Args:
        graphs: active phases only.
        channels: channels of the first phase; every further phase doubles them.
        normalization: (mean, deviation) per channel become the first layer; None: the bare network.
    """

    def __init__(
        self,
        graphs: Sequence[PhaseGraph],
        channels: int = 16,
        n_classes: int = 10,
        in_channels: int = 3,
        image_size: int = 32,
        normalization: Normalization = None,
    ) -> None:
        super().__init__()
        self.normalize = first_layer(normalization, in_channels)
        plan = plan_phases(len(graphs), channels, in_channels, image_size)
        self.phases = nn.ModuleList(_Phase(graph, place) for graph, place in zip(graphs, plan, strict=True))
        self.classifier = nn.Linear(plan[-1].out_channels if plan else in_channels, n_classes)

    def forward(self, images: Tensor) -> Tensor:
        x = self.normalize(images)
        for position, phase in enumerate(self.phases):
            x = phase(functional.max_pool2d(x, 2) if position else x)
        logits: Tensor = self.classifier(x.mean(dim=(2, 3)))
        return logits
