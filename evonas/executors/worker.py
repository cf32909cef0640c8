"""What runs inside a worker, whatever carries it: set up once, then one attempt after another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from evonas.executors.base import Evaluate, Job, MakeEvaluate, run_job
from evonas.types import EvaluationResult, Progress

__all__ = ["Happening", "Host", "Outcome", "PlainHost", "Started", "Worker", "WorkerSetup"]

PROGRESS_SECONDS = 0.25
"""How often a worker tells its progress at most."""


@dataclass(frozen=True)
class Started:
    """Sent by a worker: an attempt has reached it."""

    attempt: int
    ready: bool
    """False: the worker sets itself up; True: the evaluation begins."""
    node: str = ""
    """Where; empty on this machine."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended."""

    attempt: int
    kind: Literal["result", "memory", "died", "lost", "set_up"]
    """result: the evaluation has one, ok or failed. memory: it needed more than there was. died: its worker process
    ended under it. lost: the machine went away. set_up: the worker never came to evaluate."""
    reason: str = ""
    result: EvaluationResult | None = None


Happening = Started | Progress | Outcome


class Host(Protocol):
    """What a worker has to do with its machine; a value that travels to it."""

    def prepare(self, place: int, share: float) -> None:
        """Called before every attempt.

        Args:
            place: number of the worker on its machine, where the executor knows it, else 0.
            share: of a device that the attempt may use, in (0, 1].
        Raises:
            Exception: evaluations cannot run here.
        """
        ...

    def release(self) -> None:
        """Called after every attempt: give back what it no longer needs. Where it raises, the worker's process ends."""
        ...

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error of an evaluation says that memory is used up."""
        ...


@dataclass(frozen=True)
class PlainHost:
    """A machine without devices to be shared."""

    def prepare(self, place: int, share: float) -> None:
        pass

    def release(self) -> None:
        pass

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)


@dataclass(frozen=True)
class WorkerSetup:
    """What every worker is given. It travels to other processes, so it holds nothing that a pickle refuses."""

    make_evaluate: MakeEvaluate
    host: Host


class Worker:
    """Runs attempts. The evaluator is set up at the first one, and kept.

    Args:
        post: takes what is to be told while an attempt runs; progress may be lost on the way, `Started` may not.
    """

    def __init__(self, setup: WorkerSetup, place: int, post: Callable[[Started | Progress], None]) -> None:
        self._setup = setup
        self._place = place
        self._post = post
        self._evaluate: Evaluate | None = None
        self._told = 0.0
        self.broken = False
        """Whether nothing more can be run in this process."""

    def run(self, attempt: int, job: Job, share: float) -> Outcome:
        """Never raises but for what ends a process, such as SystemExit."""
        try:
            if self._evaluate is None:
                self._post(Started(attempt, ready=False))
            self._setup.host.prepare(self._place, share)
            if self._evaluate is None:
                self._evaluate = self._setup.make_evaluate(self._tell)
        except Exception as error:
            return Outcome(attempt, "set_up", EvaluationResult.failure(job.genome, job.seed, error).reason)
        self._post(Started(attempt, ready=True))
        full: list[bool] = []  # not the error itself: it would keep alive what the evaluation holds
        result = run_job(self._evaluate, job, lambda error: full.append(self._setup.host.out_of_memory(error)))
        try:
            self._setup.host.release()
        except Exception:  # a device that no longer answers fails whatever comes next in this process
            self.broken = True
            return Outcome(attempt, "died", result.reason or "its device no longer answers")
        if any(full):
            return Outcome(attempt, "memory", result.reason)
        return Outcome(attempt, "result", result=result)

    def _tell(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self._post(progress)
