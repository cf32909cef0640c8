"""Jobs, their outcomes, the local executor, and lists of jobs."""

from collections.abc import Callable
from typing import Any

import pytest

from evonas.errors import DataError, DivergedError
from evonas.executors import EXECUTORS, Job, LocalExecutor, Outcome, ignore, run_jobs, run_work

JOBS = [Job(f"job {number}", number) for number in range(3)]


def squares(report: Any) -> Callable[[int], int]:
    return lambda payload: payload**2


def test_local_outcomes_come_in_the_order_of_submission() -> None:
    executor = LocalExecutor()
    executor.start(squares, ignore)
    for job in reversed(JOBS):
        executor.submit(job)
    finished = [executor.next_finished() for _ in JOBS]
    assert finished == [(JOBS[2], Outcome(4)), (JOBS[1], Outcome(1)), (JOBS[0], Outcome(0))]
    assert executor.slots == 1


def test_local_work_is_set_up_when_the_first_outcome_is_asked_for() -> None:
    made = []

    def make_work(report: Any) -> Any:
        made.append(report)
        return squares(report)

    executor = LocalExecutor()
    executor.start(make_work, ignore)
    executor.submit(JOBS[0])
    assert made == []
    executor.next_finished()
    assert made == [ignore]


def test_a_set_up_that_fails_is_no_failed_job() -> None:
    def make_work(report: Any) -> Any:
        raise DataError("no images here")

    executor = LocalExecutor()
    executor.start(make_work, ignore)
    executor.submit(JOBS[0])
    with pytest.raises(DataError, match="no images here"):
        executor.next_finished()


def test_local_needs_a_start_and_a_job() -> None:
    executor = LocalExecutor()
    with pytest.raises(LookupError, match="no job is left"):
        executor.next_finished()
    executor.submit(JOBS[0])
    with pytest.raises(LookupError, match="was not started"):
        executor.next_finished()


def test_an_interrupt_is_no_failed_job() -> None:
    def interrupted(payload: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_work(interrupted, JOBS[0])


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (RuntimeError("out of\n  memory"), "RuntimeError: out of memory"),
        (DivergedError("the loss was nan"), "the loss was nan"),
        (ZeroDivisionError(), "ZeroDivisionError"),
        (DataError(""), "no reason was given"),
    ],
)
def test_an_error_is_a_failure_in_one_line(error: Exception, failure: str) -> None:
    raised: list[Exception] = []

    def fails(payload: Any) -> Any:
        raise error

    outcome = run_work(fails, JOBS[0], raised.append)
    assert outcome == Outcome(failure=failure)
    assert not outcome.ok
    assert raised == [error]


@pytest.mark.parametrize("value", [None, 0, "", b"", {}])
def test_any_value_is_a_success(value: Any) -> None:
    outcome = run_work(lambda payload: value, JOBS[0])
    assert outcome == Outcome(value)
    assert outcome.ok


def test_the_time_of_a_job_that_was_ended_is_kept() -> None:
    assert Outcome.failed("it took too long", 2.5) == Outcome(None, "it took too long", 2.5)


def test_a_list_of_jobs_is_run_and_the_executor_closed() -> None:
    executor = LocalExecutor()
    assert list(run_jobs(executor, squares, JOBS)) == [(job, Outcome(job.payload**2)) for job in JOBS]
    assert list(run_jobs(executor, squares, JOBS[:1])) == [(JOBS[0], Outcome(0))], "it may be started again"
    assert list(run_jobs(executor, squares, [])) == []


def test_a_list_of_jobs_that_is_left_early_closes_the_executor() -> None:
    class Watched(LocalExecutor):
        closed = 0

        def close(self) -> None:
            self.closed += 1
            super().close()

    executor = Watched()
    finished = run_jobs(executor, squares, JOBS)
    assert next(finished)[0] == JOBS[0]
    assert executor.closed == 0
    finished.close()
    assert executor.closed == 1
    with pytest.raises(LookupError):
        executor.next_finished()


def test_jobs_with_one_key_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected jobs with different keys, got several called job 0$"):
        next(run_jobs(LocalExecutor(), squares, [*JOBS, Job("job 0", 5)]))


def test_the_table_of_executors() -> None:
    assert EXECUTORS["local"] is LocalExecutor
