"""Attempts at jobs, and the line in which they wait."""

import heapq
from collections import deque
from dataclasses import dataclass

from evonas.executors.base import Job

__all__ = ["Attempt", "Line"]


@dataclass(frozen=True)
class Attempt:
    """One try at a job."""

    number: int
    job: Job
    alone: bool = False
    """Nothing else of this executor runs beside it."""
    growth: float = 1.0
    """Multiple of the usual share of a device, as far as the device has room."""
    lost: int = 0
    """Earlier attempts whose machine went away."""
    set_ups: int = 0
    """Earlier attempts whose worker could not be set up."""


class Line:
    """Waiting attempts: the dearest first, and those to run alone when nothing else is left."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Attempt]] = []
        self._alone: deque[Attempt] = deque()

    def __len__(self) -> int:
        return len(self._heap) + len(self._alone)

    @property
    def ready(self) -> int:
        """Attempts that need not be alone."""
        return len(self._heap)

    def put(self, attempt: Attempt) -> None:
        if attempt.alone:
            self._alone.append(attempt)
        else:
            heapq.heappush(self._heap, (-attempt.job.predicted, attempt.number, attempt))

    def take(self, running: int, room: int) -> Attempt | None:
        """The next attempt to begin beside `running` others, with room for `room` in all; None if none may."""
        if self._heap:
            return heapq.heappop(self._heap)[-1] if running < room else None
        return self._alone.popleft() if self._alone and not running else None

    def clear(self) -> None:
        self._heap.clear()
        self._alone.clear()
