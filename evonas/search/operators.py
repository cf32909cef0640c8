"""A space's operators as operators of pymoo, and the algorithms that mate with them."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.algorithms.moo.nsga2 import NSGA2, binary_tournament
from pymoo.algorithms.moo.nsga3 import NSGA3
from pymoo.core.algorithm import Algorithm
from pymoo.core.crossover import Crossover
from pymoo.core.duplicate import DuplicateElimination, NoDuplicateElimination
from pymoo.core.mutation import Mutation
from pymoo.core.population import Population
from pymoo.core.problem import Problem
from pymoo.operators.selection.tournament import TournamentSelection
from pymoo.util.ref_dirs import get_reference_directions

from evonas.search.settings import ALGORITHMS
from evonas.types import Genome, Space

__all__ = ["make_algorithm", "nsga2", "nsga3"]

Genomes = npt.NDArray[np.int64]
Accept = Callable[[Genome], bool]


class SpaceCrossover(Crossover):  # type: ignore[misc]
    """Two parents, two children, always applied."""

    def __init__(self, space: Space) -> None:
        super().__init__(2, 2, prob=1.0)
        self.space = space

    def _do(
        self, problem: Problem, X: Genomes, *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> Genomes:
        pairs = [self.space.crossover(a, b, random_state) for a, b in zip(X[0], X[1], strict=True)]
        return np.array(pairs, dtype=np.int64).swapaxes(0, 1)  # (2, matings, n_genes)


class SpaceMutation(Mutation):  # type: ignore[misc]
    """The space's mutation, then the canonical genome: from birth on only canonical genomes exist."""

    def __init__(self, space: Space) -> None:
        super().__init__(prob=1.0)
        self.space = space

    def _do(
        self, problem: Problem, X: Genomes, *args: Any, random_state: np.random.Generator, **kwargs: Any
    ) -> Genomes:
        return np.array([self.space.canonical(self.space.mutate(x, random_state)) for x in X], dtype=np.int64)


class Births(DuplicateElimination):  # type: ignore[misc]
    """Keeps the children that `accept` takes, asked once a child in the order of birth."""

    def __init__(self, accept: Accept) -> None:
        super().__init__()
        self.accept = accept

    def do(self, pop: Population, *args: Any, **kwargs: Any) -> Population:
        return pop[np.array([self.accept(x) for x in pop.get("X")], dtype=bool)]


def nsga2(n_objectives: int, tournament: int, **common: Any) -> Algorithm:
    compare = binary_tournament if tournament == 2 else _best_of_many
    return NSGA2(selection=TournamentSelection(compare, tournament), **common)


def nsga3(n_objectives: int, tournament: int, **common: Any) -> Algorithm:
    """NSGA-III with as many Das-Dennis directions as the population has room for."""
    directions = np.ones((1, n_objectives)) / n_objectives
    for partitions in range(1, common["pop_size"] + 1):
        finer = get_reference_directions("das-dennis", n_objectives, n_partitions=partitions)
        if len(finer) > common["pop_size"]:
            break
        directions = finer
        if n_objectives == 1:
            break
    return NSGA3(directions, selection=TournamentSelection(_feasible_first, tournament), **common)


def _best_of_many(
    pop: Population, P: npt.NDArray[np.int64], random_state: np.random.Generator, **kwargs: Any
) -> npt.NDArray[np.int64]:
    """The smallest violation wins, then the lowest rank, then the largest crowding distance, then chance."""
    chance = random_state.random(P.shape)
    crowding, rank = (pop.get(name).astype(np.float64)[P] for name in ("crowding", "rank"))  # infeasible ones: NaN
    keys = (chance, -crowding, rank, pop.get("CV")[P, 0])  # each (n, tournament)
    return P[np.arange(len(P)), np.lexsort(keys, axis=1)[:, 0]][:, None]


def _feasible_first(
    pop: Population, P: npt.NDArray[np.int64], random_state: np.random.Generator, **kwargs: Any
) -> npt.NDArray[np.int64]:
    """NSGA-III's tournament: the smallest violation wins, else chance. pymoo's own draws ties without the run's RNG."""
    violation = pop.get("CV")[P, 0]  # (n, tournament)
    if P.shape[1] > 2:
        return P[np.arange(len(P)), np.lexsort((random_state.random(P.shape), violation), axis=1)[:, 0]][:, None]
    chance = random_state.integers(2, size=len(P))
    winner = np.where(violation[:, 0] == violation[:, 1], chance, violation.argmin(axis=1))
    return P[np.arange(len(P)), winner][:, None]


def make_algorithm(
    name: str, space: Space, problem: Problem, first: Genomes, seed: int, accept: Accept, tournament: int = 2
) -> Algorithm:
    """A pymoo algorithm that is asked and told.

    Args:
        first: (population, n_genes) the first population.
        accept: whether a child may be born; called once a child.
        tournament: individuals that compete to be a parent.
    """
    algorithm = ALGORITHMS[name](
        problem.n_obj,
        pop_size=len(first),
        sampling=first,
        crossover=SpaceCrossover(space),
        mutation=SpaceMutation(space),
        eliminate_duplicates=Births(accept),
        tournament=tournament,
    )
    algorithm.initialization.eliminate_duplicates = NoDuplicateElimination()  # the first population is distinct
    algorithm.setup(problem, seed=seed, verbose=False)
    return algorithm
