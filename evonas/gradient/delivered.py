"""The size of the network that is delivered: expected under the derived cells, exact of a genotype, kept to a limit.

Costs are whole numbers of parameters, multiply-adds or nanoseconds; sizes and limits are in millions of them, so
latencies in milliseconds.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from evonas.costs import CostTable
from evonas.errors import ConfigurationError
from evonas.gradient.losses import Batch
from evonas.spaces.darts import DartsSpace
from evonas.spaces.darts_costs import OperationTimes, edges_into_nodes, fixed_cost, operation_costs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evonas.gradient.forward import Forward
    from evonas.networks.darts import Genotype

__all__ = ["DeliveredCost", "DeliveredLatency", "DeliveredShare", "DeliveredSize", "Kind", "check_together"]

Kind = Literal["params", "macs", "latency"]


@dataclass(frozen=True, kw_only=True)
class DeliveredSize:
    """Expected cost of the derived network: parameters, multiply-adds, or latency.

    Expected under `derived_probabilities`: two edges a node, with one operation each, in every cell, plus the stem, the
    inputs of cells and the classifier. At weights of 0 and 1 it is the exact cost of the network that is built. The
    temperature falls over a stage of the search, so that the expectation comes near the derived network's own cost.
    """

    kind: Kind = "params"
    channels: int = 36
    """Width of the first cell of the network that is delivered."""
    layers: int = 20
    nodes: int = 4
    image_size: int = 32
    n_classes: int = 10
    start: float = 1.0
    """Temperature at the beginning of a stage."""
    end: float = 0.02
    """Temperature that it falls to."""

    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False
    kinds: ClassVar[tuple[Kind, ...]] = ("params", "macs")

    def __post_init__(self) -> None:
        if self.kind not in self.kinds:
            raise ConfigurationError(f"expected kind {' or '.join(self.kinds)}, got {self.kind!r}")
        if not 0 < self.end <= self.start < math.inf:
            raise ConfigurationError(f"expected temperatures start >= end > 0, got {self.start} and {self.end}")

    @property
    def sizes(self) -> tuple[float, float]:
        """Smallest and largest cost of a derived network, in millions."""
        (least, most), fixed = (_extreme(self._table, sign) for sign in (-1, 1)), self._fixed
        return float(fixed + least) / 1e6, float(fixed + most) / 1e6

    @property
    def column(self) -> str:
        """End of the names of columns of such costs in search.csv."""
        return {"params": "size", "macs": "macs", "latency": "latency_ms"}[self.kind]

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def now(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        """() in millions, at the temperature of this part of the search."""
        from evonas.gradient.derived import log_odds
        from evonas.gradient.forward import edge_shares

        odds = log_odds(probabilities, edge_shares(forward))
        return self.expected(odds, self.temperature(batch.progress))

    def temperature(self, progress: float) -> float:
        """Falls by the same factor in every step of `progress`, the share of a stage that is over, in [0, 1]."""
        return float(self.start * (self.end / self.start) ** progress)

    def expected(self, odds: Tensor, temperature: float = 1.0) -> Tensor:
        """() in millions, float64, for (2, edges, 8) odds from `log_odds`; differentiable in them."""
        from evonas.gradient.derived import derived_probabilities

        chosen = derived_probabilities(odds, temperature)
        expected = CostTable(self._table.reshape(-1, self._table.shape[-1])).expected(chosen.flatten(0, 1))
        return (expected + self._fixed) / 1e6

    def of(self, genotype: Genotype) -> float:
        """Exact cost of a network of these cells, in millions."""
        space = self.space
        return float(getattr(space.cost(space.from_genotype(genotype), self.n_classes), self.kind) / 1e6)

    @property
    def space(self) -> DartsSpace:
        """Space of the networks."""
        return DartsSpace(self.channels, self.layers, self.nodes, image_size=self.image_size)

    @property
    def _fixed(self) -> float:
        fixed = fixed_cost(self.channels, self.layers, self.nodes, self.image_size, self.n_classes, 3)
        return int(getattr(fixed, self.kind))

    @property
    def _table(self) -> np.ndarray:
        """(2, edges, 8) costs of the operations."""
        costs = operation_costs(self.channels, self.layers, True, self.nodes, self.image_size)
        return np.asarray(getattr(costs, self.kind))


@dataclass(frozen=True, kw_only=True)
class DeliveredCost(DeliveredSize):
    """|expected cost of the derived network - limit|, in millions."""

    limit: float
    """L or F, in millions."""
    within: float = 0.01
    """Largest deviation of the delivered network from the limit, as a share of it: cells that miss it by more give way
    to the strongest ones that do not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.within < 1:
            raise ConfigurationError(f"expected within in [0, 1), got {self.within}")
        if self.known:
            self._check_limit()

    def _check_limit(self) -> None:
        least, most = self.sizes
        if not least <= self.limit <= most:
            raise ConfigurationError(
                f"expected {self.letter} of the delivered network in [{least:.6f}, {most:.6f}]{self.unit}, "
                f"those that it can have with {self.channels} channels and {self.layers} cells, got {self.limit:g}"
            )

    @property
    def known(self) -> bool:
        """Whether the costs of operations are known."""
        return True

    @property
    def name(self) -> str:
        return f"{self.kind}_loss"

    @property
    def letter(self) -> str:
        """Name of the limit, of the papers where they have it."""
        return {"params": "L", "macs": "F", "latency": "latency"}[self.kind]

    @property
    def unit(self) -> str:
        """Unit of the limit, as it stands behind a number."""
        return {"params": "M parameters", "macs": "M multiply-adds", "latency": " ms"}[self.kind]

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        return (self.now(forward, probabilities, batch) - self.limit).abs()

    def holds(self, genotype: Genotype) -> bool:
        """Whether a network of these cells is `within` the limit."""
        return abs(self.of(genotype) - self.limit) <= self.within * self.limit

    def kept(
        self,
        genotype: Genotype,
        odds: Tensor,
        max_skips: int | None = None,
        others: Sequence[DeliveredCost] = (),
    ) -> Genotype:
        """The genotype itself where it is `within` the limit and those of the others; else the strongest one that is.

        Args:
            odds: (2, edges, 8) from `log_odds`.
            max_skips: see `genotype_within`.
            others: costs of other kinds of the same network.
        """
        from evonas.gradient.budget import genotype_within

        every = (self, *others)
        if all(each.holds(genotype) for each in every):
            return genotype
        least, most = zip(*(each._range for each in every), strict=True)
        tables = np.stack([each._table for each in every])
        units = [each._rounded_to for each in every]
        return genotype_within(odds.detach().cpu().numpy(), tables, least, most, max_skips, units)

    @property
    def _rounded_to(self) -> float:
        """Unit of costs while cells are built, see `genotype_within`."""
        return 1

    @property
    def _range(self) -> tuple[float, float]:
        """Costs of operations within which the network holds."""
        least, most = ((1 + sign * self.within) * self.limit * 1e6 - self._fixed for sign in (-1, 1))
        return least, most

    @staticmethod
    def changed(derived: Genotype, delivered: Genotype) -> int:
        """Number of operations of the delivered cells, with their inputs, that the derived ones do not have."""
        cells = ((derived.normal, delivered.normal), (derived.reduce, delivered.reduce))
        return sum(
            len(set(after[first : first + 2]) - set(before[first : first + 2]))
            for before, after in cells
            for first in range(0, len(after), 2)
        )


