"""What a run shows, in a terminal and as plain lines."""

import io

import pytest
from rich.console import Console

from evonas.runs.progress import LiveView, PlainView, Status, make_view
from evonas.search import Entry, Finished
from evonas.types import EvaluationResult, Note, Progress

OK = Finished(Entry(EvaluationResult((1, 0), {"clean_error": 0.25, "macs": 2_000_000}, seconds=61), 0, 0), cached=False)
CACHED = Finished(Entry(EvaluationResult((1, 1), {"clean_error": 0.5, "macs": 1_000_000}), 0, 1), cached=True)
FAILED = Finished(Entry(EvaluationResult.failure((0, 1), 3, "boom"), 1, 2), cached=False)


def shown(terminal: bool) -> tuple[str, Status]:
    screen = io.StringIO()
    status = Status(total=4, objective="clean_error", maximize=False)
    console = Console(file=screen, force_terminal=terminal, width=160, height=40)
    with make_view(status, 1, console) as view:
        view.say("a line that stays")
        view.show(Progress("0123456789abcdef", 3, 10, "step", "epoch 1/4, loss 1.250"))
        for event in (OK, CACHED, FAILED):
            status.count(event)
            view.show(event)
        view.show(Note("something to know"))
        status.hypervolume = 1.5
        view.generation()
    return screen.getvalue(), status


@pytest.mark.parametrize(("terminal", "kind"), [(True, LiveView), (False, PlainView)])
def test_a_terminal_gets_a_live_view(terminal: bool, kind: type) -> None:
    console = Console(file=io.StringIO(), force_terminal=terminal)
    assert type(make_view(Status(4, "clean_error", False), 1, console)) is kind


@pytest.mark.parametrize("terminal", [True, False])
def test_counts_best_and_notes_are_shown(terminal: bool) -> None:
    said, status = shown(terminal)
    assert (status.done, status.cached, status.failed, status.fresh, status.best) == (3, 1, 1, 2, 0.25)
    for text in ("a line that stays", "something to know", "boom", "generation 1/1, 3/4 done, 1 cached, 1 failed"):
        assert text in said
    assert "best clean_error 25.0%, hypervolume 1.5" in said
    assert "left" in said


def test_plain_lines_hold_no_escape_codes_and_a_line_an_evaluation() -> None:
    said, _ = shown(terminal=False)
    assert "\x1b" not in said
    assert f"  {OK.entry.key} clean_error 25.0%, macs 2M (1:01)" in said.splitlines()
    assert CACHED.entry.key not in said


def test_a_live_view_shows_the_evaluation_that_runs() -> None:
    screen = io.StringIO()
    view = LiveView(Status(4, "clean_error", False), 1, Console(file=screen, force_terminal=True, width=160))
    with view:
        view.show(Progress("0123456789abcdef", 3, 10, "step", "epoch 1/4, loss 1.250"))
        view.generation()
    assert "epoch 1/4, loss 1.250" in screen.getvalue()
    assert "3/10" in screen.getvalue()


def test_the_best_of_what_is_maximised_is_the_largest() -> None:
    status = Status(2, "clean_error", maximize=True)
    status.count(OK)
    status.count(CACHED)
    assert status.best == 0.5


def test_plain_lines_tell_now_and_then_how_far_a_long_evaluation_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evonas.runs.progress.PLAIN_PROGRESS_SECONDS", 0.0)
    screen = io.StringIO()
    view = PlainView(Status(2, "clean_error", False), 1, Console(file=screen))
    view.show(Progress("0123456789abcdef", 3, 10))
    assert screen.getvalue().endswith("0123456789abcdef step 3/10\n")
