"""A space's operators in pymoo's clothes."""

from typing import Any

import numpy as np
import pytest
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from evonas.search import ALGORITHMS
from evonas.search.operators import Births, SpaceCrossover, SpaceMutation, _best_of_many, make_algorithm


def problem_of(n_obj: int) -> Problem:
    return Problem(n_var=4, n_obj=n_obj, n_ieq_constr=1, xl=0, xu=2)


def test_crossover_is_the_spaces_own(tiny_space: Any) -> None:
    parents = np.arange(24).reshape(2, 3, 4) % 3  # 3 matings
    children = SpaceCrossover(tiny_space)._do(problem_of(2), parents, random_state=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    expected = [tiny_space.crossover(parents[0, i], parents[1, i], rng) for i in range(3)]
    assert children.shape == (2, 3, 4)
    assert children.dtype == np.int64
    for mating, (first, second) in enumerate(expected):
        assert children[0, mating].tolist() == first.tolist()
        assert children[1, mating].tolist() == second.tolist()


def test_mutated_children_are_canonical(tiny_space: Any) -> None:
    X = tiny_space.sample(50, np.random.default_rng(0))
    children = SpaceMutation(tiny_space)._do(problem_of(2), X, random_state=np.random.default_rng(4))
    rng = np.random.default_rng(4)
    expected = [tiny_space.canonical(tiny_space.mutate(x, rng)).tolist() for x in X]
    assert children.tolist() == expected
    assert all(child[0] <= child[1] for child in children)


def test_births_ask_once_a_child_in_order() -> None:
    asked = []

    def accept(genome: Any) -> bool:
        asked.append(genome.tolist())
        return bool(genome[0] % 2)

    born = Births(accept).do(Population.new(X=np.array([[1, 0], [2, 0], [3, 0], [4, 0]])))
    assert asked == [[1, 0], [2, 0], [3, 0], [4, 0]]
    assert born.get("X").tolist() == [[1, 0], [3, 0]]
    assert len(Births(accept).do(Population.new(X=np.array([[2, 0]])))) == 0


@pytest.mark.parametrize("name", ALGORITHMS)
@pytest.mark.parametrize("n_obj", [1, 2, 3])
def test_algorithms_are_asked_and_told(name: str, n_obj: int, tiny_space: Any) -> None:
    first = tiny_space.sample(9, np.random.default_rng(0))
    algorithm = make_algorithm(name, tiny_space, problem_of(n_obj), first, 1, lambda genome: True)
    infills = algorithm.ask()
    assert infills.get("X").tolist() == first.tolist()
    for generation in range(3):
        infills.set("F", infills.get("X")[:, :n_obj].astype(float), "G", np.zeros((len(infills), 1)))
        for individual in infills:
            individual.evaluated.update(("F", "G"))
        algorithm.tell(infills=infills)
        assert len(algorithm.pop) == 9, generation
        infills = algorithm.ask()
        assert len(infills) == 9


@pytest.mark.parametrize(("n_obj", "population", "directions"), [(1, 8, 1), (2, 8, 8), (3, 14, 10), (3, 15, 15)])
def test_nsga3_takes_as_many_directions_as_the_population_has_room_for(
    n_obj: int, population: int, directions: int, tiny_space: Any
) -> None:
    """Das and Dennis: p partitions of m objectives give (p + m - 1 choose m - 1), 10 and 15 for p = 3 and 4."""
    first = tiny_space.sample(population, np.random.default_rng(0))
    algorithm = make_algorithm("nsga3", tiny_space, problem_of(n_obj), first, 1, lambda genome: True)
    assert algorithm.ref_dirs.shape == (directions, n_obj)


@pytest.mark.parametrize("size", [3, 10])
def test_in_a_larger_tournament_the_best_of_all_wins(size: int, tiny_space: Any) -> None:
    """Violation decides, then rank, then crowding: against a plain sort of the same individuals."""
    rng = np.random.default_rng(size)
    population = Population.new(X=tiny_space.sample(30, rng))
    violation = rng.integers(2, size=30).astype(float)
    for individual, cv, rank, crowding in zip(population, violation, rng.integers(3, size=30), rng.random(30)):  # noqa: B905
        individual.set("G", np.array([cv]))
        individual.evaluated.update(("F", "G"))
        individual.F = np.array([0.0])
        individual.set("rank", None if cv else int(rank))
        individual.set("crowding", None if cv else float(crowding))
    drawn = np.array([rng.permutation(30)[:size] for _ in range(200)])
    winners = _best_of_many(population, drawn, random_state=np.random.default_rng(0))[:, 0]
    for place, winner in zip(drawn, winners, strict=True):
        feasible = [i for i in place if violation[i] == 0]
        if feasible:
            best = min(feasible, key=lambda i: (population[i].get("rank"), -population[i].get("crowding")))
            assert winner == best
        else:
            assert winner in place
