"""The contract of executors: a line in `EXECUTORS` tests it. The jobs are of every kind, not genomes alone."""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.executors import (
    EXECUTORS,
    Executor,
    Job,
    LocalExecutor,
    MakeWork,
    Outcome,
    RayExecutor,
    Work,
    ignore,
    run_jobs,
)
from evonas.files import replace_file
from evonas.search import EvolutionConfig, Journal, evolve, score
from evonas.types import Activity, EvaluationResult, Genome, Note, Progress

MAKERS: dict[str, Callable[[], Executor]] = {**EXECUTORS, "ray resident": lambda: RayExecutor(cpus=2, resident=True)}

JOBS = [Job(f"job {number}", {"number": number, "pixels": bytes([number]) * 300_000}) for number in range(7)]
"""Larger than the buffer of a pipe."""


def make_negative(report: Any) -> Work:
    return negative


def negative(payload: dict[str, Any]) -> bytes:
    """The pixels turned: as many bytes as came in."""
    return bytes([255 - payload["number"]]) * len(payload["pixels"])


def make_odd_fails(report: Any) -> Work:
    return odd_fails


def odd_fails(payload: dict[str, Any]) -> int:
    if payload["number"] % 2:
        raise RuntimeError(f"image {payload['number']}\nhas no pixels")
    return len(payload["pixels"])


def make_stuck(report: Any) -> Work:
    return stuck


def stuck(payload: dict[str, Any]) -> Any:
    """A generator, which no pickle takes, for one of the jobs."""
    return (i for i in range(3)) if payload["number"] == 2 else payload["number"]


@dataclass(frozen=True)
class Counting:
    """Leaves a file in `folder` for every set-up; values name the set-up and the process that they came from."""

    folder: Path

    def __call__(self, report: Callable[[Progress], None]) -> Work:
        token = uuid.uuid4().hex
        (self.folder / token).touch()

        def work(payload: dict[str, Any]) -> tuple[str, int]:
            key = f"job {payload['number']}"
            report(Progress(key, 1, 2))
            report(Progress(key, 2, 2))
            return token, os.getpid()

        return work


def careless(genome: Genome, seed: int) -> Any:
    """Writes into its argument, answers for another genome, answers nothing at all, or raises."""
    first = int(genome[0] + genome[2])
    genome[:] = 9
    if first == 3:
        raise RuntimeError("no such\nlayer")
    return EvaluationResult((9,), {"macs": seed % 97}, seed=-1, seconds=0.5) if first else None


@pytest.fixture(params=[pytest.param(name, marks=pytest.mark.slow if "ray" in name else ()) for name in sorted(MAKERS)])
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if "ray" in request.param:
        request.getfixturevalue("ray_here")
    executor = MAKERS[request.param]()
    yield executor
    executor.close()


def run(executor: Executor, make_work: MakeWork, report: Any = ignore) -> dict[str, Outcome]:
    """All outcomes by the key of their job; a job that comes back twice or not at all ends the test."""
    executor.start(make_work, report)
    for job in JOBS:
        executor.submit(job)
    finished = [executor.next_finished() for _ in JOBS]
    assert sorted((job for job, _ in finished), key=lambda job: job.key) == JOBS
    return {job.key: outcome for job, outcome in finished}


@pytest.mark.lengthy
def test_every_job_comes_back_once_with_its_own_value(executor: Executor) -> None:
    assert run(executor, make_negative) == {job.key: Outcome(negative(job.payload)) for job in JOBS}
    assert executor.slots >= 1


@pytest.mark.lengthy
def test_a_list_of_jobs_is_run_and_may_be_followed_by_another(executor: Executor) -> None:
    for jobs in (JOBS[:3], JOBS[3:]):
        finished = list(run_jobs(executor, make_negative, jobs))
        assert {job.key: outcome.value for job, outcome in finished} == {job.key: negative(job.payload) for job in jobs}


def make_steps(report: Any) -> Work:
    return steps


def steps(dies: bool, checkpoint: Path) -> list[int]:
    """Three steps, each kept with the process that took it; one that dies does so after the second."""
    taken = checkpoint.read_text().splitlines() if checkpoint.exists() else []
    while len(taken) < 3:
        taken.append(str(os.getpid()))
        replace_file(checkpoint, lambda file: file.write("\n".join(taken).encode()))
        if dies and taken == 2 * [str(os.getpid())]:
            os._exit(1)
    return [taken.count(process) for process in dict.fromkeys(taken)]


@pytest.mark.lengthy
def test_a_job_goes_on_from_its_checkpoint_where_its_worker_died(executor: Executor, tmp_path: Path) -> None:
    here = isinstance(executor, LocalExecutor)
    jobs = [Job(name, name == "dies" and not here, checkpoint=tmp_path / "kept" / name) for name in ("dies", "lives")]
    finished = {job.key: outcome.value for job, outcome in run_jobs(executor, make_steps, jobs)}
    assert finished == {"dies": [3] if here else [2, 1], "lives": [3]}
    assert sorted(path.name for path in (tmp_path / "kept").iterdir()) == ["dies", "lives"]
    again = [outcome.value for _, outcome in run_jobs(executor, make_steps, jobs)]  # by what is there
    assert sorted(again) == sorted(finished.values())


