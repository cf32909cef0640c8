"""DARTS's search step the plain way; see darts_step.py.

Every edge computes all eight operations layer by layer and adds up their weighted maps; float32, contiguous; a loss's
gradient is taken by everything, needed or not; the unrolled step works on a copy of the network.
"""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.networks.darts import CellPlace, cell_places
from evonas.networks.darts_operations import PRIMITIVES, FactorizedReduce, ReluConvBN, operation

NODES = 4


class MixedOperation(nn.ModuleDict):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        for name in PRIMITIVES:
            part = operation(name, channels, stride, affine=False)
            self[name] = nn.Sequential(part, nn.BatchNorm2d(channels, affine=False)) if "pool" in name else part

    def forward(self, maps: Tensor, weights: Tensor) -> Tensor:
        total: Tensor = sum(weight * part(maps) for weight, part in zip(weights, self.values(), strict=True))
        return total


class PlainCell(nn.Module):
    def __init__(self, place: CellPlace) -> None:
        super().__init__()
        self.reduction = place.reduction
        self.preprocess0 = (
            FactorizedReduce(place.before_last, place.channels, affine=False)
            if place.after_reduction
            else ReluConvBN(place.before_last, place.channels, 1, 1, 0, affine=False)
        )
        self.preprocess1 = ReluConvBN(place.last, place.channels, 1, 1, 0, affine=False)
        self.edges = nn.ModuleList(
            MixedOperation(place.channels, 2 if place.reduction and source < 2 else 1)
            for node in range(NODES)
            for source in range(node + 2)
        )

    def forward(self, before_last: Tensor, last: Tensor, weights: Tensor) -> Tensor:
        states = [self.preprocess0(before_last), self.preprocess1(last)]
        for _ in range(NODES):
            first = len(states) * (len(states) - 1) // 2 - 1
            states.append(sum(self.edges[first + n](state, weights[first + n]) for n, state in enumerate(states)))
        return torch.cat(states[2:], dim=1)


class PlainSupernet(nn.Module):
    """Its weights have the names that `DartsSupernet` gives them; alpha (2, 14, 8) is among its parameters."""

    def __init__(self, channels: int, layers: int) -> None:
        super().__init__()
        places = cell_places(channels, layers)
        self.stem = nn.Sequential(nn.Conv2d(3, 3 * channels, 3, padding=1, bias=False), nn.BatchNorm2d(3 * channels))
        self.cells = nn.ModuleList(PlainCell(place) for place in places)
        self.reductions = [place.reduction for place in places]
        self.classifier = nn.Linear(NODES * places[-1].channels, 10)
        self.alpha = nn.Parameter(torch.zeros(2, 14, 8))

    def forward(self, images: Tensor) -> Tensor:
        shares = self.alpha.softmax(dim=2)
        before_last = last = self.stem(images)
        for cell, reduction in zip(self.cells, self.reductions, strict=True):
            before_last, last = last, cell(before_last, last, shares[int(reduction)])
        logits: Tensor = self.classifier(last.mean(dim=(2, 3)))
        return logits

    def weights(self) -> dict[str, nn.Parameter]:
        return {name: parameter for name, parameter in self.named_parameters() if name != "alpha"}


def loss_of(network: PlainSupernet, batch: Sequence[Tensor]) -> Tensor:
    """All gradients are computed and left in `.grad`."""
    network.zero_grad()
    loss = functional.cross_entropy(network(batch[0]), batch[1])
    loss.backward()
    return loss.detach()


def gradient_of(weight: nn.Parameter) -> Tensor:
    assert weight.grad is not None
    return weight.grad


def alpha_gradient(
    network: PlainSupernet, train: Sequence[Tensor], validation: Sequence[Tensor], order: int, rate: float
) -> Tensor:
    """(2, 14, 8). Of second order with weight decay and momentum left out: it costs no less."""
    if order == 1:
        loss_of(network, validation)
        return gradient_of(network.alpha).clone()
    loss_of(network, train)
    ahead = copy.deepcopy(network)
    with torch.no_grad():
        for moved, weight in zip(ahead.weights().values(), network.weights().values(), strict=True):
            moved.sub_(rate * gradient_of(weight))
    loss_of(ahead, validation)
    direct = gradient_of(ahead.alpha)
    along = [gradient_of(weight) for weight in ahead.weights().values()]
    radius: Tensor = 0.01 / torch.cat([each.flatten() for each in along]).norm()
    ends = []
    for side in (radius, -2 * radius):
        with torch.no_grad():
            for weight, each in zip(network.weights().values(), along, strict=True):
                weight.add_(side * each)
        loss_of(network, train)
        ends.append(gradient_of(network.alpha).clone())
    with torch.no_grad():
        for weight, each in zip(network.weights().values(), along, strict=True):
            weight.add_(radius * each)
    return direct - rate * (ends[0] - ends[1]) / (2 * radius)
