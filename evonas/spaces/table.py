"""Genomes of a table whose networks are known by their numbers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from evonas.errors import DataError
from evonas.types import Cost, Genome, as_genome

__all__ = ["TableSpace"]


@dataclass(frozen=True)
class TableSpace:
    """Genomes of whole numbers, each a network of its own; nothing here builds one.

    Args:
        highest: largest value of each gene.
        costs: of the genomes in the table; others have none.
        mutation_rate: probability of another value, for every gene; None: one gene of a genome on average.
    """

    highest: tuple[int, ...]
    costs: Mapping[tuple[int, ...], Cost]
    mutation_rate: float | None = None

    name: ClassVar[str] = "table"

    def identity(self) -> dict[str, Any]:
        """Plain values; the costs are those of the table, which has an identity of its own."""
        return {"highest": list(self.highest), "mutation_rate": self.mutation_rate}

    @property
    def n_genes(self) -> int:
        return len(self.highest)

    @property
    def upper(self) -> Genome:
        return np.array(self.highest, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n, n_genes) genomes, uniform, in the table or not."""
        return rng.integers(self.upper + 1, size=(n, self.n_genes), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        """Two complementary children, with each gene from either parent."""
        first, second = self._checked(a), self._checked(b)
        mask = rng.random(self.n_genes) < 0.5
        return np.where(mask, second, first), np.where(mask, first, second)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        """Give every gene another value with probability `mutation_rate`. A child may equal its parent."""
        rate = 1 / self.n_genes if self.mutation_rate is None else self.mutation_rate
        changes = rng.random(self.n_genes) < rate
        steps = rng.integers(1, np.maximum(self.upper, 1) + 1, size=self.n_genes)
        return (self._checked(genome) + changes * steps) % (self.upper + 1)

    def canonical(self, genome: Genome) -> Genome:
        return self._checked(genome).copy()

    def violation(self, genome: Genome) -> float:
        """0: every genome is feasible."""
        self._checked(genome)
        return 0.0

    def cost(self, genome: Genome | Sequence[int], n_classes: int = 10) -> Cost:
        """Cost as the table has it. DataError for a genome that is not in the table."""
        genes = tuple(self._checked(genome).tolist())
        if genes not in self.costs:
            raise DataError(f"the network {' '.join(map(str, genes))} is not in the table")
        return self.costs[genes]

    def max_cost(self, n_classes: int = 10) -> Cost:
        """Largest parameters and largest MACs in the table; not necessarily of the same genome."""
        return Cost(*(max(column) for column in zip(*self.costs.values(), strict=True)))

    def describe(self, genome: Genome) -> str:
        """The genes, one after another."""
        return " ".join(map(str, self._checked(genome).tolist()))

    def _checked(self, genome: Any) -> Genome:
        genes = as_genome(genome, self.n_genes, self.name)
        if (genes < 0).any() or (genes > self.upper).any():
            raise ValueError(
                f"expected genes of 0 to {list(self.highest)} in space {self.name!r}, got {genes.tolist()}"
            )
        return genes
