"""Architecture parameters: the share of every operation at every edge of the two kinds of cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evonas.errors import ConfigurationError
from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES

__all__ = ["Architecture", "Mixture", "Operations", "Scores", "SupernetPlan", "one_hot"]

Operations = tuple[tuple[tuple[int, ...], ...], ...]
"""(2, edges, kept) ascending indices into `PRIMITIVES`: operations of every edge in normal and reduction cells."""

INITIAL_DEVIATION = 1e-3
"""Standard deviation of the initial alpha and beta (DARTS)."""


@dataclass(frozen=True, kw_only=True)
class SupernetPlan:
    """Shape of a supernet; the defaults are those of DARTS."""

    channels: int = 16
    """Width of a node of the first cell."""
    layers: int = 8
    """Number of cells; those at a third and two thirds of the depth are reductions."""
    nodes: int = 4
    """Intermediate nodes of a cell; each reads all states before it."""
    n_classes: int = 10
    partial: int = 1
    """K of PC-DARTS: 1/K of the channels go through the operations of an edge, the rest bypass them."""
    edge_normalisation: bool = False
    """Whether the edges into a node have weights of their own (beta of PC-DARTS)."""
    operations: Operations | None = None
    """Operations of every edge, the same number at each; None: all eight. Nested lists become tuples."""

    def __post_init__(self) -> None:
        for name in ("channels", "layers", "nodes", "n_classes", "partial"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"expected a whole number of {name} >= 1, got {value!r}")
        if self.channels % self.partial:
            raise ConfigurationError(f"expected channels that partial divides, got {self.channels} and {self.partial}")
        if self.operations is not None:
            object.__setattr__(self, "operations", self._checked(self.operations))

    @property
    def sources(self) -> tuple[int, ...]:
        """State that each edge reads, in the order of DARTS: 0, 1 (node 2), 0, 1, 2 (node 3), ...."""
        return tuple(source for node in range(2, 2 + self.nodes) for source in range(node))

    @property
    def edge_operations(self) -> Operations:
        """`operations`, with all eight of every edge for None."""
        return self.operations or ((tuple(range(len(PRIMITIVES))),) * len(self.sources),) * 2

    def _checked(self, nested: Sequence[Sequence[Sequence[int]]]) -> Operations:
        operations = tuple(tuple(tuple(int(index) for index in edge) for edge in cell) for cell in nested)
        edges = [edge for cell in operations for edge in cell]
        if [len(cell) for cell in operations] != [len(self.sources)] * 2:
            raise ConfigurationError(
                f"expected operations at {len(self.sources)} edges of two cells, got {[len(c) for c in operations]}"
            )
        if len({len(edge) for edge in edges}) != 1 or not edges[0]:
            numbers = sorted({len(edge) for edge in edges})
            raise ConfigurationError(f"expected the same number of operations at every edge, >= 1, got {numbers}")
        for edge in edges:
            if list(edge) != sorted(set(edge)) or not set(edge) <= set(range(len(PRIMITIVES))):
                raise ConfigurationError(
                    f"expected ascending indices of operations below {len(PRIMITIVES)} at an edge, got {edge}"
                )
        return operations


@dataclass(frozen=True, eq=False)
class Mixture:
    """Weights of a supernet's operations, of any sign."""

    normal: Tensor
    """(edges, kept) weight of each operation of an edge, in normal cells."""
    reduce: Tensor
    """(edges, kept) the same for reduction cells."""
    normal_edges: Tensor | None = None
    """(edges,) factor on the weighted sum of each edge, in normal cells; None: 1."""
    reduce_edges: Tensor | None = None
    """(edges,) the same for reduction cells."""

    @property
    def edge_shares(self) -> Tensor | None:
        """(2, edges) factors on the edges of normal and reduction cells; None: 1."""
        if self.normal_edges is None or self.reduce_edges is None:
            return None
        return torch.stack([self.normal_edges, self.reduce_edges])


