"""Parts that every kind of search shares: configuration, states, and the genomes proposed so far."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pymoo.core.individual import Individual
from pymoo.core.population import Population
from pymoo.core.problem import Problem

from evonas.errors import ConfigurationError
from evonas.executors import Job
from evonas.search.evaluations import Predict, evaluation_job
from evonas.search.operators import make_algorithm
from evonas.search.pareto import ranks
from evonas.search.problem import penalised
from evonas.search.settings import EvolutionConfig
from evonas.search.stopping import Limits, Stopping
from evonas.seeding import derive_seed, generator
from evonas.types import EvaluationResult, Genome, Space, arch_id

if TYPE_CHECKING:
    from evonas.search.assistant import Assistant

__all__ = ["EvolutionConfig", "Genomes", "Proposals", "SearchState", "up_to"]

Genomes = npt.NDArray[np.int64]
"""(n, n_genes) int64."""


@dataclass(frozen=True, eq=False)
class SearchState:
    """The survivors of a generation, in pymoo's order.

    genomes: (n, n_genes) canonical; objectives: (n, m) minimised, NaN for infeasible, failed and stopped genomes;
    rank: (n,) 0 is the front among the survivors, and infeasible, failed and stopped ones stand behind every front.
    """

    generation: int
    genomes: Genomes
    objectives: npt.NDArray[np.float64]
    rank: npt.NDArray[np.int64]


class Proposals:
    """pymoo's algorithm, and every genome that was proposed to it so far."""

    assistant: "Assistant | None" = None
    """The surrogate's part of the search; None without one."""

    def __init__(
        self,
        space: Space,
        config: EvolutionConfig,
        maximize: Sequence[str],
        first: Sequence[Genome] | Genomes,
        predict: Predict | None,
    ) -> None:
        self.space = space
        self.config = config
        self.maximize = maximize
        self.predict = predict
        self.numbers: dict[str, int] = {}
        """Key of a proposed genome -> number of genomes proposed before it."""
        self.stopping = Stopping(config, maximize) if config.early_stop else None
        self._limits: dict[str, Limits] = {}
        """Key of a genome without a result -> limits of the moment at which it was proposed."""
        self.born: set[str] = set()
        """Keys of children that are not proposed yet; pymoo drops the last one if it has one too many."""
        self.needs_feasible = True
        self.first = self._first_population(first)
        self.born.clear()
        self.problem = Problem(
            n_var=space.n_genes, n_obj=len(config.objectives), n_ieq_constr=1, xl=0, xu=np.asarray(space.upper)
        )
        self.algorithm = make_algorithm(
            config.algorithm,
            space,
            self.problem,
            self.first,
            derive_seed(config.seed, "evolution"),
            self._accept,
            config.tournament,
        )
        self.algorithm.pop_size = self.algorithm.n_offsprings = config.population  # the first may be fewer

    @property
    def proposed(self) -> int:
        return len(self.numbers)

    def is_new(self, genome: Genome) -> bool:
        """Whether a canonical genome was not proposed before."""
        return arch_id(genome) not in self.numbers

    def propose(self, genome: Genome) -> None:
        """Give a new canonical genome its number, and its limits."""
        key = arch_id(genome)
        self.numbers[key] = self.proposed
        if self.stopping is not None:
            self._limits[key] = self.stopping.limits()

    def job(self, genome: Genome) -> Job:
        """The evaluation of a proposed genome."""
        limits, key = None, arch_id(genome)
        if self.stopping is not None:
            limits = self.stopping.of(key, self._limits.get(key) or self.stopping.limits())
        return evaluation_job(genome, self.config.seed, self.predict, limits)

    def measure(self, individual: Individual, result: EvaluationResult | None, violation: float) -> None:
        """Give pymoo's individual its result; None for an infeasible one, which is not evaluated."""
        f, g = penalised(result, violation, self.config.objectives, self.maximize)
        individual.F, individual.G = np.array(f), np.array([g])
        individual.evaluated.update(("F", "G"))
        if self.stopping is not None and result is not None:
            self.stopping.tell(result)
            self._limits.pop(arch_id(result.genome), None)

    def mate(self, survivors: Population, wanted: int, rng: np.random.Generator, rounds: int) -> Genomes:
        """(n, n_genes) new children of the survivors; fewer than wanted if so many rounds of mating find no more."""
        self.born.clear()
        self.algorithm.random_state = rng  # pymoo's tournament takes it from there
        children = self.algorithm.mating.do(
            self.problem, survivors, wanted, algorithm=self.algorithm, random_state=rng, n_max_iterations=rounds
        )
        return np.array(children.get("X"), dtype=np.int64).reshape(-1, self.space.n_genes)

    def survive(self, survivors: Population, children: Population, rng: np.random.Generator) -> Population:
        """The best of both, as many as the population has."""
        return self.algorithm.survival.do(
            self.problem,
            Population.merge(survivors, children),
            n_survive=self.config.population,
            algorithm=self.algorithm,
            random_state=rng,
        )

    def survived(self, population: Population) -> npt.NDArray[np.bool_]:
        """(n,) whether a survivor is feasible and evaluated; while one is not, infeasible children may be born."""
        feasible: npt.NDArray[np.bool_] = population.get("G")[:, 0] <= 0
        self.needs_feasible = not feasible.all()
        return feasible

    def state(self, population: Population, generation: int) -> SearchState:
        feasible = self.survived(population)
        objectives = np.where(feasible[:, None], population.get("F"), np.nan)
        rank = ranks(objectives)
        rank[~feasible] = max(rank.max(initial=-1) + 1, 1)
        return SearchState(generation, population.get("X").astype(np.int64), objectives, rank)

    def random(self, wanted: int, rng: np.random.Generator) -> list[Genome]:
        """New genomes: feasible ones, and infeasible ones if 100 rounds of sampling find too few."""
        chosen: list[Genome] = []
        spare: list[Genome] = []
        for _ in range(100):
            if len(chosen) == wanted:
                break
            for sampled in self.space.sample(wanted - len(chosen), rng):
                genome = self.space.canonical(sampled)
                if self._accept(genome):
                    (chosen if self.space.violation(genome) <= 0 else spare).append(genome)
        return chosen + spare[: wanted - len(chosen)]

    def _first_population(self, first: Sequence[Genome] | Genomes) -> Genomes:
        """(n, n_genes) the given genomes, then random ones; all distinct."""
        chosen = [self.space.canonical(np.asarray(g)) for g in first]
        chosen = [g for g in chosen if self._accept(g)][: self.config.population]
        chosen += self.random(self.config.population - len(chosen), generator(self.config.seed, "first population"))
        if not chosen:
            raise ConfigurationError(f"expected space {self.space.name!r} to give genomes, got none")
        return np.array(chosen, dtype=np.int64)

    def _accept(self, genome: Genome) -> bool:
        """Whether a canonical genome is new; infeasible ones are born only while the population holds such."""
        key = arch_id(genome)
        new = key not in self.numbers and key not in self.born
        if not new or not (self.needs_feasible or self.space.violation(genome) <= 0):
            return False
        self.born.add(key)
        return True


def up_to(most: int, asked: Sequence[tuple[Genome, float]]) -> list[tuple[Genome, float]]:
    """The first ones of (genome, violation) that need at most so many evaluations: infeasible ones need none."""
    needed = np.cumsum([violation <= 0 for _, violation in asked])
    return [each for each, count in zip(asked, needed, strict=True) if count <= most]
