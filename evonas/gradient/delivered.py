"""The size of the network that is delivered: expected under the derived cells, exact of a genotype, kept to a limit."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from evonas.costs import CostTable
from evonas.errors import ConfigurationError
from evonas.gradient.losses import Batch
from evonas.spaces.darts import DartsSpace
from evonas.spaces.darts_costs import fixed_cost, operation_costs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evonas.gradient.forward import Forward
    from evonas.networks.darts import Genotype

__all__ = ["DeliveredCost", "DeliveredShare", "DeliveredSize", "check_together"]


@dataclass(frozen=True, kw_only=True)
class DeliveredSize:
    """Expected parameters or multiply-adds of the derived network.

    Expected under `derived_probabilities`: two edges a node, with one operation each, in every cell, plus the stem, the
    inputs of cells and the classifier. At weights of 0 and 1 it is the exact cost of the network that is built. The
    temperature falls over a stage of the search, so that the expectation comes near the derived network's own cost.
    """

    kind: Literal["params", "macs"] = "params"
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

    def __post_init__(self) -> None:
        if self.kind not in ("params", "macs"):
            raise ConfigurationError(f"expected kind params or macs, got {self.kind!r}")
        if not 0 < self.end <= self.start < math.inf:
            raise ConfigurationError(f"expected temperatures start >= end > 0, got {self.start} and {self.end}")

    @property
    def sizes(self) -> tuple[float, float]:
        """Smallest and largest cost of a derived network, in millions."""
        least = self._fixed  # operations without parameters are on every edge
        return least / 1e6, getattr(self._space.max_cost(self.n_classes), self.kind) / 1e6

    @property
    def column(self) -> str:
        """End of the names of columns of such costs in search.csv."""
        return {"params": "size", "macs": "macs"}[self.kind]

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
        space = self._space
        return float(getattr(space.cost(space.from_genotype(genotype), self.n_classes), self.kind) / 1e6)

    @property
    def _space(self) -> DartsSpace:
        return DartsSpace(self.channels, self.layers, self.nodes, image_size=self.image_size)

    @property
    def _fixed(self) -> int:
        fixed = fixed_cost(self.channels, self.layers, self.nodes, self.image_size, self.n_classes, 3)
        return int(getattr(fixed, self.kind))

    @property
    def _table(self) -> np.ndarray:
        """(2, edges, 8) costs of the operations."""
        costs = operation_costs(self.channels, self.layers, True, self.nodes, self.image_size)
        return np.asarray(getattr(costs, self.kind))


@dataclass(frozen=True, kw_only=True)
class DeliveredCost(DeliveredSize):
    """|expected parameters or multiply-adds of the derived network - limit|, in millions."""

    limit: float
    """L or F, in millions."""
    within: float = 0.01
    """Largest deviation of the delivered network from the limit, as a share of it: cells that miss it by more give way
    to the strongest ones that do not."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.within < 1:
            raise ConfigurationError(f"expected within in [0, 1), got {self.within}")
        least, most = self.sizes
        if not least <= self.limit <= most:
            raise ConfigurationError(
                f"expected {self.letter} of the delivered network in [{least:.6f}, {most:.6f}] million {self.kind}, "
                f"those that it can have with {self.channels} channels and {self.layers} cells, got {self.limit:g}"
            )

    @property
    def name(self) -> str:
        return f"{self.kind}_loss"

    @property
    def letter(self) -> str:
        """The paper's name of the limit."""
        return {"params": "L", "macs": "F"}[self.kind]

    @property
    def words(self) -> str:
        """Things that are counted, in the plural."""
        return {"params": "parameters", "macs": "multiply-adds"}[self.kind]

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
        return genotype_within(odds.detach().cpu().numpy(), tables, least, most, max_skips)

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
        found = " and ".join(f"{each.of(genotype):.3f} million {each.words}" for each in sizes)
        raise ConfigurationError(
            f"expected limits that one network meets, each within {100 * first.within:.2g}%, got {asked}; the nearest "
            f"one has {found}: change one of them, leave it out, or allow more with --size-within"
        )


def _plainest(nodes: int) -> Genotype:
    """Cells of pooling alone."""
    from evonas.networks.darts import Genotype

    pairs, concat = (("max_pool_3x3", 0), ("max_pool_3x3", 1)) * nodes, tuple(range(2, nodes + 2))
    return Genotype(pairs, concat, pairs, concat)
