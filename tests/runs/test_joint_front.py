"""`evonas front`: runs of several methods and spaces on disk, in one table; what it refuses."""

import csv
import json
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import tyro

from evonas.cli import main
from evonas.commands.front import Front
from evonas.search import Entry, Journal
from evonas.spaces import DartsSpace, PhaseSpace, ShuffleSpace
from evonas.types import EvaluationResult

SPACES: dict[str, Any] = {"roco-nas": PhaseSpace(phases=2, nodes=3), "tam-nas": ShuffleSpace(), "darts": DartsSpace()}
PGD = {"about": "white-box: PGD, linf 8/255, 10 steps", "threat": "white-box", "epsilon": 8 / 255}

Rows = Sequence[dict[str, float] | None]
MakeRun = Callable[..., Path]


@pytest.fixture
def make_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MakeRun:
    """(name, method, values of each row; None: failed) -> the folder of such a run."""
    monkeypatch.setenv("COLUMNS", "160")

    def make(name: str, method: str, rows: Rows, fingerprint: str = "0123456789abcdef", pgd: Any = None) -> Path:
        space, folder = SPACES[method], tmp_path / "runs" / name
        identity = {
            "method": method,
            "space": {"name": space.name, **asdict(space)},
            "data": {"name": "digits", "fingerprint": fingerprint, "n_classes": 10, "train": 60, "validation": 50},
            "search": {"objectives": ["clean_error"], "maximize": []},
        }
        columns = list(dict.fromkeys(["clean_error", *(key for row in rows if row for key in row)]))
        config = {
            "settings": {},
            "identity": identity,
            "columns": columns,
            "reference_point": {"clean_error": 1.0},
            "measured": {each: (pgd or PGD) if each == "pgd_error" else {"about": ""} for each in columns},
        }
        with Journal(folder / "journal.jsonl", identity, sync=False) as journal:
            for number, values in enumerate(rows):
                genome = (number,) * space.n_genes
                failed = EvaluationResult.failure(genome, 0, "boom")
                journal.append(Entry(failed if values is None else EvaluationResult(genome, values), 0, number))
        (folder / "config.json").write_text(json.dumps(config))
        return folder

    return make


def row(error: float, params: int, **more: float) -> dict[str, float]:
    return {"clean_error": error, "params": params, "macs": 7 * params, **more}


