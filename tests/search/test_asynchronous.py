"""An asynchronous search follows from its record: every kill, at any slot count, continues on the recorded path."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import tyro
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import same, some_fail

from evonas.errors import ConfigurationError, RunMismatchError
from evonas.executors import Job, MakeWork, Outcome, Work, run_work
from evonas.search import (
    ALGORITHMS,
    Entry,
    EvolutionConfig,
    Finished,
    Journal,
    LocalExecutor,
    SearchState,
    evolve,
    non_dominated,
    read_journal,
)
from evonas.types import Activity, EvaluationResult, Genome, Note, Watch, arch_id

CONFIG = EvolutionConfig(population=4, generations=2, seed=1, asynchronous=True)

Choose = Callable[[list[Job]], int]
"""Which of the running jobs finishes next."""


class Killed(BaseException):
    """The process ends here."""


@dataclass
class Scripted:
    """`slots` jobs at once; `choose` says which of them finishes next."""

    slots: int
    choose: Choose
    stop_after: int | None = None
    """Results after which the process is killed while it waits."""
    submitted: list[Job] = field(default_factory=list)
    finished: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    work: Work | None = None

    @property
    def free(self) -> int:
        return self.slots - len(self.running)

    def start(self, make_work: MakeWork, report: Watch) -> None:
        self.work = make_work(report)

    def submit(self, job: Job) -> None:
        assert self.free > 0
        self.submitted.append(job)
        self.running.append(job)

    def next_finished(self) -> tuple[Job, Outcome]:
        assert self.work is not None
        if len(self.finished) == self.stop_after:
            raise Killed
        job = self.running.pop(self.choose(self.running))
        self.finished.append(job)
        return job, run_work(self.work, job)

    def count(self, cached: bool, ok: bool) -> None:
        pass

    def close(self) -> None:
        self.running.clear()


def shuffled(order: Sequence[int]) -> Choose:
    """Any order of finishing, from any numbers."""
    left = iter(list(order) * 1000)
    return lambda running: next(left) % len(running)


def following(keys: Sequence[str]) -> Choose:
    """The recorded order of finishing."""
    left = iter(keys)

    def choose(running: list[Job]) -> int:
        key = next(left)
        return [job.key for job in running].index(key)

    return choose


def first_come(running: list[Job]) -> int:
    return 0


def genomes(jobs: Sequence[Job]) -> list[tuple[int, ...]]:
    return [job.payload[0] for job in jobs]


def proposals(jobs: Sequence[Job], lines: Iterable[Entry]) -> list[int]:
    """Numbers of the proposals, as these lines have them."""
    numbers = {entry.key: entry.proposal for entry in lines}
    return [numbers[job.key] for job in jobs]


def run(
    space: Any, evaluate: Any, executor: Any, path: Path | Journal, config: EvolutionConfig = CONFIG, **given: Any
) -> list[SearchState]:
    """All states of a search; a path is opened as its journal."""
    if isinstance(path, Journal):
        return list(evolve(space, evaluate, config, executor, path, **given))
    with Journal(path, {"seed": config.seed}, sync=False) as journal:
        return list(evolve(space, evaluate, config, executor, journal, **given))


def all_lines(path: Path) -> list[Entry]:
    with Journal(path, read_journal(path)[0], sync=False) as journal:
        return list(journal.lines)


Orders = st.lists(st.integers(0, 9), min_size=1, max_size=12)


# What a search is


def test_what_the_journal_says_of_two_slots(tiny_space: Any, table: Any) -> None:
    """First come, first done: proposal p is bred when p - 1 results are known; one more than these is in flight."""
    journal = Journal()
    executor = Scripted(2, first_come)
    states = run(tiny_space, table, executor, journal)
    assert [entry.proposal for entry in journal.lines] == list(range(12))
    assert [entry.seen for entry in journal.lines] == [0, 0, *range(1, 11)]
    assert [entry.proposed for entry in journal.lines] == [*range(2, 13), 12]
    assert [entry.generation for entry in journal.lines] == [number // 4 for number in range(12)]
    assert [job.key for job in executor.submitted] == [entry.key for entry in journal.lines]
    assert [state.generation for state in states] == [0, 1, 2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_states_come_after_every_population_of_results(algorithm: str, tiny_space: Any, table: Any) -> None:
    config = replace(CONFIG, population=5, generations=3, algorithm=algorithm)
    journal = Journal()
    counts = []
    for state in evolve(tiny_space, table, config, Scripted(3, shuffled([2, 0, 1, 1])), journal):
        counts.append(len(journal))
        assert state.genomes.shape == (5, 4)
        known = {arch_id(entry.result.genome): entry.result.objectives for entry in journal.lines}
        for genome, row in zip(state.genomes, state.objectives, strict=True):
            values = known[arch_id(genome)]
            assert row.tolist() == [values["clean_error"], values["macs"]]
        assert np.flatnonzero(state.rank == 0).tolist() == non_dominated(state.objectives).tolist()
    assert counts == [5, 10, 15, 20]


@pytest.mark.lengthy
@given(st.integers(1, 9), Orders, st.integers(0, 99), st.sampled_from(sorted(ALGORITHMS)))
@settings(max_examples=30)
def test_every_network_is_new_and_feasible_and_a_failure_keeps_no_good_one_out(
    tiny_space: Any, table: Any, slots: int, order: list[int], seed: int, algorithm: str
) -> None:
    config = replace(CONFIG, population=5, generations=3, seed=seed, algorithm=algorithm)
    journal = Journal()
    executor = Scripted(slots, shuffled(order))
    for state in evolve(tiny_space, some_fail(table), config, executor, journal):
        good = {entry.key for entry in journal.lines if entry.result.ok}
        fine = np.array([arch_id(genome) in good for genome in state.genomes], dtype=bool)
        assert (np.isfinite(state.objectives).all(axis=1) == fine).all()
        assert not (state.rank[~fine] == 0).any()
        assert fine.sum() == min(5, len(good))
    assert state.generation == 3
    submitted = proposals(executor.submitted, journal.lines)
    assert submitted == sorted(set(submitted))
    assert all(entry.proposal < 20 and entry.generation == entry.proposal // 5 for entry in journal.lines)
    assert set(Counter(genomes(executor.submitted)).values()) == {1}
    assert all(tiny_space.violation(np.array(genome)) <= 0 for genome in genomes(executor.submitted))
    assert [job.key for job in executor.finished] == [entry.key for entry in journal.lines]


def test_the_first_population_keeps_every_slot_busy_from_the_start(tiny_space: Any, table: Any) -> None:
    """More slots than a population: random networks fill them, and a child comes once half a population is known."""
    first = list(tiny_space.networks())[:4]
    executor, other = Scripted(9, first_come), Scripted(9, first_come)
    journal = Journal()
    run(tiny_space, table, executor, journal, replace(CONFIG, generations=4), first=first)
    assert genomes(executor.submitted[:4]) == [tuple(genome.tolist()) for genome in first]
    assert [entry.seen for entry in journal.lines] == [0] * 9 + list(range(1, 12))
    dearer = {"clean_error": 1.0, "macs": 9}  # other results: what is random stays, what is bred changes
    run(tiny_space, lambda g, s: EvaluationResult(tuple(g), dearer), other, Journal(), first=first)
    assert genomes(other.submitted[:10]) == genomes(executor.submitted[:10])
    assert other.submitted[10:] != executor.submitted[10:12]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_one_slot_is_the_local_executor(algorithm: str, tiny_space: Any, table: Any, tmp_path: Path) -> None:
    config = replace(CONFIG, algorithm=algorithm)
    states = run(tiny_space, table, LocalExecutor(), tmp_path / "local.jsonl", config)
    assert same(run(tiny_space, table, Scripted(1, first_come), tmp_path / "one.jsonl", config), states)
    assert (tmp_path / "local.jsonl").read_bytes() == (tmp_path / "one.jsonl").read_bytes()
    assert [entry.seen for entry in all_lines(tmp_path / "one.jsonl")] == list(range(12))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_configuration_seed_and_order_are_all_that_matters(
    algorithm: str, tiny_space: Any, table: Any, tmp_path: Path
) -> None:
    config = replace(CONFIG, population=6, algorithm=algorithm)
    orders = {"a": [1, 0, 2], "b": [1, 0, 2], "c": [0, 1, 2, 2]}
    for number, (name, order) in enumerate(orders.items()):
        np.random.seed(number)  # noqa: NPY002  the global generator plays no part
        run(tiny_space, table, Scripted(3, shuffled(order)), tmp_path / name, config)
    run(tiny_space, table, Scripted(3, shuffled([1, 0, 2])), tmp_path / "d", replace(config, seed=2))
    found = {name: [entry.result.genome for entry in all_lines(tmp_path / name)] for name in "abcd"}
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert set(found["c"]) != set(found["a"])  # the same first population, another path from there
    assert set(found["d"][:6]) != set(found["a"][:6])


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("slots", "algorithm"),
    [
        pytest.param(slots, name, marks=() if (slots == 3) == (name == "nsga3") else pytest.mark.slow)
        for slots in (1, 3)
        for name in ALGORITHMS
    ],
)
def test_it_finds_the_front(slots: int, algorithm: str, tiny_space: Any, table: Any) -> None:
    """36 of the 47 networks: more of the 7 on the true front than 3 standard errors above a random 36; then all."""
    values = np.array([[*table(genome, 0).objectives.values()][:2] for genome in tiny_space.networks()])
    front = {tuple(row) for row in values[non_dominated(values)].tolist()}
    assert (len(values), len(front)) == (47, 7)
    found, seeds = [], 20
    for seed in range(seeds):
        config = replace(CONFIG, population=9, generations=3, seed=seed, algorithm=algorithm)
        for generations in (3, 7) if seed == 0 else (3,):
            journal = Journal()
            executor = Scripted(slots, shuffled([4, 1, 7, 0, 2]))
            state = run(tiny_space, table, executor, journal, replace(config, generations=generations))[-1]
            reached = {tuple(row) for row in state.objectives[state.rank == 0].tolist()}
            if generations == 3:
                assert len(journal) == 36
                found.append(len(reached & front) / 7)
            else:
                assert reached == front
    share = 36 / 47
    error = math.sqrt(share * (1 - share) / 7 * (47 - 7) / (47 - 1) / seeds)  # hypergeometric
    assert np.mean(found) > share + 3 * error


def test_maximised_objectives(tiny_space: Any, table: Any) -> None:
    config = replace(CONFIG, objectives=("macs", "certified_radius"))
    state = run(tiny_space, table, LocalExecutor(), Journal(), config, maximize=("certified_radius",))[-1]
    assert (state.objectives[:, 1] <= 0).all()
    assert state.objectives[:, 1].min() < 0


# Killed and continued


@pytest.mark.lengthy
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@given(st.integers(1, 6), Orders, st.integers(0, 99))
@settings(max_examples=8)
def test_every_prefix_of_the_journal_goes_on_to_the_same_lines(
    tiny_space: Any, table: Any, tmp_path_factory: Any, algorithm: str, slots: int, order: list[int], seed: int
) -> None:
    """Where results come in the same order: every line, byte for byte, and every state. Nothing finished runs again."""
    folder = tmp_path_factory.mktemp("prefixes")
    config = replace(CONFIG, algorithm=algorithm, seed=seed)
    whole = folder / "whole.jsonl"
    states = run(tiny_space, some_fail(table), Scripted(slots, shuffled(order)), whole, config)
    content = whole.read_bytes().splitlines(keepends=True)
    keys = [entry.key for entry in all_lines(whole)]
    for count in range(len(keys) + 1):
        path = folder / f"after-{count}.jsonl"
        path.write_bytes(b"".join(content[: 1 + count]))
        executor = Scripted(slots, following(keys[count:]))
        assert same(run(tiny_space, some_fail(table), executor, path, config), states)
        assert path.read_bytes() == whole.read_bytes()
        assert {job.key for job in executor.submitted} == set(keys[count:])


Lives = st.lists(st.tuples(st.integers(1, 7), Orders, st.integers(0, 8), st.booleans()), max_size=6)


@pytest.mark.lengthy
@given(Lives, st.integers(0, 99), st.sampled_from(sorted(ALGORITHMS)))
@settings(max_examples=20)
def test_killed_again_and_again_with_any_number_of_slots(
    tiny_space: Any, table: Any, tmp_path_factory: Any, lives: list[Any], seed: int, algorithm: str
) -> None:
    """While it waits, or between a line and the survivors that follow from it; the record is one whole search."""
    path = tmp_path_factory.mktemp("lives") / "journal.jsonl"
    config = replace(CONFIG, population=5, seed=seed, algorithm=algorithm)
    submitted: list[Job] = []
    finished: Counter[tuple[int, ...]] = Counter()
    for slots, order, stop, in_report in [*lives, (2, [0], 99, False)]:
        executor = Scripted(slots, shuffled(order), None if in_report else stop)
        fresh = 0

        def report(event: Any, stop: int = stop, in_report: bool = in_report) -> None:
            nonlocal fresh
            fresh += isinstance(event, Finished) and not event.cached
            if in_report and fresh > stop:
                raise Killed

        before = len(all_lines(path)) if path.exists() else 0
        known = {entry.result.genome for entry in all_lines(path)} if path.exists() else set()
        try:
            states = run(tiny_space, some_fail(table), executor, path, config, report=report)
        except Killed:
            assert stop < 99
        assert not known & set(genomes(executor.submitted))
        assert len(all_lines(path)) == before + len(executor.finished)
        submitted += executor.submitted
        finished.update(genomes(executor.finished))
    lines = all_lines(path)
    assert set(finished.values()) == {1}
    assert {entry.proposal for entry in lines} <= set(range(15))
    assert len({entry.key for entry in lines}) == len({entry.proposal for entry in lines}) == len(lines)
    assert [entry.proposed or 0 for entry in lines] == sorted(entry.proposed or 0 for entry in lines)
    assert all((entry.seen or 0) <= place for place, entry in enumerate(lines))
    assert [state.generation for state in states] == [0, 1, 2]
    nobody = Scripted(3, first_come)
    assert same(run(tiny_space, table, nobody, path, config), states)
    assert nobody.submitted == []


def test_what_was_in_flight_is_submitted_first_and_in_order(tiny_space: Any, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    killed = Scripted(4, lambda running: len(running) - 1, stop_after=3)  # the youngest finishes first
    with pytest.raises(Killed):
        run(tiny_space, table, killed, path)
    assert [entry.proposal for entry in all_lines(path)] == [3, 4, 5]
    assert len(killed.submitted) == 7
    recorded = path.read_bytes()
    for slots in (1, 2, 4, 9):
        path.write_bytes(recorded)
        continued = Scripted(slots, first_come)
        run(tiny_space, table, continued, path)
        assert proposals(killed.submitted[:6], all_lines(path)) == list(range(6))
        assert proposals(continued.submitted, all_lines(path)) == [0, 1, 2, *range(6, 12)]
        assert continued.submitted[:3] == killed.submitted[:3]
        again = continued.submitted[3] == killed.submitted[6]  # bred after the last line, and bred again
        moment = {entry.proposal: entry.seen for entry in all_lines(path)}[6]
        assert (again, moment) == {1: (False, 6), 2: (False, 5), 4: (True, 3), 9: (True, 3)}[slots]


def test_a_finished_search_evaluates_nothing_and_tells_what_it_reached(tiny_space: Any, table: Any) -> None:
    journal = Journal()
    events: list[Any] = []
    states = run(tiny_space, some_fail(table), Scripted(3, shuffled([2, 0])), journal, report=events.append)
    assert events == [Finished(entry, False) for entry in journal.lines]
    again: list[Any] = []

    def refuse(genome: Genome, seed: int) -> EvaluationResult:
        raise Killed

    assert same(run(tiny_space, refuse, LocalExecutor(), journal, report=again.append), states)
    assert again == [Finished(event.entry, True) for event in events]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_generations_may_grow(algorithm: str, tiny_space: Any, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    config = replace(CONFIG, algorithm=algorithm)
    before: list[SearchState] = []
    for generations in (0, 2, 4):
        executor = Scripted(3, shuffled([2, 1, 0, 0]))
        grown = run(tiny_space, table, executor, path, replace(config, generations=generations))
        assert [state.generation for state in grown] == list(range(generations + 1))
        assert same(grown[: len(before)], before)
        assert len(executor.submitted) == 4 * (generations + 1 - len(before))
        before = grown
    assert len({entry.key for entry in all_lines(path)}) == 20
    with pytest.raises(ConfigurationError, match=r"expected at least the 4 generations .* got 3; a run may grow"):
        run(tiny_space, table, LocalExecutor(), path, replace(config, generations=3))


# Tried again


@pytest.mark.lengthy
@given(st.integers(1, 5), Orders, st.integers(0, 30), st.integers(0, 20))
@settings(max_examples=15)
def test_failures_are_tried_again_under_their_number(
    tiny_space: Any, table: Any, tmp_path_factory: Any, slots: int, order: list[int], seed: int, stop: int
) -> None:
    path = tmp_path_factory.mktemp("again") / "journal.jsonl"
    config = replace(CONFIG, population=6, seed=seed)
    broken = run(tiny_space, some_fail(table), Scripted(slots, shuffled(order)), path, config)
    recorded = all_lines(path)
    failed = {entry.proposal: entry for entry in recorded if not entry.result.ok}
    assert same(run(tiny_space, table, LocalExecutor(), path, config), broken)

    killed = Scripted(slots, shuffled(order), stop_after=stop)
    try:
        run(tiny_space, table, killed, path, config, retry_failed=True)
    except Killed:
        assert stop <= len(failed)
    mended = Scripted(2, first_come)
    events: list[Any] = []
    states = run(tiny_space, table, mended, path, config, retry_failed=True, report=events.append)
    tried = [*killed.finished, *mended.finished]
    assert sorted(proposals(tried, recorded)) == sorted(failed)
    payloads = {entry.key: (entry.result.genome, entry.result.seed) for entry in failed.values()}
    assert all(job.payload == payloads[job.key] for job in tried)
    assert Counter(event.entry.proposal for event in events) == Counter({e.proposal for e in recorded})  # each once
    lines = all_lines(path)
    assert lines[: len(recorded)] == recorded
    assert len(lines) == len(recorded) + len(failed)
    assert all(entry.result.ok for entry in read_journal(path)[1])
    assert all(entry.seen == failed[entry.proposal].seen for entry in lines[len(recorded) :])
    assert [state.generation for state in states] == [0, 1, 2]
    assert np.isfinite(states[-1].objectives).all()
    for genome, row in zip(states[-1].genomes, states[-1].objectives, strict=True):
        values = table(genome, 0).objectives
        assert row.tolist() == [values["clean_error"], values["macs"]]
    assert same(run(tiny_space, some_fail(table), LocalExecutor(), path, config), states)


def test_what_fails_again_is_not_tried_twice_at_once(tiny_space: Any, table: Any) -> None:
    journal = Journal()
    run(tiny_space, some_fail(table), LocalExecutor(), journal)
    failed = [entry.proposal for entry in journal if not entry.result.ok]
    executor = Scripted(2, first_come)
    states = run(tiny_space, some_fail(table), executor, journal, retry_failed=True)
    assert failed
    assert proposals(executor.submitted, journal.lines) == failed
    assert [state.generation for state in states] == [0, 1, 2]
    grown = run(tiny_space, table, LocalExecutor(), journal, replace(CONFIG, generations=4), retry_failed=True)
    assert [state.generation for state in grown] == [0, 1, 2, 3, 4]
    assert all(entry.result.ok for entry in journal)
    assert len(journal) == 20
    assert same(run(tiny_space, table, LocalExecutor(), journal, replace(CONFIG, generations=4)), grown)


def test_recorded_results_without_a_searched_objective_do_not_count(tiny_space: Any, table: Any) -> None:
    journal = Journal()
    run(tiny_space, table, LocalExecutor(), journal)
    last = journal.lines[-1]
    journal.lines[-1] = replace(last, result=replace(last.result, objectives={"macs": 1}))
    executor = Scripted(1, first_come)
    run(tiny_space, table, executor, journal)
    assert genomes(executor.submitted) == [last.result.genome]
    assert journal.lines[-1].proposal == 11
    assert journal.lines[-1].result == last.result


# Another record


def test_results_of_another_seed_do_not_count(tiny_space: Any, table: Any) -> None:
    journal, alone = Journal(), Journal()
    run(tiny_space, table, LocalExecutor(), journal, replace(CONFIG, seed=7))
    states = run(tiny_space, table, LocalExecutor(), journal)
    assert same(states, run(tiny_space, table, LocalExecutor(), alone))
    assert journal.lines[12:] == alone.lines


@pytest.mark.parametrize("place", [0, 5, 11])
@pytest.mark.parametrize("altered", ["genome", "proposal", "proposed", "seen"])
def test_a_record_of_another_path_is_refused(place: int, altered: str, tiny_space: Any, table: Any) -> None:
    """As another version of numpy or pymoo would breed it."""
    journal = Journal()
    run(tiny_space, table, Scripted(2, first_come), journal)
    entry, other = journal.lines[place], journal.lines[place - 1]
    journal.lines[place] = {
        "genome": replace(entry, result=replace(other.result)),
        "proposal": replace(entry, proposal=other.proposal),
        "proposed": replace(entry, proposed=1),
        "seen": replace(entry, seen=12),
    }[altered]
    if (place, altered) == (0, "proposed"):
        journal.lines[0] = replace(entry, proposed=0)
    with pytest.raises(
        RunMismatchError, match=r"expected proposal \d+ to be [0-9a-f]{16}, as the journal has it"
    ) as caught:
        run(tiny_space, table, LocalExecutor(), journal)
    assert "\n" not in str(caught.value)


def test_the_journal_of_a_search_by_generations_is_refused(tiny_space: Any, table: Any) -> None:
    journal = Journal()
    run(tiny_space, table, LocalExecutor(), journal, replace(CONFIG, asynchronous=False))
    with pytest.raises(RunMismatchError, match="got one of a search by generations; search without --async"):
        run(tiny_space, table, LocalExecutor(), journal)


# Spaces that are mostly empty, or run dry


def narrow(tiny_space: Any, allowed: int) -> Any:
    """The tiny space, where only so many of its networks are feasible; genomes further off violate more."""
    kept = [tuple(genome.tolist()) for genome in list(tiny_space.networks())[5 : 5 + allowed]]

    class Narrow(type(tiny_space)):  # type: ignore[misc]
        def violation(self, genome: Genome) -> float:
            genes = np.array(self.canonical(genome))
            return float(min(np.abs(genes - other).sum() for other in kept))

    return Narrow()


@pytest.mark.lengthy
@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("slots", [1, 3])
def test_infeasible_children_are_told_at_once_and_never_evaluated(
    slots: int, algorithm: str, tiny_space: Any, table: Any, tmp_path: Path
) -> None:
    space = narrow(tiny_space, 3)
    config = replace(CONFIG, population=8, algorithm=algorithm)
    whole = tmp_path / "whole.jsonl"
    executor = Scripted(slots, shuffled([1, 0, 0]))
    states = run(space, some_fail(table), executor, whole, config)
    lines = all_lines(whole)
    assert 1 <= len(lines) <= 3
    assert all(space.violation(np.array(genome)) <= 0 for genome in genomes(executor.submitted))
    assert [state.generation for state in states] == [0, 1, 2]
    for state in states:
        feasible = np.array([space.violation(genome) <= 0 for genome in state.genomes])
        assert not (state.rank[~feasible] == 0).any()
        assert np.isnan(state.objectives[~feasible]).all()
    content = whole.read_bytes().splitlines(keepends=True)
    for count in range(len(lines)):
        path = tmp_path / f"after-{count}.jsonl"
        path.write_bytes(b"".join(content[: 1 + count]))
        continued = Scripted(slots, following([entry.key for entry in lines[count:]]))
        assert same(run(space, some_fail(table), continued, path, config), states)
        assert path.read_bytes() == whole.read_bytes()


def test_infeasible_children_are_not_born_to_feasible_parents(tiny_space: Any, table: Any) -> None:
    space = narrow(tiny_space, 20)
    journal = Journal()
    states = run(space, table, LocalExecutor(), journal)
    assert len(journal) == 12  # all that was proposed
    assert all(space.violation(genome) <= 0 for state in states for genome in state.genomes)


@pytest.mark.slow
@pytest.mark.parametrize("slots", [1, 4])
@pytest.mark.parametrize("population", [4, 7, 20])
def test_a_space_that_runs_dry_was_seen_whole(population: int, slots: int, tiny_space: Any, table: Any) -> None:
    class Restless(type(tiny_space)):  # type: ignore[misc]
        def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
            drawn: Genome = self.sample(1, rng)[0]
            return drawn

    space = Restless()
    journal = Journal()
    events: list[Any] = []
    config = replace(CONFIG, population=population, generations=20)
    states = run(space, table, Scripted(slots, shuffled([1, 0])), journal, config, report=events.append)
    assert {entry.result.genome for entry in journal} == {tuple(genome.tolist()) for genome in space.networks()}
    assert {entry.proposal for entry in journal} == set(range(47))
    assert [state.generation for state in states] == list(range(math.ceil(47 / population)))
    notes = [event.text for event in events if isinstance(event, Note)]
    assert notes == [
        f"the search ends after 47 of {21 * population} networks: "
        f"{100 * population} children of the survivors held none that was not proposed before"
    ]
    again: list[Any] = []
    assert same(run(space, table, LocalExecutor(), journal, config, report=again.append), states)
    assert again == [*(Finished(entry, True) for entry in journal.lines), Note(notes[0])]


def test_two_networks_are_a_search_too(tiny_space: Any, table: Any) -> None:
    space = replace(tiny_space, genes=1)
    journal = Journal()
    assert [genome.tolist() for genome in space.networks()] == [[1], [2]]
    states = run(space, table, Scripted(3, first_come), journal)
    assert {entry.result.genome for entry in journal} == {tuple(genome.tolist()) for genome in space.networks()}
    assert len(states) == 1


# What executors and users see


@dataclass
class Talking(LocalExecutor):
    """Tells what it does."""

    told: ClassVar[list[Any]] = [Activity(1, 0, 1), Note("a node has joined")]

    def __post_init__(self) -> None:
        super().__init__()

    def next_finished(self) -> tuple[Job, Outcome]:
        for event in self.told:
            self._report(event)
        return super().next_finished()


@pytest.mark.parametrize("asynchronous", [False, True])
def test_what_the_executor_tells_arrives(asynchronous: bool, tiny_space: Any, table: Any) -> None:
    events: list[Any] = []
    config = replace(CONFIG, asynchronous=asynchronous)
    run(tiny_space, table, Talking(), Journal(), config, report=events.append)
    assert [type(event) for event in events] == [Activity, Note, Finished] * 12


@pytest.mark.parametrize("asynchronous", [False, True])
def test_jobs_carry_their_predicted_cost(asynchronous: bool, tiny_space: Any, table: Any) -> None:
    """It changes neither what is evaluated nor what is found."""
    config = replace(CONFIG, asynchronous=asynchronous)
    without, with_costs = Scripted(99, first_come), Scripted(99, first_come)
    a = run(tiny_space, table, without, Journal(), config)
    b = run(tiny_space, table, with_costs, Journal(), config, predict=lambda genome: float(genome @ [1, 10, 100, 1000]))
    assert same(a, b)
    assert {job.predicted for job in without.submitted} == {0.0}
    assert [replace(job, predicted=0.0) for job in with_costs.submitted] == without.submitted
    for job in with_costs.submitted:
        assert job.predicted == np.array(job.payload[0]) @ [1, 10, 100, 1000]


def test_an_executor_without_a_free_slot_is_waited_for(tiny_space: Any, table: Any) -> None:
    """Machines may still be joining: one job is always in flight, so that there is something to wait for."""

    class Joining(LocalExecutor):
        free = 0

    assert len(run(tiny_space, table, Joining(), Journal())) == 3


def test_the_command_line_and_the_identity() -> None:
    """Part of the identity only where it is used: journals from before it go on."""
    assert tyro.cli(EvolutionConfig, args=["--async"]) == EvolutionConfig(asynchronous=True)
    assert tyro.cli(EvolutionConfig, args=[]) == EvolutionConfig()
    assert "asynchronous" not in EvolutionConfig().identity()
    assert EvolutionConfig(asynchronous=True).identity() == EvolutionConfig().identity() | {"asynchronous": True}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("lost", [1, 5, 8, 11])
def test_a_line_lost_in_the_middle_is_evaluated_again_and_nothing_else(
    algorithm: str, lost: int, tiny_space: Any, table: Any, tmp_path: Path
) -> None:
    """With one slot the order is the same, so the file is, too."""
    config = replace(CONFIG, algorithm=algorithm)
    path = tmp_path / "journal.jsonl"
    states = run(tiny_space, some_fail(table), Scripted(1, first_come), path, config)
    whole, line = path.read_bytes(), all_lines(path)[lost - 1]
    content = whole.splitlines(keepends=True)
    path.write_bytes(b"".join([*content[:lost], b"?" + content[lost][1:], *content[lost + 1 :]]))
    executor = Scripted(1, first_come)
    assert same(run(tiny_space, some_fail(table), executor, path, config), states)
    assert genomes(executor.submitted) == [line.result.genome]
    assert path.read_bytes() == whole
