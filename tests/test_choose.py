"""`evonas choose` on a real run."""

import csv
import json
import shutil
from pathlib import Path

import pytest
from tiny_runs import contents, rows

from evonas.cli import main
from evonas.runs import RunFolder

pytestmark = pytest.mark.lengthy


def chosen(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert main(["choose", *words, "--json"]) == 0
    return [row["arch_id"] for row in json.loads(capsys.readouterr().out)["networks"]]


def test_what_is_chosen_is_what_the_table_has(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(roco_run)
    every = rows(roco_run / "population.csv")
    assert chosen(capsys, str(roco_run)) == [row["arch_id"] for row in every]
    middle = sorted(int(row["macs"]) for row in every)[6]
    expected = {row["arch_id"] for row in every if int(row["macs"]) < middle and float(row["clean_error"]) < 0.85}
    where = f"macs < {middle} and clean_error < 85%"
    assert set(chosen(capsys, str(roco_run), "--where", where)) == expected
    by = chosen(capsys, str(roco_run), "--by", "params", "--top", "3")
    assert [int(row["params"]) for name in by for row in every if row["arch_id"] == name] == sorted(
        int(row["params"]) for row in every
    )[:3]
    assert contents(roco_run) == before


def test_the_table_and_the_file(
    roco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    (knee,) = chosen(capsys, str(roco_run), "--knee")
    path = tmp_path / "new" / "chosen.csv"
    assert main(["choose", str(roco_run), "--knee", "--csv", str(path)]) == 0
    said = capsys.readouterr().out
    assert knee in said
    assert f"1 row: {path}" in said
    assert max(len(line) for line in said.splitlines() if line[0] in "┏┃┡│└") <= 80
    with open(path, newline="") as file:
        assert [row["arch_id"] for row in csv.DictReader(file)] == [knee]
    assert main(["show", str(roco_run)]) == 0
    assert knee in capsys.readouterr().out  # it is on the front


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--where", "mac < 3"], "unknown column 'mac'; did you mean macs?"),
        (["--where", "macs <"], "expected a condition such as"),
        (["--where", "macs < 3"], "the tightest is macs < 3 (0 satisfy it); closest: "),
        (["--by", "speed"], "unknown column 'speed'"),
        (["--top", "0"], "expected top >= 1, got 0"),
        (["--csv", "."], "expected a file for --csv"),
    ],
)
def test_an_error_is_one_line(
    words: list[str], expected: str, roco_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["choose", str(roco_run), *words]) == 2
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("error: ")
    assert expected in said.err


def test_every_column_of_an_audit_can_be_asked_for(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also one of the networks as searched alone, and one without a value."""
    first, second = (row["arch_id"] for row in rows(copied_run / "population.csv")[:2])
    (copied_run / "audit.csv").write_text(
        "arch_id,weights,status,clean_error,pgd20_error,ece,params\n"
        f"{first},search,ok,.5,.75,,10\n{second},search,ok,.5,.25,,10\n{first},audit,ok,.125,,,10\n"
    )
    assert main(["choose", str(copied_run), "--where", "audit.pgd20_error < 1", "--by", "audit.clean_error"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"audit.* of {copied_run.name}: 1 network, trained to the end" in said
    assert f"audit.pgd20_error of {copied_run.name}: 2 networks, as searched" in said
    assert "audit.pgd20_error: not measured for 10 of 12 networks; they satisfy nothing on it" in said
    assert "audit.clean_error: not measured for 11 of 12 networks" in said
    assert chosen(capsys, str(copied_run), "--where", "audit.pgd20_error < 1", "--by", "audit.clean_error") == [
        first,
        second,
    ]
    assert main(["choose", str(copied_run), "--by", "audit.ece"]) == 0
    assert "audit.ece: not measured for 12 of 12 networks" in " ".join(capsys.readouterr().out.split())
    assert main(["choose", str(copied_run), "--where", "audit.ece < 1"]) == 2
    assert "the tightest is audit.ece < 1 (0 satisfy it); closest: " in capsys.readouterr().err


def test_a_column_of_an_audit_is_of_one_kind_of_weights_in_all_runs(
    copied_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A training that failed leaves its network without a value, one run's searched weights another run's without."""
    other = shutil.copytree(copied_run, tmp_path / "searched")
    first, second = (row["arch_id"] for row in rows(copied_run / "population.csv")[:2])
    head = "arch_id,weights,status,clean_error,pgd20_error,ece,params\n"
    searched = f"{first},search,ok,.5,.75,.1,10\n{second},search,ok,.5,.25,.1,10\n"
    (copied_run / "audit.csv").write_text(f"{head}{searched}{first},audit,failed,,,,10\n{second},audit,ok,.125,,,10\n")
    (other / "audit.csv").write_text(f"{head}{searched}")
    audited = ("clean_error", "pgd20_error", "ece")

    def values(*runs: Path) -> tuple[list[list[float | None]], str]:
        words = ["choose", *map(str, runs), "--all-columns", "--json", "--by", "audit.clean_error"]
        assert main(words) == 0
        found = json.loads(capsys.readouterr().out)
        networks = {(row["run"], row["arch_id"]): row for row in found["networks"]}
        keys = [(run.name, name) for run in runs for name in (first, second)]
        return [[networks[key][f"audit.{name}"] for name in audited] for key in keys], "\n".join(found["notes"])

    own = [[None, 0.75, 0.1], [0.125, 0.25, 0.1]]
    alone, said = values(copied_run)
    assert alone == own
    assert f"audit.pgd20_error, audit.ece of {copied_run.name}: 2 networks, as searched" in said
    assert values(other)[0] == [[0.5, 0.75, 0.1], [0.5, 0.25, 0.1]]
    both, said = values(copied_run, other)
    assert both == [*own, [None, 0.75, 0.1], [None, 0.25, 0.1]]
    assert f"audit.pgd20_error, audit.ece of {other.name}: 2 networks, as searched" in said
    assert f"audit.clean_error of {other.name}: left out: measured on networks as searched here" in said


def test_no_folder_or_one_twice(roco_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], [str(tmp_path)], [str(roco_run), str(roco_run)]):
        assert main(["choose", *words]) == 2
        assert capsys.readouterr().err.startswith("error: expected ")


def test_a_run_that_is_being_written_and_has_lost_a_line(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = copied_run / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-5])
    with RunFolder(copied_run).locked():
        assert main(["choose", str(copied_run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["considered"] == 11
    assert "1 torn or altered line(s) are left out" in found["notes"][0]
