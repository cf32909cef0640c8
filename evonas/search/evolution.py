"""Evolution by ask, evaluate, tell: a deterministic function of configuration, seed and results.

Resuming is replaying: the journal answers for what was evaluated before, and the search walks the same path again.
"""

from collections.abc import Callable, Generator, Iterator, Sequence

import numpy as np

from evonas.executors import Executor, LocalExecutor, ignore
from evonas.search.asynchronous import SteadyState, evolve_asynchronously
from evonas.search.batches import Batches, evolve_in_batches
from evonas.search.evaluations import Evaluate, EvaluationWork, EvaluatorFactory, Predict, check_objectives
from evonas.search.journal import Journal
from evonas.search.proposals import EvolutionConfig, Genomes, Proposals, SearchState, up_to
from evonas.search.scoring import Evaluations, Event
from evonas.search.surrogate import CostOf
from evonas.types import EvaluationResult, Genome, Note, Space, arch_id

__all__ = ["Generations", "evolve"]


def evolve(
    space: Space,
    evaluate: Evaluate | EvaluatorFactory,
    config: EvolutionConfig,
    executor: Executor | None = None,
    journal: Journal | None = None,
    first: Sequence[Genome] | Genomes = (),
    maximize: Sequence[str] = (),
    retry_failed: bool = False,
    report: Callable[[Event], None] = ignore,
    predict: Predict | None = None,
    cost: CostOf | None = None,
) -> Generator[SearchState, None, None]:
    """Search `space`; yields the survivors of the first population and of every generation after it.

    Every child is made canonical at birth. A network that was proposed before is not born again, so every generation
    holds new networks. If 100 rounds of mating find too few, a generation is smaller; if they find none, the search
    ends early; `report` receives a Note that says so. A failed evaluation never ends the search.

    An asynchronous search breeds one child whenever a slot is free and uses every result as it comes; its generations
    are merely every `config.population` results. Its path follows from the order of results, too, so only its journal
    repeats it.

    Args:
        evaluate: a plain function (genome, seed) -> EvaluationResult, or a factory whose make_evaluate(report) each
            worker calls once; with `config.early_stop` a function (genome, seed, reach), see `evonas.types.Reach`.
        executor: place of the evaluations; None: one after another in this process. Closed at the end.
        journal: known results, not evaluated again, and the record of the others; None: in memory.
        first: genomes of the first population; random ones fill it up.
        maximize: objectives that are maximised; the states hold their negative.
        retry_failed: evaluate recorded failures again.
        report: receives finished evaluations, and the messages of the executor: progress, activity, notes.
        predict: predicted cost of an evaluation, in any unit; executors with several slots start the dearest first. It
            changes no result.
        cost: canonical genome -> its cost, which a surrogate need not learn; None: `space.cost`, where there is one.
    Raises:
        RunMismatchError: the journal is of another kind of search, or other versions walk another path.
    """
    journal = Journal() if journal is None else journal
    executor = LocalExecutor() if executor is None else executor
    check_objectives(config.objectives, maximize)
    cost = getattr(space, "cost", None) if cost is None else cost
    evaluations = Evaluations(executor, journal, config.objectives, config.seed, retry_failed, report)
    if config.asynchronous:
        steady = SteadyState(space, config, maximize, first, predict, cost)
        states = evolve_asynchronously(steady, executor, journal, retry_failed, report)
    elif config.surrogate is not None:
        batches = Batches(space, config, maximize, first, predict, cost)
        states = evolve_in_batches(batches, evaluations, journal, report)
    else:
        search = Generations(space, config, maximize, first, predict)
        states = _by_generations(search, evaluations, journal, report)
    work = EvaluationWork(evaluate, config.early_stop)
    executor.start(work, report)
    try:
        yield from states
    finally:
        executor.close()


def _by_generations(
    search: "Generations", evaluations: Evaluations, journal: Journal, report: Callable[[Event], None]
) -> Iterator[SearchState]:
    config, left = search.config, search.config.evaluations
    for generation in range(config.generations + 1):
        if left <= 0:
            break
        asked = search.ask()
        if len(asked) < config.population:
            report(Note(_why_fewer(generation, len(asked), config.population, search.proposed)))
        if len(asked) == 0:
            break
        asked = up_to(left, asked)
        left -= sum(violation <= 0 for _, violation in asked)
        evaluations.run([search.job(g) for g, violation in asked if violation <= 0], search.numbers, generation)
        known = evaluations.known
        yield search.tell(asked, [known[arch_id(g)].result if v <= 0 else None for g, v in asked], generation)
    journal.sort()


class Generations(Proposals):
    """A whole generation at a time: asked for, evaluated, told."""

    def ask(self) -> list[tuple[Genome, float]]:
        """(canonical genome, violation) of every new individual; empty if mating finds nothing new."""
        self.infills = self.algorithm.ask()
        self.born.clear()
        if self.infills is None:
            return []
        genomes = self.infills.get("X").astype(np.int64)
        for genome in genomes:
            self.propose(genome)
        return [(genome, self.space.violation(genome)) for genome in genomes]

    def tell(
        self, asked: list[tuple[Genome, float]], results: list[EvaluationResult | None], generation: int
    ) -> SearchState:
        """Give pymoo the results, in the order in which it asked; returns the survivors."""
        self.infills = self.infills[: len(asked)]
        for individual, (_, violation), result in zip(self.infills, asked, results, strict=True):
            self.measure(individual, result, violation)
        self.algorithm.tell(infills=self.infills)
        return self.state(self.algorithm.pop, generation)


def _why_fewer(generation: int, found: int, wanted: int, proposed: int) -> str:
    if found == 0:
        return (
            f"the search ends before generation {generation}: 100 rounds of mating gave no network "
            f"that is not among the {proposed} proposed so far"
        )
    return f"generation {generation} has {found} of {wanted} networks: 100 rounds of mating found no more new ones"
