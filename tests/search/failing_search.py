"""Searches in which violations tie, because much or everything fails or is infeasible; journals to a folder.

python failing_search.py FOLDER
"""

import sys
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evonas.search import ALGORITHMS, EvolutionConfig, Journal, evolve
from evonas.types import EvaluationResult, Genome


class Space:
    """Six genes from 0 to 4; of ten genomes `infeasible` are, all with the same violation."""

    name = "ties"
    n_genes = 6
    upper = np.full(6, 4, dtype=np.int64)

    def __init__(self, infeasible: int) -> None:
        self.infeasible = infeasible

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(5, size=(n, 6), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        take = rng.integers(2, size=6) == 1
        return np.where(take, a, b), np.where(take, b, a)

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        child = genome.copy()
        child[rng.integers(6)] = rng.integers(5)
        return child

    def canonical(self, genome: Genome) -> Genome:
        return np.asarray(genome, dtype=np.int64)

    def violation(self, genome: Genome) -> float:
        return 1.0 if digit(genome) < self.infeasible else 0.0


def digit(genome: Genome) -> int:
    """0 to 9, evenly over genomes."""
    return int(genome @ [3, 7, 9, 11, 13, 17]) % 10


def main(folder: Path) -> None:
    for algorithm, infeasible, failing, asynchronous in product(ALGORITHMS, (0, 5), (8, 10), (False, True)):

        def evaluate(genome: Genome, seed: int, failing: int = failing) -> EvaluationResult:
            if digit(genome) < failing:
                raise RuntimeError("it always fails")
            return EvaluationResult(tuple(genome), {"a": int(genome[0]), "b": int(genome[1:4].sum() % 4)})

        config = EvolutionConfig(
            population=12,
            generations=4,
            objectives=("a", "b"),
            algorithm=algorithm,
            asynchronous=asynchronous,
            tournament=2 if infeasible else 3,
        )
        name = f"{algorithm}-{infeasible}-{failing}-{'async' if asynchronous else 'generations'}.jsonl"
        with Journal(folder / name, sync=False) as journal:
            for _ in evolve(Space(infeasible), evaluate, config, journal=journal):
                pass


if __name__ == "__main__":
    main(Path(sys.argv[1]))
