"""Parents of every network of a search, found by walking its path again: the journal answers, nothing is evaluated."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from evonas.errors import RunMismatchError
from evonas.executors import ignore
from evonas.search.asynchronous import SteadyState
from evonas.search.batches import Batches
from evonas.search.evolution import Generations
from evonas.search.journal import Entry
from evonas.search.operators import Accept, Births, SpaceCrossover
from evonas.search.proposals import EvolutionConfig, Proposals
from evonas.search.scoring import answers
from evonas.search.surrogate import CostOf
from evonas.types import Genome, Space, arch_id

__all__ = ["genealogy"]


def genealogy(
    space: Space,
    config: EvolutionConfig,
    entries: Sequence[Entry],
    first: Sequence[Genome] = (),
    maximize: Sequence[str] = (),
    cost: CostOf | None = None,
) -> Mapping[str, tuple[str, ...]]:
    """Key of every proposed network -> keys of the two that it was bred from; none for one that was given or drawn.

    Exact: the search is a deterministic function of its configuration, seed and results. A network that is missing here
    is none of this path, such as one that only results before `--retry-failed` led to.

    Args:
        config: of the search; its generations are enough for the entries, its limits are left out.
        entries: as the journal has them, in its order.
        first: genomes of the first population, as the search got them.
        cost: as the search got it; only a surrogate needs it.
    Raises:
        RunMismatchError: the path is not the recorded one: another version of pymoo or numpy, or a damaged journal.
    """
    known = {entry.key: entry for entry in entries if answers(entry, config.objectives, config.seed, False)}
    search: Batches | Generations | SteadyState
    cost = getattr(space, "cost", None) if cost is None else cost
    if config.asynchronous:
        search = steady = SteadyState(space, config, maximize, first, None, cost)
        births = _watched(search)
        for entry in known.values():
            steady.catch_up(entry)
            steady.tell(entry)
    elif config.surrogate is not None:
        search = batches = Batches(space, config, maximize, first, None, cost)
        births = _watched(search)
        _walk_batches(batches, known)
    else:
        search = generations = Generations(space, config, maximize, first, None)
        births = _watched(search)
        _walk(generations, known)
    for key, entry in known.items():
        if search.numbers.get(key, entry.proposal) != entry.proposal:
            raise RunMismatchError(
                f"expected proposal {entry.proposal} to be {key}, as the journal has it, got another genome; "
                "use the versions of evonas, numpy and pymoo that the run was begun with"
            )
    chosen = {} if search.assistant is None else search.assistant.parents
    return {key: chosen.get(key, births.parents.get(key, ())) for key in search.numbers}


def _walk(search: Generations, known: Mapping[str, Entry]) -> None:
    """Generation after generation, until one is not known as a whole."""
    generation = 0
    while asked := search.ask():
        feasible = [arch_id(genome) for genome, violation in asked if violation <= 0]
        if not known.keys() >= {*feasible}:
            break
        results = [known[arch_id(g)].result if violation <= 0 else None for g, violation in asked]
        search.tell(asked, results, generation)
        generation += 1
        if known.keys() <= search.numbers.keys():
            break


def _walk_batches(search: Batches, known: Mapping[str, Entry]) -> None:
    """Batch after batch, until one is not known as a whole."""
    while asked := search.ask(ignore):
        feasible = {arch_id(genome) for genome, violation in asked if violation <= 0}
        if not known.keys() >= feasible:
            break
        search.tell(asked, known)
        if known.keys() <= search.numbers.keys():
            break


def _watched(search: Proposals) -> "_WatchedBirths":
    """Births of a search that remember who was mated."""
    mating = search.algorithm.mating
    mating.crossover = crossover = _WatchedCrossover(search.space)
    mating.eliminate_duplicates = births = _WatchedBirths(mating.eliminate_duplicates.accept, crossover)
    return births


class _WatchedCrossover(SpaceCrossover):
    """Remembers the genomes that it mated last, (2, matings, n_genes)."""

    mated: npt.NDArray[np.int64]

    def _do(self, problem: Problem, X: npt.NDArray[np.int64], *args: Any, **kwargs: Any) -> npt.NDArray[np.int64]:
        self.mated = X.astype(np.int64)
        return super()._do(problem, X, *args, **kwargs)


class _WatchedBirths(Births):
    """Notes the parents of every child that is born: pymoo has the first children of all matings before the second."""

    def __init__(self, accept: Accept, crossover: _WatchedCrossover) -> None:
        super().__init__(accept)
        self.crossover = crossover
        self.parents: dict[str, tuple[str, ...]] = {}
        """Key of a child -> those of its parents. One that is dropped as one too many may be born again of others."""

    def do(self, pop: Population, *args: Any, **kwargs: Any) -> Population:
        mated, born = self.crossover.mated, list[bool]()
        for number, genome in enumerate(pop.get("X").astype(np.int64)):
            born.append(self.accept(genome))
            if born[-1]:
                pair = mated[:, number % mated.shape[1]]
                self.parents[arch_id(genome)] = tuple(map(arch_id, pair))
        return pop[np.array(born, dtype=bool)]
