"""Evaluations as jobs: the only place in which genomes meet executors.

The payload of an evaluation is (genome, seed), with early stopping (genome, seed, limits); its value is an
EvaluationResult, its key the genome's arch_id.
"""

import inspect
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from evonas.errors import ConfigurationError, StoppedEarly
from evonas.executors import Job, Outcome, Work
from evonas.seeding import derive_seed
from evonas.types import EvaluationResult, Genome, Report, arch_id

if TYPE_CHECKING:
    from evonas.search.stopping import Limits

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

Evaluate = Callable[..., EvaluationResult]
"""(genome, seed) -> result; with early stopping (genome, seed, reach), see `evonas.types.Reach`."""

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
    early_stop: bool = False
    """Whether it must take a third argument."""

    def __post_init__(self) -> None:
        if not isinstance(self.evaluate, EvaluatorFactory) and not callable(self.evaluate):
            raise TypeError(
                f"expected a function (genome, seed) -> EvaluationResult or an object with make_evaluate(report), "
                f"got {type(self.evaluate).__name__}"
            )
        if self.early_stop and not isinstance(self.evaluate, EvaluatorFactory):
            _check_reach(self.evaluate)

    def __call__(self, report: Report) -> Work:
        factory = self.evaluate
        evaluate = factory.make_evaluate(report) if isinstance(factory, EvaluatorFactory) else factory
        if self.early_stop:
            _check_reach(evaluate)

        def work(payload: tuple[Any, ...]) -> EvaluationResult:
            genome, seed, *limits = payload
            array = np.array(genome, dtype=np.int64)
            result: Any = _watched(evaluate, array, seed, limits[0]) if limits else evaluate(array, seed)
            if not isinstance(result, EvaluationResult):
                raise TypeError(f"expected an EvaluationResult from the evaluator, got {type(result).__name__}")
            return result.changed(genome=genome, seed=seed)

        return work


def _check_reach(evaluate: Evaluate) -> None:
    """ConfigurationError where a function does not take what early stopping gives it."""
    try:
        inspect.signature(evaluate).bind(None, 0, None)
    except TypeError as error:
        raise ConfigurationError(
            f"expected a function (genome, seed, reach) with early_stop, got one for which {error}; "
            "call reach(epoch, epochs, values) after each rung"
        ) from error


def _watched(evaluate: Evaluate, genome: Genome, seed: int, limits: "Limits") -> Any:
    """The result of an evaluation that may be stopped, with its learning curve."""
    from evonas.search.stopping import Watch

    watch = Watch(limits)
    try:
        result: Any = evaluate(genome, seed, watch.reach)
    except StoppedEarly as stop:
        result = EvaluationResult(tuple(genome), {}, "stopped", str(stop), seed)
    return watch.closed(result) if isinstance(result, EvaluationResult) else result


def evaluation_seed(seed: int, key: str) -> int:
    """Seed of one evaluation: from the run's seed and the canonical genome's key, nothing else."""
    return derive_seed(seed, "evaluation", key)


def evaluation_job(genome: Genome, seed: int, predict: Predict | None = None, limits: "Limits | None" = None) -> Job:
    """The evaluation of a canonical genome in a run with this seed; with limits it may be stopped."""
    key = arch_id(genome)
    predicted = 0.0 if predict is None else float(predict(genome))
    payload = tuple(genome.tolist()), evaluation_seed(seed, key)
    return Job(key, payload if limits is None else (*payload, limits), predicted)


def evaluation_result(job: Job, outcome: Outcome, objectives: Sequence[str]) -> EvaluationResult:
    """The result of a finished evaluation, checked; a failed outcome is a failed result."""
    genome, seed, *_ = job.payload
    if not outcome.ok:
        failed = EvaluationResult.failure(genome, seed, outcome.failure, outcome.seconds, outcome.traceback)
        return checked(failed, objectives)
    return checked(outcome.value, objectives)


def checked(result: EvaluationResult, objectives: Sequence[str]) -> EvaluationResult:
    """The result as it is journalled, or a failed one if an objective is missing or a value not finite.

    A stopped one keeps what is final.
    """
    seconds = round(result.seconds, 3) if math.isfinite(result.seconds) else 0.0
    result = result.changed(seconds=seconds)
    if not result.ok:
        final = {} if result.status == "failed" else result.objectives
        kept = {name: value for name, value in final.items() if math.isfinite(value)}
        return result.changed(objectives=kept, reason=result.reason or "no reason was given")
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