@dataclass(frozen=True, kw_only=True)
class DeliveredLatency(DeliveredCost):
    """|expected latency of the derived network - limit|, in milliseconds of one image by one thread of a CPU.

    A latency is the sum that a latency table predicts, no measurement. `kept` takes cells as equally fast whose times
    are equal when rounded, to a tenth of `within`: without that, there are too many different times to go through.
    """

    kind: Kind = "latency"
    times: OperationTimes | None = None
    """Times of the network's parts; None: a table is still to be found, and nothing is checked or expected."""

    kinds: ClassVar[tuple[Kind, ...]] = ("latency",)

    @property
    def known(self) -> bool:
        return self.times is not None

    def identity(self) -> dict[str, Any]:
        """Plain values; the times follow from their table."""
        values = asdict(replace(self, times=None))
        values["times"] = {"table": self._known_times.table}
        return values

    def of(self, genotype: Genotype) -> float:
        table, own = self._table, self.space.from_genotype(genotype).reshape(2, -1, 2, 2).tolist()
        into = edges_into_nodes(table.shape[1])
        chosen = [
            float(table[cell, edges.start + state, name + 1])
            for cell, nodes in enumerate(own)
            for edges, pairs in zip(into, nodes, strict=True)
            for state, name in pairs
        ]
        return math.fsum([self._fixed, *chosen]) / 1e6

    @property
    def _known_times(self) -> OperationTimes:
        if self.times is None:
            raise ConfigurationError("expected times of the operations for a latency, got none; see operation_times")
        return self.times

    @property
    def _fixed(self) -> float:
        return 1e6 * self._known_times.rest

    @property
    def _table(self) -> np.ndarray:
        return 1e6 * np.array(self._known_times.operations)

    @property
    def _rounded_to(self) -> float:
        return self.limit * 1e6 * max(self.within, 0.001) / 10


@dataclass(frozen=True, kw_only=True)
class DeliveredShare(DeliveredSize):
    """Expected cost of the derived network between the smallest, 0, and the largest one that there is, 1."""

    name: ClassVar[str] = "size"

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        least, most = self.sizes
        return (self.now(forward, probabilities, batch) - least) / (most - least)


@functools.lru_cache(maxsize=64)
def check_together(sizes: tuple[DeliveredCost, ...], max_skips: int | None = None) -> None:
    """ConfigurationError unless some network of the space is within all limits.

    Args:
        max_skips: see `genotype_within`.
    """
    import torch

    first, *others = sizes
    even = torch.zeros(first._table.shape, dtype=torch.float64)
    genotype = first.kept(_plainest(first.nodes), even, max_skips, others)
    missed = [each for each in sizes if not each.holds(genotype)]
    if missed:
        asked = " and ".join(f"{each.letter} = {each.limit:g}" for each in sizes)
        found = " and ".join(f"{each.of(genotype):.3f}{each.unit}" for each in sizes)
        raise ConfigurationError(
            f"expected limits that one network meets, each within {100 * first.within:.2g}%, got {asked}; the nearest "
            f"one has {found}: change one of them, leave it out, or allow more with --size-within"
        )


def _extreme(table: np.ndarray, sign: int) -> float:
    """Largest (sign 1) or smallest (-1) sum of a genotype's operations, for (2, edges, 8) costs: two edges a node."""
    dearest = (sign * table[..., 1:]).max(axis=2)
    two = [np.sort(dearest[:, into], axis=1)[:, -2:].sum() for into in edges_into_nodes(dearest.shape[1])]
    return sign * float(sum(two))


def _plainest(nodes: int) -> Genotype:
    """Cells of pooling alone."""
    from evonas.networks.darts import Genotype

    pairs, concat = (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * nodes, tuple(range(2, nodes + 2))
    return Genotype(pairs, concat, pairs, concat)
