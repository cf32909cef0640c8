"""Jobs in this process, one after another."""

from collections import deque

from evonas.executors.base import Job, MakeWork, Outcome, Work, ignore, run_work
from evonas.types import Watch

__all__ = ["LocalExecutor"]


class LocalExecutor:
    """Runs jobs one after another in this process, in the order of submission."""

    slots = 1

    def __init__(self) -> None:
        self._jobs: deque[Job] = deque()
        self._make: MakeWork | None = None
        self._work: Work | None = None
        self._report: Watch = ignore

    @property
    def free(self) -> int:
        return max(0, self.slots - len(self._jobs))

    def start(self, make_work: MakeWork, report: Watch) -> None:
        self._make, self._work, self._report = make_work, None, report

    def submit(self, job: Job) -> None:
        self._jobs.append(job)

    def next_finished(self) -> tuple[Job, Outcome]:
        if not self._jobs:
            raise LookupError("no job is left; submit one first")
        if self._work is None:  # only now: a run with all results in its journal needs no data
            if self._make is None:
                raise LookupError("the executor was not started; call start(make_work, report) first")
            self._work = self._make(self._report)
        job = self._jobs.popleft()
        return job, run_work(self._work, job)

    def count(self, cached: bool, ok: bool) -> None:
        """No metrics here."""

    def close(self) -> None:
        self._jobs.clear()
        self._work = None
