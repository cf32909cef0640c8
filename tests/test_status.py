"""`evonas status`: stages, numbers and words, of runs that go on, were stopped or have finished."""

import json
import lzma
import os
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import FLAGS, contents, rows

from evonas.cli import main
from evonas.files import holder, take_lock
from evonas.methods import METHODS, method_module
from evonas.methods.stored import begun_command
from evonas.runs import RunFolder, parse
from evonas.runs.options import as_json

GOLDEN = Path(__file__).parent / "golden" / "fixtures"
pytestmark = pytest.mark.lengthy


def status(capsys: pytest.CaptureFixture[str], path: Path) -> dict[str, Any]:
    capsys.readouterr()
    assert main(["status", str(path), "--json"]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_of_a_finished_run(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(roco_run)
    found = status(capsys, roco_run)
    assert (found["method"], found["data"], found["complete"], found["running"]) == ("roco-nas", "digits", True, False)
    (search,) = found["stages"]
    assert (search["done"], search["total"], search["failed"], search["seconds_left"]) == (12, 12, 0, 0)
    assert [row["arch_id"] for row in found["front"]] == [row["arch_id"] for row in rows(roco_run / "front.csv")]
    assert main(["status", str(roco_run), "--watch", "1"]) == 0  # nothing to wait for
    said = capsys.readouterr().out
    assert "roco-nas on digits" in said
    assert "finished" in said
    assert "continue:" not in said
    assert contents(roco_run) == before


@pytest.mark.parametrize("seconds", ["nan", "inf", "", "long"])
def test_a_table_of_epochs_without_numbers_is_one_line(
    seconds: str, copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied_run / "supernet.pt").touch()
    (copied_run / "supernet.csv").write_text(f"epoch,seconds\n1,{seconds}\n")
    assert main(["status", str(copied_run), "--json"]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert "expected a table of epochs in" in said.err


def test_an_epoch_with_a_row_for_each_preference_counts_once(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copied_run / "search.pt").touch()
    table = "epoch,preference,seconds\n1,1,2.0\n1,2,2.0\n1,3,2.0\n2,1,4.0\n2,2,4.0\n2,3,4.0\n"
    (copied_run / "search.csv").write_text(table)
    stage = next(each for each in status(capsys, copied_run)["stages"] if each["unit"] == "epochs")
    assert (stage["done"], stage["seconds"]) == (2, 3.0)


def test_of_a_run_that_is_being_written(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Half a journal with a torn last line: it is read as it is, and the estimate is the mean of its seconds."""
    journal = copied_run / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:8]) + lines[8][:40])
    with RunFolder(copied_run).locked():
        found = status(capsys, copied_run)
        (search,) = found["stages"]
        assert (found["running"], found["process"], found["notes"]) == (True, os.getpid(), [])
        assert (search["done"], search["total"]) == (7, 12)
        seconds = [json.loads(line)["seconds"] for line in lines[1:8]]
        assert search["seconds_left"] == pytest.approx(5 * sum(seconds) / 7, rel=1e-9)
        assert main(["status", str(copied_run)]) == 0
        said = capsys.readouterr().out
        assert f"running, process {os.getpid()}" in said
        assert "search: 7/12 evaluations, about " in said
        assert "left, one at a time (" in said
        path = copied_run / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "workers": 2}))
        (search,) = status(capsys, copied_run)["stages"]
        assert search["seconds_left"] == pytest.approx(5 * sum(seconds) / 7 / 2, rel=1e-9)
    found = status(capsys, copied_run)
    assert (found["running"], found["complete"]) == (False, False)
    assert "1 torn or altered line(s)" in found["notes"][0]


def test_the_lock_is_seen_and_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert holder(path) == 0
    path.touch()
    assert holder(path) == 0
    with open(path, "ab") as mine:
        take_lock(mine, path)
        assert holder(path) == os.getpid()
    assert holder(path) == 0
    with open(path, "ab") as other:
        take_lock(other, path)  # nothing above has kept it


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tam/supernet", [("supernet", "epochs", 1)]),
        ("tam/finalise", [("search", "evaluations", 8), ("finalised", "networks trained", 1)]),
        ("e2rnas-1/search", [("search-L9", "epochs", 1)]),
        ("roco/retrain", [("search", "evaluations", 8)]),
    ],
)
def test_stages_of_other_methods(
    name: str, expected: list[tuple[str, str, int]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(GOLDEN / name, tmp_path / "run"))
    for packed in run.rglob("*.xz"):
        packed.with_suffix("").write_bytes(lzma.decompress(packed.read_bytes()))
    found = status(capsys, run)
    stages = [(stage["name"], stage["unit"], stage["done"]) for stage in found["stages"]]
    assert [stage for stage in stages if stage in expected] == expected
    assert not found["complete"]
    for stage in found["stages"]:
        if stage["unit"] == "epochs":
            assert stage["total"] >= stage["done"]
            assert stage["seconds"] > 0


def test_of_a_run_that_has_only_begun(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its lock says what was asked for; afterwards nothing of it stays."""
    folder = RunFolder(tmp_path / "run")
    options = parse(method_module("tam").PRESETS, ["--data", "digits", "--generations", "7"])
    with folder.locked():
        folder.keep_options("evonas.methods.tam", as_json(options))
        found = status(capsys, folder.path)
        assert (found["running"], found["data"], found["stages"]) == (True, "digits", [])
        assert found["continue"] == f"evonas tam --data digits --generations 7 --out {folder.path}"
        assert main(["status", str(folder.path)]) == 0
        assert "before its first stage" in capsys.readouterr().out
    assert not folder.path.exists()


def test_the_command_that_continues_a_killed_run_does_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "killed run"
    words = ["roco", *FLAGS, "--train-limit", "150", "--val-limit", "50", "--phases", "2", "--nodes", "3"]
    words += ["--channels", "2", "--epochs", "1", "--population", "4", "--generations", "2", "--designs", "chain,dense"]
    words += ["--objectives", "clean_error,macs", "--white-box-images", "0", "--lr", "0.04", "--out", str(out)]
    child = subprocess.Popen([sys.executable, "-m", "evonas", *words], stdout=subprocess.DEVNULL)
    journal, until = out / "journal.jsonl", time.monotonic() + 120
    while time.monotonic() < until and (not journal.exists() or journal.read_bytes().count(b"\n") < 3):
        time.sleep(0.05)
    assert status(capsys, out)["process"] == child.pid
    child.kill()
    child.wait()
    found = status(capsys, out)
    assert (found["running"], found["complete"]) == (False, False)
    program, *again = shlex.split(found["continue"])
    assert program == "evonas"
    assert parse(method_module("roco").PRESETS, again[1:]) == parse(method_module("roco").PRESETS, words[1:])
    assert main(again) == 0
    found = status(capsys, out)
    assert found["complete"]
    assert found["stages"][0]["done"] == 12


@pytest.mark.parametrize("method", [name for name in METHODS if name != "build-set"])
@pytest.mark.parametrize("preset", ["quick", "paper"])
def test_the_command_says_what_differs_from_its_preset(method: str, preset: str) -> None:
    module = method_module(method)
    words = ["--preset", preset, "--seed", "3", "--out", "x y"]
    if method == "roco":
        words += ["--objectives", "clean_error,macs,pgd_error", "--attack-epsilon", "4/255"]
        words += ["--val-limit", "none"]
    if method == "tam":
        words += ["--window", "none", "--width", "0.5"]
    given = parse(module.PRESETS, words)
    begun = {"options": module.__name__, "settings": json.loads(json.dumps(as_json(given)))}
    again = begun_command(begun, "x y")
    assert again[:2] == ["evonas", method]
    assert as_json(parse(module.PRESETS, again[2:])) == as_json(given)


@pytest.mark.parametrize(
    "folder",
    sorted({*GOLDEN.glob("*/finished/config.json")} - {GOLDEN / "imagenet/finished/config.json"}),
    ids=lambda path: path.parts[-3],
)
def test_what_continues_a_run_of_version_0_1_0_is_understood(folder: Path) -> None:
    words = begun_command(json.loads(folder.read_text()), folder.parent)
    assert words[0] == "evonas"
    parse(method_module(words[1]).PRESETS, words[2:])


def test_no_run_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").touch()
    for path in (tmp_path, tmp_path / "nothing", tmp_path / "notes.txt"):
        assert main(["status", str(path)]) == 2
        said = capsys.readouterr()
        assert (said.out, said.err.count("\n")) == ("", 1)
        assert "expected the folder of a run" in said.err
