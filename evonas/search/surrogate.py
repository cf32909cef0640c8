"""The surrogate of a search: what it has learned of the results so far, and what it would evaluate next."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import ThreadpoolController

from evonas.errors import EvonasError
from evonas.search.pareto import minimised, ranks
from evonas.search.settings import EvolutionConfig
from evonas.search.surrogate_models import Models, Skill, Views
from evonas.types import Cost, EvaluationResult, Genome, Space, arch_id

__all__ = ["CostOf", "Surrogate"]

Floats = npt.NDArray[np.float64]
CostOf = Callable[[Genome], Cost]
"""Canonical genome -> parameters and MACs of its network."""

LEAST_RESULTS = 8
"""Successful evaluations before anything is predicted."""
MOST_RESULTS = 500
"""Successful results that are learned from: of more, those on the best fronts, of one front the newest."""
SHORT_LIST = 200
"""Children that a batch is chosen from one after another: those with the largest expected improvement alone."""


@dataclass(frozen=True)
class _Learned:
    """Models of one moment."""

    models: Models
    skill: Skill
    columns: tuple[str, ...]
    """Searched objectives that are learned; the others are computed."""
    costs: bool
    """Whether models see the costs of genomes, too."""


class Surrogate:
    """Models over the results told so far.

    Parameters and MACs are computed, not learned, while all results agree with `cost`. Everything follows from the
    results in the order in which they were told, with one thread, so that it comes out the same again.
    """

    def __init__(self, space: Space, config: EvolutionConfig, maximize: Sequence[str], cost: CostOf | None) -> None:
        self.space, self.config, self.maximize, self.cost = space, config, tuple(maximize), cost
        self._told: dict[str, EvaluationResult] = {}
        self._costs: dict[str, Cost | None] = {}
        self._now: _Learned | None = None
        self._stale = True
        self._threads = ThreadpoolController()

    def tell(self, result: EvaluationResult) -> None:
        """Take in a result; it replaces an earlier one of the same genome."""
        self._told[arch_id(result.genome)] = result
        self._stale = True

    @property
    def skill(self) -> Skill | None:
        """Skill of the models; None while there are too few results."""
        learned = self._learned()
        return None if learned is None else learned.skill

    def parents(self) -> list[Genome]:
        """Genomes of the first front, and of the next ones until there are as many as the population; best first."""
        ok = self._successes()
        rank = ranks(self._objectives(ok))
        wanted = max(self.config.population, int((rank == 0).sum()))
        return [_genome(ok[i]) for i in np.argsort(rank, kind="stable")[:wanted]]

    def predict(self, genomes: Sequence[Genome]) -> list[dict[str, tuple[float, float]] | None]:
        """Each genome's learned objectives -> mean and deviation of the value expected; None: no prediction."""
        found: list[dict[str, tuple[float, float]] | None] = [None] * len(genomes)
        learned = self._learned()
        places = [i for i, genome in enumerate(genomes) if learned is not None and self._seen(genome, learned)]
        if learned is None or not places:
            return found
        with self._threads.limit(limits=1):
            means, deviations = learned.models.natural(self._views([genomes[i] for i in places], learned.costs))
        signs = [-1.0 if name in self.maximize else 1.0 for name in learned.columns]
        for i, mean, deviation in zip(places, (means * signs).tolist(), deviations.tolist(), strict=True):
            found[i] = dict(zip(learned.columns, zip(mean, deviation, strict=True), strict=True))
        return found

    def promising(self, pool: Sequence[Genome], wanted: int) -> list[Genome]:
        """The genomes of a pool with the largest expected improvement, each alone; best first."""
        learned = self._learned()
        pool = [genome for genome in pool if learned is not None and self._seen(genome, learned)]
        if learned is None or not pool:
            return []
        with self._threads.limit(limits=1):
            gain = learned.models.gain(self._views(pool, learned.costs), self._computed(pool, learned))
        return [pool[i] for i in np.argsort(-gain, kind="stable")[:wanted]]

    def choose(self, pool: Sequence[Genome], wanted: int, pending: Sequence[Genome] = ()) -> list[tuple[Genome, float]]:
        """A batch from a pool, and the expected growth of the hypervolume by each, as a share of it.

        Args:
            pending: genomes that are being evaluated.
        """
        learned = self._learned()
        promising = self.promising(pool, SHORT_LIST)
        if learned is None or not promising:
            return []
        pending = [genome for genome in pending if self._seen(genome, learned)]
        listed = [*pending, *promising]
        views, exact = self._views(listed, learned.costs), self._computed(listed, learned)
        with self._threads.limit(limits=1):
            chosen, gains = learned.models.choose(views, exact, wanted, len(pending))
        return [(listed[i], gain) for i, gain in zip(chosen, gains, strict=True)]

    def _learned(self) -> _Learned | None:
        if self._stale:
            with self._threads.limit(limits=1):
                self._now, self._stale = self._learn(), False
        return self._now

    def _learn(self) -> _Learned | None:
        ok = self._successes()
        if len(ok) < LEAST_RESULTS:
            return None
        costs = [self._cost(_genome(result)) for result in ok]
        columns = [name for name in self.config.objectives if not self._agrees(name, ok, costs)]
        if len(ok) > MOST_RESULTS:
            order = np.lexsort((-np.arange(len(ok)), ranks(self._objectives(ok))))
            ok = [ok[i] for i in sorted(order[:MOST_RESULTS])]
        seen = None not in costs
        failed = [_genome(result) for result in self._told.values() if result.status == "failed"][-MOST_RESULTS:]
        failed = [genome for genome in failed if not seen or self._cost(genome) is not None]
        genomes = [_genome(result) for result in ok]
        models = Models(
            str(self.config.surrogate),
            self._views(genomes, seen),
            self._objectives(ok),
            [self.config.objectives.index(name) for name in columns],
            self._views(failed, seen),
            np.array([(self._cost(genome) or (0,))[0] for genome in genomes], dtype=np.float64) if seen else None,
        )
        return _Learned(models, models.skill(), tuple(columns), seen)

    def _agrees(self, name: str, ok: Sequence[EvaluationResult], costs: Sequence[Cost | None]) -> bool:
        """Whether an objective is a cost, and every result has what is computed."""
        pairs = zip(ok, costs, strict=True)
        return name in Cost._fields and all(
            cost is not None and getattr(cost, name) == result.objectives[name] for result, cost in pairs
        )

    def _successes(self) -> list[EvaluationResult]:
        return [result for result in self._told.values() if result.ok]

    def _objectives(self, results: Iterable[EvaluationResult]) -> Floats:
        names = self.config.objectives
        rows = [minimised(result.objectives, names, self.maximize) for result in results]
        return np.array(rows, dtype=np.float64).reshape(-1, len(names))

    def _computed(self, genomes: Sequence[Genome], learned: _Learned) -> Floats:
        """(n, m) objectives that are costs, minimised; 0 for the others."""
        values = np.zeros((len(genomes), len(self.config.objectives)))
        for j, name in enumerate(self.config.objectives):
            if name not in learned.columns:
                sign = -1.0 if name in self.maximize else 1.0
                values[:, j] = [sign * getattr(self._cost(genome), name) for genome in genomes]
        return values

    def _views(self, genomes: Sequence[Genome], costs: bool) -> Views:
        return Views.of(self.space, genomes, [self._cost(genome) for genome in genomes] if costs else None)

    def _seen(self, genome: Genome, learned: _Learned) -> bool:
        """Whether the models see a genome: one without a cost, such as one outside of a table, is nothing to them."""
        return not learned.costs or self._cost(genome) is not None

    def _cost(self, genome: Genome) -> Cost | None:
        key = arch_id(genome)
        if key not in self._costs:
            try:
                self._costs[key] = None if self.cost is None else self.cost(genome)
            except EvonasError:
                self._costs[key] = None
        return self._costs[key]


def _genome(result: EvaluationResult) -> Genome:
    return np.array(result.genome, dtype=np.int64)
