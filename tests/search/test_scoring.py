"""A list of genomes is scored as a search scores its only generation."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.errors import ConfigurationError
from evonas.executors import Executor, Job, LocalExecutor, Outcome, ProcessExecutor
from evonas.search import Entry, EvolutionConfig, Finished, Journal, evolve, score
from evonas.types import EvaluationResult, Genome, arch_id

OBJECTIVES = ("clean_error", "macs")


@pytest.fixture
def genomes(tiny_space: Any) -> list[Genome]:
    """Ten networks, the largest genes first."""
    return list(tiny_space.networks())[::-5]


def some_fail(genome: Genome, seed: int) -> EvaluationResult:
    if genome[0] == 1:
        raise RuntimeError("out of\nmemory")
    return EvaluationResult(tuple(genome), {"clean_error": float(genome.sum()), "macs": seed % 97}, seconds=0.5)


class LastFirst(LocalExecutor):
    def next_finished(self) -> tuple[Job, Outcome]:
        self._jobs.reverse()
        return super().next_finished()


@pytest.mark.lengthy
@pytest.mark.parametrize("make", [LocalExecutor, LastFirst, partial(ProcessExecutor, 1)])
def test_the_journal_is_that_of_a_search_without_offspring(
    make: Callable[[], Executor], genomes: list[Genome], tiny_space: Any, tmp_path: Path
) -> None:
    config = EvolutionConfig(population=len(genomes), generations=0, objectives=OBJECTIVES, seed=11)
    with Journal(tmp_path / "searched.jsonl", {"seed": 11}) as journal:
        list(evolve(tiny_space, some_fail, config, make(), journal, first=genomes))
    with Journal(tmp_path / "scored.jsonl", {"seed": 11}) as journal:
        entries = score(genomes, some_fail, OBJECTIVES, 11, make(), journal)
    assert (tmp_path / "scored.jsonl").read_bytes() == (tmp_path / "searched.jsonl").read_bytes()
    assert [entry.result.genome for entry in entries] == [tuple(genome.tolist()) for genome in genomes]
    assert [(entry.generation, entry.proposal) for entry in entries] == [(0, number) for number in range(len(genomes))]
    assert {entry.result.ok for entry in entries} == {True, False}
    assert {entry.key: entry for entry in entries} == journal.entries


def test_known_entries_are_answered_and_failures_tried_again_on_request(genomes: list[Genome], table: Any) -> None:
    journal = Journal()
    some = score(genomes[:5], some_fail, OBJECTIVES, journal=journal)
    failed = [entry.key for entry in some if not entry.result.ok]
    assert failed
    events: list[Any] = []
    again = score(genomes, table, OBJECTIVES, journal=journal, report=events.append)
    assert again[:5] == some
    assert [event.cached for event in events] == [True] * 5 + [False] * 5
    assert [event.entry for event in events] == again
    mended = score(genomes, table, OBJECTIVES, journal=journal, retry_failed=True)
    assert all(entry.result.ok for entry in mended)
    assert [entry.key for entry in journal.lines[len(genomes) :]] == failed
    assert [entry.proposal for entry in mended] == list(range(len(genomes)))


@pytest.mark.parametrize(("objectives", "seed"), [(("clean_error", "certified_radius"), 0), (OBJECTIVES, 1)])
def test_results_of_another_seed_or_without_an_objective_do_not_count(
    objectives: tuple[str, ...], seed: int, genomes: list[Genome], table: Any
) -> None:
    journal = Journal()
    plain = [genome for genome in genomes if genome[0] != 1]
    score(plain, some_fail, OBJECTIVES, journal=journal)
    events: list[Any] = []
    score(plain, table, objectives, seed, journal=journal, report=events.append)
    assert [event.cached for event in events] == [False] * len(plain)


def test_the_executor_is_closed_and_gets_predicted_costs(genomes: list[Genome], table: Any) -> None:
    class Watched(LocalExecutor):
        closed = 0

        def submit(self, job: Job) -> None:
            submitted.append(job)
            super().submit(job)

        def close(self) -> None:
            self.closed += 1
            super().close()

    submitted: list[Job] = []
    executor, broken = Watched(), Watched()
    score(genomes, table, OBJECTIVES, executor=executor, predict=lambda genome: float(genome @ [1, 10, 100, 1000]))
    assert [job.predicted for job in submitted] == [float(genome @ [1, 10, 100, 1000]) for genome in genomes]

    def interrupt(event: object) -> None:
        raise KeyboardInterrupt

    journal = Journal()
    with pytest.raises(KeyboardInterrupt):
        score(genomes, table, OBJECTIVES, executor=broken, journal=journal, report=interrupt)
    assert (executor.closed, broken.closed) == (1, 1)
    assert len(journal) == 1, "what had finished is recorded"


def test_an_array_of_genomes_is_a_list_of_them(genomes: list[Genome], table: Any) -> None:
    scored: list[Entry] = score(np.array(genomes), table, OBJECTIVES)
    assert scored == score(genomes, table, OBJECTIVES)
    assert score([], table, OBJECTIVES) == []


def test_genomes_are_distinct_and_objectives_checked(genomes: list[Genome], table: Any) -> None:
    with pytest.raises(ValueError, match="expected 11 different genomes, got 10"):
        score([*genomes, genomes[0]], table, OBJECTIVES)
    with pytest.raises(ConfigurationError, match="expected different objectives"):
        score(genomes, table, ("macs", "macs"))


def test_events_are_those_of_a_search(genomes: list[Genome], table: Any) -> None:
    events: list[Any] = []
    entries = score(genomes, table, OBJECTIVES, report=events.append)
    assert events == [Finished(entry, False) for entry in entries]
    assert [entry.key for entry in entries] == [arch_id(genome) for genome in genomes]
