"""What becomes of jobs whose workers fail: every branch of the policy, with workers that follow a script."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from evonas.errors import ConfigurationError, ExecutionError
from evonas.executors import Job, Outcome, ignore, supervision
from evonas.executors.attempts import Attempt
from evonas.executors.supervision import LOST_AT_MOST, SET_UP_SECONDS, TICK, SupervisedExecutor
from evonas.executors.worker import Ended, Kept, Message, Started
from evonas.types import Activity, Note, Progress


class Clock:
    """Moves on only while somebody waits."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


class Scripted:
    """Workers without processes. The end of each try at a job is listed by the job's payload; after the list, or
    without one, it is "finished". An attempt begins at one poll and ends at the next.

    "pending" waits 20 polls for a machine, "slow" works that long, "slow set-up" sets itself up that long; "hangs" and
    "stuck" do so for ever. "early" dies during the set-up; the others are the kinds of `Ended`.
    """

    def __init__(self, clock: Clock, slots: int = 2, ahead: int = 0) -> None:
        self.slots, self.ahead = slots, ahead
        self.script: dict[int, list[str]] = {}
        self.begun: list[Attempt] = []
        self.beside: list[int] = []
        """How many others ran when each attempt began."""
        self.most = 0
        """So many ran at once."""
        self.killed: list[int] = []
        self.late: list[Message] = []
        """Comes at the next poll, whatever it is."""
        self.opened = 0
        self.queued = 0
        """So many more may wait there for a slot."""
        self.seconds: float | None = None
        """A poll takes so long; None: as long as it may."""
        self._clock = clock
        self._running: dict[int, tuple[Attempt, Iterator[list[Message]]]] = {}
        self._tries: dict[int, Iterator[str]] = {}

    @property
    def room(self) -> int:
        return self.slots + self.ahead + self.queued

    def open(self, make_work: Any) -> None:
        self.opened += 1

    def begin(self, attempt: Attempt) -> None:
        self.begun.append(attempt)
        self.beside.append(len(self._running))
        number = attempt.job.payload
        tries = self._tries.setdefault(number, iter(self.script.get(number, [])))
        self._running[attempt.number] = attempt, life(attempt, next(tries, "finished"))
        self.most = max(self.most, len(self._running))

    def poll(self, seconds: float) -> Sequence[Message]:
        self._clock.now += seconds if self.seconds is None else self.seconds
        happened, self.late = self.late, []
        for number, (_, lived) in list(self._running.items()):
            happened += (now := next(lived))
            if any(isinstance(each, Ended) for each in now):
                del self._running[number]
        return happened

    def kill(self, attempt: int) -> None:
        self.killed.append(attempt)
        killed, _ = self._running.pop(attempt)
        self.late = [Started(attempt, ready=True), Ended(attempt, "finished", found(killed.job))]

    def activity(self, running: Sequence[Attempt], waiting: int, retries: int) -> Activity:
        return Activity(len(running), waiting, self.slots, retries=retries)

    def close(self) -> None:
        self._running.clear()


def life(attempt: Attempt, does: str) -> Iterator[list[Message]]:
    """What an attempt tells at every poll."""
    number = attempt.number
    if does == "pending":
        yield from [[]] * 20
    yield [Started(number, ready=False)]
    if does == "slow set-up":
        yield from [[]] * 20
    if does not in ("early", "set_up", "stuck"):
        yield [Started(number, ready=True)]
    if does == "slow":
        yield from [[]] * 20
    while does in ("stuck", "hangs"):
        yield []
    if does in ("early", "set_up", "died", "memory", "lost"):
        kind = "died" if does == "early" else does
        yield [Ended(number, kind, Outcome.failed(f"{does} again"))]  # type: ignore[arg-type]
    yield [Ended(number, "finished", found(attempt.job))]


def test_checkpoints_that_come_from_elsewhere_are_written(clock: Clock, tmp_path: Path) -> None:
    """While an attempt runs, and at its end whatever that is; of an attempt that was ended they come too late."""
    path = tmp_path / "new" / "kept.pt"
    workers = Scripted(clock)
    executor = SupervisedExecutor(workers)
    executor.start(ignore, ignore)  # type: ignore[arg-type]
    executor.submit(Job("job", 1, checkpoint=path))
    workers.script[1] = ["died", "slow"]
    workers.late = [Kept(9, b"of nobody")]
    seen: list[bytes | None] = []

    def poll(seconds: float) -> Sequence[Message]:
        seen.append(path.read_bytes() if path.exists() else None)
        messages = list(Scripted.poll(workers, seconds))
        number = workers.begun[-1].number
        for place, message in enumerate(messages):
            if isinstance(message, Ended):
                messages[place] = replace(message, checkpoint=b"last of %d" % number)
            elif isinstance(message, Started) and message.ready:
                messages.append(Kept(number, b"first of %d" % number))
        return messages

    workers.poll = poll  # type: ignore[method-assign]
    assert executor.next_finished()[1] == Outcome(101)
    assert list(dict.fromkeys(seen)) == [None, b"first of 1", b"last of 1", b"first of 2"]
    assert path.read_bytes() == b"last of 2"