@pytest.mark.lengthy
def test_without_a_job_nothing_is_waited_for(executor: Executor) -> None:
    executor.start(make_negative, ignore)
    with pytest.raises(LookupError):
        executor.next_finished()
    executor.submit(JOBS[0])
    executor.next_finished()
    with pytest.raises(LookupError):
        executor.next_finished()


@pytest.mark.lengthy
def test_jobs_may_be_submitted_while_others_run(executor: Executor) -> None:
    executor.start(make_negative, ignore)
    executor.submit(JOBS[0])
    seen = []
    for job in JOBS[1:]:
        executor.submit(job)
        seen.append(executor.next_finished()[0])
    seen.append(executor.next_finished()[0])
    assert sorted(job.key for job in seen) == [job.key for job in JOBS]


@pytest.mark.lengthy
def test_a_job_that_raises_has_failed(executor: Executor) -> None:
    outcomes = run(executor, make_odd_fails)
    for number, job in enumerate(JOBS):
        failed = Outcome(failure=f"RuntimeError: image {number} has no pixels")
        assert outcomes[job.key] == (failed if number % 2 else Outcome(300_000))


@pytest.mark.lengthy
def test_a_value_that_cannot_travel_is_a_failure_if_it_must(executor: Executor) -> None:
    outcomes = run(executor, make_stuck)
    other = outcomes.pop("job 2")
    assert {key: outcome.value for key, outcome in outcomes.items()} == {
        job.key: job.payload["number"] for job in JOBS if job.key != "job 2"
    }
    assert other.ok == isinstance(executor, LocalExecutor)
    assert other.ok or "generator" in other.failure


@pytest.mark.lengthy
def test_every_worker_is_set_up_once(executor: Executor, tmp_path: Path) -> None:
    workers = {outcome.value for outcome in run(executor, Counting(tmp_path)).values()}
    executor.close()
    tokens = {token for token, _ in workers}
    assert tokens <= set(os.listdir(tmp_path))
    assert 1 <= len(os.listdir(tmp_path)) <= executor.slots
    assert len(workers) == len(tokens)


@pytest.mark.lengthy
def test_progress_arrives(executor: Executor, tmp_path: Path) -> None:
    """Some of it: it may be dropped, and it may be late. The load of the executor is reported beside it."""
    told: list[Any] = []
    run(executor, Counting(tmp_path), told.append)
    sent = {Progress(job.key, done, 2) for job in JOBS for done in (1, 2)}
    arrived = [event for event in told if isinstance(event, Progress)]
    assert arrived
    assert set(arrived) <= sent
    assert len(arrived) <= len(sent)
    others = [event for event in told if not isinstance(event, Progress)]
    assert all(isinstance(event, Activity) for event in others), "nothing failed, so there is nothing to note"
    assert all(event.running + event.waiting <= len(JOBS) and event.retries == 0 for event in others)


@pytest.mark.lengthy
def test_finished_jobs_may_be_counted_at_any_time(executor: Executor) -> None:
    executor.count(cached=True, ok=True)
    told: list[Any] = []
    assert all(outcome.ok for outcome in run(executor, make_negative, told.append).values())
    for _ in JOBS:
        executor.count(cached=False, ok=True)
    executor.close()
    executor.count(cached=False, ok=False)
    assert not any(isinstance(event, Note) for event in told)


@pytest.mark.lengthy
def test_closing_twice_and_with_jobs_left_is_allowed(executor: Executor) -> None:
    executor.start(make_negative, ignore)
    for job in JOBS:
        executor.submit(job)
    executor.next_finished()
    executor.close()
    executor.close()
    with pytest.raises(LookupError):
        executor.next_finished()


@pytest.mark.lengthy
def test_free_says_how_many_jobs_are_worth_submitting(executor: Executor) -> None:
    executor.start(make_negative, ignore)
    assert executor.free >= executor.slots >= 1
    room = executor.free
    for job in JOBS[:room]:
        executor.submit(job)
    assert executor.free == 0
    executor.next_finished()
    assert executor.free >= 1


def test_closing_before_a_start_is_allowed(executor: Executor) -> None:
    executor.close()
    executor.close()


@pytest.mark.lengthy
def test_genomes_are_scored_the_same_whatever_runs_them(executor: Executor, tiny_space: Any) -> None:
    """Genome and seed of a result are those of its job, whatever the evaluator says."""
    genomes = list(tiny_space.networks())[::3]
    local, other = Journal(), Journal()
    expected = score(genomes, careless, ("macs",), seed=5, journal=local)
    assert score(genomes, careless, ("macs",), seed=5, executor=executor, journal=other) == expected
    assert other.entries == local.entries
    assert [entry.result.genome for entry in expected] == [tuple(genome.tolist()) for genome in genomes]
    assert {entry.result.reason for entry in expected} == {
        "",
        "RuntimeError: no such layer",
        "TypeError: expected an EvaluationResult from the evaluator, got NoneType",
    }


@pytest.mark.lengthy
def test_a_search_finds_the_same_whatever_runs_it(executor: Executor, tiny_space: Any, table: Any) -> None:
    config = EvolutionConfig(population=6, generations=3, seed=2)
    local = list(evolve(tiny_space, table, config, LocalExecutor()))
    other = list(evolve(tiny_space, table, config, executor))
    for a, b in zip(local, other, strict=True):
        assert np.array_equal(a.genomes, b.genomes)
        assert np.array_equal(a.objectives, b.objectives)
        assert np.array_equal(a.rank, b.rank)
