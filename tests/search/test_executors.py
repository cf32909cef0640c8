"""The local executor and what all executors are made of."""

from typing import Any

import numpy as np
import pytest

from evonas.errors import DataError
from evonas.executors import as_factory, ignore, run_job
from evonas.search import EXECUTORS, Job, LocalExecutor
from evonas.types import EvaluationResult, Genome

JOBS = [Job((number, 0), seed=100 + number, number=number) for number in range(3)]


def echo(genome: Genome, seed: int) -> EvaluationResult:
    return EvaluationResult(tuple(genome), {"macs": int(genome.sum())}, seed=seed)


def test_local_results_come_in_the_order_of_submission() -> None:
    executor = LocalExecutor()
    executor.start(as_factory(echo), ignore)
    for job in reversed(JOBS):
        executor.submit(job)
    assert [executor.next_finished()[0] for _ in JOBS] == JOBS[::-1]
    assert executor.slots == 1


def test_local_evaluator_is_set_up_when_the_first_result_is_asked_for() -> None:
    made = []

    def make_evaluate(report: Any) -> Any:
        made.append(report)
        return echo

    executor = LocalExecutor()
    executor.start(make_evaluate, ignore)
    executor.submit(JOBS[0])
    assert made == []
    executor.next_finished()
    assert made == [ignore]


def test_a_set_up_that_fails_is_no_failed_result() -> None:
    def make_evaluate(report: Any) -> Any:
        raise DataError("no images here")

    executor = LocalExecutor()
    executor.start(make_evaluate, ignore)
    executor.submit(JOBS[0])
    with pytest.raises(DataError, match="no images here"):
        executor.next_finished()


def test_local_needs_a_start_and_a_job() -> None:
    executor = LocalExecutor()
    with pytest.raises(LookupError, match="no job is left"):
        executor.next_finished()
    executor.submit(JOBS[0])
    with pytest.raises(LookupError, match="was not started"):
        executor.next_finished()


def test_an_interrupt_is_no_failed_result() -> None:
    def interrupted(genome: Genome, seed: int) -> EvaluationResult:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_job(interrupted, JOBS[0])


def test_a_result_has_the_genome_and_seed_of_its_job() -> None:
    def other(genome: Genome, seed: int) -> EvaluationResult:
        genome += 1
        return EvaluationResult((9, 9, 9), {"macs": 3}, "ok", "", seed=-1, seconds=2.5)

    assert run_job(other, JOBS[1]) == EvaluationResult((1, 0), {"macs": 3}, "ok", "", 101, 2.5)


@pytest.mark.parametrize("value", [None, {"macs": 3}, (1, 2)])
def test_anything_but_a_result_is_a_failed_one(value: Any) -> None:
    result = run_job(lambda genome, seed: value, JOBS[0])
    assert result.reason == f"TypeError: expected an EvaluationResult from the evaluator, got {type(value).__name__}"
    assert not result.ok


def test_a_function_becomes_a_factory_and_a_factory_stays_one() -> None:
    class Factory:
        def make_evaluate(self, report: Any) -> Any:
            return (self, report)

    factory = Factory()
    assert as_factory(echo)(ignore) is echo
    assert as_factory(factory)(ignore) == (factory, ignore)
    with pytest.raises(TypeError, match=r"or an object with make_evaluate\(report\), got int"):
        as_factory(3)  # type: ignore[arg-type]


def test_jobs_are_values() -> None:
    assert Job((1, 2), 3, 4) == Job((1, 2), 3, 4, 0)
    assert np.array(Job((1, 2), 3, 4).genome).dtype == np.int64


def test_the_table_of_executors() -> None:
    assert EXECUTORS["local"] is LocalExecutor
