"""Evolution by ask, evaluate, tell: a deterministic function of configuration, seed and results.

Resuming is replaying: the journal answers for what was evaluated before, and the search walks the same path again.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from evonas.executors import (
    Evaluate,
    EvaluatorFactory,
    Executor,
    Job,
    LocalExecutor,
    as_factory,
    ignore,
)
from evonas.search.asynchronous import SteadyState, evolve_asynchronously
from evonas.search.journal import Entry, Journal
from evonas.search.problem import check_objectives, checked
from evonas.search.proposals import (
    Event,
    EvolutionConfig,
    Finished,
    Genomes,
    Predict,
    Proposals,
    SearchState,
    answers,
)
from evonas.types import EvaluationResult, Genome, Note, Space, arch_id

__all__ = ["evolve"]


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
) -> Iterator[SearchState]:
    """Search `space`; yields the survivors of the first population and of every generation after it.

    Every child is made canonical at birth. One whose network was proposed before is not born again, so that every
    generation holds new networks; where 100 rounds of mating find too few, it is smaller, and where they find none,
    the search ends early; `report` gets a Note that says so. A failed evaluation never ends the search.

    An asynchronous search breeds one child whenever a slot is free and tells every result as it comes; its
    generations are merely every `config.population` results. It follows from the order of results, too, and so is
    repeated by its journal alone.

    Args:
        evaluate: a plain function (genome, seed) -> EvaluationResult, or a factory whose make_evaluate(report) each
            worker calls once.
        executor: where evaluations run; None: one after another in this process. Closed at the end.
        journal: what it holds is not evaluated again; None: in memory.
        first: genomes of the first population; random ones fill it up.
        maximize: those of the objectives that are maximised; the states hold their negative.
        retry_failed: evaluate again what the journal has as failed.
        report: gets finished evaluations and notes, and what the executor tells: progress (from the evaluator, where
            that is in reach) and activity.
        predict: what a genome's evaluation will cost, in any unit; executors with several slots start the dearest
            first. It changes no result.
    Raises:
        RunMismatchError: the journal is not of such a search, or other versions walk another path.
    """
    journal = Journal() if journal is None else journal
    executor = LocalExecutor() if executor is None else executor
    check_objectives(config.objectives, maximize)
    if config.asynchronous:
        steady = SteadyState(space, config, maximize, first, predict)
        states = evolve_asynchronously(steady, executor, journal, retry_failed, report)
    else:
        search = _Generations(space, config, maximize, first, predict)
        states = _by_generations(search, executor, journal, retry_failed, report)
    executor.start(as_factory(evaluate), report)
    try:
        yield from states
    finally:
        executor.close()


def _by_generations(
    search: "_Generations",
    executor: Executor,
    journal: Journal,
    retry_failed: bool,
    report: Callable[[Event], None],
) -> Iterator[SearchState]:
    config = search.config
    known = {entry.key: entry for entry in journal if answers(entry, config, retry_failed)}
    for generation in range(config.generations + 1):
        asked = search.ask()
        if len(asked) < config.population:
            report(Note(_why_fewer(generation, len(asked), config.population, search.proposed)))
        if len(asked) == 0:
            return
        jobs = [search.job(genome, generation) for genome, violation in asked if violation <= 0]
        for entry, cached in _evaluate_all(jobs, known, executor, journal, config):
            known[entry.key] = entry
            report(Finished(entry, cached))
        yield search.tell(asked, [known[arch_id(g)].result if v <= 0 else None for g, v in asked], generation)


def _evaluate_all(
    jobs: list[Job], known: dict[str, Entry], executor: Executor, journal: Journal, config: EvolutionConfig
) -> Iterator[tuple[Entry, bool]]:
    """Entries of all jobs, and whether each was known: first those that are, then the others as they finish."""
    missing = []
    for job in jobs:
        entry = known.get(arch_id(job.genome))
        if entry is None:
            missing.append(job)
        else:
            yield entry, True
    for job in missing:
        executor.submit(job)
    for _ in missing:
        job, result = executor.next_finished()
        entry = Entry(checked(result, config.objectives), job.generation, job.number)
        journal.append(entry)
        yield entry, False


class _Generations(Proposals):
    """A whole generation is asked for, and told when all its results are in."""

    def ask(self) -> list[tuple[Genome, float]]:
        """(canonical genome, violation) of every new individual; empty where mating finds nothing new."""
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
        """Give pymoo the results, in the order in which it asked, and take the survivors."""
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