@pytest.fixture
def three(make_run: MakeRun) -> list[str]:
    """Of three spaces: roco-nas has the smallest networks, darts the one with the fewest errors."""
    return [
        str(make_run("roco", "roco-nas", [row(0.5, 100), row(0.4, 300), None])),
        str(make_run("tam", "tam-nas", [row(0.3, 200, pgd_error=0.8), row(0.6, 900, pgd_error=0.7)])),
        str(make_run("darts", "darts", [row(0.1, 3000, pgd_error=0.9)])),
    ]


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_runs_of_all_methods_end_in_one_table(
    three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "runs" / "joint"
    assert main(["front", *three, "--objectives", "clean_error,params", "--out", str(out)]) == 0
    assert sorted(path.name for path in out.iterdir()) == ["front.csv", "front.png", "population.csv"]
    columns = ("method", "space", "clean_error", "rank")
    assert [tuple(each[name] for name in columns) for each in rows(out / "population.csv")] == [
        ("darts", "darts", "0.1", "0"),
        ("tam-nas", "shuffle", "0.3", "0"),
        ("roco-nas", "phase", "0.5", "0"),
        ("roco-nas", "phase", "0.4", "1"),
        ("tam-nas", "shuffle", "0.6", "2"),
    ]
    assert [each["run"] for each in rows(out / "front.csv")] == ["darts", "tam", "roco"]
    said = capsys.readouterr().out
    assert "3 of 5 networks on the joint front, digits" in said
    assert [re.findall(r"^(\S+): (\d) of (\d) on the front", line) for line in said.splitlines()[-4:-1]] == [
        [("darts", "1", "1")],
        [("roco-nas", "1", "2")],
        [("tam-nas", "1", "2")],
    ]
    assert said.count("30.0%") == 1
    assert said.endswith(f"front: {out / 'front.csv'}, picture: {out / 'front.png'}\n")


@pytest.mark.lengthy
def test_again_into_the_same_folder_among_the_runs(three: list[str], tmp_path: Path) -> None:
    """As `evonas front runs/* --out runs/joint` does."""
    out = tmp_path / "runs" / "joint"
    assert main(["front", *three, "--out", str(out)]) == 0
    before = (out / "front.csv").read_bytes()
    assert main(["front", *map(str, sorted((tmp_path / "runs").iterdir())), "--out", str(out)]) == 0
    assert (out / "front.csv").read_bytes() == before


def test_without_a_folder_it_is_only_shown(
    three: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert main(["front", *three[1:], "--objectives", "pgd_error"]) == 0
    said = capsys.readouterr().out
    assert "1 of 3 networks on the joint front" in said
    assert "pgd_error: white-box: PGD, linf 8/255, 10 steps" in said
    assert not list((tmp_path / "here").iterdir())


def test_folders_of_one_name_are_told_apart(make_run: MakeRun, tmp_path: Path) -> None:
    folders = [make_run(f"{each}/run", "darts", [row(0.1, 5)]) for each in ("a", "b")]
    assert main(["front", *map(str, folders), "--out", str(tmp_path / "out")]) == 0
    assert [each["run"] for each in rows(tmp_path / "out" / "front.csv")] == list(map(str, folders))


def refused(words: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["front", *words]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


def test_what_does_not_go_together_is_one_line(
    three: list[str], make_run: MakeRun, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    roco, tam, darts = three
    assert "at least one run folder, got none" in refused([], capsys)
    assert "every run once" in refused([roco, f"{roco}/../roco"], capsys)
    assert "different objectives, at least one, got none" in refused([roco, "--objectives", ","], capsys)
    missing = refused([darts, roco, "--objectives", "pgd_error,params"], capsys)
    assert "expected pgd_error in every run, roco has no such column; it has clean_error, params, macs" in missing
    assert f"{tmp_path / 'nothing'} is none" in refused([roco, str(tmp_path / "nothing")], capsys)
    assert "roco holds a run" in refused([tam, "--out", roco], capsys)
    assert "roco holds a run" in refused([roco, "--out", roco], capsys)
    weaker = str(make_run("weaker", "darts", [row(0.1, 5, pgd_error=0.4)], pgd={**PGD, "epsilon": 2 / 255}))
    assert f"epsilon is {8 / 255} in tam and {2 / 255} in weaker" in refused(
        [tam, weaker, "--objectives", "pgd_error"], capsys
    )
    failed = str(make_run("failed", "darts", [None]))
    assert "a row with status ok and clean_error in failed, got none" in refused([failed], capsys)
    assert main(["front", tam, weaker, failed]) == 0  # where it is not asked for, it may have been measured otherwise


def test_other_data_needs_a_word(three: list[str], make_run: MakeRun, capsys: pytest.CaptureFixture[str]) -> None:
    other = str(make_run("other", "darts", [row(0.2, 2000)], fingerprint="fedcba9876543210"))
    said = refused([*three, other], capsys)
    assert "digits in roco (60 train, 50 validation, 01234567)" in said
    assert "digits in other (60 train, 50 validation, fedcba98)" in said
    assert main(["front", *three, other, "--any-data", "--objectives", "clean_error,params"]) == 0
    assert "4 of 6 networks" in capsys.readouterr().out


def test_every_joint_front_that_is_shown_can_be_called() -> None:
    page = (Path(__file__).parents[2] / "docs" / "operations.md").read_text().replace("\\\n", " ")
    found = re.findall(r"^evonas front (.*)$", page, re.MULTILINE)
    assert found
    for words in found:
        assert tyro.cli(Front, args=shlex.split(words.split("#")[0])).runs
