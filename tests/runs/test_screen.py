"""Lines on the screen: those of a whole run, what stays in place in a terminal, and plain lines elsewhere."""

import io
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from tiny_runs import ROCO, rows, run

from evonas.report import HistoryRow, TextTable
from evonas.runs import Screen
from evonas.runs.screen import Pace, working
from evonas.runs.search_screen import SearchScreen, describe
from evonas.search import Entry, Finished
from evonas.types import Activity, EvaluationResult, Note, Progress

OK = Finished(Entry(EvaluationResult((1, 0), {"clean_error": 0.25, "macs": 2_000_000}, seconds=61), 0, 0), cached=False)
CACHED = Finished(Entry(EvaluationResult((1, 1), {"clean_error": 0.5, "macs": 1_000_000}), 0, 1), cached=True)
FAILED = Finished(Entry(EvaluationResult.failure((0, 1), 3, "boom"), 1, 2), cached=False)


def on(terminal: bool, **more: Any) -> tuple[io.StringIO, Screen]:
    text = io.StringIO()
    return text, Screen(Console(file=text, force_terminal=terminal, width=160, height=40), **more)


def wait_for(wanted: str, text: io.StringIO) -> None:
    """What stays in place is drawn four times a second."""
    deadline = time.monotonic() + 30
    while wanted not in text.getvalue():
        assert time.monotonic() < deadline, text.getvalue()
        time.sleep(0.02)


def searching(screen: Screen, total: int = 4, maximize: bool = False) -> SearchScreen:
    return SearchScreen(screen, total, 1, "clean_error", maximize)


class TestASearch:
    def shown(self, terminal: bool) -> tuple[str, SearchScreen]:
        text, screen = on(terminal)
        found = searching(screen)
        with screen:
            screen.say("a line that stays")
            for event in (OK, CACHED, FAILED, Note("something to know")):
                found.see(event)
            found.end_generation(1, HistoryRow(1, 3, 1.5, 61.0, {"pgd_error": 0.875, "fgsm_error": None}), 4.0)
            if terminal:
                wait_for("hypervolume 0.375 of its box", text)
        return text.getvalue(), found

    @pytest.mark.lengthy
    @pytest.mark.parametrize("terminal", [True, False])
    def test_counts_best_and_notes_are_shown(self, terminal: bool) -> None:
        said, found = self.shown(terminal)
        assert (found.done, found.cached, found.failed, found.fresh, found.best) == (3, 1, 1, 2, 0.25)
        for text in ("a line that stays", "something to know", "boom", "generation 1/1, 3/4 done, 1 cached, 1 failed"):
            assert text in said
        said = " ".join(said.split())  # a terminal breaks the line
        assert "best clean_error 25.0%, hypervolume 0.375 of its box, " in said
        assert "rank correlation with clean_error: pgd_error 0.88, fgsm_error unknown" in said
        assert "left" in said

    def test_plain_lines_hold_no_escape_codes_and_a_line_an_evaluation(self) -> None:
        said, _ = self.shown(terminal=False)
        assert "\x1b" not in said
        assert f"  {OK.entry.key} clean_error 25.0%, macs 2M (1:01)" in said.splitlines()
        assert CACHED.entry.key not in said

    @pytest.mark.lengthy
    def test_a_terminal_shows_the_evaluation_that_runs_and_a_bar(self) -> None:
        text, screen = on(terminal=True)
        with screen:
            searching(screen).see(Progress("0123456789abcdef", 3, 10, "step", "epoch 1/4, loss 1.250"))
            wait_for("0123456789abcdef epoch 1/4, loss 1.250", text)
            searching(screen).see(Progress("0123456789abcdef", 3, 10, "step"))
            wait_for("0123456789abcdef step 3/10", text)
        assert "0/4" in text.getvalue()

    def test_the_best_of_what_is_maximised_is_the_largest(self) -> None:
        _, screen = on(terminal=False)
        found = searching(screen, maximize=True)
        for event in (OK, CACHED, FAILED):
            found.see(event)
        assert found.best == 0.5

    def test_an_estimate_comes_once_after_enough_evaluations(self) -> None:
        text, screen = on(terminal=False)
        found = searching(screen, total=100)
        for count in range(1, 9):
            found.see(OK)
            assert ("in all" in text.getvalue()) == (count >= 3)
        assert text.getvalue().count("in all") == 1
        wide_text, wide_screen = on(terminal=False)
        wide = searching(wide_screen, total=100)
        wide.see(Activity(slots=4, running=4, waiting=0))
        for count in range(1, 9):
            wide.see(OK)
            assert ("in all" in wide_text.getvalue()) == (count >= 8)  # each slot has finished twice

    def test_the_first_line_says_what_a_result_was(self) -> None:
        assert describe(OK) == f"{OK.entry.key} clean_error 25.0%, macs 2M (1:01)"
        assert describe(FAILED) == f"{FAILED.entry.key} failed: boom"


