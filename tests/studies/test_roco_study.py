"""RoCo-NAS's study from rows that were written by hand: means of the lightest, the closest pair, both sets."""

from pathlib import Path

import pytest

from evonas.files import write_json
from evonas.report import TextTable, write_rows
from evonas.studies import STUDIES
from evonas.studies.grid import record
from evonas.studies.roco_tables import ROCO, table_five, table_four, table_one, table_three
from evonas.studies.study import Studied

Networks = tuple[tuple[int, float, float, float], ...]

FRONTS: dict[int, dict[str, Networks]] = {
    0: {
        "Baseline-NAS": ((10, 0.4, 0.5, 0.6), (20, 0.2, 0.3, 0.5), (40, 0.1, 0.2, 0.4)),
        "RoCo-NAS": ((11, 0.3, 0.4, 0.5), (21, 0.2, 0.2, 0.4), (60, 0.1, 0.1, 0.1)),
    },
    1: {
        "Baseline-NAS": ((10, 0.6, 0.7, 0.6), (30, 0.4, 0.5, 0.5)),
        "RoCo-NAS": ((20, 0.3, 0.5, 0.2), (31, 0.2, 0.3, 0.3)),
    },
}
"""Seed -> configuration -> (MACs in millions, clean error, error on the set that no search saw, error under PGD)."""


@pytest.fixture
def studied(tmp_path: Path) -> Studied:
    found = Studied(STUDIES["roco"], "quick", 2, tmp_path)
    for cell in found.cells:
        record(tmp_path, cell, "finished", 1.0, 1.0)
        if cell.group == ROCO:
            rows = [
                {
                    "configuration": name,
                    "arch_id": f"{name[0]}{macs}",
                    "status": "ok",
                    "clean_error": clean,
                    "adversarial_set_error": 0.5,
                    "second_set_error": second,
                    "pgd_error": pgd,
                    "params": 1000 * macs,
                    "macs": 1_000_000 * macs,
                }
                for name, networks in FRONTS[cell.seed].items()
                for macs, clean, second, pgd in networks
            ]
            (tmp_path / cell.folder / "retrained").mkdir()
            write_rows(tmp_path / cell.folder / "retrained" / "retrained.csv", rows)
    return found


def cells(table: TextTable, *first: str) -> tuple[str, ...]:
    (line,) = (line for line in table.lines if line[: len(first)] == first)
    return line[len(first) :]


def test_top_means_are_of_the_lightest_by_macs_seed_by_seed(studied: Studied) -> None:
    (table,) = table_four(studied)
    assert cells(table, "clean", "Baseline-NAS", "measured") == ("50.00 +- 14.14 (2)", "63.33 +- 18.86 (2)",
                                                                 "63.33 +- 18.86 (2)")  # fmt: skip
    assert cells(table, "clean", "RoCo-NAS", "measured")[0] == "70.00 +- 0.00 (2)"
    assert cells(table, "clean", "RoCo-NAS - Baseline-NAS", "difference")[0] == "+20.00 [+10.00, +30.00] (2)"
    assert cells(table, "clean", "RoCo-NAS", "as reported") == ("95.80", "95.90", "95.78")


def test_a_front_of_fewer_networks_than_a_top_is_said(studied: Studied) -> None:
    (table,) = table_four(studied)
    assert table.notes[2:] == tuple(
        f"Seed {seed}: {name} has only {networks} network(s), over which larger tops are averaged."
        for seed, networks in ((0, 3), (1, 2))
        for name in ("Baseline-NAS", "RoCo-NAS")
    )
    twice = [{**row, "arch_id": f"{row['arch_id']}{copy}"} for row in studied.rows for copy in "ab"]
    studied.__dict__["rows"] = twice  # a cached property
    assert [note.split(",")[0] for note in table_four(studied)[0].notes[2:]] == [
        "Seed 1: Baseline-NAS has only 4 network(s)",
        "Seed 1: RoCo-NAS has only 4 network(s)",
    ]


