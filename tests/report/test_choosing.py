"""Networks chosen by hand-made rows: conditions, order, knee, several runs, and what is said where nothing is left."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from test_joint import FAILED, ROCO, TAM, entry, run

from evonas.errors import ConfigurationError, EvonasError, StorageError
from evonas.report import Choice, Choosing, JointRun, choose_networks, decisive, read_audit
from evonas.types import arch_id

A, B, C = arch_id((1, 0)), arch_id((2, 0)), arch_id((3, 0))
"""(.5, 10), (.2, 40) and (.4, 40) of clean_error and params; C is dominated and has no pgd_error."""


def choose(*runs: JointRun, audited: Any = None, **wanted: Any) -> Choice:
    return choose_networks(runs, Choosing(**wanted), audited)


def ids(found: Choice) -> list[str]:
    return found.table["arch_id"].tolist()


def test_without_a_wish_every_network_that_is_ok_by_rank() -> None:
    found = choose(ROCO)
    assert ids(found) == [B, A, C]
    assert found.table["rank"].tolist() == [0, 0, 1]
    assert (found.considered, found.satisfied) == (3, 3)  # one has failed


def test_what_satisfies_a_condition() -> None:
    assert ids(choose(ROCO, where="clean_error <= 40%")) == [B, C]
    assert ids(choose(ROCO, where="rank == 0 and params < 40")) == [A]
    assert ids(choose(ROCO, where="not params < 40 and generation == 0")) == [C]


def test_order_in_a_columns_own_direction() -> None:
    assert ids(choose(ROCO, by="params")) == [A, B, C]
    assert ids(choose(ROCO, by="pgd_error")) == [B, A, C]  # missing ones last
    up = run(
        "up",
        "m",
        "phase",
        *(entry((at,), clean_error=0.5, params=10, certified_radius=float(at)) for at in range(3)),
        measured={"certified_radius": {"maximize": True}},
    )
    up = replace(up, searched=replace(up.searched, columns=("clean_error", "params", "certified_radius")))
    assert choose(up, by="certified_radius").table["certified_radius"].tolist() == [2, 1, 0]
    radii = {"up": {key: {"certified_radius_linf": number} for number, key in enumerate(sorted(ids(choose(up))))}}
    assert ids(choose(up, audited=radii, by="audit.certified_radius_linf")) == sorted(ids(choose(up)), reverse=True)
    assert choose(up, by="certified_radius", top=1).table["certified_radius"].tolist() == [2]


def test_the_knee_is_that_of_the_front_of_what_is_left() -> None:
    points = [(0.1, 100), (0.15, 40), (0.5, 10), (0.9, 9)]
    bent = run("bent", "m", "phase", *(entry((i,), clean_error=e, params=p) for i, (e, p) in enumerate(points)))
    assert ids(choose(bent, knee=True)) == [arch_id((1,))]  # .06 + .34 against .5 + .01
    assert ids(choose(bent, knee=True, where="params < 40")) == [arch_id((2,))]
    assert ids(choose(bent, knee=True, where="clean_error > .8")) == [arch_id((3,))]


def test_several_runs_in_one_table() -> None:
    found = choose(ROCO, TAM, where="params < 30")
    assert list(zip(found.table["run"], ids(found), strict=True)) == [("second", A), ("first", A)]
    assert found.table["rank"].tolist() == [0, 0]
    assert ids(choose(ROCO, TAM, where='run == "second"')) == [arch_id((7,)), A]


def test_columns_that_a_run_lacks_are_said_and_satisfy_nothing() -> None:
    plain = replace(ROCO.searched, columns=("clean_error", "params", "macs"))
    bare = replace(ROCO, searched=plain, measured={"clean_error": {"about": ""}}, name="bare")
    found = choose(bare, TAM, where="pgd_error < 2")
    assert set(found.table["run"]) == {"second"}
    (note,) = found.notes
    assert note.startswith("pgd_error: not measured for 3 of 5 networks of bare")
    assert choose(bare, TAM, where="not pgd_error < 2 or params < 15").table["run"].tolist() == ["bare"]
    other = replace(bare, searched=replace(plain, objectives=("clean_error", "macs")))
    assert choose(other, TAM).notes == ("rank and knee by clean_error: not all runs searched macs, params",)


def test_what_was_measured_otherwise_or_elsewhere_is_refused() -> None:
    measured = {**TAM.measured, "pgd_error": {**TAM.measured["pgd_error"], "steps": 99}}
    other = replace(TAM, measured=measured)
    with pytest.raises(ConfigurationError, match="steps is 10 in first and 99 in second"):
        choose(ROCO, other, by="pgd_error")
    assert len(choose(ROCO, other, where="params < 30").table) == 2
    elsewhere = replace(TAM, data={**TAM.data, "fingerprint": "f" * 16})
    with pytest.raises(ConfigurationError, match="--any-data puts them together"):
        choose(ROCO, elsewhere)
    assert len(choose(ROCO, elsewhere, any_data=True).table) == 5


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("params < 9", r"tightest is params < 9 \(0 satisfy it\); closest: {A} with params 10"),
        ("params < 9 and clean_error < 1", r"tightest is params < 9 \(0 satisfy it, 3 satisfy all else\)"),
        (
            "params < 30 and clean_error < 45%",
            r"params < 30 \(1 satisfies it, 2 .*closest: {A} with params 10,",
        ),
        ("params < 39 and clean_error < 21%", r"closest: {B} with params 40, clean_error 20.0%"),
        ("pgd_error < .1", r"closest: {B} with pgd_error 80.0%"),
        ('method == "tam-nas"', r"tightest is method == 'tam-nas' \(0 satisfy it\)"),
    ],
)
def test_nothing_left_names_the_tightest_part_and_the_closest_network(where: str, expected: str) -> None:
    with pytest.raises(ConfigurationError, match=expected.replace("{A}", A).replace("{B}", B)) as refused:
        choose(ROCO, where=where)
    assert str(refused.value).isprintable()


def test_no_network_at_all() -> None:
    with pytest.raises(ConfigurationError, match="expected a network with status ok, got none"):
        choose(replace(ROCO, entries=(FAILED,)), where="params < 3")
    with pytest.raises(EvonasError, match="unknown column 'genome'"):
        choose(ROCO, where="genome == 3")
    with pytest.raises(EvonasError, match="unknown column 'param'; did you mean params"):
        choose(ROCO, by="param")


AUDIT = "arch_id,weights,status,clean_error,pgd20,params,macs,reason\n"


def test_columns_of_an_audit(tmp_path: Path) -> None:
    assert read_audit(tmp_path).networks == []
    lines = [f"{A},search,ok,0.5,0.9,10,9,", f"{A},audit,ok,0.25,0.75,10,9,", f"{B},audit,failed,,,40,9,it diverged"]
    (tmp_path / "audit.csv").write_text(AUDIT + "\n".join(lines) + "\n")
    rows = read_audit(tmp_path).networks
    assert [(row.arch_id, row.weights, row.status, dict(row.values), row.reason) for row in rows] == [
        (A, "search", "ok", {"clean_error": 0.5, "pgd20": 0.9}, ""),
        (A, "audit", "ok", {"clean_error": 0.25, "pgd20": 0.75}, ""),
        (B, "audit", "failed", {}, "it diverged"),
    ]
    assert decisive(rows) == {A: {"clean_error": 0.25, "pgd20": 0.75}}  # of those trained to the end
    assert decisive(rows[:1]) == {A: {"clean_error": 0.5, "pgd20": 0.9}}
    found = choose(ROCO, where="audit.pgd20 < .8", by="audit.pgd20", audited={"first": decisive(rows)})
    assert ids(found) == [A]
    assert found.records()[0]["audit.clean_error"] == 0.25
    assert found.records()[0]["pgd_error"] == 0.9
    assert found.notes[0].startswith("audit.pgd20: not measured for 2 of 3")


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", AUDIT + f"{A},search,ok,many,0.9,10,9,\n", AUDIT + "x\n", "\0\xff"])
def test_another_audit_csv_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "audit.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(StorageError, match="expected the table of an audit in") as refused:
        read_audit(tmp_path)
    assert str(refused.value).isprintable()


def test_records_are_plain_values() -> None:
    (last,) = choose(ROCO, where="generation == 0 and params == 40").records()
    assert (last["pgd_error"], last["params"], type(last["params"]), last["genome"]) == (None, 40, int, "3 0")
    assert not [value for value in last.values() if isinstance(value, float) and math.isnan(value)]
