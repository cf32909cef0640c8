"""What happens to jobs when workers fail: run again, run alone, or recorded as failed. One policy for every carrier."""

import heapq
import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evonas.errors import ConfigurationError, ExecutionError
from evonas.executors.base import Job, MakeEvaluate, ignore
from evonas.executors.worker import Happening, Outcome, Started
from evonas.types import Activity, EvaluationResult, Note, Progress, Watch, arch_id

__all__ = ["Attempt", "Line", "SupervisedExecutor", "Workers"]

LOST_AT_MOST = 10
"""A job whose machines went away so often is failed: it may be the job that takes them down."""

SET_UPS_AT_MOST = 3
"""A job whose workers could not be set up so often ends the search: the fault is not the network's."""

SET_UP_SECONDS = 600.0
"""A worker that takes longer to set itself up is ended and counts as one that could not be."""

PATIENCE = 30.0
"""Seconds in which nothing starts, after which the screen says so."""

TICK = 0.2
"""Seconds between two looks at deadlines, signals and machines."""


@dataclass(frozen=True)
class Attempt:
    """One try at a job."""

    number: int
    job: Job
    alone: bool = False
    """Nothing else of this search runs beside it."""
    growth: float = 1.0
    """How many times the usual share of a device it gets, as far as there is one."""
    lost: int = 0
    set_ups: int = 0


class Workers(Protocol):
    """Carries attempts: processes of this machine, tasks of a cluster."""

    def open(self, make_evaluate: MakeEvaluate) -> None: ...
    @property
    def slots(self) -> int:
        """Attempts that can run at once, now."""
        ...

    @property
    def ahead(self) -> int:
        """One or none: a further job worth breeding, because an autoscaler sees what waits."""
        ...

    @property
    def room(self) -> int:
        """Attempts worth having begun, with those that wait there for a slot."""
        ...

    def begin(self, attempt: Attempt) -> None: ...
    def poll(self, seconds: float) -> Sequence[Happening]:
        """What has happened; waits at most so long for something to happen."""
        ...

    def kill(self, attempt: int) -> None:
        """End an attempt and whatever process it runs in; no outcome follows."""
        ...

    def activity(self, running: Sequence[Attempt], waiting: int, retries: int) -> Activity: ...
    def close(self) -> None:
        """End every process that was started here; may be called twice."""
        ...