def test_networks_on_both_fronts_are_said(studied: Studied) -> None:
    shared = {("RoCo-NAS", 1, "R20"): "B10"}  # the lightest of seed 1
    keys = [(row["label"], row["seed"], row["arch_id"]) for row in studied.rows]
    rows = [{**row, "arch_id": shared.get(key, key[2])} for key, row in zip(keys, studied.rows, strict=True)]
    studied.__dict__["rows"] = rows  # a cached property
    (said,) = (note for note in table_four(studied)[0].notes if "on both fronts" in note)
    assert said.startswith("Seed 1: 1 of the 5 lightest are on both fronts")


def test_chance_is_of_the_images_that_networks_are_scored_on(tmp_path: Path) -> None:
    """Not of the whole test part, which a run that scores nothing does not limit."""
    found = Studied(STUDIES["roco"], "small", 1, tmp_path)
    for cell in found.cells:
        record(tmp_path, cell, "finished", 1.0, 1.0)
        about = {"measured": {"clean_error": {}}, "identity": {"data": {"n_classes": 10}}}
        write_json(tmp_path / cell.folder / "config.json", about if cell.method == "roco" else {})
    chance = found.chance()
    assert chance is not None
    assert chance.images == 400


def test_both_sets_stand_in_table_three(studied: Studied) -> None:
    (table,) = table_three(studied)
    assert cells(table, "set that no search saw", "RoCo-NAS", "measured")[0] == "55.00 +- 7.07 (2)"
    assert cells(table, "searched set", "RoCo-NAS", "measured")[0] == "50.00 +- 0.00 (2)"
    assert cells(table, "searched set, L0", "RoCo-NAS", "measured") == ("-", "-", "-")


def test_the_pairs_are_the_closest_of_whole_fronts(studied: Studied) -> None:
    """Relative to the larger: 1/21 of seed 0 (not 1/11), 1/31 of seed 1."""
    (table,) = table_five(studied)
    assert cells(table, "Baseline-NAS", "measured") == ("0.0250 +- 0.0071 (2)", "25.000 +- 7.071 (2)",
                                                        "50.00 +- 0.00 (2)", "-")  # fmt: skip
    assert cells(table, "RoCo-NAS", "measured")[2] == "65.00 +- 7.07 (2)"
    assert cells(table, "RoCo-NAS - Baseline-NAS", "difference")[2] == "+15.00 [+10.00, +20.00] (2)"
    assert table.notes[2:] == (
        "Seed 0: B20 and R21, whose MACs differ by 4.76%.",
        "Seed 1: B30 and R31, whose MACs differ by 3.23%.",
    )


def test_table_one_counts_what_the_cards_say(studied: Studied) -> None:
    folder = studied.root / "second-adversarial-set-cifar10-seed0"
    counted = [
        {"target": "LeNet", "attack": attack, "threshold": th, "successful": n}
        for attack, th, n in (("L0", 5, 3), ("L0", 10, 4), ("Linf", 10, 8))
    ]
    counted.append({"target": "VGG-16", "attack": "L0", "threshold": 10, "successful": 5})
    write_json(folder / "set.json", {"cells": counted})
    write_json(studied.root / "adversarial-set-cifar10-seed0" / "set.json", {"cells": []})
    (table,) = table_one(studied)
    assert cells(table, "LeNet", "second adversarial set") == ("-", "-", "3", "4", "-", "-", "-", "8", "15")
    assert set(cells(table, "LeNet", "adversarial set")) == {"-"}
    assert set(cells(table, "Total", "adversarial set")) == {"-"}
    assert cells(table, "Total", "second adversarial set") == ("-", "-", "3", "9", "-", "-", "-", "8", "20")
    reported = ("1237", "1517", "1680", "2041", "730", "762", "818", "1006", "9791")
    assert cells(table, "Total", "as reported") == reported
