"""Evaluations in this process, one after another."""

from collections import deque

from evonas.executors.base import Evaluate, Job, MakeEvaluate, ignore, run_job
from evonas.types import EvaluationResult, Watch

__all__ = ["LocalExecutor"]


class LocalExecutor:
    """Runs jobs one after another in this process, in the order in which they were submitted."""

    slots = 1

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._make: MakeEvaluate | None = None
        self._evaluate: Evaluate | None = None
        self._report: Watch = ignore

    @property
    def free(self) -> int:
        return max(0, self.slots - len(self._jobs))

    def start(self, make_evaluate: MakeEvaluate, report: Watch) -> None:
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
