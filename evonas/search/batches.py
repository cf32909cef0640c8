"""The search in batches, which a surrogate chooses while it predicts well enough; generations are merely counted."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from pymoo.core.population import Population

from evonas.search.assistant import Assistant
from evonas.search.evaluations import Predict, checked
from evonas.search.honesty import honesty
from evonas.search.journal import Entry, Journal
from evonas.search.proposals import EvolutionConfig, Genomes, Proposals, SearchState, up_to
from evonas.search.scoring import Evaluations, Event
from evonas.search.surrogate import CostOf
from evonas.seeding import generator
from evonas.types import Genome, Note, Space, arch_id

__all__ = ["Batches", "evolve_in_batches"]


def evolve_in_batches(
    search: "Batches", evaluations: Evaluations, journal: Journal, report: Callable[[Event], None]
) -> Iterator[SearchState]:
    """Propose, evaluate, tell, until all is evaluated or nothing is left to gain; see `evolve`.

    Yields a state after every population of proposals, and the last one.
    """
    while search.left > 0:
        asked = search.ask(report)
        if not asked:
            break
        known = {*evaluations.known}
        jobs = [search.job(genome) for genome, violation in asked if violation <= 0]
        evaluations.run(jobs, search.numbers, search.generation, search.assistant.predicted)
        entries = {job.key: evaluations.known[job.key] for job in jobs}
        line = told([*entries.values()])
        if line and not entries.keys() <= known:
            report(Note(line))
        yield from search.tell(asked, entries)
    yield from search.last_state()
    journal.sort()


def why_it_ends(proposed: int, wanted: int) -> str:
    return (
        f"the search ends after {proposed} of {wanted} networks: 100 rounds of mating gave no network that is not "
        "among them"
    )


def told(entries: Sequence[Entry]) -> str:
    """A line on a batch: who chose it, and how well it was predicted; empty where nothing was."""
    words = [
        f"{name} {'unknown' if found.rank_correlation is None else f'{found.rank_correlation:.2f}'} "
        f"({found.coverage:.0%})"
        for name, found in honesty(entries).items()
        if found.coverage is not None
    ]
    assisted = sum(entry.assisted for entry in entries)
    of = f"{assisted} of " if 0 < assisted < len(entries) else ""
    by = f"{of}{len(entries)} by {'the surrogate' if assisted else 'evolution'}"
    said = f"{by}; rank correlation of predicted and found (within 90% intervals): "
    return f"  {said}{', '.join(words)}" if words else ""


class Batches(Proposals):
    """Proposals a batch at a time, within a generation; the survivors are chosen anew after every batch."""

    assistant: Assistant

    def __init__(
        self,
        space: Space,
        config: EvolutionConfig,
        maximize: Sequence[str],
        first: Sequence[Genome] | Genomes,
        predict: Predict | None,
        cost: CostOf | None,
    ) -> None:
        super().__init__(space, config, maximize, first, predict)
        self.assistant = Assistant(space, config, maximize, cost, self.is_new)
        self.survivors = Population.empty()
        self.generation = 0
        """Generation of the batch that was asked for last."""
        self._evaluated = 0
        self._ended = False
        self._state_of = -1

    @property
    def left(self) -> int:
        """Evaluations that may still be asked for."""
        whole = self.config.population * (self.config.generations + 1)
        return 0 if self._ended else min(whole - self.proposed, self.config.evaluations - self._evaluated)

    def ask(self, report: Callable[[Event], None]) -> list[tuple[Genome, float]]:
        """(canonical genome, violation) of a batch; empty at the end of the search, whose reason `report` hears."""
        population, number = self.config.population, self.proposed
        rest = population - number % population
        wanted = math.ceil(rest / math.ceil(rest / self.config.surrogate_batch))  # batches of about equal size
        genomes, gains = self._born(number, wanted, report)
        self.assistant.record(genomes, gains)  # all of them: a shorter list would round differently
        asked = up_to(self.left, [(genome, self.space.violation(genome)) for genome in genomes])
        self.generation = number // population
        for genome, _ in asked:
            self.propose(genome)
        return asked

    def tell(self, asked: Sequence[tuple[Genome, float]], entries: Mapping[str, Entry]) -> list[SearchState]:
        """Take in the results of a batch, in the order in which it was asked for; a state if a generation is whole."""
        children = Population.new("X", np.array([genome for genome, _ in asked]))
        for child, (genome, violation) in zip(children, asked, strict=True):
            result = entries[arch_id(genome)].result if violation <= 0 else None
            self.measure(child, result, violation)
            if result is not None:
                self._evaluated += 1
                self.assistant.surrogate.tell(checked(result, self.config.objectives))
        self.survivors = self.survive(self.survivors, children, generator(self.config.seed, "survivors", self.proposed))
        self.survived(self.survivors)
        return self._state() if self.proposed % self.config.population == 0 else []

    def last_state(self) -> list[SearchState]:
        """The final state, unless it was given already."""
        return self._state() if self.proposed > self._state_of else []

    def _state(self) -> list[SearchState]:
        self._state_of = self.proposed
        return [self.state(self.survivors, self.generation)] if self.proposed else []

    def _born(self, number: int, wanted: int, report: Callable[[Event], None]) -> tuple[Sequence[Genome], list[float]]:
        """Genomes of a batch, and what the surrogate expects of each where it chose them."""
        if number < len(self.first):
            return list(self.first[number:]), []  # nothing is chosen before all of them are known
        chosen = self.assistant.choose(wanted, number)
        if line := self.assistant.turn():
            report(Note(line))
        gains = [gain for _, gain in chosen]
        if chosen and not self.assistant.ends(gains):
            return [genome for genome, _ in chosen], gains
        self._ended = True
        if chosen:
            report(Note(self.assistant.why_it_ends(self._evaluated)))
            return [], []
        children = self.mate(self.survivors, wanted, generator(self.config.seed, "children", number), rounds=100)
        self._ended = len(children) == 0
        if self._ended:
            report(Note(why_it_ends(number, self.config.evaluations)))
        return list(children), []
