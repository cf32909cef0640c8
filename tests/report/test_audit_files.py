"""The files of an audit: read as they were written, and refused in one line where they are damaged."""

import csv
import json
import random
from pathlib import Path
from typing import Any

import pytest

from evonas.errors import StorageError
from evonas.report import (
    AuditFiles,
    AuditRow,
    audit_lines,
    audit_text,
    decisive,
    decisive_by_column,
    read_audit,
    with_earlier,
    write_audit,
)
from evonas.report.chance import Chance

ROWS: list[dict[str, Any]] = [
    {
        "configuration": "roco-nas",
        "arch_id": "0abf5be0c3648ca4",
        "weights": "search",
        "status": "ok",
        "clean_error": 0.125,
        "pgd20_error": 1 / 3,
        "params": 224,
        "macs": 160220,
        "images": 300,
        "epsilon": 8 / 255,
        "genome": "1 1 1",
        "reason": "",
        "wrong": {"clean_error": []},
    },
    {
        "arch_id": "59562bf3ba3c0e85",
        "weights": "audit",
        "status": "failed",
        "params": 168,
        "macs": 113420,
        "images": 300,
        "epsilon": 8 / 255,
        "genome": "1 0 0",
        "reason": 'training diverged: "loss", is nan',
    },
]
SUMMARY: dict[str, Any] = {
    "changed": {
        "columns": [
            {
                "search": "pgd_error",
                "audit": "pgd20_error",
                "tau": 0.5,
                "interval": [0.1, 0.9],
                "flips": [["a", "b"]],
                "pairs": 3,
            },
        ],
        "left_front": ["a"],
        "hypervolume": {"search": 2.0, "audit": 1.5, "lost": 0.5, "share_lost": 0.25},
    },
    "alarms": [{"arch_id": "a", "weights": "search", "kind": "noise", "line": "noise does better: 3%"}],
    "images": 300,
}


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    assert read_audit(tmp_path) == AuditFiles()
    write_audit(tmp_path, ROWS, SUMMARY)
    found = read_audit(tmp_path)
    assert found.summary == SUMMARY
    assert [row["arch_id"] for row in found.rows] == ["0abf5be0c3648ca4", "59562bf3ba3c0e85"]
    assert (found.rows[0]["pgd20_error"], found.rows[0]["params"]) == (1 / 3, 224)
    assert (found.rows[1]["clean_error"], found.rows[1]["reason"]) == (None, 'training diverged: "loss", is nan')
    with open(tmp_path / "audit.csv", newline="") as file:
        header = next(csv.reader(file))
    assert header[:3] == ["arch_id", "weights", "status"]
    assert header[-1] == "reason"
    assert not {"configuration", "wrong"} & {*header}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("status,", "state,", "its columns are"),
        ("weights,", "weight,", "search"),
        (",search,", ",searched,", "weights 'searched'"),
        (",failed,", ",lost,", "status 'lost'"),
        ("0.125", "many", "many"),
        ("0.125", "nan", "clean_error is nan"),
        ("0.125", "0.125,1", "cells"),
        ("59562bf3ba3c0e85,audit", "0abf5be0c3648ca4,search", "two rows"),
    ],
)
def test_a_damaged_table_is_one_line(old: str, new: str, message: str, tmp_path: Path) -> None:
    write_audit(tmp_path, ROWS, SUMMARY)
    table = tmp_path / "audit.csv"
    text = table.read_text()
    assert old in text
    table.write_text(text.replace(old, new))
    with pytest.raises(StorageError, match=message) as raised:
        read_audit(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    assert "audit the run again" in str(raised.value)


def test_a_table_without_weights_has_networks_trained_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "audit.csv").write_text("configuration,arch_id,status,clean_error,params,macs\nroco-nas,a,ok,.25,3,4\n")
    found = read_audit(tmp_path)
    assert [(each.arch_id, each.weights, dict(each.values)) for each in found.networks] == [
        ("a", "audit", {"clean_error": 0.25})
    ]
    assert (found.summary, found.lines) == ({}, [])


def test_rows_of_version_0_1_0_stay_but_for_those_of_an_equal_training(tmp_path: Path) -> None:
    """They do not say which training they are of: size and epochs must do."""
    (tmp_path / "audit.csv").write_text(
        "configuration,arch_id,status,clean_error,params,macs,channels,epochs\n"
        "roco-nas,a,ok,.25,3,4,8,2\nroco-nas,b,ok,.5,3,4,8,2\n"
    )
    row = {"arch_id": "a", "weights": "audit", "status": "ok", "params": 3, "channels": 8, "training": "1a2b3c4d"}
    longer = {**row, "epochs": 3, "recipe": "trades"}
    write_audit(tmp_path, with_earlier(tmp_path, [longer]), SUMMARY)
    assert [(each.arch_id, each.training) for each in read_audit(tmp_path).networks] == [
        *(("a", "1a2b3c4d"), ("a", ""), ("b", "")),
    ]
    same = {**row, "epochs": 2, "training": "5e6f7a8b"}
    write_audit(tmp_path, with_earlier(tmp_path, [same]), SUMMARY)
    found = read_audit(tmp_path).networks
    assert [(each.arch_id, each.training) for each in found] == [
        *(("a", "5e6f7a8b"), ("a", "1a2b3c4d"), ("b", "")),
    ]
    assert found[1].words == "trained to the end (trades, 3 epochs)"


