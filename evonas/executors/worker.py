"""Inside of a worker, wherever it runs: set up once, then one attempt after another."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from evonas.executors.base import Job, MakeWork, Outcome, Work, run_work
from evonas.types import Progress

__all__ = ["Ended", "Host", "Kept", "Message", "PlainHost", "Started", "Worker", "WorkerSetup"]

PROGRESS_SECONDS = 0.25
"""Shortest time between two messages of progress from a worker."""


@dataclass(frozen=True)
class Started:
    """An attempt has reached its worker."""

    attempt: int
    ready: bool
    """False: the worker sets itself up; True: the work begins."""
    node: str = ""
    """Machine of the worker; empty on this one."""


@dataclass(frozen=True)
class Ended:
    """End of an attempt."""

    attempt: int
    kind: Literal["finished", "memory", "died", "lost", "set_up"]
    """finished: the outcome is that of the job. memory: out of memory. died: the worker process ended under it.
    lost: the machine went away. set_up: the worker never came to do the work."""
    outcome: Outcome
    checkpoint: bytes | None = None
    """Checkpoint of the job where the driver does not see it; None: it does, or there is none."""


@dataclass(frozen=True)
class Kept:
    """A checkpoint on its way from a worker to the driver, which does not see the file."""

    attempt: int
    checkpoint: bytes


Message = Started | Progress | Kept | Ended
"""Anything that a worker sends to the driver."""


class Host(Protocol):
    """Care for the machine of a worker; a value that travels to it."""

    def prepare(self, place: int, share: float) -> None:
        """Called before every attempt.

        Args:
            place: number of the worker on its machine, 0 if the executor does not know it.
            share: part of a device that the attempt may use, in (0, 1].
        Raises:
            Exception: jobs cannot run here.
        """
        ...

    def release(self) -> None:
        """Called after every attempt: give back all that is no longer needed. An exception ends the process."""
        ...

    def out_of_memory(self, error: BaseException) -> bool:
        """Whether an error of the work says that memory is used up."""
        ...


@dataclass(frozen=True)
class PlainHost:
    """A machine without devices to share."""

    def prepare(self, place: int, share: float) -> None:
        pass

    def release(self) -> None:
        pass

    def out_of_memory(self, error: BaseException) -> bool:
        return isinstance(error, MemoryError)


@dataclass(frozen=True)
class WorkerSetup:
    """Everything that a worker needs. It travels to other processes, so all of it can be pickled."""

    make_work: MakeWork
    host: Host


class Worker:
    """Runs attempts. The work is set up at the first one, and kept.

    Args:
        post: sends a message while an attempt runs; progress may be lost on the way, `Started` may not.
    """

    def __init__(self, setup: WorkerSetup, place: int, post: Callable[[Started | Progress], None]) -> None:
        self._setup = setup
        self._place = place
        self._post = post
        self._work: Work | None = None
        self._reported = 0.0
        self.broken = False
        """Nothing more can be run in this process."""

    def run(self, attempt: int, job: Job, share: float) -> Ended:
        """Raises nothing but exceptions that end a process, such as SystemExit."""
        try:
            if self._work is None:
                self._post(Started(attempt, ready=False))
            self._setup.host.prepare(self._place, share)
            if self._work is None:
                self._work = self._setup.make_work(self._report)
        except Exception as error:
            return Ended(attempt, "set_up", Outcome.failed(error))
        self._post(Started(attempt, ready=True))
        full: list[bool] = []  # not the error itself: it would keep alive all that the work holds
        outcome = run_work(self._work, job, lambda error: full.append(self._setup.host.out_of_memory(error)))
        try:
            self._setup.host.release()
        except Exception:  # a device that no longer answers fails all that follows in this process
            self.broken = True
            return Ended(attempt, "died", Outcome.failed(outcome.failure or "its device no longer answers"))
        return Ended(attempt, "memory" if any(full) else "finished", outcome)

    def _report(self, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._reported >= PROGRESS_SECONDS:
            self._reported = now
            self._post(progress)
