"""Terminals of 40 columns: nothing is wider but words that cannot be broken, and nothing is left out unsaid."""

import contextlib
import io
import re
import time
from pathlib import Path

import pytest
from rich.console import Console
from tiny_runs import FLAGS

from evonas.cli import main
from evonas.report import TextTable, folded
from evonas.runs.exporting import Findings, compared
from evonas.runs.screen import Screen
from evonas.ship import Parity, Rival

COLUMNS = 40


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(words: list[str], patch: pytest.MonkeyPatch) -> list[str]:
    """Lines that a command writes to a narrow terminal."""
    patch.setenv("COLUMNS", str(COLUMNS))
    patch.setenv("TERM", "xterm")
    terminal = Terminal()
    with contextlib.redirect_stdout(terminal):
        assert main(words) == 0
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.getvalue()).split("\n")]


def too_wide(lines: list[str]) -> list[str]:
    """Lines that are wider, and have a space at which they could have been broken."""
    return [line for line in lines if len(line.split("\r")[-1]) > COLUMNS and " " in line.strip()]


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "command",
    [
        *(["status"], ["show"], ["show", "best"], ["choose"], ["choose", "--all-columns"], ["front"], ["verify"]),
        ["latency", "best", "--runs", "2", "--warm-up", "1"],
        ["audit", "best", "--measure", "clean,fgsm_linf,gradient_check", "--images", "20", "--executor", "local"],
    ],
    ids=" ".join,
)
def test_commands_on_a_run(command: list[str], copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied_run.parent)
    lines = shown([command[0], copied_run.name, *command[1:]], monkeypatch)
    assert too_wide(lines) == []
    text = " ".join(lines)
    if command[0] in ("status", "show", "choose", "front", "latency", "audit"):
        assert "params" in text  # the last columns are there
        assert "macs" in text.lower()


@pytest.mark.slow
def test_a_network_that_is_made_ready(copied_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied_run.parent)
    small = ("--recipe=fast_adversarial", "--epochs=1", "--measure=clean", "--images=20", "--calibration-images=20")
    lines = shown(["ship", copied_run.name, *small, "--attacked-images=2", "--queries=2"], monkeypatch)
    assert too_wide(lines) == []
    assert re.findall("[1-3] of 3(?=:)", "\n".join(lines)) == ["1 of 3", "2 of 3", "3 of 3"]
    assert f"ready in {copied_run.name}/shipped" in " ".join(lines)


@pytest.mark.lengthy
def test_a_search(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    size = ("--phases=2", "--nodes=3", "--channels=2", "--designs=", "--train-limit=40", "--val-limit=20")
    search = ("--epochs=1", "--batch-size=20", "--population=2", "--generations=1", "--objectives=clean_error,params")
    lines = shown(["roco", *FLAGS, *size, *search, "--white-box-images=0", "--out=run"], monkeypatch)
    assert all(line.startswith("  evonas ") for line in too_wide(lines))  # to be copied
    text = " ".join(lines)
    assert "4/4 done" in text
    assert "front: run/front.csv" in text


def test_a_layer_has_two_lines_and_a_wide_drawing_is_said_to_be_left_out(
    roco_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = shown(["show", str(roco_run), "best"], monkeypatch)
    assert any(line.startswith("the drawing is left out: it is") for line in lines)
    at = lines.index("layer kind")
    assert lines[at + 1].split() == ["output", "params", "macs"]
    assert lines[-2].split()[0].replace(",", "").isdecimal() or lines[-1]


def test_words_are_whole_and_so_are_paths_and_commands() -> None:
    terminal = Terminal()
    screen = Screen(Console(file=terminal, width=COLUMNS, force_terminal=True, color_system=None))
    path = "/a/path/that/is/much/longer/than/the/terminal/is/wide/front.csv"
    screen.say(f"front: {path}, picture: here, and some more words after it")
    screen.say("  evonas show runs/a-run-with-a-long-name 0123456789abcdef  # a comment", whole=True)
    lines = terminal.getvalue().splitlines()
    assert f"{path}," in lines
    assert too_wide(lines[:-1]) == []
    assert lines[-1].startswith("  evonas show runs/a-run-with-a-long-name 0123456789abcdef  #")
    plain = io.StringIO()
    Screen(Console(file=plain, width=COLUMNS)).say("words " * 20)  # a file or a pipe gets one line
    assert plain.getvalue().count("\n") == 1


def test_a_line_beside_what_stays_in_place_does_not_cut_that() -> None:
    terminal = Terminal()
    with Screen(Console(file=terminal, width=COLUMNS, force_terminal=True, color_system=None)) as screen:
        screen.show("some words and " * 4 + "the last one")
        until = time.monotonic() + 30
        while "last one" not in terminal.getvalue() and time.monotonic() < until:
            time.sleep(0.01)
        screen.say("a line that stays")
        _, below = terminal.getvalue().split("a line that stays")
    assert "last one" in below


def test_every_column_is_in_some_part_of_a_table() -> None:
    table = TextTable("title", ("arch_id", *(f"a column {n}" for n in range(9))), (("0" * 16, *("1" * 9)),))
    parts = folded(table, COLUMNS, 1)
    assert [name for part in parts for name in part.header[1:]] == [f"a\ncolumn\n{n}" for n in range(9)]


def test_files_side_by_side() -> None:
    files = {"float32": b"1", "int8": b"1"}
    rival = Rival(clean_error=0.25, pgd_error=0.5, square_error=0.5)
    parity = Parity(images=20, largest={1: 0.0, 128: 0.0}, changed={1: 0, 128: 0}, scale=1.0)
    lines = compared(Findings(parity, 0.25, dict.fromkeys(files, rival), dict.fromkeys(files, 1.0)), files, 4, COLUMNS)
    assert max(map(len, lines)) <= COLUMNS
    assert " ".join(" ".join(lines).split()).count("75.0%") == 2