@pytest.mark.parametrize(
    ("changed", "kept"),
    [({}, 1 / 3), ({"images": 200}, None), ({"epsilon": 4 / 255}, None), ({"status": "failed"}, None)],
    ids=["alike", "images", "epsilon", "failed"],
)
def test_what_was_measured_alike_before_stays(changed: dict[str, Any], kept: float | None, tmp_path: Path) -> None:
    write_audit(tmp_path, ROWS, SUMMARY)
    again = {name: value for name, value in ROWS[0].items() if name != "pgd20_error"}
    write_audit(tmp_path, with_earlier(tmp_path, [{**again, "clean_error": 0.25, "ece": 0.5, **changed}]), SUMMARY)
    row, other = read_audit(tmp_path).rows
    assert (row["clean_error"], row["ece"], row["pgd20_error"]) == (0.25, 0.5, kept)
    assert other["arch_id"] == ROWS[1]["arch_id"]


def test_of_several_trainings_the_longest_decides() -> None:
    short, long = ({"clean_error": error} for error in (0.5, 0.25))
    rows = [
        AuditRow("a", "audit", "ok", short, epochs=2, training="0"),
        AuditRow("a", "audit", "ok", long, epochs=3, training="2"),
        AuditRow("a", "audit", "ok", short, epochs=3, training="3"),
        AuditRow("a", "search", "ok", short),
    ]
    assert decisive(rows) == decisive(rows[::-1]) == {"a": long}


def test_columns_of_other_rows_come_after_those_of_the_decisive_ones() -> None:
    final = AuditRow("a", "audit", "ok", {"clean_error": 0.25}, epochs=3)
    short = AuditRow("a", "audit", "ok", {"clean_error": 0.5, "ece": 0.125}, epochs=2)
    searched = [AuditRow(name, "search", "ok", {"clean_error": 0.75, "pgd20_error": 1.0}) for name in "ab"]
    lost = AuditRow("b", "audit", "failed", {}, reason="it diverged")
    found = list(decisive_by_column([*searched, lost, short, final]))
    assert found == [(("clean_error",), [final]), (("ece",), [short]), (("pgd20_error",), searched)]
    assert list(decisive_by_column([lost])) == []
    assert list(decisive_by_column([lost, *searched])) == [(("clean_error", "pgd20_error"), searched)]


@pytest.mark.parametrize("change", [{"alarms": 3}, {"alarms": [{}]}, {"alarms": ["x"]}, {"changed": []}, {"images": 0}])
def test_a_damaged_summary_is_one_line(change: dict[str, Any], tmp_path: Path) -> None:
    write_audit(tmp_path, ROWS, SUMMARY)
    (tmp_path / "audit.json").write_text(json.dumps(SUMMARY | change))
    with pytest.raises(StorageError, match=r"expected the summary of an audit in .*audit\.json"):
        read_audit(tmp_path)


def test_a_hundred_damaged_files_are_one_line_or_a_result(tmp_path: Path) -> None:
    rng = random.Random(0)
    lines = []
    for number in range(100):
        write_audit(tmp_path, ROWS, SUMMARY)
        path = tmp_path / rng.choice(["audit.csv", "audit.json"])
        content = bytearray(path.read_bytes())
        at = rng.randrange(len(content))
        if number % 3 == 0:
            content = content[:at]
        elif number % 3 == 1:
            content[at] = rng.randrange(256)
        else:
            content[at : at + 8] = rng.randbytes(8)
        path.write_bytes(content)
        lines.append(line_of(tmp_path))
    assert {len(line.splitlines()) for line in lines} <= {0, 1}
    assert sum(map(bool, lines)) > 40


def line_of(folder: Path) -> str:
    """The error of reading; empty where there is none."""
    try:
        read_audit(folder)
    except StorageError as error:
        return str(error)
    return ""


def test_what_is_shown() -> None:
    table = audit_text(
        "a title", ROWS, {"clean_error": "No attack", "pgd20_error": "PGD (20)"}, Chance(10, 300), {"x": 1}
    )
    assert table.header == ("arch_id", "No attack", "PGD (20)", "params", "MACs", "on front")
    assert table.lines[0] == ("0abf5be0c3648ca4", "12.5%", "33.3%", "224", "160.2k", "-")
    assert table.lines[1][1:3] == ("-", "-")
    assert "59562bf3ba3c0e85 failed: training diverged" in table.notes[-1]


def test_changes_and_alarms_are_a_line_each() -> None:
    assert list(audit_lines(SUMMARY, True)) == [
        "pgd_error of the search and pgd20_error of the audit: Kendall's tau 0.50 [0.10, 0.90], "
        "1 of 3 pairs of networks change places",
        "left the front: a",
        "hypervolume: 25.0% lost",
        "ALARM a (search), noise does better: 3%",
    ]
    assert list(audit_lines({"changed": {}, "alarms": []}, True)) == ["no sign of masked gradients"]
    assert list(audit_lines({"changed": {}, "alarms": []}, False)) == []
    gained = {**SUMMARY["changed"], "hypervolume": {"share_lost": -0.125}}
    assert "hypervolume: 12.5% gained" in audit_lines({**SUMMARY, "changed": gained}, True)
