"""Genomes as jobs: what travels, and what comes back whatever the evaluator does."""

import pickle
from typing import Any

import numpy as np
import pytest
from conftest import tabulated

from evonas.executors import Job, Outcome, ignore, run_work
from evonas.search.evaluations import EvaluationWork, evaluation_job, evaluation_result, evaluation_seed
from evonas.types import EvaluationResult, Genome, arch_id

GENOME = np.array([1, 0], dtype=np.int64)
JOB = evaluation_job(GENOME, seed=3)


def result_of(evaluate: Any) -> EvaluationResult:
    return evaluation_result(JOB, run_work(EvaluationWork(evaluate)(ignore), JOB), ("macs",))


def test_the_job_of_a_genome() -> None:
    key = arch_id(GENOME)
    assert Job(key, ((1, 0), evaluation_seed(3, key)), 0.0) == JOB
    assert all(type(gene) is int for gene in JOB.payload[0])
    assert evaluation_job(GENOME, 3, predict=lambda genome: 7 * genome.sum()).predicted == 7.0
    assert evaluation_seed(3, key) != evaluation_seed(4, key)


def test_the_evaluator_gets_an_array_of_its_own_and_the_seed() -> None:
    def careless(genome: Genome, seed: int) -> EvaluationResult:
        assert genome.dtype == np.int64
        assert (genome.tolist(), seed) == ([1, 0], JOB.payload[1])
        genome += 1
        return EvaluationResult(tuple(genome), {"macs": 3}, seed=-1, seconds=2.5)

    expected = EvaluationResult((1, 0), {"macs": 3}, seed=JOB.payload[1], seconds=2.5)
    assert result_of(careless) == result_of(careless) == expected


def test_a_failed_result_is_kept_as_it_is() -> None:
    result = result_of(lambda genome, seed: EvaluationResult.failure(genome, seed, "it diverged", 1.5))
    assert result == EvaluationResult.failure((1, 0), JOB.payload[1], "it diverged", 1.5)


def test_a_failed_outcome_is_a_failed_result() -> None:
    expected = EvaluationResult.failure((1, 0), JOB.payload[1], "it took too long", 2.5)
    assert evaluation_result(JOB, Outcome.failed("it took too long", 2.5), ("macs",)) == expected


def test_what_the_evaluator_raises_is_the_reason() -> None:
    def broken(genome: Genome, seed: int) -> EvaluationResult:
        raise RuntimeError("a broken\nlayer")

    assert result_of(broken) == EvaluationResult.failure((1, 0), JOB.payload[1], "RuntimeError: a broken layer")


@pytest.mark.parametrize("value", [None, {"macs": 3}, (1, 2)])
def test_anything_but_a_result_is_a_failed_one(value: Any) -> None:
    result = result_of(lambda genome, seed: value)
    assert result.reason == f"TypeError: expected an EvaluationResult from the evaluator, got {type(value).__name__}"
    assert not result.ok


def test_a_factory_is_set_up_once_with_the_report() -> None:
    made: list[Any] = []

    class Factory:
        def make_evaluate(self, report: Any) -> Any:
            made.append(report)
            return tabulated

    work = EvaluationWork(Factory())
    assert made == []
    evaluate = work(ignore)
    assert evaluate(JOB.payload) == evaluate(JOB.payload)
    assert made == [ignore]


def test_an_evaluator_is_a_function_or_a_factory() -> None:
    with pytest.raises(TypeError, match=r"or an object with make_evaluate\(report\), got int"):
        EvaluationWork(3)  # type: ignore[arg-type]


def test_it_travels_wherever_the_evaluator_does() -> None:
    work = pickle.loads(pickle.dumps(EvaluationWork(tabulated)))
    assert work == EvaluationWork(tabulated)
    assert work(ignore)(JOB.payload) == EvaluationResult(*_result())


def _result() -> tuple[Any, ...]:
    expected = tabulated(GENOME, JOB.payload[1])
    return expected.genome, expected.objectives, "ok", "", expected.seed, expected.seconds
