"""Early stopping in a run on disk: screen, tables, config.json, and the same journal after a stop."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import FLAGS, ROCO, config, journal, rows, run

from evonas.cli import main
from evonas.methods.roco import RocoOptions
from evonas.runs.status import read_status

OPTIONS = replace(
    ROCO,
    training=replace(ROCO.training, epochs=4),
    search=replace(ROCO.search, population=8, generations=3, early_stop=True),
    keep_weights="all",
)


@pytest.mark.slow
def test_a_run_that_was_continued_has_the_journal_of_one_that_was_not(tmp_path: Path) -> None:
    whole = replace(OPTIONS, out=tmp_path / "whole")
    said = run(whole)
    status = [line["status"] for line in journal(tmp_path / "whole")[1:]]
    stopped = status.count("stopped")
    assert stopped > 0
    part = replace(whole, out=tmp_path / "part")
    for most in (9, 13, None):
        run(replace(part, search=replace(part.search, max_evaluations=most)))
    assert journal(tmp_path / "part") == journal(tmp_path / "whole")
    _told(tmp_path / "whole", said, stopped)


def _told(folder: Path, said: str, stopped: int) -> None:
    assert f"0 failed, {stopped} stopped, " in said
    assert f"early stopping: {stopped} stopped, " in said
    table = rows(folder / "population.csv")
    ended = [row for row in table if row["status"] == "stopped"]
    assert len(ended) == stopped
    assert all(row["rank"] == "" and row["partial_clean_error"] and row["stopped_after"] in "123" for row in ended)
    assert not {row["arch_id"] for row in ended} & {row["arch_id"] for row in rows(folder / "front.csv")}
    assert not any((folder / "weights" / f"{row['arch_id']}.safetensors").exists() for row in ended)
    found = config(folder)["results"]["early_stop"]
    last = rows(folder / "history.csv")[-1]
    assert (found["stopped"], int(last["stopped"])) == (stopped, stopped)
    assert [float(last["wrong_stops_low"]), float(last["wrong_stops_high"])] == found["interval"]
    (search,) = read_status(folder).stages
    assert (search.failed, search.stopped, search.complete) == (0, stopped, True)


def test_it_is_refused_where_it_can_end_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = [*FLAGS, "--early-stop", "--epochs", "1", "--objectives", "clean_error,macs", "--white-box-images", "0"]
    assert main(["roco", *flags, "--out", str(tmp_path / "run")]) == 2
    assert "expected trainings of at least 2 epochs with early_stop" in capsys.readouterr().err


def test_a_table_trains_nothing() -> None:
    assert "early_stop" in RocoOptions(table="scores.json").unused()
    assert "early_stop" not in RocoOptions().unused()
    assert json.dumps(OPTIONS.search.identity()).endswith('"early_stop": true}')
