"""Jobs whose workers fail: run again, run alone, or given up. One policy for every kind of worker."""

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from evonas.errors import ConfigurationError, ExecutionError
from evonas.executors.attempts import Attempt, Line
from evonas.executors.base import Job, MakeWork, Outcome, ignore
from evonas.executors.worker import Ended, Kept, Message, Started
from evonas.files import replace_file
from evonas.types import Activity, Note, Progress, Watch

__all__ = ["SupervisedExecutor", "Workers"]

LOST_AT_MOST = 10
"""A job whose machines went away this often is given up: it may be the job that takes them down."""

SET_UPS_AT_MOST = 3
"""A job whose workers could not be set up this often ends everything: the job is not to blame."""

SET_UP_SECONDS = 600.0
"""A worker whose set-up takes longer is ended and counts as one that could not be set up."""

PATIENCE = 30.0
"""Seconds without a start after which the screen says so."""

TICK = 0.2
"""Seconds between two looks at deadlines, signals and machines."""


class Workers(Protocol):
    """Runs attempts: processes of this machine, tasks of a cluster."""

    def open(self, make_work: MakeWork) -> None: ...
    @property
    def slots(self) -> int:
        """Attempts that can run at once, now."""
        ...

    @property
    def ahead(self) -> int:
        """0, or 1 where one more job is worth submitting: an autoscaler looks at the jobs that wait."""
        ...

    @property
    def room(self) -> int:
        """Attempts worth beginning, including those that then wait for a slot."""
        ...

    def begin(self, attempt: Attempt) -> None: ...
    def poll(self, seconds: float) -> Sequence[Message]:
        """New messages; waits up to `seconds` for one."""
        ...

    def kill(self, attempt: int) -> None:
        """End an attempt with its process; no `Ended` follows."""
        ...

    def activity(self, running: Sequence[Attempt], waiting: int, retries: int) -> Activity: ...
    def close(self) -> None:
        """End every process that was started here; may be called twice."""
        ...


@dataclass
class _Running:
    attempt: Attempt
    since: float | None = None
    """Start of its deadline; None until its worker says that it started."""
    ready: bool = False


