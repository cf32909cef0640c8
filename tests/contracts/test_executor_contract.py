"""What every executor must do: a line in `EXECUTORS` tests it."""

import os
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.executors import as_factory, ignore
from evonas.search import EXECUTORS, EvolutionConfig, Executor, Job, LocalExecutor, RayExecutor, evolve
from evonas.types import Activity, EvaluationResult, Genome, Progress, arch_id

MAKERS: dict[str, Callable[[], Executor]] = {**EXECUTORS, "ray resident": lambda: RayExecutor(cpus=2, resident=True)}

JOBS = [Job((number, 1, 2), seed=1000 + number, number=number, generation=1) for number in range(7)]


def echo(genome: Genome, seed: int) -> EvaluationResult:
    """What came in, as objectives."""
    return EvaluationResult(tuple(genome), {"first": int(genome[0]), "seed": seed}, seconds=0.5)


def odd_fails(genome: Genome, seed: int) -> EvaluationResult:
    if genome[0] % 2:
        raise RuntimeError(f"genome {genome[0]}\nran out of memory")
    return echo(genome, seed)


def careless(genome: Genome, seed: int) -> Any:
    """Writes into its argument, answers for another genome, or answers nothing at all."""
    genome[:] = 9
    return EvaluationResult((9,), {"seed": seed}, seed=-1) if seed % 2 else None


@dataclass(frozen=True)
class Counting:
    """Leaves a file in `folder` for every set-up; results name the set-up and the process that they came from."""

    folder: Path

    def make_evaluate(self, report: Callable[[Progress], None]) -> Callable[[Genome, int], EvaluationResult]:
        token = uuid.uuid4().int % 2**40
        (self.folder / str(token)).touch()

        def evaluate(genome: Genome, seed: int) -> EvaluationResult:
            report(Progress(arch_id(genome), 1, 2))
            report(Progress(arch_id(genome), 2, 2))
            return EvaluationResult(tuple(genome), {"token": token, "process": os.getpid()})

        return evaluate


@pytest.fixture(params=sorted(MAKERS))
def executor(request: pytest.FixtureRequest) -> Iterator[Executor]:
    if "ray" in request.param:
        request.getfixturevalue("ray_here")
    executor = MAKERS[request.param]()
    yield executor
    executor.close()


def run(executor: Executor, evaluate: Any, jobs: list[Job], report: Any = ignore) -> dict[Job, EvaluationResult]:
    """All results by their job; a job that comes back twice or not at all ends the test."""
    executor.start(as_factory(evaluate), report)
    for job in jobs:
        executor.submit(job)
    finished = [executor.next_finished() for _ in jobs]
    assert sorted(job.number for job, _ in finished) == sorted(job.number for job in jobs)
    return dict(finished)


def test_every_job_comes_back_once_with_its_own_result(executor: Executor) -> None:
    results = run(executor, echo, JOBS)
    assert results == {
        job: EvaluationResult(job.genome, {"first": job.genome[0], "seed": job.seed}, "ok", "", job.seed, 0.5)
        for job in JOBS
    }
    assert executor.slots >= 1


def test_without_a_job_nothing_is_waited_for(executor: Executor) -> None:
    executor.start(as_factory(echo), ignore)
    with pytest.raises(LookupError):
        executor.next_finished()
    executor.submit(JOBS[0])
    executor.next_finished()
    with pytest.raises(LookupError):
        executor.next_finished()


def test_jobs_may_be_submitted_while_others_run(executor: Executor) -> None:
    executor.start(as_factory(echo), ignore)
    executor.submit(JOBS[0])
    seen = []
    for job in JOBS[1:]:
        executor.submit(job)
        seen.append(executor.next_finished()[0])
    seen.append(executor.next_finished()[0])
    assert sorted(job.number for job in seen) == [job.number for job in JOBS]


def test_a_job_that_raises_gives_a_failed_result(executor: Executor) -> None:
    for job, result in run(executor, odd_fails, JOBS).items():
        assert (result.genome, result.seed) == (job.genome, job.seed)
        assert result.ok == (job.genome[0] % 2 == 0)
        if not result.ok:
            assert result.reason == f"RuntimeError: genome {job.genome[0]} ran out of memory"
            assert result.objectives == {}


def test_results_belong_to_their_jobs_whatever_the_evaluator_says(executor: Executor) -> None:
    for job, result in run(executor, careless, JOBS).items():
        assert (result.genome, result.seed) == (job.genome, job.seed)
        assert result.ok == (job.seed % 2 == 1)


def test_every_worker_is_set_up_once(executor: Executor, tmp_path: Path) -> None:
    results = run(executor, Counting(tmp_path), JOBS)
    executor.close()
    tokens = {int(result.objectives["token"]) for result in results.values()}
    workers = {(result.objectives["token"], result.objectives["process"]) for result in results.values()}
    assert tokens <= {int(name) for name in os.listdir(tmp_path)}
    assert 1 <= len(os.listdir(tmp_path)) <= executor.slots
    assert len(workers) == len(tokens)


def test_progress_arrives(executor: Executor, tmp_path: Path) -> None:
    """Some of it: it may be dropped, and it may be late. What the executor does is told beside it."""
    told: list[Any] = []
    run(executor, Counting(tmp_path), JOBS, told.append)
    sent = {Progress(arch_id(job.genome), done, 2) for job in JOBS for done in (1, 2)}
    arrived = [event for event in told if isinstance(event, Progress)]
    assert arrived
    assert set(arrived) <= sent
    assert len(arrived) <= len(sent)
    others = [event for event in told if not isinstance(event, Progress)]
    assert all(isinstance(event, Activity) for event in others), "nothing failed, so there is nothing to note"
    assert all(event.running + event.waiting <= len(JOBS) and event.retries == 0 for event in others)


def test_closing_twice_and_with_jobs_left_is_allowed(executor: Executor) -> None:
    executor.start(as_factory(echo), ignore)
    for job in JOBS:
        executor.submit(job)
    executor.next_finished()
    executor.close()
    executor.close()
    with pytest.raises(LookupError):
        executor.next_finished()


def test_free_says_how_many_jobs_are_worth_submitting(executor: Executor) -> None:
    executor.start(as_factory(echo), ignore)
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


def test_a_search_finds_the_same_whatever_runs_it(executor: Executor, tiny_space: Any, table: Any) -> None:
    config = EvolutionConfig(population=6, generations=3, seed=2)
    local = list(evolve(tiny_space, table, config, LocalExecutor()))
    other = list(evolve(tiny_space, table, config, executor))
    for a, b in zip(local, other, strict=True):
        assert np.array_equal(a.genomes, b.genomes)
        assert np.array_equal(a.objectives, b.objectives)
        assert np.array_equal(a.rank, b.rank)
