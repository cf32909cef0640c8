"""Evolution by ask, evaluate, tell: a deterministic function of configuration, seed and results.

Resuming is replaying: the journal answers for what was evaluated before, and the search walks the same path again.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from evonas.errors import ConfigurationError, choose
from evonas.search.executors import (
    Evaluate,
    EvaluatorFactory,
    Executor,
    Job,
    LocalExecutor,
    as_factory,
    ignore,
)
from evonas.search.journal import Entry, Journal
from evonas.search.operators import ALGORITHMS, make_algorithm
from evonas.search.pareto import ranks
from evonas.search.problem import check_objectives, checked, evaluation_seed, penalised
from evonas.seeding import derive_seed, generator
from evonas.types import Activity, EvaluationResult, Genome, Note, Progress, Space, arch_id

__all__ = ["Event", "EvolutionConfig", "Finished", "Note", "SearchState", "evolve"]

Genomes = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class EvolutionConfig:
    """The evolutionary search; the defaults are RoCo-NAS's (Table II)."""

    population: int = 40
    """Survivors of a generation (RoCo-NAS, Table II)."""
    generations: int = 20
    """Offspring generations after the first population: population x (generations + 1) evaluations."""
    objectives: tuple[str, ...] = ("clean_error", "macs")
    """Searched columns, in order."""
    algorithm: str = "nsga2"
    """nsga2 or nsga3."""
    seed: int = 0

    def __post_init__(self) -> None:
        whole = isinstance(self.population, int) and isinstance(self.generations, int)
        if not whole or self.population < 2 or self.generations < 0:
            raise ConfigurationError(
                f"expected a population >= 2 and generations >= 0, got {self.population} and {self.generations}"
            )
        check_objectives(self.objectives)
        choose(ALGORITHMS, self.algorithm, "algorithm")

    @property
    def evaluations(self) -> int:
        """Evaluations of the whole search, at most."""
        return self.population * (self.generations + 1)


@dataclass(frozen=True, eq=False)
class SearchState:
    """The survivors of a generation, in pymoo's order.

    genomes: (n, n_genes) canonical; objectives: (n, m) minimised, NaN where infeasible or failed; rank: (n,) 0 is the
    front among the survivors, and whatever is infeasible or failed stands behind every front.
    """

    generation: int
    genomes: Genomes
    objectives: npt.NDArray[np.float64]
    rank: npt.NDArray[np.int64]


@dataclass(frozen=True)
class Finished:
    """An evaluation is in the journal."""

    entry: Entry
    cached: bool
    """It was there before: nothing was evaluated."""


Event = Progress | Activity | Finished | Note


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
) -> Iterator[SearchState]:
    """Search `space`; yields the survivors of the first population and of every generation after it.

    Every child is made canonical at birth. One whose network was proposed before is not born again, so that every
    generation holds new networks; where 100 rounds of mating find too few, it is smaller, and where they find none,
    the search ends early; `report` gets a Note that says so. A failed evaluation never ends the search.

    Args:
        evaluate: a plain function (genome, seed) -> EvaluationResult, or a factory whose make_evaluate(report) each
            worker calls once.
        executor: where evaluations run; None: one after another in this process. Closed at the end.
        journal: what it holds is not evaluated again; None: in memory.
        first: genomes of the first population; random ones fill it up.
        maximize: those of the objectives that are maximised; the states hold their negative.
        retry_failed: evaluate again what the journal has as failed.
        report: gets progress (from the evaluator, where that is in reach), finished evaluations and notes.
    """
    journal = Journal() if journal is None else journal
    executor = LocalExecutor() if executor is None else executor
    check_objectives(config.objectives, maximize)
    search = _Search(space, config, maximize, first)
    known = {entry.key: entry for entry in journal if _answers(entry, config, retry_failed)}
    executor.start(as_factory(evaluate), report)
    try:
        for generation in range(config.generations + 1):
            asked = search.ask()
            if len(asked) < config.population:
                report(Note(_why_fewer(generation, len(asked), config.population, search.proposed)))
            if len(asked) == 0:
                return
            jobs = search.jobs(asked, generation)
            for entry, cached in _evaluate_all(jobs, known, executor, journal, config):
                known[entry.key] = entry
                report(Finished(entry, cached))
            yield search.tell(asked, [known[arch_id(g)].result if v <= 0 else None for g, v in asked], generation)
    finally:
        executor.close()


def _answers(entry: Entry, config: EvolutionConfig, retry_failed: bool) -> bool:
    """Whether a recorded result can stand for an evaluation of this search: of its seed, with its objectives."""
    if entry.result.seed != evaluation_seed(config.seed, entry.key):
        return False
    measured = all(name in entry.result.objectives for name in config.objectives)
    return measured if entry.result.ok else not retry_failed


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


