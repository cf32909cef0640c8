"""The part of a search that a surrogate plays: it chooses among many children, while it predicts well enough."""

from collections.abc import Callable, Sequence

import numpy as np

from evonas.search.journal import Prediction
from evonas.search.settings import EvolutionConfig
from evonas.search.surrogate import CostOf, Surrogate
from evonas.seeding import generator
from evonas.types import Genome, Space, arch_id

__all__ = ["Assistant"]

TRIES = 300
"""Children bred for a choice; see `TRIES_EACH`."""
TRIES_EACH = 80
"""Further ones for every network that is chosen."""
SAMPLED = 0.2
"""Share of the children that is sampled anew."""


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
        self.parents: dict[str, tuple[str, ...]] = {}
        """Key of a chosen genome -> keys of the two that it was bred from; none for one that was sampled."""
        self.gains: list[float] = []
        """Expected gains of the networks chosen since it began to choose, as shares of the hypervolume."""
        self._chose: bool | None = None
        """Who chose when `turn` was asked last; None before there was anything to learn."""

    @property
    def trusted(self) -> bool:
        """Whether the surrogate has learned enough, and predicts well enough: see `Skill.suffices`."""
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
        pool, parents = self._children(TRIES + TRIES_EACH * wanted, rng)
        chosen = self.surrogate.choose(list(pool.values()), wanted, pending)
        for genome, _ in chosen:
            self.parents[arch_id(genome)] = parents[arch_id(genome)]
        return chosen

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

    def _children(self, tries: int, rng: np.random.Generator) -> tuple[dict[str, Genome], dict[str, tuple[str, ...]]]:
        """New feasible genomes by key, children of pairs on the front and some that are sampled; and their parents."""
        parents = self.surrogate.parents()
        sampled = self.space.sample(round(SAMPLED * tries), rng)
        bred: list[tuple[Genome, tuple[str, ...]]] = [(genome, ()) for genome in sampled]
        for a, b in rng.integers(len(parents), size=((tries - len(sampled)) // 2, 2)):
            mated = arch_id(parents[a]), arch_id(parents[b])
            bred += [(child, mated) for child in self.space.crossover(parents[a], parents[b], rng)]
        found: dict[str, Genome] = {}
        of: dict[str, tuple[str, ...]] = {}
        for genome, pair in bred:
            child = self.space.canonical(self.space.mutate(genome, rng) if pair else genome)
            key = arch_id(child)
            if key not in found and self.is_new(child) and self.space.violation(child) <= 0:
                found[key], of[key] = child, pair
        return found, of
