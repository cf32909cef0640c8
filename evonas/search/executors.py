"""Where evaluations run. An executor takes jobs and gives results back in the order in which they finish."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from evonas.types import EvaluationResult, Genome, Report

__all__ = ["Evaluate", "Executor", "Job", "LocalExecutor", "MakeEvaluate", "as_factory"]

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


class Executor(Protocol):
    """Runs jobs. A job that fails gives a failed result, never an exception."""

    @property
    def slots(self) -> int:
        """Jobs that can run at once."""
        ...

    def start(self, make_evaluate: MakeEvaluate, report: Report) -> None:
        """Called once, before the first job."""
        ...

    def submit(self, job: Job) -> None: ...
    def next_finished(self) -> tuple[Job, EvaluationResult]:
        """Wait for the next finished job; LookupError where none is left."""
        ...

    def close(self) -> None:
        """Stop what runs and give everything back; may be called twice."""
        ...


class LocalExecutor:
    """Runs jobs one after another in this process, in the order in which they were submitted."""

    slots = 1

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._make: MakeEvaluate | None = None
        self._evaluate: Evaluate | None = None
        self._report: Report = ignore

    def start(self, make_evaluate: MakeEvaluate, report: Report) -> None:
        self._make, self._evaluate, self._report = make_evaluate, None, report

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def next_finished(self) -> tuple[Job, EvaluationResult]:
        if not self._jobs:
            raise LookupError("no job is left; submit one first")
        if self._evaluate is None:  # only now: a run that finds all results in its journal needs no data
            if self._make is None:
                raise LookupError("the executor was not started; call start(make_evaluate, report) first")
            self._evaluate = self._make(self._report)
        job = self._jobs.popleft()
        return job, run_job(self._evaluate, job)

    def close(self) -> None:
        self._jobs.clear()
        self._evaluate = None


def run_job(evaluate: Evaluate, job: Job) -> EvaluationResult:
    """The result of a job; whatever is raised becomes a failed one. Its genome and seed are the job's."""
    try:
        result = evaluate(np.array(job.genome, dtype=np.int64), job.seed)
        if not isinstance(result, EvaluationResult):
            raise TypeError(f"expected an EvaluationResult from the evaluator, got {type(result).__name__}")
    except Exception as error:
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
    return lambda report: evaluate


def ignore(event: object) -> None:
    """A report that nobody watches."""
