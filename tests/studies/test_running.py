"""Runs of a study: none twice, a failed one left behind, those of others waited for; states that are only read."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from evonas.errors import ConfigurationError, RunInUseError
from evonas.methods.roco import RocoOptions
from evonas.runs.options import DataOptions
from evonas.studies import running
from evonas.studies.grid import Cell, placed, record, state
from evonas.studies.running import run_cells

FIRST = Cell(group="First set", method="build-set", options=RocoOptions())
SECOND = Cell(group="Second", method="roco", options=RocoOptions(seed=4))
THIRD = Cell(
    group="Third", method="roco", options=RocoOptions(), links=(("adversarial_set", "first-set-cifar10-seed0/set"),)
)
CELLS = (FIRST, SECOND, THIRD)


class Runs:
    """In place of every method: what it was asked to run, and the errors that it raises."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[str] = []
        self.errors: dict[str, list[Exception]] = {}
        monkeypatch.setattr(running, "method_module", lambda name: SimpleNamespace(run=self.run))
        monkeypatch.setattr(running, "PAUSE", 0.0)

    def run(self, options: Any, console: Any) -> None:
        name = options.out.parent.name if options.out.suffix else options.out.name
        self.asked.append(name)
        if self.errors.get(name):
            raise self.errors[name].pop()


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> Runs:
    return Runs(monkeypatch)


def go(root: Path) -> str:
    screen = io.StringIO()
    run_cells(root, CELLS, {}, Console(file=screen, width=300))
    return screen.getvalue()


def test_runs_are_made_once(runs: Runs, tmp_path: Path) -> None:
    go(tmp_path)
    assert runs.asked == [cell.folder for cell in CELLS]
    assert [state(tmp_path, cell).status for cell in CELLS] == ["finished"] * 3
    go(tmp_path)
    assert len(runs.asked) == 3


def test_a_failed_run_is_said_and_the_others_go_on(runs: Runs, tmp_path: Path) -> None:
    runs.errors = {FIRST.folder: [ConfigurationError("no images")], SECOND.folder: [ZeroDivisionError("oh")]}
    assert f"study: {FIRST.folder} failed: no images; the others go on" in go(tmp_path)
    assert runs.asked == [FIRST.folder, SECOND.folder]  # the third needs the first
    assert [state(tmp_path, cell)[:2] for cell in CELLS] == [
        ("failed", "no images"),
        ("failed", "ZeroDivisionError: oh"),
        ("waiting", ""),
    ]
    go(tmp_path)  # tries them again
    assert runs.asked[2:] == [cell.folder for cell in CELLS]
    assert [state(tmp_path, cell).status for cell in CELLS] == ["finished"] * 3


def test_a_run_of_another_process_is_waited_for(runs: Runs, tmp_path: Path) -> None:
    runs.errors = {SECOND.folder: [RunInUseError("busy"), RunInUseError("busy")]}
    assert go(tmp_path).count(f"study: another process has {SECOND.folder} in hand") == 1
    assert runs.asked.count(SECOND.folder) == 3
    assert state(tmp_path, SECOND).status == "finished"


def test_other_options_are_another_run(tmp_path: Path) -> None:
    record(tmp_path, SECOND, "finished", 1.0, 1.0)
    assert state(tmp_path, SECOND).status == "finished"
    assert state(tmp_path, replace(SECOND, options=RocoOptions(seed=4, channels=4))).status == "begun"


def test_a_journal_says_how_far_a_run_is(tmp_path: Path) -> None:
    assert state(tmp_path, SECOND).status == "waiting"
    folder = tmp_path / SECOND.folder
    folder.mkdir()
    assert state(tmp_path, SECOND) == ("begun", "", 0.0, 0.0)
    (folder / "journal.jsonl").write_text("header\nfirst\nsecond\n")
    assert state(tmp_path, SECOND).about == "2 evaluated"


def test_where_a_run_is_placed(tmp_path: Path) -> None:
    options = placed(THIRD, tmp_path, {"device": "cpu", "data_root": tmp_path})
    assert options.out == tmp_path / "third-cifar10-seed0"
    assert options.adversarial_set == str(tmp_path / "first-set-cifar10-seed0" / "set")
    assert options.execution.device == "cpu"
    assert options.data == DataOptions(data_root=tmp_path)
