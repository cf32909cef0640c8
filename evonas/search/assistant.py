"""The part of a search that a surrogate plays: it chooses among many children, while it predicts well enough."""

from collections.abc import Callable, Sequence

import numpy as np

from evonas.search.journal import Prediction
from evonas.search.settings import EvolutionConfig
from evonas.search.surrogate import CostOf, Surrogate
from evonas.seeding import generator
from evonas.types import Genome, Space, arch_id

__all__ = ["Assistant"]

TRIES = 200
"""Children bred for a choice, and as many more of the best of them; see `TRIES_EACH`."""
TRIES_EACH = 40
"""Further ones for every network that is chosen."""
SAMPLED = 0.2
"""Share of the children that is sampled anew."""
BEST = 20
"""Children that become parents of the second half."""


class Assistant:
    """Chooses what is evaluated next, and remembers what it predicted of it."""

    def __init__(
        self,
        space: Space,
        config: EvolutionConfig,
        maximize: Sequence[str],
        cost: CostOf | None,
        is_new: Callable[[Genome], bool],
    ) -> None:
        self.space, self.config, self.is_new = space, config, is_new
        self.surrogate = Surrogate(space, config, maximize, cost)
        self.predicted: dict[str, Prediction] = {}
        """Key of a proposed genome -> what was predicted of it."""
        self.gains: list[float] = []
        """Expected gains of the networks chosen since it began to choose, as shares of the hypervolume."""
        self._chose: bool | None = None
        """Who chose when `turn` was asked last; None before there was anything to learn."""

    @property
    def trusted(self) -> bool:
        """Whether the surrogate has learned enough, and predicts no worse than the parameter count alone."""
        skill = self.surrogate.skill
        return skill is not None and skill.suffices

    def choose(self, wanted: int, number: int, pending: Sequence[Genome] = ()) -> list[tuple[Genome, float]]:
        """New feasible genomes and their expected gains; empty while plain evolution is better.

        Args:
            number: of the first of them among all proposals, which seeds the children.
            pending: genomes that are being evaluated.
        """
        if not self.trusted:
            return []
        rng = generator(self.config.seed, "surrogate", number)
        tries = TRIES + TRIES_EACH * wanted
        pool = self._children(self.surrogate.parents(), tries, SAMPLED, rng)
        best = self.surrogate.promising(list(pool.values()), BEST)
        if best:
            pool |= self._children(best, tries, 0.0, rng)
        return self.surrogate.choose(list(pool.values()), wanted, pending)

    def ends(self, gains: Sequence[float]) -> bool:
        """Whether these gains, and those before them, stay below the least gain that is asked for."""
        last = [*self.gains, *gains][-2 * self.config.surrogate_batch :]
        return len(last) == 2 * self.config.surrogate_batch and float(np.mean(last)) < self.config.min_gain

    def record(self, genomes: Sequence[Genome], gains: Sequence[float]) -> None:
        """Keep the predictions of what is proposed; no gains: plain evolution bred it."""
        for genome, predicted in zip(genomes, self.surrogate.predict(genomes), strict=True):
            self.predicted[arch_id(genome)] = Prediction(predicted, bool(gains))
        self.gains = [*self.gains, *gains] if gains else []

    def turn(self) -> str:
        """A line for the user where the choice passes from evolution to the surrogate, or back; else empty."""
        skill = self.surrogate.skill
        if skill is None or self.trusted == self._chose:
            return ""
        self._chose = self.trusted
        does = "chooses from here on" if self.trusted else "plain evolution until it predicts better"
        return f"surrogate {self.config.surrogate}: {does} ({skill})"

    def why_it_ends(self, evaluated: int) -> str:
        count, least = 2 * self.config.surrogate_batch, self.config.min_gain
        return (
            f"the search ends after {evaluated} evaluations: the last {count} choices are expected to raise the "
            f"hypervolume by less than {least:.2g} of it each, as --min-gain asks"
        )

    def _children(
        self, parents: Sequence[Genome], tries: int, sampled: float, rng: np.random.Generator
    ) -> dict[str, Genome]:
        """New feasible genomes by key: children of pairs of parents, and some that are sampled."""
        found: dict[str, Genome] = {}
        fresh = self.space.sample(round(sampled * tries), rng)
        pairs = rng.integers(len(parents), size=((tries - len(fresh)) // 2, 2))
        crossed = [child for a, b in pairs for child in self.space.crossover(parents[a], parents[b], rng)]
        for genome in [*fresh, *(self.space.mutate(child, rng) for child in crossed)]:
            canonical = self.space.canonical(genome)
            if self.is_new(canonical) and self.space.violation(canonical) <= 0:
                found[arch_id(canonical)] = canonical
        return found
