"""Rows of several runs on one front: who is on it, what is refused, what the picture shows."""

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.errors import ConfigurationError
from evonas.report import JointRun, Searched, joint_front, shared_objectives, write_joint
from evonas.report.colours import SERIES, styles_of
from evonas.report.joint import joint_figure
from evonas.search import Entry, non_dominated
from evonas.types import EvaluationResult, arch_id

PGD = {"about": "white-box: PGD, linf 8/255, 10 steps", "threat": "white-box", "epsilon": 8 / 255, "steps": 10}
DATA = {"name": "digits", "fingerprint": "0123456789abcdef", "train": 1097, "validation": 250}


def entry(genome: tuple[int, ...], generation: int = 0, **values: float) -> Entry:
    return Entry(EvaluationResult(genome, {"macs": 9, **values}, seed=5, seconds=1.25), generation, 0)


def run(name: str, method: str, space: str, *entries: Entry, **changes: Any) -> JointRun:
    searched = Searched(
        method,
        "digits",
        ("clean_error", "params"),
        columns=("clean_error", "params", "macs", "pgd_error"),
        about={"pgd_error": "white-box: PGD, linf 8/255, 10 steps"},
    )
    made = JointRun(name, searched, space, DATA, {"clean_error": {"about": ""}, "pgd_error": PGD}, entries)
    return replace(made, **changes)


FAILED = Entry(EvaluationResult.failure((9, 9), 0, "boom"), 0, 0)
ROCO = run(
    "first",
    "roco-nas",
    "phase",
    entry((1, 0), clean_error=0.5, params=10, pgd_error=0.9),
    entry((2, 0), 1, clean_error=0.2, params=40, pgd_error=0.8),
    FAILED,
    entry((3, 0), clean_error=0.4, params=40),
)
TAM = run(
    "second",
    "tam-nas",
    "shuffle",
    entry((1, 0), clean_error=0.3, params=20, pgd_error=0.7),
    entry((7,), clean_error=0.2, params=40, pgd_error=0.9),
)


def test_one_front_over_all_runs() -> None:
    """(.5, 10), (.3, 20) and both (.2, 40) are not beaten: equal rows stay. (.4, 40) is by all with fewer errors."""
    joint = joint_front([TAM, ROCO], ("clean_error", "params"))
    assert list(joint.table.columns) == [
        "run",
        "method",
        "space",
        "arch_id",
        "generation",
        "rank",
        "status",
        "clean_error",
        "params",
        "macs",
        "train_seconds",
        "seed",
        "data",
        "genome",
    ]
    rows = joint.table[["run", "genome", "rank"]].to_numpy().tolist()
    assert rows == [
        ["first", "2 0", 0],
        ["second", "7", 0],
        ["second", "1 0", 0],
        ["first", "1 0", 0],
        ["first", "3 0", 1],
    ]
    assert joint.front["genome"].tolist() == ["2 0", "7", "1 0", "1 0"]
    assert joint.counted("method") == {"roco-nas": (2, 3), "tam-nas": (2, 2)}
    assert (joint.data, joint.maximize) == ("digits", ())


def test_a_row_keeps_what_its_run_says_of_it() -> None:
    row = joint_front([TAM, ROCO], ("clean_error", "params")).table.iloc[0]
    assert row.to_dict() == {
        "run": "first",
        "method": "roco-nas",
        "space": "phase",
        "arch_id": arch_id((2, 0)),
        "generation": 1,
        "rank": 0,
        "status": "ok",
        "clean_error": 0.2,
        "params": 40,
        "macs": 9,
        "train_seconds": 1.25,
        "seed": 5,
        "data": "digits",
        "genome": "2 0",
    }


def searched_for(made: JointRun, *objectives: str, **changes: Any) -> JointRun:
    return replace(made, searched=replace(made.searched, objectives=objectives), **changes)


def test_objectives_of_the_runs_where_they_are_the_same() -> None:
    """In any order, measured alike; otherwise what every run has."""
    first, second = searched_for(TAM, "pgd_error", "macs"), searched_for(ROCO, "macs", "pgd_error")
    assert shared_objectives([first]) == ("pgd_error", "macs")
    assert shared_objectives([first, second]) == ("pgd_error", "macs")
    assert shared_objectives([first, searched_for(ROCO, "pgd_error", "params")]) == ("clean_error", "params")
    other = replace(second, measured={"pgd_error": {**PGD, "steps": 20}})
    assert shared_objectives([first, other]) == ("clean_error", "params")


