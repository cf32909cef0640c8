"""What every executor takes and gives: jobs, results, and the function that evaluates."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from evonas.types import EvaluationResult, Genome, Report, Watch

__all__ = ["Evaluate", "EvaluatorFactory", "Executor", "Job", "MakeEvaluate", "as_factory", "ignore", "run_job"]

Evaluate = Callable[[Genome, int], EvaluationResult]
"""(genome, seed) -> result."""

MakeEvaluate = Callable[[Report], Evaluate]
"""Called once in every worker: sets up threads and data, and returns the function that evaluates."""


@runtime_checkable
class EvaluatorFactory(Protocol):
    """An evaluator that sets itself up once in every worker."""

    def make_evaluate(self, report: Report) -> Evaluate: ...


@dataclass(frozen=True)
class Job:
    """One evaluation to run."""

    genome: tuple[int, ...]
    """Canonical."""
    seed: int
    number: int
    """How many genomes the search had proposed before it."""
    generation: int = 0
    predicted: float = 0.0
    """What it will cost, in any unit: executors with several slots start the dearest first, for a short tail."""


class Executor(Protocol):
    """Runs jobs. A job that fails gives a failed result, never an exception.

    `report`, given at the start, gets what the screen shows: Progress, Activity, Note. It may raise Interrupted, and is
    therefore called at least a few times a second while `next_finished` waits.
    """

    @property
    def slots(self) -> int:
        """Jobs that can run at once, now; machines may join and leave."""
        ...

    @property
    def free(self) -> int:
        """Jobs that would start at once, or are worth having in line, beyond those submitted; 0 where all is busy."""
        ...

    def start(self, make_evaluate: MakeEvaluate, report: Watch) -> None:
        """Called once, before the first job."""
        ...

    def submit(self, job: Job) -> None: ...
    def next_finished(self) -> tuple[Job, EvaluationResult]:
        """Wait for the next finished job; LookupError where none is left."""
        ...

    def close(self) -> None:
        """Stop what runs and give everything back; may be called twice."""
        ...


def ignore(event: object) -> None:
    """A report that nobody watches."""


def run_job(evaluate: Evaluate, job: Job, raised: Callable[[Exception], object] = ignore) -> EvaluationResult:
    """The result of a job; whatever is raised becomes a failed one. Its genome and seed are the job's.

    Args:
        raised: gets what the evaluation raised.
    """
    try:
        result = evaluate(np.array(job.genome, dtype=np.int64), job.seed)
        if not isinstance(result, EvaluationResult):
            raise TypeError(f"expected an EvaluationResult from the evaluator, got {type(result).__name__}")
    except Exception as error:
        raised(error)
        return EvaluationResult.failure(job.genome, job.seed, error)
    return EvaluationResult(job.genome, result.objectives, result.status, result.reason, job.seed, result.seconds)


def as_factory(evaluate: Evaluate | EvaluatorFactory) -> MakeEvaluate:
    """`make_evaluate` of a factory; a plain function is wrapped."""
    if isinstance(evaluate, EvaluatorFactory):
        return evaluate.make_evaluate
    if not callable(evaluate):
        raise TypeError(
            f"expected a function (genome, seed) -> EvaluationResult or an object with make_evaluate(report), "
            f"got {type(evaluate).__name__}"
        )
    return _Plain(evaluate).make_evaluate


@dataclass(frozen=True)
class _Plain:
    """A plain function as a factory; it travels where the function does."""

    evaluate: Evaluate

    def make_evaluate(self, report: Report) -> Evaluate:
        return self.evaluate
