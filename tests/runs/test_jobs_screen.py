"""The screen of jobs: counts, places of those that run, and an estimate of the time that is left."""

from collections.abc import Callable

import pytest
from test_screen import on, wait_for

from evonas.runs.jobs_screen import JobsScreen
from evonas.types import Activity, Note, Progress

WORK = {"long": 6.0, "short": 2.0}


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    now = [100.0]
    monkeypatch.setattr("evonas.runs.screen.time.monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_plain_lines_tell_what_runs_what_waits_and_what_is_left(clock: Callable[[float], None]) -> None:
    text, screen = on(terminal=False)
    jobs = JobsScreen(screen, WORK)
    with screen:
        clock(30)
        jobs.see(Progress("long", 1, 3, "epoch"))
        clock(30)
        jobs.see(Activity(running=1, waiting=1, slots=1))
        jobs.see(Progress("long", 2, 3, "epoch", "epoch 2/3, loss 0.5"))
        clock(60)
        jobs.finish("long", "  long: done")
        jobs.see(Note("something to know"))
        clock(30)
        jobs.see(Progress("short", 1, 2, "image"))
    assert text.getvalue().splitlines() == [
        "  long epoch 1/3; 0/2 done, 0:30 elapsed",
        "  long epoch 1/3; 0/2 done, 1 of 1 slots busy, 1 waiting, 1:00 elapsed",
        "  long: done",
        "something to know",
        "  short image 1/2; 1/2 done, 1 of 1 slots busy, 1 waiting, 2:30 elapsed, about 0:30 left",
    ]


def test_the_estimate_leaves_out_epochs_of_an_earlier_process(clock: Callable[[float], None]) -> None:
    """2 of 8 units were done before; 5 more took 100 seconds, and one is left."""
    text, screen = on(terminal=False)
    jobs = JobsScreen(screen, WORK)
    jobs.see(Progress("long", 1, 3, "epoch", "continued after epoch 1/3"))
    clock(50)
    jobs.finish("long")
    clock(50)
    jobs.see(Progress("short", 1, 2, "image"))
    assert text.getvalue().splitlines()[-1] == "  short image 1/2; 1/2 done, 1:40 elapsed, about 0:20 left"


def test_a_job_that_is_added_is_counted_and_late_messages_are_not(clock: Callable[[float], None]) -> None:
    text, screen = on(terminal=False)
    jobs = JobsScreen(screen, WORK)
    jobs.add("again", 2.0)
    jobs.finish("short")
    clock(30)
    jobs.see(Progress("short", 1, 2, "image"))
    assert text.getvalue().splitlines() == ["  1/3 done, 0:30 elapsed, about 2:00 left"]


def test_jobs_that_will_never_begin_are_not_counted(clock: Callable[[float], None]) -> None:
    """6 of 8 units are left out: the other 2 are all of the work."""
    text, screen = on(terminal=False)
    jobs = JobsScreen(screen, WORK)
    jobs.leave_out(["long", "unknown"])
    clock(30)
    jobs.see(Progress("short", 1, 2, "image"))
    assert text.getvalue().splitlines() == ["  short image 1/2; 0/1 done, 0:30 elapsed, about 0:30 left"]


@pytest.mark.lengthy
def test_a_terminal_has_a_bar_and_a_line_for_every_job_that_runs() -> None:
    text, screen = on(terminal=True)
    with screen:
        jobs = JobsScreen(screen, WORK)
        jobs.see(Progress("short", 0, 4, "epoch"))
        jobs.see(Progress("long", 1, 3, "epoch"))
        wait_for("long epoch 1/3", text)
        wait_for("short epoch 0/4", text)
        wait_for("0/2", text)


def test_whatever_is_shown_looks_whether_a_signal_has_come() -> None:
    calls: list[None] = []
    _, screen = on(terminal=False, check=lambda: calls.append(None))
    JobsScreen(screen, WORK).see(Activity(running=0, waiting=2, slots=1))
    assert len(calls) == 1
