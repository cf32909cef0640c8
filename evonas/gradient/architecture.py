"""What a search by gradient searches: the share of every operation at every edge of the two kinds of cells."""

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
"""(2, edges, kept) ascending indices into `PRIMITIVES`: what edges of the normal and of the reduction cell hold."""

INITIAL_DEVIATION = 1e-3
"""Of alpha and beta (DARTS)."""


@dataclass(frozen=True, kw_only=True)
class SupernetPlan:
    """Everything about a supernet but its weights; the defaults are DARTS's."""

    channels: int = 16
    """Of a node of the first cell."""
    layers: int = 8
    """Cells; those at a third and two thirds of the depth are reductions."""
    nodes: int = 4
    """Intermediate nodes of a cell, each of which reads all states before it."""
    n_classes: int = 10
    partial: int = 1
    """One channel in so many goes through an edge's operations, the others pass by (PC-DARTS's K)."""
    edge_normalisation: bool = False
    """Whether the edges of a node share in it by weights of their own (PC-DARTS's beta)."""
    operations: Operations | None = None
    """What every edge holds, as many operations at each; None: all eight. A list of lists is taken, too."""

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
        """The state that each edge reads, in DARTS's order: 0, 1 (node 2), 0, 1, 2 (node 3), ...."""
        return tuple(source for node in range(2, 2 + self.nodes) for source in range(node))

    @property
    def held(self) -> Operations:
        """`operations`, also where it is None."""
        return self.operations or ((tuple(range(len(PRIMITIVES))),) * len(self.sources),) * 2

    def _checked(self, given: Sequence[Sequence[Sequence[int]]]) -> Operations:
        operations = tuple(tuple(tuple(int(each) for each in edge) for edge in cell) for cell in given)
        edges = [edge for cell in operations for edge in cell]
        if [len(cell) for cell in operations] != [len(self.sources)] * 2:
            raise ConfigurationError(
                f"expected operations at {len(self.sources)} edges of two cells, got {[len(c) for c in operations]}"
            )
        if len({len(edge) for edge in edges}) != 1 or not edges[0]:
            raise ConfigurationError("expected as many operations at every edge, one or more; got other numbers")
        for edge in edges:
            if list(edge) != sorted(set(edge)) or not set(edge) <= set(range(len(PRIMITIVES))):
                raise ConfigurationError(
                    f"expected ascending indices of operations below {len(PRIMITIVES)} at an edge, got {edge}"
                )
        return operations


@dataclass(frozen=True, eq=False)
class Mixture:
    """What a supernet multiplies its operations by; of any sign."""

    normal: Tensor
    """(edges, kept) weight of each operation that an edge holds."""
    reduce: Tensor
    """The same of the reduction cells."""
    normal_edges: Tensor | None = None
    """(edges,) what each edge's sum of operations is multiplied by; None: 1."""
    reduce_edges: Tensor | None = None


def one_hot(plan: SupernetPlan, genotype: Genotype) -> Mixture:
    """The mixture under which a supernet computes what the genotype's network does: 1 for what it keeps, 0 elsewhere.

    Pooling is normalised there, which in the network it is not, and the network's normalisations have weights.

    Raises:
        ConfigurationError (a ValueError): the genotype has other nodes, or operations that the plan does not hold.
    """
    tables, nodes = [], tuple(range(2, 2 + plan.nodes))
    for held, pairs, concat in zip(
        plan.held, (genotype.normal, genotype.reduce), (genotype.normal_concat, genotype.reduce_concat), strict=True
    ):
        if concat != nodes or len(pairs) != 2 * plan.nodes:
            raise ConfigurationError(
                f"expected cells whose outputs are nodes {nodes}, got {len(pairs) // 2} and {concat}"
            )
        table = torch.zeros(len(held), len(held[0]))
        for number, (name, source) in enumerate(pairs):
            edge = sum(range(2, 2 + number // 2)) + source
            if PRIMITIVES.index(name) not in held[edge]:
                raise ConfigurationError(f"expected an operation that edge {edge} holds, got {name!r}")
            table[edge, held[edge].index(PRIMITIVES.index(name))] += 1
        tables.append(table)
    return Mixture(*tables)


class Scores(NamedTuple):
    """Architecture parameters before softmax, as `derive_genotype` takes them."""

    alpha_normal: Tensor
    """(edges, 8); minus infinity where an edge does not hold an operation."""
    alpha_reduce: Tensor
    beta_normal: Tensor | None
    """(edges,)"""
    beta_reduce: Tensor | None


class Architecture(nn.Module):
    """Parameters of the mixture: alpha_normal and alpha_reduce (edges, kept); with edge normalisation also beta_normal
    and beta_reduce (edges,).

    Args:
        generator: draws them, normal with a deviation of 0.001; on the CPU.
    """

    _columns: Tensor

    def __init__(self, plan: SupernetPlan, generator: torch.Generator) -> None:
        super().__init__()
        held = torch.tensor(plan.held)  # (2, edges, kept)
        self.nodes = plan.nodes
        self.register_buffer("_columns", held, persistent=False)

        def drawn(*shape: int) -> nn.Parameter:
            return nn.Parameter(INITIAL_DEVIATION * torch.randn(*shape, generator=generator))

        _, edges, kept = held.shape
        self.alpha_normal, self.alpha_reduce = drawn(edges, kept), drawn(edges, kept)
        self.beta_normal = drawn(edges) if plan.edge_normalisation else None
        self.beta_reduce = drawn(edges) if plan.edge_normalisation else None

    def forward(self) -> Mixture:
        """Softmax over the operations of each edge, and over the edges into each node."""
        return Mixture(
            self.alpha_normal.softmax(dim=1),
            self.alpha_reduce.softmax(dim=1),
            self._shares(self.beta_normal),
            self._shares(self.beta_reduce),
        )

    def probabilities(self) -> Tensor:
        """(2, edges, 8) softmax over the operations of each edge; 0 where it does not hold one."""
        alpha = torch.stack([self.alpha_normal, self.alpha_reduce])
        return self._spread(alpha.softmax(dim=2), 0.0)

    def scores(self) -> Scores:
        """The parameters over all eight operations, detached."""
        alpha = self._spread(torch.stack([self.alpha_normal, self.alpha_reduce]).detach(), -torch.inf)
        beta = [each if each is None else each.detach() for each in (self.beta_normal, self.beta_reduce)]
        return Scores(alpha[0], alpha[1], beta[0], beta[1])

    def _spread(self, values: Tensor, otherwise: float) -> Tensor:
        """(2, edges, kept) -> (2, edges, 8)."""
        wide = values.new_full((*values.shape[:2], len(PRIMITIVES)), otherwise)
        return wide.scatter(2, self._columns, values)

    def _shares(self, beta: Tensor | None) -> Tensor | None:
        if beta is None:
            return None
        return torch.cat([into.softmax(dim=0) for into in torch.split(beta, list(range(2, 2 + self.nodes)))])
