"""What the tests share: a space so small that it can be listed, and a table of its objectives."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import settings

from evonas.types import EvaluationResult, Genome

settings.register_profile("evonas", deadline=None)  # a busy machine is no defect
settings.load_profile("evonas")


@dataclass(frozen=True)
class TinySpace:
    """Genes 0 to 2. The first two may be swapped without changing the network; all zero, or two 2s at the end, is no
    network: of 81 genomes 54 are canonical, 47 of them feasible."""

    genes: int = 4

    name: ClassVar[str] = "tiny"

    @property
    def n_genes(self) -> int:
        return self.genes

    @property
    def upper(self) -> Genome:
        return np.full(self.genes, 2, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(3, size=(n, self.genes), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        take = rng.integers(2, size=self.genes, dtype=np.int64) == 1
        return np.where(take, a, b), np.where(take, b, a)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        child = genome.copy()
        gene = rng.integers(self.genes)
        child[gene] = (child[gene] + 1 + rng.integers(2)) % 3
        return child

    def canonical(self, genome: Genome) -> Genome:
        genes = np.asarray(genome, dtype=np.int64)
        return np.concatenate([np.sort(genes[:2]), genes[2:]])

    def violation(self, genome: Genome) -> float:
        genes = self.canonical(genome)
        return 1.0 if not genes.any() or tuple(genes[-2:]) == (2, 2) else 0.0

    def networks(self) -> Iterator[Genome]:
        """Every canonical genome that is feasible."""
        for genes in product(range(3), repeat=self.genes):
            genome = np.array(genes, dtype=np.int64)
            if self.violation(genome) <= 0 and np.array_equal(self.canonical(genome), genome):
                yield genome


def objectives_of(genome: Any) -> dict[str, float]:
    """Larger genes cost more, err less and are harder to fool, each gene at a rate of its own."""
    genes = np.sort(np.asarray(genome)[:2]).tolist() + np.asarray(genome)[2:].tolist()
    return {
        "clean_error": sum((2 - gene) / (place + 3) for place, gene in enumerate(genes)) / 4,
        "macs": sum(gene * (7 + 5 * place) for place, gene in enumerate(genes)),
        "certified_radius": sum(gene % 2 / (place + 1) for place, gene in enumerate(genes)),
    }


@pytest.fixture(scope="session")
def tiny_space() -> TinySpace:
    return TinySpace()


@pytest.fixture(scope="session")
def table() -> Any:
    """The evaluator (genome, seed) -> EvaluationResult over `objectives_of`."""

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        return EvaluationResult(tuple(genome.tolist()), objectives_of(genome), seed=seed, seconds=0.25)

    return evaluate
