"""Evaluations as jobs: the only place in which genomes meet executors.

The payload of an evaluation is (genome, seed), its value an EvaluationResult, its key the genome's arch_id.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np

from evonas.errors import ConfigurationError
from evonas.executors import Job, Outcome, Work
from evonas.seeding import derive_seed
from evonas.types import EvaluationResult, Genome, Report, arch_id

__all__ = [
    "Evaluate",
    "EvaluationWork",
    "EvaluatorFactory",
    "Predict",
    "check_objectives",
    "checked",
    "evaluation_job",
    "evaluation_result",
    "evaluation_seed",
]

Evaluate = Callable[[Genome, int], EvaluationResult]
"""(genome, seed) -> result."""

Predict = Callable[[Genome], float]
"""Canonical genome -> predicted cost of its evaluation, in any unit."""


@runtime_checkable
class EvaluatorFactory(Protocol):
    """An evaluator that sets itself up once in every worker."""

    def make_evaluate(self, report: Report) -> Evaluate: ...


@dataclass(frozen=True)
class EvaluationWork:
    """The `make_work` of evaluations. A value, so that it travels wherever the evaluator does."""

    evaluate: Evaluate | EvaluatorFactory
    """A plain function (genome, seed) -> EvaluationResult, or a factory with make_evaluate(report)."""

    def __post_init__(self) -> None:
        if not isinstance(self.evaluate, EvaluatorFactory) and not callable(self.evaluate):
            raise TypeError(
                f"expected a function (genome, seed) -> EvaluationResult or an object with make_evaluate(report), "
                f"got {type(self.evaluate).__name__}"
            )

    def __call__(self, report: Report) -> Work:
        factory = self.evaluate
        evaluate = factory.make_evaluate(report) if isinstance(factory, EvaluatorFactory) else factory

        def work(payload: tuple[tuple[int, ...], int]) -> EvaluationResult:
            genome, seed = payload
            result: Any = evaluate(np.array(genome, dtype=np.int64), seed)
            if not isinstance(result, EvaluationResult):
                raise TypeError(f"expected an EvaluationResult from the evaluator, got {type(result).__name__}")
            return result.changed(genome=genome, seed=seed)

        return work


def evaluation_seed(seed: int, key: str) -> int:
    """Seed of one evaluation: from the run's seed and the canonical genome's key, nothing else."""
    return derive_seed(seed, "evaluation", key)


def evaluation_job(genome: Genome, seed: int, predict: Predict | None = None) -> Job:
    """The evaluation of a canonical genome in a run with this seed."""
    key = arch_id(genome)
    predicted = 0.0 if predict is None else float(predict(genome))
    return Job(key, (tuple(genome.tolist()), evaluation_seed(seed, key)), predicted)


def evaluation_result(job: Job, outcome: Outcome, objectives: Sequence[str]) -> EvaluationResult:
    """The result of a finished evaluation, checked; a failed outcome is a failed result."""
    genome, seed = job.payload
    if not outcome.ok:
        failed = EvaluationResult.failure(genome, seed, outcome.failure, outcome.seconds, outcome.traceback)
        return checked(failed, objectives)
    return checked(outcome.value, objectives)


def checked(result: EvaluationResult, objectives: Sequence[str]) -> EvaluationResult:
    """The result as it is journalled, or a failed one if an objective is missing or a value not finite."""
    seconds = round(result.seconds, 3) if math.isfinite(result.seconds) else 0.0
    result = result.changed(seconds=seconds)
    if not result.ok:
        return result.changed(objectives={}, reason=result.reason or "no reason was given")
    missing = [name for name in objectives if name not in result.objectives]
    broken = [f"{name} is {value}" for name, value in result.objectives.items() if not math.isfinite(value)]
    if not missing and not broken:
        return result
    reason = f"the evaluator gave no {', '.join(missing)}" if missing else "; ".join(broken)
    return EvaluationResult.failure(result.genome, result.seed, reason, result.seconds)


def check_objectives(objectives: Sequence[str], maximize: Sequence[str] = ()) -> None:
    """At least one, none twice, and only searched ones are maximised."""
    if not objectives or isinstance(objectives, str) or len(set(objectives)) != len(objectives):
        raise ConfigurationError(f"expected different objectives, at least one, got {objectives!r}")
    if not set(maximize) <= set(objectives):
        raise ConfigurationError(f"expected to maximise some of {', '.join(objectives)}, got {', '.join(maximize)}")
