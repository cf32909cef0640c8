"""Jobs, their outcomes, and the protocol of everything that runs them."""

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from evonas.types import Report, Watch, reason_of, traceback_of

__all__ = ["Executor", "Job", "MakeWork", "Outcome", "Work", "ignore", "run_jobs", "run_work"]

Work = Callable[..., Any]
"""payload -> value, or (payload, checkpoint) -> value for a job that has one; an exception is the job's failure."""

MakeWork = Callable[[Report], Work]
"""Called once in every worker: sets up threads and data, and returns the function that does the jobs."""


@dataclass(frozen=True)
class Job:
    """Something to be done by a worker."""

    key: str
    """Name on the screen, unique among the jobs in flight."""
    payload: Any
    """Argument of the work. It may travel to another process: anything that can be pickled."""
    predicted: float = 0.0
    """Predicted cost, in any unit: executors with several slots start the dearest first, for a short tail."""
    checkpoint: Path | None = None
    """File of the driver with the state of a long job, replaced whole while it runs and there when it ends. An attempt
    goes on from it. The work gets a path: this one, or on a machine that does not see it that of a copy there."""


@dataclass(frozen=True)
class Outcome:
    """End of a job: a value, or a failure."""

    value: Any = None
    """Returned by the work; None after a failure."""
    failure: str = ""
    """Cause of a failure in one line, else empty."""
    seconds: float = 0.0
    """Wall time of a job that was ended for its deadline, else 0."""
    traceback: str = field(default="", compare=False, repr=False)
    """Traceback of the exception behind a failure, where there was one."""

    @classmethod
    def failed(cls, cause: BaseException | str, seconds: float = 0.0) -> "Outcome":
        """A failure; its text is `reason_of(cause)`, never empty."""
        return cls(failure=reason_of(cause), seconds=seconds, traceback=traceback_of(cause))

    @property
    def ok(self) -> bool:
        return not self.failure


class Executor(Protocol):
    """Runs jobs. A job that fails has a failed outcome; it raises nothing.

    The `report` given to `start` receives Progress, Activity and Note. It may raise Interrupted, and is therefore
    called at least a few times a second while `next_finished` waits.
    """

    @property
    def slots(self) -> int:
        """Jobs that can run at once, now; machines may join and leave."""
        ...

    @property
    def free(self) -> int:
        """Jobs that would start at once, or are worth having in line, beyond those submitted; 0 if all is busy."""
        ...

    def start(self, make_work: MakeWork, report: Watch) -> None:
        """Called once, before the first job."""
        ...

    def submit(self, job: Job) -> None:
        """Put a job in line; returns at once."""
        ...

    def next_finished(self) -> tuple[Job, Outcome]:
        """Wait for the next finished job; LookupError if none is left."""
        ...

    def count(self, cached: bool, ok: bool) -> None:
        """Count a finished job in the metrics of the executor, if it has any.

        Args:
            cached: the job was known before and did not run.
        """
        ...

    def close(self) -> None:
        """Stop all that runs and give everything back; may be called twice."""
        ...


def ignore(event: object) -> None:
    """A report that nobody watches."""


def run_work(work: Work, job: Job, raised: Callable[[Exception], object] = ignore) -> Outcome:
    """Outcome of a job done here and now.

    Args:
        raised: receives the exception of a failed job.
    """
    try:
        return Outcome(work(job.payload) if job.checkpoint is None else work(job.payload, job.checkpoint))
    except Exception as error:
        raised(error)
        return Outcome.failed(error)


def run_jobs(
    executor: Executor, make_work: MakeWork, jobs: Sequence[Job], report: Watch = ignore
) -> Generator[tuple[Job, Outcome], None, None]:
    """Run a list of jobs; yields each with its outcome as it finishes, and closes the executor at the end.

    Raises:
        ValueError: two jobs have the same key.
    """
    twice = sorted(key for key, times in Counter(job.key for job in jobs).items() if times > 1)
    if twice:
        raise ValueError(f"expected jobs with different keys, got several called {', '.join(twice)}")
    executor.start(make_work, report)
    try:
        for job in jobs:
            executor.submit(job)
        for _ in jobs:
            yield executor.next_finished()
    finally:
        executor.close()