class TestScreen:
    def test_plain_lines_tell_now_and_then_what_happens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        text, screen = on(terminal=False)
        screen.show("too early")
        assert text.getvalue() == ""
        monkeypatch.setattr("evonas.runs.screen.PLAIN_SECONDS", 0.0)
        screen.show("now", "and more")
        screen.show()
        assert text.getvalue() == "  now\n"

    def test_markup_and_numbers_stay_as_they_are(self) -> None:
        text, screen = on(terminal=False)
        screen.say("[bold]x[/bold] 12 [1, 2]")
        screen.say("")
        screen.tables([TextTable("A [title]", ("a", "[b]"), (("1", "[2]"),), ("a note",))])
        lines = text.getvalue().splitlines()
        assert lines[0] == "[bold]x[/bold] 12 [1, 2]"
        for wanted in ("A [title]", "[b]", "[2]", "a note"):
            assert wanted in text.getvalue()
        assert lines[-1] == "a note"

    def test_whatever_is_shown_looks_whether_a_signal_has_come(self) -> None:
        def stop() -> None:
            raise KeyboardInterrupt

        _, screen = on(terminal=False, check=stop)
        with pytest.raises(KeyboardInterrupt):
            screen.show("a line")

    def test_a_notebook_gets_one_line_that_is_written_over(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("evonas.runs.screen.PLAIN_SECONDS", 0.0)
        screen = Screen(Console(force_jupyter=True))
        with screen:
            screen.show("working")
            screen.say("done")
        assert capsys.readouterr().out == f"\r{'working':<110}\rdone\n"

    @pytest.mark.lengthy
    def test_the_part_that_stays_in_place_ends_with_its_stage(self) -> None:
        text, screen = on(terminal=True)
        with screen:
            screen.show("first stage", done=1, total=2)
            wait_for("first stage", text)
        shown = len(text.getvalue())
        with screen:
            screen.show("second stage")
            wait_for("second stage", text)
        assert "first stage" not in text.getvalue()[shown:]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Sets the time."""
    now = [100.0]
    monkeypatch.setattr("evonas.runs.screen.time.monotonic", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_what_is_left_follows_from_what_this_process_did(clock: Callable[[float], None]) -> None:
    pace = Pace(10, before=4)
    clock(12)
    assert pace.left(4) is None
    assert pace.words(4) == "0:12 elapsed"
    assert pace.left(6) == 24  # two of the six that were left, in twelve seconds
    assert pace.words(6) == "0:12 elapsed, about 0:24 left"


@pytest.mark.parametrize(
    ("activity", "words"),
    [
        (Activity(slots=2, running=1, waiting=0), "1 of 2 slots busy"),
        (Activity(slots=2, running=2, waiting=3), "2 of 2 slots busy, 3 waiting"),
        (
            Activity(slots=4, running=4, waiting=0, nodes=2, gpus=2, gpus_total=4, retries=1),
            "4 of 4 slots busy, 2 nodes, 2 of 4 GPUs in use, 1 retried",
        ),
    ],
)
def test_work_of_an_executor_in_words(activity: Activity, words: str) -> None:
    assert working(activity) == words


@pytest.mark.lengthy
@pytest.mark.usefixtures("no_pictures")
def test_the_lines_of_a_run(tmp_path: Path) -> None:
    """In order; numbers of seconds and values are left out."""
    out = tmp_path / "run"
    options = replace(ROCO, search=replace(ROCO.search, population=2, generations=1), out=out)
    said = run(options)
    patterns = [
        r"executor: local; device: cpu, threads of an evaluation: 1",
        r"precision: fp32, as asked",
        r"roco-nas on digits: 2 x \(1 \+ 1\) = 4 evaluations of networks up to .* parameters and .* MACs, "
        r"searching clean_error, macs with nsga2",
        rf"run folder: {re.escape(str(out))}",
        *[r"  [0-9a-f]{16} clean_error [\d.]+%, macs .*, params .* \(.*\)"] * 2,
        r"generation 0/1, 2/4 done, 0 cached, 0 failed, best clean_error .*, hypervolume .* elapsed, about .* left",
        r"  [0-9a-f]{16} clean_error .*",
        r"about .* in all, .* of it left, by the first 3 evaluations",
        r"  [0-9a-f]{16} clean_error .*",
        r"generation 1/1, 4/4 done, 0 cached, 0 failed, .*",
        r"finished: 4 evaluations \(0 from the journal, 0 failed\), \d networks on the front",
        r"chance level: by clean_error no network is better than guessing, the best has .*%",
        rf"front: {re.escape(str(out))}/front\.csv, picture: .*front\.png",
        r"next:",
        rf"  evonas show {re.escape(str(out))} [0-9a-f]{{16}} +# .*",
        rf"  evonas report {re.escape(str(out))} +# .*",
        rf"  evonas .* {re.escape(str(out))}.*# .*",
    ]
    lines = said.splitlines()
    table = next(at for at, line in enumerate(lines) if re.match(r"roco-nas on digits: \d on the front", line))
    front = rows(out / "front.csv")
    end = next(at for at, line in enumerate(lines) if line.startswith("finished: "))
    assert all(row["arch_id"] in "".join(lines[table:end]) for row in front)
    for line, pattern in zip([*lines[:table], *lines[end:]], patterns, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)
    again = run(options)
    assert "continuing: 4 evaluations are in the journal already" in again
    assert "finished: 4 evaluations (4 from the journal, 0 failed)" in again
