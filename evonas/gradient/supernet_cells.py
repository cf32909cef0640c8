"""Cells of a supernet: every edge computes a weighted sum of several operations (DARTS; Liu et al., 2019)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.gradient.supernet_sums import Term, add_up
from evonas.networks.darts import CellPlace
from evonas.networks.darts_operations import PRIMITIVES, DilConv, FactorizedReduce, ReluConvBN, SepConv, operation
from evonas.training.depthwise import depthwise, rows

__all__ = ["MixedCell", "SkipDropout"]

POOLS = ("max_pool_3x3", "avg_pool_3x3")


@dataclass(frozen=True, eq=False)
class SkipDropout:
    """Dropout on the elements of identity maps, scaled to keep the mean (P-DARTS)."""

    rate: float
    generator: torch.Generator
    """Draws one number for each element, on its own device."""

    def __post_init__(self) -> None:
        if not 0 <= self.rate < 1:
            raise ConfigurationError(f"expected a rate of dropout in [0, 1), got {self.rate}")

    def __call__(self, maps: Tensor) -> Tensor:
        keep = 1 - self.rate
        mask = torch.rand(maps.shape, generator=self.generator, device=self.generator.device) < keep
        return maps * mask.to(maps.device, maps.dtype).div_(keep)


@dataclass(frozen=True, eq=False)
class State:
    """A state of a cell in the forms that its outgoing edges read, each computed once."""

    maps: Tensor
    """(B, C, H, W) channels for the operations."""
    active: Tensor
    """`maps` after ReLU."""
    even: Tensor | None
    """Every second row and column of `active`, for edges of stride 2."""
    halves: Tensor | None
    """(B, 2 C, H / 2, W / 2): even rows and columns of `active`, then odd ones, as channels."""
    bypass: Tensor | None
    """Channels that bypass the operations, in the size of their outputs; None without partial channels."""
    pooled: dict[str, Tensor]
    """Pooling operation -> normalised maps; filled by the first edge that needs them."""


class MixedCell(nn.Module):
    """Two inputs brought to one width, then nodes that each read all states before them; outputs all nodes.

    Batch normalisation has no weights, and also follows pooling. Operations have the weights of those of a derived
    network (`networks.darts_operations`); computations that edges have in common run once.

    Args:
        operations: (edges, kept) indices into `PRIMITIVES`.
        sources: (edges,) state that each edge reads.
        partial: K of PC-DARTS: 1/K of the channels go through the operations.
    """

    def __init__(
        self, place: CellPlace, operations: Sequence[Sequence[int]], sources: Sequence[int], partial: int = 1
    ) -> None:
        super().__init__()
        self.reduction = place.reduction
        self.sources = tuple(sources)
        self.names = tuple(tuple(PRIMITIVES[index] for index in edge) for edge in operations)
        self.partial = partial
        self.channels = place.channels // partial
        """Channels of a node that go through the operations."""
        self.preprocess0 = (
            FactorizedReduce(place.before_last, place.channels, affine=False)
            if place.after_reduction
            else ReluConvBN(place.before_last, place.channels, 1, 1, 0, affine=False)
        )
        self.preprocess1 = ReluConvBN(place.last, place.channels, 1, 1, 0, affine=False)
        self.edges = nn.ModuleList(
            nn.ModuleDict(
                {
                    name: operation(name, self.channels, self._stride(source), affine=False)
                    for name in names
                    if name != "none"
                }
            )
            for names, source in zip(self.names, self.sources, strict=True)
        )
        self.pool_norms = nn.ModuleList(
            nn.ModuleDict({pool: nn.BatchNorm2d(self.channels, affine=False) for pool in self._pools(state)})
            for state in range(max(self.sources) + 1)
        )
        """For every state, shared by all edges that pool it, whose statistics are the same."""

    def forward(
        self,
        before_last: Tensor,
        last: Tensor,
        weights: Tensor,
        edge_weights: Tensor | None = None,
        dropout: SkipDropout | None = None,
    ) -> Tensor:
        """(B, nodes C, H, W) output, before ReLU.

        Args:
            before_last, last: outputs of the two previous cells, after ReLU.
            weights: (edges, kept) weights of operations.
            edge_weights: (edges,) weights of edges; None: 1.
        """
        if edge_weights is not None:
            weights = weights * edge_weights[:, None]
        shares = [edge.unbind() for edge in weights.unbind()]
        whole = [None] * len(shares) if edge_weights is None else edge_weights.unbind()
        nodes = [self._preprocessed(self.preprocess0, before_last), self._preprocessed(self.preprocess1, last)]
        states: list[State] = []
        for first in _first_edges(self.sources):
            states += [self._state(number, nodes[number]) for number in range(len(states), len(nodes))]
            numbered = list(enumerate(states, start=first))
            terms = [term for edge, state in numbered for term in self._terms(edge, state, shares[edge], dropout)]
            bypass = [Term(state.bypass, whole[edge]) for edge, state in numbered if state.bypass is not None]
            nodes.append(self._node(terms, bypass))
        return torch.cat(nodes[2:], dim=1)

    def _stride(self, source: int) -> int:
        return 2 if self.reduction and source < 2 else 1

    def _pools(self, state: int) -> list[str]:
        """Pooling operations of the edges out of a state."""
        outgoing = [names for names, source in zip(self.names, self.sources, strict=True) if source == state]
        return [pool for pool in POOLS if any(pool in names for names in outgoing)]

    def _preprocessed(self, part: nn.Module, active: Tensor) -> Tensor:
        if isinstance(part, FactorizedReduce):
            return _reduced(part, _halves(active)[1])
        assert isinstance(part, ReluConvBN)
        _, pointwise, norm = part
        return add_up([_normalised(active, None, pointwise, norm)])

    def _state(self, number: int, maps: Tensor) -> State:
        stride, bypass = self._stride(number), None
        if self.partial > 1:
            bypass = maps[:, self.channels :]
            bypass = functional.max_pool2d(bypass, 2) if stride == 2 else bypass
            maps = maps[:, : self.channels].contiguous(memory_format=torch.channels_last)
        active = functional.relu(maps)
        even, halves = _halves(active) if stride == 2 else (None, None)
        return State(maps, active, even, halves, bypass, {})

    def _terms(self, edge: int, state: State, shares: Sequence[Tensor], dropout: SkipDropout | None) -> list[Term]:
        """Summands of an edge in the sum of its node."""
        parts, norms = self.edges[edge], self.pool_norms[self.sources[edge]]
        assert isinstance(parts, nn.ModuleDict)
        assert isinstance(norms, nn.ModuleDict)
        terms = []
        for name, share in zip(self.names[edge], shares, strict=True):
            if name == "none":
                continue
            part = parts[name]
            if name in POOLS:
                if name not in state.pooled:
                    state.pooled[name] = add_up([_normalised(part(state.maps), None, None, norms[name])])
                terms.append(Term(state.pooled[name], share))
            elif isinstance(part, nn.Identity):
                terms.append(Term(state.maps if dropout is None else dropout(state.maps), share))
            elif isinstance(part, FactorizedReduce):
                terms.append(Term(_reduced(part, state.halves), share))
            elif isinstance(part, SepConv):
                _, first, pointwise, norm, _, second, *last = part
                maps = add_up([_normalised(self._depthwise(first, state), None, pointwise, norm)])
                maps = _depthwise(second, functional.relu_(maps))
                terms.append(_normalised(maps, share, *last))
            else:
                assert isinstance(part, DilConv)
                _, first, *last = part
                terms.append(_normalised(self._depthwise(first, state), share, *last))
        return terms

    def _depthwise(self, part: nn.Module, state: State) -> Tensor:
        """Depthwise convolution of the state after ReLU."""
        assert isinstance(part, nn.Conv2d)
        if part.stride == part.dilation == (2, 2) and state.even is not None:
            return _depthwise(part, state.even, halved=True)  # reads even rows and columns only
        return _depthwise(part, state.active)

    def _node(self, terms: Sequence[Term], bypass: Sequence[Term]) -> Tensor:
        """Sum of the edges into a node; with partial channels, also shuffle the channels (PC-DARTS)."""
        if not bypass:
            return add_up(terms)
        maps = torch.cat([add_up(terms), add_up(bypass)], dim=1)
        batch, _, height, width = maps.shape
        shuffled = rows(maps).view(-1, self.partial, self.channels).transpose(1, 2)
        return shuffled.reshape(batch, height, width, -1).permute(0, 3, 1, 2)


def _first_edges(sources: Sequence[int]) -> list[int]:
    """First edge into each node."""
    return [edge for edge, source in enumerate(sources) if source == 0]


def _halves(active: Tensor) -> tuple[Tensor, Tensor]:
    """(B, C, H / 2, W / 2) even rows and columns, and (B, 2 C, H / 2, W / 2) even, then odd ones."""
    even = active[:, :, ::2, ::2].contiguous(memory_format=torch.channels_last)
    return even, torch.cat([even, active[:, :, 1::2, 1::2]], dim=1)


def _reduced(part: FactorizedReduce, halves: Tensor | None) -> Tensor:
    assert halves is not None
    weights = (each.weight.flatten(1) for each in (part.even, part.odd))
    weight: Tensor = torch.block_diag(*weights)
    return add_up([Term(halves, None, part.bn, weight[:, :, None, None])])


def _depthwise(part: nn.Module, maps: Tensor, halved: bool = False) -> Tensor:
    """Depthwise convolution with the settings of a layer.

    Args:
        halved: the maps hold only the rows and columns that a stride and a dilation of 2 read.
    """
    assert isinstance(part, nn.Conv2d)
    assert isinstance(part.padding, tuple)
    stride, padding, dilation = part.stride[0], part.padding[0], part.dilation[0]
    if halved:
        stride, padding, dilation = 1, padding // 2, 1
    return depthwise(maps, part.weight, stride, padding, dilation, fast=part.training)


def _normalised(maps: Tensor, share: Tensor | None, pointwise: nn.Module | None, norm: nn.Module) -> Term:
    assert isinstance(norm, nn.BatchNorm2d)
    if pointwise is None:
        return Term(maps, share, norm)
    assert isinstance(pointwise, nn.Conv2d)
    return Term(maps, share, norm, pointwise.weight)
