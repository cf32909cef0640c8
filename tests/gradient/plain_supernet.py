"""Supernets as DARTS, PC-DARTS and P-DARTS write them: every edge on its own, layer by layer, `none` included."""

import torch
from helpers import part_of
from torch import Tensor, nn

from evonas.gradient.supernet import Architecture, DartsSupernet, Mixture, SupernetPlan
from evonas.gradient.supernet_cells import MixedCell
from evonas.networks.blocks import seeded
from evonas.networks.darts_operations import PRIMITIVES, FactorizedReduce, ReluConvBN, operation


class MixedOperation(nn.ModuleDict):
    """sum of weight * operation over an edge's operations, on the first of every `partial` channels."""

    def __init__(self, names: list[str], channels: int, stride: int, partial: int) -> None:
        super().__init__()
        self.partial, self.stride = partial, stride
        for name in names:
            part = operation(name, channels // partial, stride, affine=False)
            if "pool" in name:
                part = nn.Sequential(part, nn.BatchNorm2d(channels // partial, affine=False))
            self[name] = part

    def forward(self, maps: Tensor, weights: Tensor) -> Tensor:
        first, others = maps.split([maps.shape[1] // self.partial, maps.shape[1] - maps.shape[1] // self.partial], 1)
        mixed = torch.zeros_like(first[..., :: self.stride, :: self.stride])
        for weight, part in zip(weights, self.values(), strict=True):
            mixed = mixed + weight * part(first)
        if self.partial == 1:
            return mixed
        others = nn.functional.max_pool2d(others, 2, 2) if self.stride == 2 else others
        joined = torch.cat([mixed, others], dim=1)
        batch, channels, height, width = joined.shape
        turned = joined.view(batch, self.partial, channels // self.partial, height, width).transpose(1, 2)
        return turned.reshape(batch, channels, height, width)


class PlainCell(nn.Module):
    def __init__(
        self, plan: SupernetPlan, before_last: int, last: int, channels: int, reduction: bool, after_reduction: bool
    ) -> None:
        super().__init__()
        self.nodes, self.reduction = plan.nodes, reduction
        self.preprocess0 = (
            FactorizedReduce(before_last, channels, False)
            if after_reduction
            else ReluConvBN(before_last, channels, 1, 1, 0, False)
        )
        self.preprocess1 = ReluConvBN(last, channels, 1, 1, 0, False)
        sources = [source for node in range(plan.nodes) for source in range(node + 2)]
        held = plan.operations[reduction] if plan.operations is not None else [range(8)] * len(sources)
        self.edges = nn.ModuleList(
            MixedOperation(
                [PRIMITIVES[index] for index in indices], channels, 2 if reduction and source < 2 else 1, plan.partial
            )
            for indices, source in zip(held, sources, strict=True)
        )

    def forward(self, before_last: Tensor, last: Tensor, weights: Tensor, edge_weights: Tensor | None) -> Tensor:
        states, edge = [self.preprocess0(before_last), self.preprocess1(last)], 0
        for _ in range(self.nodes):
            total = 0
            for state in states:
                maps = self.edges[edge](state, weights[edge])
                total = total + (maps if edge_weights is None else edge_weights[edge] * maps)
                edge += 1
            states.append(total)
        return torch.cat(states[2:], dim=1)


class PlainSupernet(nn.Module):
    """With the names, the weights and the statistics of a `DartsSupernet`."""

    def __init__(self, supernet: DartsSupernet) -> None:
        super().__init__()
        plan, channels = supernet.plan, supernet.plan.channels
        self.normalize = supernet.normalize
        self.stem = nn.Sequential(
            nn.Conv2d(part_of(supernet, "stem.0", nn.Conv2d).in_channels, 3 * channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(3 * channels),
        )
        before_last, last, after_reduction, self.cells = 3 * channels, 3 * channels, False, nn.ModuleList()
        for number in range(plan.layers):
            reduction = number in (plan.layers // 3, 2 * plan.layers // 3)
            channels = 2 * channels if reduction else channels
            self.cells.append(PlainCell(plan, before_last, last, channels, reduction, after_reduction))
            before_last, last, after_reduction = last, plan.nodes * channels, reduction
        self.classifier = nn.Linear(last, plan.n_classes)
        weight = next(supernet.parameters())
        self.to(weight.device, weight.dtype)
        state = supernet.state_dict()
        self.load_state_dict({plain: state[name] for plain, name in self.names(supernet).items()})

    def names(self, supernet: DartsSupernet) -> dict[str, str]:
        """Name of every parameter and buffer here -> its name there."""
        found = {}
        for name in self.state_dict():
            parts = name.split(".")
            there = name
            if "pool" in name:
                _, cell, _, edge, pool, _, last = parts
                source = part_of(supernet, f"cells.{cell}", MixedCell).sources[int(edge)]
                there = f"cells.{cell}.pool_norms.{source}.{pool}.{last}"
            found[name] = there
        return found

    def forward(self, images: Tensor, mixture: Mixture) -> Tensor:
        before_last = last = self.stem(self.normalize(images))
        for cell in self.cells:
            weights, edges = (
                (mixture.reduce, mixture.reduce_edges) if cell.reduction else (mixture.normal, mixture.normal_edges)
            )
            before_last, last = last, cell(before_last, last, weights, edges)
        logits: Tensor = self.classifier(last.mean(dim=(2, 3)))
        return logits


def made(plan: SupernetPlan, seed: int = 0) -> DartsSupernet:
    """In float64, with statistics of its own."""
    supernet = seeded(lambda: DartsSupernet(plan), seed)
    assert isinstance(supernet, DartsSupernet)
    generator = torch.Generator().manual_seed(seed)
    for part in supernet.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            nn.init.uniform_(part.running_mean, -0.5, 0.5, generator=generator)
            nn.init.uniform_(part.running_var, 0.5, 2.0, generator=generator)
    return supernet.double()


def drawn(plan: SupernetPlan, seed: int = 0) -> Architecture:
    """Far from uniform."""
    architecture = Architecture(plan, torch.Generator().manual_seed(seed)).double()
    with torch.no_grad():
        for parameter in architecture.parameters():
            parameter.mul_(1e3)
    return architecture


def distance(found: Tensor, expected: Tensor) -> float:
    """Relative to what is expected."""
    return float((found - expected).detach().norm() / expected.detach().norm().clamp_min(1e-300))