class SupervisedExecutor:
    """An executor over workers that may fail.

    A job that raises has failed. After running out of memory, or the end of its worker process, a job is tried once
    more, alone and with a doubled share, when nothing else is left to run, and then given up. A job whose machine goes
    away runs again. An attempt goes on from the checkpoint of its job. A job past its deadline is given up and its
    process killed. Workers that cannot be set up raise ExecutionError, because no job is to blame.

    Args:
        timeout: seconds a job may take, counted from the sign of its worker that it begins; None: any.
    """

    def __init__(self, workers: Workers, timeout: float | None = None) -> None:
        if timeout is not None and not timeout > 0:
            raise ConfigurationError(f"expected a timeout of more than 0 seconds, got {timeout}")
        self._workers = workers
        self._timeout = timeout
        self._line = Line()
        self._running: dict[int, _Running] = {}
        self._finished: deque[tuple[Job, Outcome]] = deque()
        self._make: MakeWork | None = None
        self._watch: Watch = ignore
        self._numbers = self._retries = 0
        self._open = False
        self._idle_since: float | None = None
        """Time since which jobs wait and none runs; inf once the screen has said so."""

    @property
    def slots(self) -> int:
        self._ensure_open()
        return self._workers.slots

    @property
    def free(self) -> int:
        if self._one_alone:
            return 0
        return max(0, self.slots + self._workers.ahead - len(self._running) - self._line.ready)

    def start(self, make_work: MakeWork, report: Watch) -> None:
        self._stop()
        self._make, self._watch = make_work, report

    def submit(self, job: Job) -> None:
        self._numbers += 1
        self._line.put(Attempt(self._numbers, job))

    def next_finished(self) -> tuple[Job, Outcome]:
        while not self._finished:
            if not self._running and not self._line:
                raise LookupError("no job is left; submit one first")
            self._ensure_open()
            self._begin()
            for message in self._workers.poll(TICK):
                self._take(message)
            self._end_overdue()
            self._show()
        return self._finished.popleft()

    def count(self, cached: bool, ok: bool) -> None:
        """No metrics, unless a subclass has some."""

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
            raise LookupError("the executor was not started; call start(make_work, report) first")
        self._workers.open(self._make)
        self._open = True

    def _begin(self) -> None:
        """Start all that may start."""
        room = self._workers.room
        while not self._one_alone and (attempt := self._line.take(len(self._running), room)):
            self._running[attempt.number] = _Running(attempt)
            self._workers.begin(attempt)

    @property
    def _one_alone(self) -> bool:
        return any(each.attempt.alone for each in self._running.values())

    def _take(self, message: Message) -> None:
        if isinstance(message, Progress):
            self._watch(message)
            return
        running = self._running.get(message.attempt)
        if running is None:  # it was ended for its deadline, and this came too late
            return
        if isinstance(message, Started):
            running.since, running.ready = time.monotonic(), message.ready
            return
        if message.checkpoint is not None and running.attempt.job.checkpoint is not None:
            content = message.checkpoint
            replace_file(running.attempt.job.checkpoint, lambda file: file.write(content))
        if isinstance(message, Kept):
            return
        del self._running[message.attempt]
        again = message.kind == "memory" and running.attempt.alone
        if not running.ready and (message.kind == "died" or again):  # nothing of the job was run in it
            message = replace(message, kind="set_up")
        elif running.ready and message.kind == "set_up":
            message = replace(message, kind="died")
        self._judge(running.attempt, message)

    def _judge(self, attempt: Attempt, ended: Ended) -> None:
        """Finish the job, or put it in line again."""
        reason = ended.outcome.failure
        if ended.kind == "lost" and attempt.lost + 1 < LOST_AT_MOST:
            self._again(replace(attempt, lost=attempt.lost + 1), f"{reason}; it runs again")
        elif ended.kind == "set_up":
            if attempt.set_ups + 1 >= SET_UPS_AT_MOST:
                raise ExecutionError(
                    f"expected workers that can be set up, but {SET_UPS_AT_MOST} could not, the last one: "
                    f"{reason}; mend that and run the same command again (everything recorded so far is kept)"
                )
            self._again(replace(attempt, set_ups=attempt.set_ups + 1), f"{reason}; another worker takes it")
        elif ended.kind in ("memory", "died") and not attempt.alone:
            alone = replace(attempt, alone=True, growth=2.0)
            self._again(alone, f"{reason}; it is tried once more, alone, when nothing else is left to run")
        else:
            self._finished.append((attempt.job, ended.outcome))

    def _again(self, attempt: Attempt, why: str) -> None:
        self._numbers += 1
        self._retries += 1
        self._line.put(replace(attempt, number=self._numbers))
        self._watch(Note(f"{attempt.job.key}: {why}"))

    def _end_overdue(self) -> None:
        now = time.monotonic()
        for number, running in list(self._running.items()):
            limit = self._timeout if running.ready else SET_UP_SECONDS
            if running.since is None or limit is None or now - running.since <= limit:
                continue
            self._workers.kill(number)
            del self._running[number]
            if running.ready:
                overdue = Outcome.failed(f"it took longer than its {limit:g} seconds", now - running.since)
                self._finished.append((running.attempt.job, overdue))
            else:
                reason = f"its worker took longer than {limit:g} seconds to set itself up"
                self._judge(running.attempt, Ended(number, "set_up", Outcome.failed(reason)))

    def _show(self) -> None:
        begun = [each.attempt for each in self._running.values() if each.since is not None]
        waiting = len(self._line) + len(self._running) - len(begun)
        activity = self._workers.activity(begun, waiting, self._retries)
        self._watch(activity)  # every time: it may raise, to end the run
        if activity.running or not waiting:
            self._idle_since = None
        elif self._idle_since is None:
            self._idle_since = time.monotonic()
        elif time.monotonic() - self._idle_since > PATIENCE:
            why = "others use what there is" if activity.slots else "no machine can run one now"
            self._watch(Note(f"no job has started for {PATIENCE:g} seconds: {why}; waiting"))
            self._idle_since = math.inf
