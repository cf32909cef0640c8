"""`evonas show RUN ARCH`, and what a search says at its end."""

import json
import os
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_runs import ROCO, contents, rows, run

from evonas import open_run
from evonas.cli import _parse, main
from evonas.commands import COMMANDS
from evonas.errors import UnknownNameError

pytestmark = pytest.mark.lengthy


def shown(capsys: pytest.CaptureFixture[str], path: Path, name: str) -> dict[str, object]:
    assert main(["show", str(path), name, "--json"]) == 0
    found: dict[str, object] = json.loads(capsys.readouterr().out)
    return found


def test_a_network_with_all_that_is_known_of_it(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(roco_run)
    for row in rows(roco_run / "population.csv"):
        found = shown(capsys, roco_run, row["arch_id"])
        layers = found["layers"]
        assert isinstance(layers, list)
        assert sum(layer["params"] for layer in layers) == int(row["params"])
        assert sum(layer["macs"] for layer in layers) == int(row["macs"])
        assert (str(found["rank"]), str(found["generation"]), str(found["seed"])) == (
            row["rank"],
            row["generation"],
            row["seed"],
        )
        values, kin = found["values"], found["kin"]
        assert isinstance(values, dict)
        assert isinstance(kin, dict)
        assert values["clean_error"] == float(row["clean_error"])
        assert bool(kin["parents"]) == (int(row["generation"]) > 0)
        for parent in kin["parents"]:
            other = shown(capsys, roco_run, parent)["kin"]
            assert isinstance(other, dict)
            assert row["arch_id"] in other["children"]
    assert contents(roco_run) == before


def test_its_page_fits_a_terminal_and_adds_up(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = rows(roco_run / "population.csv")[-1]
    assert main(["show", str(roco_run), row["arch_id"]]) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0] == f"{row['arch_id']} of roco-nas on digits"
    assert lines[-1].split() == ["all", "layers", f"{int(row['params']):,}", f"{int(row['macs']):,}"]
    assert "differ" not in said
    assert "phase 1: 2 channels" in said


def test_its_audit_is_shown(copied_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = rows(copied_run / "front.csv")[0]["arch_id"]
    lines = [
        "arch_id,weights,status,pgd20,params,macs,reason",
        f"{key},audit,ok,0.75,1,1,",
        f"{key},search,failed,,1,1,no",
    ]
    (copied_run / "audit.csv").write_text("\n".join(lines) + "\n")
    assert main(["show", str(copied_run), "best"]) == 0
    said = capsys.readouterr().out
    assert "audit, trained to the end: pgd20 0.75" in said
    assert "audit, as searched: no" in said


def test_names_of_a_network(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = open_run(roco_run)
    front = [str(key) for key in found.front["arch_id"]]
    assert found.entry("best").key == front[0]
    assert found.entry("knee").key in front
    assert found.entry(front[-1]).key == front[-1]
    assert found.entry(front[-1][:8]).key == front[-1]
    assert main(["choose", str(roco_run), "--knee", "--json"]) == 0
    (knee,) = json.loads(capsys.readouterr().out)["networks"]
    assert found.entry("knee").key == knee["arch_id"]
    first = {entry.key[0]: entry.key for entry in found.entries}
    twice = next(digit for digit in first if sum(entry.key[0] == digit for entry in found.entries) > 1)
    with pytest.raises(UnknownNameError, match=r"expected one network, .* give more digits"):
        found.entry(twice)
    for wrong in ("", "nothing", front[0] + "0", "b" + front[0]):
        with pytest.raises(UnknownNameError, match="its first digits, best or knee, got"):
            found.entry(wrong)
    assert main(["show", str(roco_run), front[0][:-1] + "x"]) == 2
    assert f"did you mean {front[0]}?" in capsys.readouterr().err


def test_the_front_as_json(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(roco_run), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [row["arch_id"] for row in found["front"]] == [row["arch_id"] for row in rows(roco_run / "front.csv")]


def test_a_search_ends_with_commands_that_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "a run"
    said = run(replace(ROCO, out=out, search=replace(ROCO.search, generations=1)))
    lines = said.splitlines()
    after = lines[lines.index("next:") + 1 :]
    calls = [shlex.split(line, comments=True) for line in after]
    assert [words[:3] for words in calls] == [["evonas", name, str(out)] for name in ("show", "report", "audit")]
    for _, name, *words in calls:
        if name in COMMANDS:
            _parse([name, *words])
    assert main(calls[0][1:]) == 0
    assert calls[0][3] in capsys.readouterr().out


def test_latency_says_that_threads_share_processors(
    roco_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words, shared = ["latency", str(roco_run), "best", "--runs", "1", "--warm-up", "1"], "threads on 1 processors"
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0})
    assert main([*words, "--threads", "2"]) == 0
    assert f"2 {shared}" in capsys.readouterr().out
    assert main([*words, "--threads", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["notes"] == [f"2 {shared}: they wait for one another"]
    assert main(words) == 0
    assert shared not in capsys.readouterr().out