def found(job: Job) -> Outcome:
    return Outcome(100 + job.payload)


def never(report: object) -> Any:
    raise AssertionError("scripted workers do nothing")


def jobs(n: int, predicted: Sequence[float] = ()) -> list[Job]:
    return [Job(f"job {i}", i, predicted[i] if predicted else 0.0) for i in range(n)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(supervision, "time", clock)
    return clock


@pytest.fixture
def workers(clock: Clock) -> Scripted:
    return Scripted(clock)


def started(
    workers: Scripted, of: Sequence[Job] = (), timeout: float | None = None, report: Any = ignore
) -> SupervisedExecutor:
    executor = SupervisedExecutor(workers, timeout)
    executor.start(never, report)
    for job in of:
        executor.submit(job)
    return executor


def finish(executor: SupervisedExecutor) -> dict[int, Outcome]:
    """All outcomes by the payload of their job, each once."""
    outcomes: dict[int, Outcome] = {}
    while True:
        try:
            job, outcome = executor.next_finished()
        except LookupError:
            return outcomes
        assert job.payload not in outcomes
        outcomes[job.payload] = outcome


def order(workers: Scripted) -> list[int]:
    return [attempt.job.payload for attempt in workers.begun]


def test_outcomes_come_back_each_once(workers: Scripted) -> None:
    assert finish(started(workers, jobs(5))) == {job.payload: found(job) for job in jobs(5)}
    assert order(workers) == [0, 1, 2, 3, 4]
    assert all((a.alone, a.growth, a.lost, a.set_ups) == (False, 1.0, 0, 0) for a in workers.begun)
    assert workers.opened == 1


def test_the_dearest_begins_first_and_equals_in_the_order_of_submission(workers: Scripted) -> None:
    workers.slots = 1
    finish(started(workers, jobs(5, [1.0, 3.0, 2.0, 3.0, 0.5])))
    assert order(workers) == [1, 3, 2, 0, 4]


@pytest.mark.parametrize("kind", ["memory", "died"])
def test_what_breaks_its_worker_is_tried_once_more_alone_and_doubled(workers: Scripted, kind: str) -> None:
    workers.script = {1: [kind], 2: [kind, kind]}
    outcomes = finish(started(workers, jobs(6)))
    assert {number for number, outcome in outcomes.items() if not outcome.ok} == {2}
    assert outcomes[2] == Outcome(failure=f"{kind} again")
    assert order(workers) == [0, 1, 2, 3, 4, 5, 1, 2]
    assert [(a.alone, a.growth) for a in workers.begun[6:]] == [(True, 2.0)] * 2
    assert workers.beside[6:] == [0, 0]


def test_a_worker_that_dies_before_the_work_begins_says_nothing_about_the_job(workers: Scripted) -> None:
    workers.script = {0: ["early", "set_up"]}
    assert finish(started(workers, jobs(1))) == {0: found(jobs(1)[0])}
    assert [attempt.set_ups for attempt in workers.begun] == [0, 1, 2]
    assert all((attempt.alone, attempt.growth) == (False, 1.0) for attempt in workers.begun)


@pytest.mark.parametrize("kind", ["early", "set_up"])
def test_workers_that_cannot_be_set_up_end_everything(workers: Scripted, kind: str) -> None:
    workers.script = {1: [kind] * 3}
    executor = started(workers, jobs(3))
    with pytest.raises(ExecutionError, match=f"3 could not, the last one: {kind} again; mend that"):
        finish(executor)
    assert order(workers).count(1) == 3


def test_a_job_whose_machines_go_away_runs_again_at_most_ten_times(workers: Scripted) -> None:
    workers.script = {0: ["lost"] * (LOST_AT_MOST - 1), 1: ["lost"] * LOST_AT_MOST}
    outcomes = finish(started(workers, jobs(2)))
    assert outcomes == {0: found(jobs(2)[0]), 1: Outcome(failure="lost again")}
    assert order(workers).count(0) == order(workers).count(1) == LOST_AT_MOST == 10
    assert not any(a.alone for a in workers.begun), "no job is to blame"


def test_a_lost_job_keeps_its_place_by_cost_and_its_solitude(workers: Scripted) -> None:
    workers.slots, workers.script = 1, {0: ["lost"], 1: ["died", "lost"]}
    outcomes = finish(started(workers, jobs(3, [3.0, 2.0, 1.0])))
    assert all(outcome.ok for outcome in outcomes.values())
    assert order(workers) == [0, 0, 1, 2, 1, 1]
    assert [(a.alone, a.growth, a.lost) for a in workers.begun[4:]] == [(True, 2.0, 0), (True, 2.0, 1)]


def test_kinds_of_failure_are_counted_apart(workers: Scripted) -> None:
    workers.script = {0: ["lost", "set_up", "lost", "early", "memory", "lost"]}
    assert finish(started(workers, jobs(1)))[0].ok
    last = workers.begun[-1]
    assert (last.lost, last.set_ups, last.alone, last.growth) == (3, 2, True, 2.0)


def test_past_its_deadline_a_job_is_killed_and_failed(workers: Scripted) -> None:
    workers.script = {1: ["hangs"]}
    outcomes = finish(started(workers, jobs(4), timeout=5.0))
    assert [number for number, outcome in outcomes.items() if not outcome.ok] == [1]
    assert outcomes[1].failure == "it took longer than its 5 seconds"
    assert 5.0 < outcomes[1].seconds <= 5.0 + 2 * TICK
    assert workers.killed == [2]
    assert order(workers) == [0, 1, 2, 3], "it is not tried again"


def test_what_comes_after_a_kill_is_ignored(workers: Scripted) -> None:
    """The scripted workers send an outcome of the killed job at the next poll."""
    workers.slots, workers.script = 1, {0: ["hangs"], 1: ["slow"]}
    outcomes = finish(started(workers, jobs(2), timeout=10.0))
    assert (outcomes[0].ok, outcomes[1].ok) == (False, True)
    assert workers.late == []


def test_without_a_timeout_a_job_may_take_any_time(workers: Scripted) -> None:
    workers.seconds, workers.script = 1e5, {0: ["slow"]}
    assert finish(started(workers, jobs(1)))[0].ok
    assert workers.killed == []


def test_no_deadline_runs_before_a_worker_tells_that_it_started(workers: Scripted) -> None:
    """A job may wait for a machine for days."""
    workers.seconds, workers.script = 1e5, {0: ["pending"]}
    assert finish(started(workers, jobs(1), timeout=2e5))[0].ok
    assert workers.killed == []


def test_the_set_up_does_not_count_as_work(workers: Scripted) -> None:
    workers.script = {0: ["slow set-up"]}
    assert finish(started(workers, jobs(1), timeout=20 * TICK / 2))[0].ok
    workers.script = {1: ["slow"]}
    assert not finish(started(workers, jobs(2)[1:], timeout=20 * TICK / 2))[1].ok


def test_a_set_up_that_takes_too_long_is_ended_and_tried_elsewhere(workers: Scripted, clock: Clock) -> None:
    workers.script, begun = {0: ["stuck"], 1: ["stuck"] * 3}, clock.now
    executor = started(workers, jobs(1), timeout=1.0)
    assert finish(executor)[0].ok
    assert workers.killed == [1]
    assert SET_UP_SECONDS < clock.now - begun < SET_UP_SECONDS + 10 * TICK
    assert [a.set_ups for a in workers.begun] == [0, 1]
    executor.submit(jobs(2)[1])
    with pytest.raises(ExecutionError, match="longer than 600 seconds to set itself up"):
        finish(executor)


def test_alone_means_that_nothing_else_runs(workers: Scripted) -> None:
    """Not even another one that is to be alone, nor a job that is submitted meanwhile."""
    workers.slots, workers.script = 3, {0: ["died", "slow"], 1: ["memory", "slow"], 2: ["slow"]}
    submitted: list[Job] = []

    def submit_more(event: object) -> None:
        if any(a.alone for a in workers.begun) and not submitted:
            submitted.append(jobs(6)[5])
            executor.submit(submitted[0])

    executor = started(workers, jobs(5), report=submit_more)
    assert all(outcome.ok for outcome in finish(executor).values())
    assert submitted
    alone = [i for i, attempt in enumerate(workers.begun) if attempt.alone]
    assert [workers.begun[i].job.payload for i in alone] == [0, 1]
    assert [workers.beside[i] for i in alone] == [0, 0]
    assert order(workers) == [0, 1, 2, 3, 4, 0, 5, 1], "the one that came meanwhile begins between the two"
    assert workers.beside[6] == 0
    assert workers.most == 3


def test_slots_may_come_and_go(workers: Scripted) -> None:
    """Nothing that runs is ended where they become fewer; nothing new begins until there is room."""
    executor = started(workers, jobs(12))
    executor.next_finished()
    assert workers.most == 2
    workers.slots = 4
    executor.next_finished()
    executor.next_finished()
    assert workers.most == 4
    workers.slots, begun = 1, len(workers.begun)
    finish(executor)
    assert set(workers.beside[begun:]) == {0}
    assert len(workers.begun) == 12


def test_without_any_slot_only_what_is_worth_having_in_line_begins(clock: Clock) -> None:
    workers = Scripted(clock, slots=0, ahead=1)
    workers.script = {0: ["pending"]}
    finish(started(workers, jobs(3)))
    assert workers.most == 1


def test_as_many_begin_as_there_is_room_for_though_fewer_are_worth_submitting(workers: Scripted) -> None:
    workers.queued = 3
    executor = started(workers, jobs(9))
    assert executor.free == 0
    finish(executor)
    assert workers.most == 2 + 3
    assert executor.free == 2


def test_free_counts_slots_and_those_in_line(clock: Clock) -> None:
    workers = Scripted(clock, slots=3, ahead=1)
    executor = started(workers)
    assert (executor.slots, executor.free) == (3, 4)
    for job in jobs(6):
        executor.submit(job)
    assert executor.free == 0
    executor.next_finished()  # the four that ran are through, two are in line
    assert executor.free == 4 - 2
    workers.slots = 5
    assert executor.free == 5 + 1 - 2
    workers.slots = 0
    assert executor.free == 0
    workers.slots = 3
    finish(executor)
    assert executor.free == 4


def test_nothing_is_free_while_one_runs_alone(workers: Scripted) -> None:
    workers.script = {0: ["died"]}
    free: list[tuple[bool, int]] = []

    def watch(event: object) -> None:
        alone = any(each.attempt.alone for each in executor._running.values())
        free.append((alone, executor.free))

    executor = started(workers, jobs(2), report=watch)
    finish(executor)
    assert {0} == {count for alone, count in free if alone}
    assert max(count for alone, count in free if not alone) == 2


def test_activity_tells_running_waiting_and_retries(workers: Scripted) -> None:
    heard: list[object] = []
    workers.slots, workers.script = 2, {0: ["pending"], 1: ["died", "lost"]}
    finish(started(workers, jobs(4), report=heard.append))
    told = [event for event in heard if isinstance(event, Activity)]
    assert told[0] == Activity(running=1, waiting=3, slots=2), "the first one has no machine yet"
    assert (told[-1].running, told[-1].waiting, told[-1].retries) == (0, 0, 2)
    retries = [each.retries for each in told]
    assert retries == sorted(retries)
    assert max(each.running + each.waiting for each in told) == 4


def test_every_other_try_is_noted(workers: Scripted) -> None:
    told: list[object] = []
    workers.script = {0: ["died"], 1: ["lost"], 2: ["set_up"]}
    finish(started(workers, jobs(3), report=told.append))
    notes = [event.text for event in told if isinstance(event, Note)]
    assert sorted(notes) == sorted(
        [
            "job 0: died again; it is tried once more, alone, when nothing else is left to run",
            "job 1: lost again; it runs again",
            "job 2: set_up again; another worker takes it",
        ]
    )


def test_the_screen_says_once_that_nothing_starts(workers: Scripted, clock: Clock) -> None:
    told: list[object] = []
    workers.seconds, workers.script, begun = 5.0, {0: ["pending"]}, clock.now
    finish(started(workers, jobs(1), report=told.append))
    assert clock.now - begun > 100
    notes = [event.text for event in told if isinstance(event, Note)]
    assert notes == ["no job has started for 30 seconds: others use what there is; waiting"]


def test_progress_goes_to_the_watcher(workers: Scripted) -> None:
    told: list[object] = []
    executor = started(workers, jobs(1), report=told.append)
    workers.late = [Progress("a job", 1, 2)]
    finish(executor)
    assert told[0] == Progress("a job", 1, 2)


def test_a_watcher_that_interrupts_is_heard_while_nothing_happens(workers: Scripted) -> None:
    workers.script = {0: ["hangs"]}
    polls: list[object] = []

    def interrupt(event: object) -> None:
        polls.append(event)
        if len(polls) == 10:
            raise KeyboardInterrupt

    executor = started(workers, jobs(1), report=interrupt)
    with pytest.raises(KeyboardInterrupt):
        executor.next_finished()
    executor.close()
    with pytest.raises(LookupError, match="no job is left"):
        executor.next_finished()


def test_it_must_be_started_and_may_be_started_again(workers: Scripted) -> None:
    executor = SupervisedExecutor(workers)
    with pytest.raises(LookupError, match="was not started"):
        executor.slots  # noqa: B018
    for again in (1, 2):
        executor.start(never, ignore)
        executor.submit(jobs(1)[0])
        assert finish(executor)[0].ok
        assert workers.opened == again
        executor.submit(jobs(1)[0])
    executor.start(never, ignore)
    assert finish(executor) == {}, "what was submitted before does not come back"


@pytest.mark.parametrize("timeout", [0, -1.0, float("nan")])
def test_a_timeout_is_a_time(workers: Scripted, timeout: float) -> None:
    with pytest.raises(ConfigurationError, match="expected a timeout of more than 0 seconds, got"):
        SupervisedExecutor(workers, timeout)