def test_the_order_of_runs_does_not_matter() -> None:
    objectives = ("clean_error", "params")
    assert joint_front([TAM, ROCO], objectives).table.equals(joint_front([ROCO, TAM], objectives).table)


def test_rows_without_an_objective_are_left_out() -> None:
    joint = joint_front([ROCO, TAM], ("pgd_error", "params"))
    assert sorted(joint.table["genome"]) == ["1 0", "1 0", "2 0", "7"]
    assert list(joint.table.columns)[7:10] == ["pgd_error", "params", "macs"]
    assert joint.about == {"pgd_error": "white-box: PGD, linf 8/255, 10 steps"}


def test_a_run_without_such_rows_does_not_hinder_others() -> None:
    empty = run("empty", "m", "phase", FAILED, entry((1,), clean_error=0.5, params=1))
    assert set(joint_front([empty, ROCO], ("clean_error", "pgd_error")).table["run"]) == {"first"}


def test_the_front_is_the_searches_own() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(20, size=(40, 3)) / 32
    entries = [entry((i,), clean_error=a, params=b, pgd_error=c) for i, (a, b, c) in enumerate(values.tolist())]
    halves = [run("a", "m", "phase", *entries[:20]), run("b", "n", "phase", *entries[20:])]
    joint = joint_front(halves, ("clean_error", "params", "pgd_error"))
    found = sorted(int(genome) for genome in joint.front["genome"])
    assert found == non_dominated(values).tolist()
    assert 1 < len(found) < 40


@pytest.mark.parametrize("says", ["search", "column"])
def test_what_any_run_maximises_is_maximised(says: str) -> None:
    one = run("a", "m", "phase", entry((1,), params=1, radius=0.5), entry((2,), params=1, radius=0.9))
    two = run("b", "n", "phase", entry((3,), params=2, radius=0.8), entry((4,), params=2, radius=1.0))
    columns = replace(one.searched, objectives=("params", "radius"), columns=())
    upwards = replace(columns, maximize=("radius",) if says == "search" else ())
    measured = {"radius": {"about": ""} | ({} if says == "search" else {"maximize": True})}
    runs = [replace(one, searched=columns, measured={}), replace(two, searched=upwards, measured=measured)]
    joint = joint_front(runs, ("params", "radius"))
    assert joint.maximize == ("radius",)
    assert joint.table["genome"].tolist() == ["2", "4", "1", "3"]
    assert joint.table["rank"].tolist() == [0, 0, 1, 1]
    assert "larger is better" in joint_figure(joint).axes[0].get_xlabel()


@pytest.mark.parametrize(
    ("runs", "objectives", "said"),
    [
        ([], ("params",), "expected at least one run folder, got none"),
        ([ROCO], (), "expected different objectives, at least one, got none"),
        ([ROCO], ("params", "params"), "expected different objectives, at least one, got params, params"),
        (
            [ROCO, replace(TAM, searched=replace(TAM.searched, columns=()))],
            ("pgd_error",),
            "expected pgd_error in every run, second has no such column; it has clean_error, params, macs",
        ),
        (
            [run("empty", "m", "phase", FAILED)],
            ("clean_error", "params"),
            "expected a row with status ok and clean_error, params in empty, got none",
        ),
        (
            [ROCO, replace(TAM, data={**DATA, "name": "mnist", "fingerprint": "fedcba9876543210", "train": 52500})],
            ("params",),
            "expected runs on the same data, got digits in first (1,097 train, 250 validation, 01234567) and mnist in "
            "second (52,500 train, 250 validation, fedcba98); their errors do not compare, --any-data puts them "
            "together all the same",
        ),
        (
            [ROCO, replace(TAM, measured={"pgd_error": {**PGD, "epsilon": 0.25, "about": "other", "images": None}})],
            ("params", "pgd_error"),
            f"expected pgd_error to be measured alike in every run: epsilon is {8 / 255} in first and 0.25 in second, "
            "images is nothing in first and all in second; leave it out",
        ),
        ([ROCO, replace(TAM, measured={})], ("pgd_error",), "threat is white-box in first and nothing in second"),
        (
            [ROCO, replace(TAM, measured={"pgd_error": {**PGD, "about": "other"}})],
            ("pgd_error",),
            "about is white-box: PGD, linf 8/255, 10 steps in first and other in second",
        ),
    ],
)
def test_what_does_not_compare_is_refused_in_one_line(
    runs: list[JointRun], objectives: tuple[str, ...], said: str
) -> None:
    with pytest.raises(ConfigurationError) as refused:
        joint_front(runs, objectives)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_other_data_may_be_asked_for() -> None:
    other = replace(TAM, data={**DATA, "fingerprint": "fedcba9876543210"}, searched=replace(TAM.searched, data="mnist"))
    joint = joint_front([ROCO, other], ("clean_error", "params"), any_data=True)
    assert joint.data == "digits, mnist"
    assert joint.table["data"].tolist() == ["digits", "mnist", "mnist", "digits", "digits"]