class _Search:
    """pymoo's algorithm and what was proposed so far."""

    def __init__(
        self, space: Space, config: EvolutionConfig, maximize: Sequence[str], first: Sequence[Genome] | Genomes
    ) -> None:
        self.space = space
        self.config = config
        self.maximize = maximize
        self.seen: set[str] = set()
        """Keys of what was proposed."""
        self.born: set[str] = set()
        """Keys of what mating gave in this generation; pymoo drops the last one where it has one too many."""
        self.proposed = 0
        self.needs_feasible = True
        population = self._first_population(first)
        self.problem = Problem(
            n_var=space.n_genes, n_obj=len(config.objectives), n_ieq_constr=1, xl=0, xu=np.asarray(space.upper)
        )
        self.algorithm = make_algorithm(
            config.algorithm, space, self.problem, population, derive_seed(config.seed, "evolution"), self._accept
        )
        self.algorithm.pop_size = self.algorithm.n_offsprings = config.population

    def ask(self) -> list[tuple[Genome, float]]:
        """(canonical genome, violation) of every new individual; empty where mating finds nothing new."""
        self.infills = self.algorithm.ask()
        self.born.clear()
        if self.infills is None:
            return []
        genomes = self.infills.get("X").astype(np.int64)
        self.seen.update(arch_id(genome) for genome in genomes)
        self.proposed += len(genomes)
        return [(genome, self.space.violation(genome)) for genome in genomes]

    def jobs(self, asked: list[tuple[Genome, float]], generation: int) -> list[Job]:
        """Evaluations of the feasible ones, numbered as they were proposed."""
        start, seed = self.proposed - len(asked), self.config.seed
        return [
            Job(tuple(genome.tolist()), evaluation_seed(seed, arch_id(genome)), start + i, generation)
            for i, (genome, violation) in enumerate(asked)
            if violation <= 0
        ]

    def tell(
        self, asked: list[tuple[Genome, float]], results: list[EvaluationResult | None], generation: int
    ) -> SearchState:
        """Give pymoo the results, in the order in which it asked, and take the survivors."""
        rows = [
            penalised(result, violation, self.config.objectives, self.maximize)
            for (_, violation), result in zip(asked, results, strict=True)
        ]
        for individual, (f, g) in zip(self.infills, rows, strict=True):
            individual.F, individual.G = np.array(f), np.array([g])
            individual.evaluated.update(("F", "G"))
        self.algorithm.tell(infills=self.infills)
        return self._state(self.algorithm.pop, generation)

    def _state(self, population: Population, generation: int) -> SearchState:
        feasible = population.get("G")[:, 0] <= 0
        self.needs_feasible = not feasible.all()
        objectives = np.where(feasible[:, None], population.get("F"), np.nan)
        rank = ranks(objectives)
        rank[~feasible] = max(rank.max(initial=-1) + 1, 1)
        return SearchState(generation, population.get("X").astype(np.int64), objectives, rank)

    def _first_population(self, first: Sequence[Genome] | Genomes) -> Genomes:
        """The given genomes, then random ones: distinct, and feasible where 100 rounds of sampling find enough."""
        rng = generator(self.config.seed, "first population")
        chosen = [self.space.canonical(np.asarray(g)) for g in first]
        chosen = [g for g in chosen if self._accept(g)][: self.config.population]
        spare: list[Genome] = []
        for _ in range(100):
            wanted = self.config.population - len(chosen)
            if wanted == 0:
                break
            for sampled in self.space.sample(wanted, rng):
                genome = self.space.canonical(sampled)
                if self._accept(genome):
                    (chosen if self.space.violation(genome) <= 0 else spare).append(genome)
        chosen += spare[: self.config.population - len(chosen)]
        if not chosen:
            raise ConfigurationError(f"expected space {self.space.name!r} to give genomes, got none")
        return np.array(chosen, dtype=np.int64)

    def _accept(self, genome: Genome) -> bool:
        """Whether a canonical genome is new; infeasible ones are born only while the population holds such."""
        key = arch_id(genome)
        new = key not in self.seen and key not in self.born
        if not new or not (self.needs_feasible or self.space.violation(genome) <= 0):
            return False
        self.born.add(key)
        return True


def _why_fewer(generation: int, found: int, wanted: int, proposed: int) -> str:
    if found == 0:
        return (
            f"the search ends before generation {generation}: 100 rounds of mating gave no network "
            f"that is not among the {proposed} proposed so far"
        )
    return f"generation {generation} has {found} of {wanted} networks: 100 rounds of mating found no more new ones"
