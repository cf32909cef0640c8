"""Evolution is a deterministic function of configuration, seed and results, and nothing that failed gets through."""

import json
import math
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searches import same, some_fail

from evonas.errors import ConfigurationError, UnknownNameError
from evonas.executors import Job, Outcome
from evonas.search import (
    ALGORITHMS,
    Entry,
    EvolutionConfig,
    Finished,
    Journal,
    LocalExecutor,
    SearchState,
    evolve,
    hypervolume,
    non_dominated,
    ranks,
    read_journal,
)
from evonas.types import EvaluationResult, Genome, Note, Progress, arch_id

SMALL = EvolutionConfig(population=4, generations=3, seed=1)
BAD_NUMBERS = (math.nan, math.inf, -math.inf)


class Interrupted(BaseException):
    """Ctrl-C, without the test runner's own."""


class Counted:
    """An evaluator that counts its calls and may stop after some."""

    def __init__(self, evaluate: Any, stop_after: int | None = None) -> None:
        self.evaluate = evaluate
        self.stop_after = stop_after
        self.calls: list[tuple[int, ...]] = []

    def __call__(self, genome: Genome, seed: int) -> EvaluationResult:
        if len(self.calls) == self.stop_after:
            raise Interrupted
        self.calls.append(tuple(genome.tolist()))
        result: EvaluationResult = self.evaluate(genome, seed)
        return result


