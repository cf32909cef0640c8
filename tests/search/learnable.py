"""A space whose errors can be learned, for tests of searches with a surrogate; importable by processes."""

import hashlib
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from evonas.search import EvolutionConfig
from evonas.types import Cost, EvaluationResult, Genome

OBJECTIVES = ("clean_error", "params")
CONFIG = EvolutionConfig(population=12, generations=4, objectives=OBJECTIVES, seed=3, surrogate="gp")


class Ladder:
    """Eight genes of four values; each has its own price, and some need each other."""

    name: ClassVar[str] = "ladder"
    n_genes: ClassVar[int] = 8
    prices: ClassVar[npt.NDArray[np.int64]] = np.array([0, 10, 25, 60])
    upper = np.full(8, 3, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(4, size=(n, 8), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        mask = rng.random(8) < 0.5
        return np.where(mask, b, a), np.where(mask, a, b)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        changes = rng.random(8) < 1 / 8
        return (genome + changes * rng.integers(1, 4, size=8)) % 4

    def canonical(self, genome: Genome) -> Genome:
        return genome

    def violation(self, genome: Genome) -> float:
        return 0.0

    def cost(self, genome: Genome, n_classes: int = 10) -> Cost:
        return Cost(int(100 + self.prices[genome].sum()), 0)


def error(genome: Genome) -> float:
    """Falls with every gene, differently; genes 0 and 1 help only together."""
    use = np.array([0.0, 0.5, 0.9, 1.0])[genome] * np.array([0.3, 0.3, 0.2, 0.1, 0.1, 0.05, 0.05, 0.02])
    return float(0.9 - use[2:].sum() - 4 * use[0] * use[1])


def learnable(genome: Genome, seed: int) -> EvaluationResult:
    params = Ladder().cost(genome).params
    return EvaluationResult(tuple(genome), {"clean_error": error(genome), "params": params}, seed=seed)


def noise(genome: Genome, seed: int) -> EvaluationResult:
    """An error that follows from the genome, and that nothing can predict."""
    drawn = int(hashlib.sha256(bytes(genome.tolist())).hexdigest()[:8], 16) / 2**32
    return EvaluationResult(tuple(genome), {"clean_error": drawn, "params": Ladder().cost(genome).params}, seed=seed)