def one_hot(plan: SupernetPlan, genotype: Genotype) -> Mixture:
    """The mixture of a genotype's network: 1 for the operations it keeps, 0 for all others.

    The supernet and the network still differ in normalisation: the supernet normalises pooling, and its batch
    normalisation has no weights.

    Raises:
        ConfigurationError (a ValueError): a genotype with other nodes, or with operations outside the plan.
    """
    tables, nodes = [], tuple(range(2, 2 + plan.nodes))
    for operations, pairs, concat in zip(
        plan.edge_operations,
        (genotype.normal, genotype.reduce),
        (genotype.normal_concat, genotype.reduce_concat),
        strict=True,
    ):
        if concat != nodes or len(pairs) != 2 * plan.nodes:
            raise ConfigurationError(
                f"expected cells whose outputs are nodes {nodes}, got {len(pairs) // 2} and {concat}"
            )
        table = torch.zeros(len(operations), len(operations[0]))
        for number, (name, source) in enumerate(pairs):
            edge = sum(range(2, 2 + number // 2)) + source
            if PRIMITIVES.index(name) not in operations[edge]:
                raise ConfigurationError(f"expected an operation that edge {edge} holds, got {name!r}")
            table[edge, operations[edge].index(PRIMITIVES.index(name))] += 1
        tables.append(table)
    return Mixture(*tables)


class Scores(NamedTuple):
    """Architecture parameters before the softmax: the arguments of `derive_genotype`."""

    alpha_normal: Tensor
    """(edges, 8); minus infinity for operations an edge does not have."""
    alpha_reduce: Tensor
    beta_normal: Tensor | None
    """(edges,)"""
    beta_reduce: Tensor | None


class Architecture(nn.Module):
    """Parameters of the mixture: alpha_normal and alpha_reduce (edges, kept); with edge normalisation also beta_normal
    and beta_reduce (edges,).

    Args:
        generator: on the CPU; for the initial values, normal with a standard deviation of 0.001.
    """

    _columns: Tensor

    def __init__(self, plan: SupernetPlan, generator: torch.Generator) -> None:
        super().__init__()
        columns = torch.tensor(plan.edge_operations)  # (2, edges, kept)
        self.nodes = plan.nodes
        self.register_buffer("_columns", columns, persistent=False)

        def initial(*shape: int) -> nn.Parameter:
            return nn.Parameter(INITIAL_DEVIATION * torch.randn(*shape, generator=generator))

        _, edges, kept = columns.shape
        self.alpha_normal, self.alpha_reduce = initial(edges, kept), initial(edges, kept)
        self.beta_normal = initial(edges) if plan.edge_normalisation else None
        self.beta_reduce = initial(edges) if plan.edge_normalisation else None

    def forward(self) -> Mixture:
        """Softmax over the operations of each edge, and over the edges into each node."""
        return Mixture(
            self.alpha_normal.softmax(dim=1),
            self.alpha_reduce.softmax(dim=1),
            self._shares(self.beta_normal),
            self._shares(self.beta_reduce),
        )

    def probabilities(self) -> Tensor:
        """(2, edges, 8) softmax over the operations of each edge; 0 for operations it does not have."""
        alpha = torch.stack([self.alpha_normal, self.alpha_reduce])
        return self._spread(alpha.softmax(dim=2), 0.0)

    def scores(self) -> Scores:
        """The parameters over all eight operations, detached."""
        alpha = self._spread(torch.stack([self.alpha_normal, self.alpha_reduce]).detach(), -torch.inf)
        beta = [each if each is None else each.detach() for each in (self.beta_normal, self.beta_reduce)]
        return Scores(alpha[0], alpha[1], beta[0], beta[1])

    def _spread(self, values: Tensor, fill: float) -> Tensor:
        """(2, edges, kept) -> (2, edges, 8), with `fill` for operations an edge does not have."""
        wide = values.new_full((*values.shape[:2], len(PRIMITIVES)), fill)
        return wide.scatter(2, self._columns, values)

    def _shares(self, beta: Tensor | None) -> Tensor | None:
        if beta is None:
            return None
        return torch.cat([into.softmax(dim=0) for into in torch.split(beta, list(range(2, 2 + self.nodes)))])