def test_what_was_measured_differently_elsewhere_does_not_matter() -> None:
    other = replace(TAM, measured={"pgd_error": {**PGD, "epsilon": 0.25}})
    assert len(joint_front([ROCO, other], ("clean_error", "params")).table) == 5


def test_files_read_back_to_the_digit(tmp_path: Path) -> None:
    entries = (entry((1,), clean_error=0.1 + 0.2, params=12), entry((2,), clean_error=0.4, params=13))
    exact = run("a", "m", "phase", *entries)
    write_joint(tmp_path / "joint", joint_front([exact], ("clean_error", "params")))
    assert sorted(path.name for path in (tmp_path / "joint").iterdir()) == ["front.csv", "front.png", "population.csv"]
    tables = {}
    for name in ("front", "population"):
        with open(tmp_path / "joint" / f"{name}.csv", newline="") as file:
            tables[name] = list(csv.DictReader(file))
    assert [row["genome"] for row in tables["population"]] == ["1", "2"]
    assert [row["clean_error"] for row in tables["front"]] == ["0.30000000000000004"]
    assert tables["front"][0]["params"] == "12"
    assert (tmp_path / "joint" / "front.png").read_bytes().startswith(b"\x89PNG")


def test_a_method_has_one_colour_and_its_place_in_the_legend() -> None:
    third = run("third", "roco-nas", "phase", entry((8,), clean_error=0.9, params=4000, pgd_error=0.95))
    figure = joint_figure(joint_front([ROCO, TAM, third], ("clean_error", "params", "pgd_error")))
    assert len(figure.axes) == 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["roco-nas: 2 of 3", "tam-nas: 1 of 2"]
    for axes in figure.axes:
        drawn = [
            (tuple(np.asarray(points.get_facecolor())[0, :3]), len(np.asarray(points.get_offsets())))
            for points in axes.collections
            if len(np.asarray(points.get_offsets()))
        ]
        assert len({colour for colour, _ in drawn}) == 2
        assert sum(count for _, count in drawn) == 5
    scales = [(axes.get_xscale(), axes.get_yscale()) for axes in figure.axes]
    assert scales == [("log", "linear"), ("linear", "linear"), ("linear", "log")]  # 10 to 4000 parameters
    assert figure.axes[1].get_xlabel().endswith("\nwhite-box: PGD, linf 8/255, 10 steps")


@pytest.mark.parametrize("objectives", [("clean_error",), ("params",), ("params", "macs")])
def test_one_objective_or_costs_alone_are_a_picture_too(objectives: tuple[str, ...]) -> None:
    assert len(joint_figure(joint_front([ROCO, TAM], objectives)).axes) == 1


def test_costs_that_nobody_counted_are_no_obstacle() -> None:
    """Neither run has a cost function; one row has no parameters of its own."""
    one = entry((1,), clean_error=0.5, params=4)
    two = Entry(EvaluationResult((2,), {"clean_error": 0.4}), 0, 0)
    runs = [run("a", "m", "phase", one), run("b", "n", "own", two)]
    runs = [replace(each, searched=replace(each.searched, objectives=("clean_error",))) for each in runs]
    joint = joint_front(runs, ("clean_error",))
    assert joint.table["params"].tolist() == [None, 4]
    assert len(joint_figure(joint).axes) == 1
    assert joint_front(runs, ("clean_error", "params")).table["genome"].tolist() == ["1"]


def test_more_methods_than_colours_are_drawn() -> None:
    runs = [run(f"r{i}", f"m{i:02d}", "phase", entry((i,), clean_error=i / 20, params=20 - i)) for i in range(11)]
    figure = joint_figure(joint_front(runs, ("clean_error", "params")))
    assert len(figure.legends[0].get_texts()) == 11


def test_nine_methods_look_different() -> None:
    styles = styles_of(map(str, range(64)))
    assert len(set(styles.values())) == 64
    assert list(styles.values())[:8] == list(SERIES)
    assert styles["8"] == (SERIES[0].colour, SERIES[1].marker, SERIES[1].shape)