class Line:
    """Attempts that wait: the dearest first, and those that are to run alone when nothing else is left."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Attempt]] = []
        self._alone: deque[Attempt] = deque()

    def __len__(self) -> int:
        return len(self._heap) + len(self._alone)

    @property
    def ready(self) -> int:
        """Those that need not be alone."""
        return len(self._heap)

    def put(self, attempt: Attempt) -> None:
        if attempt.alone:
            self._alone.append(attempt)
        else:
            heapq.heappush(self._heap, (-attempt.job.predicted, attempt.number, attempt))

    def take(self, running: int, room: int) -> Attempt | None:
        """The next one to begin beside `running` others, with room for so many in all; None: none may."""
        if self._heap:
            return heapq.heappop(self._heap)[-1] if running < room else None
        return self._alone.popleft() if self._alone and not running else None

    def clear(self) -> None:
        self._heap.clear()
        self._alone.clear()


@dataclass
class _Running:
    attempt: Attempt
    since: float | None = None
    """When its deadline began; None before its worker has told that it started."""
    ready: bool = False


class SupervisedExecutor:
    """An executor over workers that may fail.

    A job that raises is failed. A job that runs out of memory, or under which its worker process ends, is tried once
    more, alone and with a doubled share, when nothing else is left to run, and failed then. A job whose machine goes
    away runs again. A job past its deadline is failed and its process killed. Workers that cannot be set up end the
    search with an ExecutionError, because no network is to blame: nothing is recorded, the same command goes on.

    Args:
        timeout: seconds an evaluation may take, counted from its worker's signal that it begins; None: any.
    """

    def __init__(self, workers: Workers, timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"expected a timeout of more than 0 seconds, got {timeout}")
        self._workers = workers
        self._timeout = timeout
        self._line = Line()
        self._running: dict[int, _Running] = {}
        self._finished: deque[tuple[Job, EvaluationResult]] = deque()
        self._make: MakeEvaluate | None = None
        self._watch: Watch = ignore
        self._numbers = self._retries = 0
        self._open = False
        self._idle_since: float | None = None
        """Since when jobs wait and none runs; inf where that was said."""

    @property
    def slots(self) -> int:
        self._ensure_open()
        return self._workers.slots

    @property
    def free(self) -> int:
        if self._one_alone:
            return 0
        return max(0, self.slots + self._workers.ahead - len(self._running) - self._line.ready)

    def start(self, make_evaluate: MakeEvaluate, report: Watch) -> None:
        self._stop()
        self._make, self._watch = make_evaluate, report

    def submit(self, job: Job) -> None:
        self._numbers += 1
        self._line.put(Attempt(self._numbers, job))

    def next_finished(self) -> tuple[Job, EvaluationResult]:
        while not self._finished:
            if not self._running and not self._line:
                raise LookupError("no job is left; submit one first")
            self._ensure_open()
            self._begin()
            for happening in self._workers.poll(TICK):
                self._take(happening)
            self._end_overdue()
            self._show()
        return self._finished.popleft()

    def close(self) -> None:
        self._stop()

    def _stop(self) -> None:
        self._line.clear()
        self._running.clear()
        self._finished.clear()
        self._open = False
        self._workers.close()

    def _ensure_open(self) -> None:
        if self._open:
            return
        if self._make is None:
            raise LookupError("the executor was not started; call start(make_evaluate, report) first")
        self._workers.open(self._make)
        self._open = True

    def _begin(self) -> None:
        """Start what may start."""
        room = self._workers.room
        while not self._one_alone and (attempt := self._line.take(len(self._running), room)):
            self._running[attempt.number] = _Running(attempt)
            self._workers.begin(attempt)

    @property
    def _one_alone(self) -> bool:
        """Whether what runs is to have no other beside it."""
        return any(each.attempt.alone for each in self._running.values())

    def _take(self, happening: Happening) -> None:
        if isinstance(happening, Progress):
            self._watch(happening)
            return
        running = self._running.get(happening.attempt)
        if running is None:  # it was ended for its deadline, and this came too late
            return
        if isinstance(happening, Started):
            running.since, running.ready = time.monotonic(), happening.ready
            return
        del self._running[happening.attempt]
        again = happening.kind == "memory" and running.attempt.alone
        if not running.ready and (happening.kind == "died" or again):  # nothing of the network was run in it
            happening = replace(happening, kind="set_up")
        elif running.ready and happening.kind == "set_up":
            happening = replace(happening, kind="died")
        self._judge(running.attempt, happening)

    def _judge(self, attempt: Attempt, outcome: Outcome) -> None:
        """Finish the job, or put it in line again."""
        if outcome.result is not None:
            self._finished.append((attempt.job, outcome.result))
        elif outcome.kind == "lost" and attempt.lost + 1 < LOST_AT_MOST:
            self._again(replace(attempt, lost=attempt.lost + 1), f"{outcome.reason}; it runs again")
        elif outcome.kind == "set_up":
            if attempt.set_ups + 1 >= SET_UPS_AT_MOST:
                raise ExecutionError(
                    f"expected workers that can be set up, but {SET_UPS_AT_MOST} could not, the last one: "
                    f"{outcome.reason}; mend that and run the same command again (everything recorded so far is kept)"
                )
            self._again(replace(attempt, set_ups=attempt.set_ups + 1), f"{outcome.reason}; another worker takes it")
        elif outcome.kind != "lost" and not attempt.alone:
            alone = replace(attempt, alone=True, growth=2.0)
            self._again(alone, f"{outcome.reason}; it is tried once more, alone, when nothing else is left to run")
        else:
            self._fail(attempt, outcome.reason)

    def _again(self, attempt: Attempt, why: str) -> None:
        self._numbers += 1
        self._retries += 1
        self._line.put(replace(attempt, number=self._numbers))
        self._watch(Note(f"{arch_id(attempt.job.genome)}: {why}"))

    def _fail(self, attempt: Attempt, reason: str, seconds: float = 0.0) -> None:
        job = attempt.job
        self._finished.append((job, EvaluationResult.failure(job.genome, job.seed, reason, seconds)))

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for number, running in list(self._running.items()):
            limit = self._timeout if running.ready else SET_UP_SECONDS
            if running.since is None or limit is None or now - running.since <= limit:
                continue
            self._workers.kill(number)
            del self._running[number]
            if running.ready:
                self._fail(running.attempt, f"it took longer than its {limit:g} seconds", now - running.since)
            else:
                reason = f"its worker took longer than {limit:g} seconds to set itself up"
                self._judge(running.attempt, Outcome(number, "set_up", reason))

    def _show(self) -> None:
        begun = [each.attempt for each in self._running.values() if each.since is not None]
        waiting = len(self._line) + len(self._running) - len(begun)
        activity = self._workers.activity(begun, waiting, self._retries)
        self._watch(activity)  # every time: it is also where a run that is to end is told so
        if activity.running or not waiting:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > PATIENCE:
            why = "others use what there is" if activity.slots else "no machine can run one now"
            self._watch(Note(f"no evaluation has started for {PATIENCE:g} seconds: {why}; waiting"))
            self._idle_since = math.inf