def untimed(path: Path) -> list[dict[str, Any]]:
    """Lines of a journal but what depends on the clock."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: v for name, v in record.items() if name not in ("seconds", "checksum")} for record in records]


def front_rows(state: SearchState) -> set[tuple[float, ...]]:
    return {tuple(row) for row in state.objectives[state.rank == 0].tolist()}


# What a search is


def test_the_papers_size() -> None:
    config = EvolutionConfig()
    assert (config.population, config.generations, config.objectives) == (40, 20, ("clean_error", "macs"))
    assert config.evaluations == 840


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"population": 1}, ConfigurationError, "expected population >= 2 with generations, got 1"),
        ({"generations": -1}, ConfigurationError, "expected generations >= 0, got -1"),
        ({"objectives": ()}, ConfigurationError, "at least one"),
        ({"objectives": ("macs", "macs")}, ConfigurationError, "different objectives"),
        (
            {"algorithm": "nsga9"},
            UnknownNameError,
            r"unknown algorithm 'nsga9'; did you mean nsga3\? known: nsga2, nsga3",
        ),
    ],
)
def test_a_configuration_is_checked(settings: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        EvolutionConfig(**settings)


def test_maximised_objectives_must_be_searched(tiny_space: Any, table: Any) -> None:
    with pytest.raises(ConfigurationError, match="expected to maximise some of clean_error, macs, got ood_aupr"):
        next(evolve(tiny_space, table, SMALL, maximize=("ood_aupr",)))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_states_hold_the_survivors(algorithm: str, tiny_space: Any, table: Any) -> None:
    states = list(evolve(tiny_space, table, replace(SMALL, population=6, algorithm=algorithm)))
    assert [state.generation for state in states] == [0, 1, 2, 3]
    for state in states:
        assert state.genomes.shape == (6, 4)
        assert state.genomes.dtype == np.int64
        for genome, row in zip(state.genomes, state.objectives, strict=True):
            assert genome.tolist() == tiny_space.canonical(genome).tolist()
            values = table(genome, 0).objectives
            assert row.tolist() == [values["clean_error"], values["macs"]]
        assert len({arch_id(genome) for genome in state.genomes}) == 6
        assert state.rank.tolist() == ranks(state.objectives).tolist()
        assert np.flatnonzero(state.rank == 0).tolist() == non_dominated(state.objectives).tolist()


def test_survivors_are_never_worse_than_before(tiny_space: Any, table: Any) -> None:
    """NSGA-II is elitist: while the front fits the population, its hypervolume cannot fall."""
    states = list(evolve(tiny_space, table, EvolutionConfig(population=20, generations=4, seed=0)))
    volumes = [hypervolume(state.objectives, (1.0, 200.0)) for state in states]
    assert all((state.rank > 0).any() for state in states[:-1])  # the front did fit
    assert volumes == sorted(volumes)
    assert volumes[-1] > volumes[0]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nothing_but_configuration_and_seed_matters(algorithm: str, tiny_space: Any, table: Any) -> None:
    config = replace(SMALL, population=6, algorithm=algorithm)
    runs = []
    for state in (1, 2):
        np.random.seed(state)  # noqa: NPY002  the global generator plays no part
        runs.append(list(evolve(tiny_space, some_fail(table), config)))
    assert same(*runs)
    assert not same(runs[0], list(evolve(tiny_space, some_fail(table), replace(config, seed=2))))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_seed_reaches_the_mating(algorithm: str, tiny_space: Any, table: Any) -> None:
    first = list(tiny_space.networks())[:6]
    config = EvolutionConfig(population=6, generations=1, algorithm=algorithm)
    calls = []
    for seed in (1, 1, 2):
        evaluate = Counted(table)
        list(evolve(tiny_space, evaluate, replace(config, seed=seed), first=first))
        calls.append(evaluate.calls)
    assert calls[0] == calls[1]
    assert calls[0][:6] == calls[2][:6]
    assert calls[0][6:] != calls[2][6:]


@pytest.mark.slow
def test_ties_of_violations_are_drawn_from_the_seed_alone(tmp_path: Path) -> None:
    """Much or everything fails or is infeasible: five processes that hash differently write the same bytes."""
    script = Path(__file__).with_name("failing_search.py")
    found = []
    for number in range(5):
        folder = tmp_path / str(number)
        folder.mkdir()
        environment = os.environ | {"PYTHONHASHSEED": str(number)}
        subprocess.run([sys.executable, str(script), str(folder)], env=environment, check=True)
        found.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert len(found[0]) == 8 * len(ALGORITHMS)
    assert all(len(journal.splitlines()) > 30 for journal in found[0].values())
    assert found[1:] == found[:1] * 4


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_where_everything_fails_the_seed_decides(algorithm: str, asynchronous: bool, tiny_space: Any) -> None:
    def fail(genome: Genome, seed: int) -> EvaluationResult:
        raise RuntimeError("it always fails")

    first = list(tiny_space.networks())[:6]
    config = EvolutionConfig(population=6, generations=2, algorithm=algorithm, asynchronous=asynchronous)
    born = []
    for seed in (1, 1, 2):
        journal = Journal()
        states = list(evolve(tiny_space, fail, replace(config, seed=seed), journal=journal, first=first))
        assert all((state.rank > 0).all() for state in states)
        born.append([entry.result.genome for entry in journal])
    assert born[0] == born[1]
    assert born[0][:6] == born[2][:6]
    assert born[0] != born[2]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_network_is_evaluated_once_and_no_infeasible_one(algorithm: str, tiny_space: Any, table: Any) -> None:
    evaluate = Counted(some_fail(table))
    journal = Journal()
    seeds = {}

    def seeded(genome: Genome, seed: int) -> EvaluationResult:
        seeds[arch_id(genome)] = seed
        return evaluate(genome, seed)

    list(evolve(tiny_space, seeded, EvolutionConfig(population=8, generations=3, algorithm=algorithm), journal=journal))
    assert set(Counter(evaluate.calls).values()) == {1}
    assert all(tiny_space.violation(np.array(genes)) <= 0 for genes in evaluate.calls)
    assert all(tiny_space.canonical(np.array(genes)).tolist() == list(genes) for genes in evaluate.calls)
    assert {entry.result.genome for entry in journal} == set(evaluate.calls)
    assert {entry.key: entry.result.seed for entry in journal} == seeds
    assert len(set(seeds.values())) == len(seeds)


def test_generations_hold_new_networks(tiny_space: Any, table: Any) -> None:
    """The first population is distinct and feasible, and every generation has its full number of new networks."""
    journal = Journal()
    list(evolve(tiny_space, table, EvolutionConfig(population=8, generations=3), journal=journal))
    assert Counter(entry.generation for entry in journal) == {0: 8, 1: 8, 2: 8, 3: 8}
    assert [entry.proposal for entry in journal] == list(range(32))


def test_given_genomes_come_first(tiny_space: Any, table: Any) -> None:
    first = [np.array([1, 0, 1, 0]), np.array([0, 1, 1, 0]), np.array([2, 2, 2, 1])]
    evaluate = Counted(table)
    state = next(evolve(tiny_space, evaluate, replace(SMALL, generations=0), first=first))
    assert evaluate.calls[:2] == [(0, 1, 1, 0), (2, 2, 2, 1)]  # the same network once
    assert len(state.genomes) == 4


def test_given_genomes_beyond_the_population_can_still_be_found(tiny_space: Any, table: Any) -> None:
    networks = list(tiny_space.networks())
    evaluate = Counted(table)
    list(evolve(tiny_space, evaluate, EvolutionConfig(population=4, generations=6), first=networks))
    assert evaluate.calls[:4] == [tuple(genome.tolist()) for genome in networks[:4]]
    assert len(evaluate.calls) == 28


@pytest.mark.lengthy
@pytest.mark.parametrize("population", [4, 5, 7])
def test_a_space_that_runs_dry_was_seen_whole(population: int, tiny_space: Any, table: Any) -> None:
    """Where mutation can give any genome, 100 rounds of mating leave none out: no network is lost on the way."""

    class Restless(type(tiny_space)):  # type: ignore[misc]
        def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
            drawn: Genome = self.sample(1, rng)[0]
            return drawn

    space = Restless()
    networks = {tuple(genome.tolist()) for genome in space.networks()}
    assert len(networks) == 47
    journal = Journal()
    events: list[Any] = []
    config = EvolutionConfig(population=population, generations=20)
    states = list(evolve(space, table, config, journal=journal, report=events.append))
    assert {entry.result.genome for entry in journal} == networks
    assert len(states) == math.ceil(47 / population) < 21
    last, found = len(states) - 1, 47 % population
    assert [event.text for event in events if isinstance(event, Note)] == [
        f"generation {last} has {found} of {population} networks: 100 rounds of mating found no more new ones",
        f"the search ends before generation {last + 1}: 100 rounds of mating gave no network "
        "that is not among the 47 proposed so far",
    ]


def test_a_population_larger_than_the_space(tiny_space: Any, table: Any) -> None:
    space = replace(tiny_space, genes=2)
    events: list[Any] = []
    config = EvolutionConfig(population=50, generations=2)
    journal = Journal()
    states = list(evolve(space, table, config, journal=journal, report=events.append))
    assert {entry.result.genome for entry in journal} == {tuple(g.tolist()) for g in space.networks()}
    assert len(states) == 1
    assert all(isinstance(event, Note | Finished) for event in events)
    assert isinstance(events[-1], Note)


def test_events_tell_what_happened(tiny_space: Any, table: Any) -> None:
    class Factory:
        def make_evaluate(self, report: Any) -> Any:
            def evaluate(genome: Genome, seed: int) -> EvaluationResult:
                report(Progress(arch_id(genome), 1, 1))
                result: EvaluationResult = table(genome, seed)
                return result

            return evaluate

    events: list[Any] = []
    journal = Journal()
    list(evolve(tiny_space, Factory(), SMALL, journal=journal, report=events.append))
    assert [type(event) for event in events] == [Progress, Finished] * 16
    assert [event.entry for event in events[1::2]] == list(journal)
    assert not any(event.cached for event in events[1::2])
    again: list[Any] = []
    list(evolve(tiny_space, Factory(), SMALL, journal=journal, report=again.append))
    assert again == [Finished(event.entry, True) for event in events[1::2]]


def test_the_executor_is_closed_at_the_end_and_when_the_search_is_left(tiny_space: Any, table: Any) -> None:
    class Watched(LocalExecutor):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    ended, left, broken = Watched(), Watched(), Watched()
    list(evolve(tiny_space, table, SMALL, ended))
    search = evolve(tiny_space, table, SMALL, left)
    next(search)
    assert left.closed == 0
    search.close()
    with pytest.raises(Interrupted):
        list(evolve(tiny_space, Counted(table, 2), SMALL, broken))
    assert (ended.closed, left.closed, broken.closed) == (1, 1, 1)


def test_the_order_of_results_does_not_matter(tiny_space: Any, table: Any) -> None:
    class LastFirst(LocalExecutor):
        def next_finished(self) -> tuple[Job, Outcome]:
            self._jobs.reverse()
            return super().next_finished()

    journals = Journal(), Journal()
    forward = list(evolve(tiny_space, some_fail(table), SMALL, LocalExecutor(), journals[0]))
    backward = list(evolve(tiny_space, some_fail(table), SMALL, LastFirst(), journals[1]))
    assert same(forward, backward)
    assert journals[0].entries == journals[1].entries
    assert list(journals[0]) != list(journals[1])


def test_maximised_objectives(tiny_space: Any, table: Any) -> None:
    """The same search as one that minimises the negative; states hold the negative, the journal the value."""
    config = replace(SMALL, objectives=("macs", "certified_radius"), population=6)
    journal = Journal()
    states = list(evolve(tiny_space, table, config, journal=journal, maximize=("certified_radius",)))

    def negative(genome: Genome, seed: int) -> EvaluationResult:
        values = table(genome, seed).objectives
        return EvaluationResult(tuple(genome), {**values, "certified_radius": -values["certified_radius"]})

    assert same(states, list(evolve(tiny_space, negative, config)))
    for state in states:
        for genome, row in zip(state.genomes, state.objectives, strict=True):
            recorded = journal.entries[arch_id(genome)].result.objectives
            assert row.tolist() == [recorded["macs"], -recorded["certified_radius"]]
            assert recorded["certified_radius"] >= 0


# Replay


@pytest.mark.lengthy
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_interrupted_anywhere_it_continues_as_if_undisturbed(
    algorithm: str, tiny_space: Any, table: Any, tmp_path: Path
) -> None:
    config = replace(SMALL, algorithm=algorithm)
    whole = tmp_path / "whole.jsonl"
    evaluate = Counted(some_fail(table))
    with Journal(whole, {"seed": 1}, sync=False) as journal:
        undisturbed = list(evolve(tiny_space, evaluate, config, journal=journal))
    assert len(evaluate.calls) == len(untimed(whole)) - 1 > 12
    for k in range(len(evaluate.calls)):
        path = tmp_path / f"after-{k}.jsonl"
        first, second = Counted(some_fail(table), stop_after=k), Counted(some_fail(table))
        with Journal(path, {"seed": 1}, sync=False) as journal, pytest.raises(Interrupted):
            list(evolve(tiny_space, first, config, journal=journal))
        assert untimed(path) == untimed(whole)[: k + 1]
        with Journal(path, {"seed": 1}, sync=False) as journal:
            continued = list(evolve(tiny_space, second, config, journal=journal))
        assert first.calls + second.calls == evaluate.calls
        assert untimed(path) == untimed(whole)
        assert same(continued, undisturbed)


def test_continuing_what_is_finished_evaluates_nothing(tiny_space: Any, table: Any) -> None:
    journal = Journal()
    states = list(evolve(tiny_space, some_fail(table), SMALL, journal=journal))
    lines = list(journal)

    class Refusing:
        def make_evaluate(self, report: Any) -> Any:
            raise AssertionError("nothing is to be evaluated")

    assert same(list(evolve(tiny_space, Refusing(), SMALL, journal=journal)), states)
    assert list(journal) == lines


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_generations_may_grow(algorithm: str, tiny_space: Any, table: Any, tmp_path: Path) -> None:
    config = replace(SMALL, algorithm=algorithm, generations=4)
    with Journal(tmp_path / "at-once.jsonl", sync=False) as journal:
        at_once = list(evolve(tiny_space, table, config, journal=journal))
    for generations in (0, 2, 4):
        with Journal(tmp_path / "grown.jsonl", sync=False) as journal:
            grown = list(evolve(tiny_space, table, replace(config, generations=generations), journal=journal))
        assert same(grown, at_once[: generations + 1])
    assert untimed(tmp_path / "grown.jsonl") == untimed(tmp_path / "at-once.jsonl")


def test_failures_replay_as_failures_unless_they_are_tried_again(tiny_space: Any, table: Any, tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path, sync=False) as journal:
        broken = list(evolve(tiny_space, some_fail(table), SMALL, journal=journal))
        failed = {entry.key for entry in journal if not entry.result.ok}
        evaluated = {entry.key for entry in journal}
        assert failed
        replayed = Counted(table)
        assert same(list(evolve(tiny_space, replayed, SMALL, journal=journal)), broken)
        assert replayed.calls == []

        mended = Counted(table)
        states = list(evolve(tiny_space, mended, SMALL, journal=journal, retry_failed=True))
        retried = {arch_id(genes) for genes in mended.calls}
        assert retried & evaluated <= failed
        assert retried & failed  # in the first generations at least, the path is the same
        assert same(states, list(evolve(tiny_space, table, SMALL)))
        assert all(journal.entries[key].result.ok for key in retried)
        unreached = failed - retried
    assert {entry.key for entry in read_journal(path)[1]} >= evaluated | retried
    assert {entry.key for entry in read_journal(path)[1] if not entry.result.ok} == unreached


def test_recorded_results_without_a_searched_objective_do_not_count(tiny_space: Any, table: Any) -> None:
    journal = Journal()
    list(evolve(tiny_space, table, SMALL, journal=journal))
    key, entry = next(iter(journal.entries.items()))
    journal.entries[key] = replace(entry, result=replace(entry.result, objectives={"macs": 1}))
    evaluate = Counted(table)
    list(evolve(tiny_space, evaluate, SMALL, journal=journal))
    assert [arch_id(genes) for genes in evaluate.calls] == [key]


# Failures


class Unreadable(Exception):
    """An error whose message cannot be had."""

    def __str__(self) -> str:
        raise RuntimeError("no message")


def bad_results() -> Iterator[Any]:
    for number in BAD_NUMBERS:
        yield pytest.param({"objectives": {"clean_error": number, "macs": 0}}, id=f"error-{number}")
        yield pytest.param({"objectives": {"clean_error": 0, "macs": 0, "extra": number}}, id=f"extra-{number}")
        yield pytest.param(
            {"objectives": {"clean_error": number, "macs": -1}, "status": "failed"}, id=f"failed-with-{number}"
        )
        yield pytest.param({"objectives": {"clean_error": 0, "macs": 0}, "seconds": number}, id=f"seconds-{number}")
    yield pytest.param({"objectives": {"clean_error": 0}}, id="missing")
    yield pytest.param({"objectives": {"clean_error": 0, "macs": 10**400}}, id="huge")
    yield pytest.param({"objectives": {"clean_error": -9, "macs": -9}, "status": "failed"}, id="failed-with-numbers")
    yield pytest.param({"objectives": {"clean_error": None, "macs": 0}}, id="none")
    yield pytest.param({"objectives": {"clean_error": 0, "macs": 0}, "status": "done"}, id="status")
    yield pytest.param({"objectives": {"clean_error": 0, "macs": 0}, "seconds": np.float32(1)}, id="numpy-seconds")
    yield pytest.param(None, id="nothing")
    yield pytest.param(MemoryError("out of memory"), id="raises")
    yield pytest.param(Unreadable(), id="raises-unreadable")


@pytest.mark.lengthy
@pytest.mark.parametrize("bad", list(bad_results()))
def test_a_bad_evaluation_never_ends_a_search(bad: Any, tiny_space: Any, table: Any, tmp_path: Path) -> None:
    """Half of the networks give it. It is on disk as failed, on no front, and the search goes its whole length."""

    def is_bad(genome: Any) -> bool:
        return int(sum(genome)) % 2 == 1

    def evaluate(genome: Genome, seed: int) -> Any:
        if not is_bad(genome):
            return table(genome, seed)
        if isinstance(bad, Exception):
            raise bad
        return None if bad is None else EvaluationResult(tuple(genome), **bad)

    path = tmp_path / "journal.jsonl"
    with Journal(path, sync=False) as journal:
        states = list(evolve(tiny_space, evaluate, replace(SMALL, population=6), journal=journal))
    recorded = {entry.key: entry.result for entry in read_journal(path)[1]}
    assert len(states) == 4
    assert any(is_bad(result.genome) for result in recorded.values())
    clock = isinstance(bad, dict) and "seconds" in bad  # a clock that went wrong need not spoil what was measured
    for state in states:
        for genome, row, rank in zip(state.genomes, state.objectives, state.rank, strict=True):
            good = recorded[arch_id(genome)].ok if tiny_space.violation(genome) <= 0 else False
            assert np.isfinite(row).all() == good
            assert good or rank > 0
    for result in recorded.values():
        assert math.isfinite(result.seconds)
        if is_bad(result.genome) and not clock:
            assert not result.ok
            assert result.reason or bad.get("status") == "failed"
        if not is_bad(result.genome):
            assert result.ok


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_a_search_of_failures_alone_goes_on(algorithm: str, tiny_space: Any) -> None:
    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        raise RuntimeError("out of memory")

    journal = Journal()
    states = list(evolve(tiny_space, evaluate, replace(SMALL, algorithm=algorithm), journal=journal))
    assert len(states) == 4
    assert {entry.result.reason for entry in journal} == {"RuntimeError: out of memory"}
    assert all(np.isnan(state.objectives).all() and (state.rank == 1).all() for state in states)


Numbers = st.sampled_from([0.0, 1.0, 2.0, 3.0, -4.0, *BAD_NUMBERS])
Fates = st.lists(
    st.tuples(Numbers, Numbers, st.sampled_from(["ok", "ok", "ok", "failed", "raises", "missing"])),
    min_size=1,
    max_size=8,
)


@pytest.mark.lengthy
@settings(max_examples=60)
@given(Fates, st.integers(0, 99), st.sampled_from(sorted(ALGORITHMS)), st.booleans())
def test_no_failed_infeasible_or_non_finite_result_is_on_a_front(
    tiny_space: Any, fates: list[tuple[float, float, str]], seed: int, algorithm: str, maximised: bool
) -> None:
    """Nor does one change the hypervolume, whatever numbers it pretends to have."""
    sign = -1.0 if maximised else 1.0
    reference = np.array([5.0, 5.0])

    def fate(genome: Any) -> tuple[float, float, str]:
        return fates[int(np.asarray(genome) @ [1, 3, 9, 27]) % len(fates)]

    def good(genome: Any) -> bool:
        a, b, status = fate(genome)
        return tiny_space.violation(genome) <= 0 and status == "ok" and math.isfinite(a) and math.isfinite(b)

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        assert tiny_space.violation(genome) <= 0
        a, b, status = fate(genome)
        if status == "raises":
            raise RuntimeError("out of memory")
        if status == "missing":
            return EvaluationResult(tuple(genome), {"clean_error": a})
        return EvaluationResult(tuple(genome), {"clean_error": a, "macs": b}, status)  # type: ignore[arg-type]

    config = EvolutionConfig(population=5, generations=3, seed=seed, algorithm=algorithm)
    journal = Journal()
    proposed: list[Entry] = []
    for state in evolve(
        tiny_space,
        evaluate,
        config,
        journal=journal,
        maximize=("macs",) if maximised else (),
        report=lambda event: proposed.append(event.entry) if isinstance(event, Finished) else None,
    ):
        fine = np.array([good(genome) for genome in state.genomes], dtype=bool)
        assert (np.isfinite(state.objectives).all(axis=1) == fine).all()
        assert not (state.rank[~fine] == 0).any()
        assert set(non_dominated(state.objectives)) == set(np.flatnonzero(state.rank == 0))
        expected = [[fate(genome)[0], sign * fate(genome)[1]] for genome in state.genomes[fine]]
        assert state.objectives[fine].tolist() == expected
        assert hypervolume(state.objectives, reference) == hypervolume(expected, reference)
        evaluated_well = {entry.key for entry in proposed if good(np.array(entry.result.genome))}
        assert fine.sum() == min(5, len(evaluated_well))  # no failure pushes a good network out
    for entry in journal:
        assert entry.result.ok == good(np.array(entry.result.genome))
        assert entry.result.ok or entry.result.reason or fate(np.array(entry.result.genome))[2] == "failed"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_lines_lost_anywhere_in_the_journal_are_evaluated_again_and_nothing_else(
    algorithm: str, tiny_space: Any, table: Any, tmp_path: Path
) -> None:
    """Blank, flipped, swapped and doubled lines at once, with the line ends of another system."""
    config = EvolutionConfig(population=4, generations=3, algorithm=algorithm)
    path, evaluated = tmp_path / "journal.jsonl", list[tuple[int, ...]]()

    def evaluate(genome: Genome, seed: int) -> EvaluationResult:
        evaluated.append(tuple(genome.tolist()))
        result: EvaluationResult = table(genome, seed)
        return result

    def search() -> tuple[list[SearchState], list[Entry]]:
        with Journal(path, {"seed": 0}, sync=False) as journal:
            states = list(evolve(tiny_space, evaluate, config, journal=journal))
            return states, sorted(journal, key=lambda entry: entry.proposal)

    states, entries = search()
    lines = path.read_bytes().splitlines()
    for first in (1, 6, 11):
        damaged = list(lines)
        damaged[first] = b""
        damaged[first + 1] = damaged[first + 1].replace(b'"ok"', b'"Ok"')
        damaged[first + 2], damaged[first + 3] = damaged[first + 3], damaged[first + 2]
        damaged.insert(first + 4, damaged[first + 4])
        path.write_bytes(b"\r\n".join([*damaged, b""]))
        evaluated.clear()
        again, found = search()
        assert same(again, states)
        assert found == entries
        assert evaluated == [entry.result.genome for entry in entries[first - 1 : first + 1]]
