"""The search without generations: a child is bred whenever a slot is free, and every result is used as it comes.

Resuming is replaying here, too. A proposal follows from configuration, seed, its number, and the results known before
it; every line of the journal says how many genomes had been proposed when it was recorded. So the recorded lines, in
their order, breed every proposal again at its moment. Proposals without a line were running when the search stopped.
Behind a lost line proposals cannot be bred again at their moment: the replay ends there, and later results are recorded
anew when their genomes are proposed.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from pymoo.core.population import Population

from evonas.errors import ConfigurationError, RunMismatchError
from evonas.executors import Executor, Job, Outcome
from evonas.search.assistant import Assistant
from evonas.search.batches import told
from evonas.search.evaluations import Predict, checked, evaluation_result, evaluation_seed
from evonas.search.journal import Entry, Journal, Prediction
from evonas.search.proposals import EvolutionConfig, Genomes, Proposals, SearchState
from evonas.search.scoring import Event, Finished, answers
from evonas.search.surrogate import CostOf
from evonas.seeding import generator
from evonas.types import EvaluationResult, Genome, Note, Space

__all__ = ["SteadyState", "evolve_asynchronously"]


def evolve_asynchronously(
    search: "SteadyState",
    executor: Executor,
    journal: Journal,
    retry_failed: bool,
    report: Callable[[Event], None],
) -> Iterator[SearchState]:
    """Replay the journal, then breed and evaluate until everything is proposed and known; see `evolve`.

    Yields a state after every population of results, and the last one when all results are in.
    """
    yield from _replay(search, journal, retry_failed, report)
    running, recent = 0, list[Entry]()
    while True:
        while running == 0 or executor.free > 0:
            job = search.next_job()
            if search.assistant is not None and (line := search.assistant.turn()):
                report(Note(line))
            if job is None:
                break
            known = journal.spare.pop(job.key, None)
            if known is not None and known.result.status == "stopped":
                known = None  # by limits of another moment
            if known is not None and answers(known, search.config.objectives, search.config.seed, retry_failed):
                entry = search.entry(job, Outcome(known.result))
                journal.append(entry)
                report(Finished(entry, True))
                search.tell(entry)
                yield from search.new_states()
                continue
            executor.submit(job)
            running += 1
        yield from search.new_states()
        if running == 0:
            break
        entry = search.entry(*executor.next_finished())
        running -= 1
        journal.append(entry)
        report(Finished(entry, False))
        search.tell(entry)
        recent.append(entry)
        if len(recent) == search.config.surrogate_batch:
            if line := told(recent):
                report(Note(line))
            recent = []
        yield from search.new_states()
    if search.may_propose:
        report(Note(search.end or search.why_it_ends()))
    yield from search.last_state()


def _replay(
    search: "SteadyState", journal: Journal, retry_failed: bool, report: Callable[[Event], None]
) -> Iterator[SearchState]:
    """Walk through the recorded lines; results that do not count any more are put up for evaluation again."""
    config = search.config
    lines = [entry for entry in journal.lines if entry.result.seed == evaluation_seed(config.seed, entry.key)]
    last = {entry.proposal: entry for entry in lines}
    stands = {number for number, entry in last.items() if answers(entry, config.objectives, config.seed, retry_failed)}
    for entry in lines:
        search.catch_up(entry)
        if entry is last[entry.proposal] and entry.proposal in stands:
            report(Finished(entry, True))
        search.tell(entry)
        yield from search.new_states()
    for number, entry in last.items():
        if number not in stands:
            search.evaluate_again(entry)


class SteadyState(Proposals):
    """One proposal and one result at a time: the survivors are chosen anew after every result."""

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
        self.assistant = None if config.surrogate is None else Assistant(space, config, maximize, cost, self.is_new)
        self.survivors = Population.empty()
        self.results = 0
        """Recorded results so far, including those replaced later."""
        self._waiting: dict[int, Genome] = {}
        """Number of a proposal -> its genome, for proposals to evaluate next, in this order."""
        self._running: dict[int, Genome] = {}
        """Number of a proposal -> its genome, for proposals without any result."""
        self._infeasible = 0
        self._replaying = False
        """Whether proposals are made again that a journal has: limits of this run do not hold for them."""
        self.end = ""
        """Cause of an end before everything is proposed, where the surrogate expects too little."""
        self._bred_after: dict[int, int] = {}
        """Number of a waiting or running proposal -> results known when it was bred."""
        self._told: set[int] = set()
        """Numbers of proposals that pymoo knows, infeasible or with a result."""
        self._states: list[SearchState] = []
        self._changed = False

    @property
    def may_propose(self) -> bool:
        """Whether the configuration has room for one more proposal."""
        config = self.config
        room = self.proposed < config.population * (config.generations + 1)
        return room and (self._replaying or self.proposed - self._infeasible < config.evaluations)

    def next_job(self) -> Job | None:
        """The next evaluation; None if everything is proposed or nothing new is found."""
        while not self._waiting:
            if not self._propose_next():
                return None
        number = next(iter(self._waiting))
        return self.job(self._waiting.pop(number))

    def entry(self, job: Job, outcome: Outcome) -> Entry:
        """The line of a finished job."""
        result = evaluation_result(job, outcome, self.config.objectives)
        number = self.numbers[job.key]
        generation = number // self.config.population
        said = Prediction() if self.assistant is None else self.assistant.predicted[job.key]
        return Entry(result, generation, number, self._bred_after[number], self.proposed, *said)

    def tell(self, entry: Entry) -> None:
        """Take in a recorded result; it replaces an earlier one of the same genome."""
        self.results += 1
        self._waiting.pop(entry.proposal, None)
        self._running.pop(entry.proposal, None)
        self._bred_after.pop(entry.proposal, None)
        genome = np.array(entry.result.genome, dtype=np.int64)
        result = checked(entry.result, self.config.objectives)
        if self.assistant is not None:
            self.assistant.surrogate.tell(result)
        self._survive(entry.proposal, genome, result, self.space.violation(genome))

    def catch_up(self, entry: Entry) -> None:
        """Make the proposals that had been made when `entry` was recorded.

        Raises:
            ConfigurationError: more proposals than the configuration has.
            RunMismatchError: other proposals than the recorded ones.
        """
        population, made = self.config.population, entry.proposed
        if made is None:
            raise RunMismatchError(
                "expected the journal of an asynchronous search, got one of a search by generations; "
                "search without --async, or name another folder"
            )
        if made > population * (self.config.generations + 1):
            raise ConfigurationError(
                f"expected at least the {(made - 1) // population} generations that the journal has begun, "
                f"got {self.config.generations}; a run may grow, not shrink"
            )
        self._replaying = True
        while self.proposed < made and self._propose_next():
            pass
        self._replaying = False
        number = self.numbers.get(entry.key)
        if (self.proposed, number, self._bred_after.get(entry.proposal, entry.seen)) != (
            made,
            entry.proposal,
            entry.seen,
        ):
            raise RunMismatchError(
                f"expected proposal {entry.proposal} to be {entry.key}, as the journal has it, got another genome; "
                "use the versions of evonas, numpy and pymoo that the run was begun with"
            )

    def evaluate_again(self, entry: Entry) -> None:
        """Replace the result of this line by a new evaluation, under the same number."""
        self._waiting[entry.proposal] = np.array(entry.result.genome, dtype=np.int64)
        self._bred_after[entry.proposal] = entry.seen or 0

    def new_states(self) -> list[SearchState]:
        """States after every population of results since the last call, except the last one of the search."""
        states, self._states = self._states, []
        return states

    def last_state(self) -> list[SearchState]:
        """The final state, unless it was given already."""
        if self._changed:
            self._reach()
        return self.new_states()

    def why_it_ends(self) -> str:
        return (
            f"the search ends after {self.proposed} of {self.config.evaluations} networks: "
            f"{100 * self.config.population} children of the survivors held none that was not proposed before"
        )

    def _propose_next(self) -> bool:
        """Make one more proposal, if there is one; pymoo is told of an infeasible one at once."""
        number = self.proposed
        genome = self._born(number) if self.may_propose and not self.end else None
        if genome is None:
            return False
        self.propose(genome)
        violation = self.space.violation(genome)
        self._infeasible += violation > 0
        if violation > 0:
            self._survive(number, genome, None, violation)
        else:
            self._waiting[number] = self._running[number] = genome
            self._bred_after[number] = self.results
        return True

    def _born(self, number: int) -> Genome | None:
        """A genome of the first population, the surrogate's choice, or what evolution alone breeds."""
        genome: Genome | None
        gains: list[float] = []
        if number < len(self.first):
            genome = np.array(self.first[number])
        else:
            pending = [self._running[each] for each in sorted(self._running)]
            chosen = [] if self.assistant is None else self.assistant.choose(1, number, pending)
            gains = [gain for _, gain in chosen]
            if self.assistant is not None and chosen and not self._replaying and self.assistant.ends(gains):
                self.end = self.assistant.why_it_ends(self.results)
                return None
            genome = chosen[0][0] if chosen else self._bred(number)
        if self.assistant is not None and genome is not None:
            self.assistant.record([genome], gains)
        return genome

    def _bred(self, number: int) -> Genome | None:
        """A random genome while few results are known, else a child of the survivors; None where nothing is new."""
        rng = generator(self.config.seed, "child", number)
        self.born.clear()
        if 2 * len(self.survivors) < len(self.first):
            return next(iter(self.random(1, rng)), None)
        rounds = 50 * self.config.population  # of two children: as many as 100 rounds of a generation
        return next(iter(self.mate(self.survivors, 1, rng, rounds)), None)

    def _survive(self, number: int, genome: Genome, result: EvaluationResult | None, violation: float) -> None:
        """Choose the survivors among the present ones and one more."""
        others, child = self.survivors, Population.new("X", genome[None])
        if number in self._told:
            others = others[np.array([not np.array_equal(x, genome) for x in others.get("X")], dtype=bool)]
        self.measure(child[0], result, violation)
        self.survivors = self.survive(others, child, generator(self.config.seed, "survivors", number, self.results))
        self.survived(self.survivors)
        self._changed = True
        whole = number not in self._told and (len(self._told) + 1) % self.config.population == 0
        self._told.add(number)
        if whole and len(self._told) < self.config.evaluations:
            self._reach()

    def _reach(self) -> None:
        generation = (len(self._told) - 1) // self.config.population
        self._states.append(self.state(self.survivors, generation))
        self._changed = False
