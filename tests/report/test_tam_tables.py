"""TAM-NAS's tables with numbers worked out by hand, and a picture that is one."""

import csv
from pathlib import Path
from typing import Any

import pytest

from evonas.report import (
    agreement_table,
    handmade_table,
    layer_table,
    plot_layers,
    rank_agreement,
    transfer_table,
    write_finalised,
    write_layers,
)
from evonas.report.papers.tam import Agreement, Count, block_table, most_frequent
from evonas.spaces import ShuffleSpace

LABELS = {"pgd10_2_error": "P10 2/255", "pgd10_8_error": "P10 8/255"}


def row(name: str, error: float, mode: str = "scratch", **more: Any) -> dict[str, Any]:
    return {
        "configuration": "the front",
        "name": name,
        "mode": mode,
        "arch_id": name,
        "status": "ok",
        "clean_error": error,
        "pgd10_2_error": error + 0.1,
        "pgd10_8_error": 0.9,
        "params": 1_682_249,
        "macs": 10,
        "paper_params": None,
        "epochs": 100,
        "train_seconds": 1.5,
        "seed": 0,
        "data": "digits",
        "genome": "0 1",
        "reason": "",
        **more,
    }


def failed(name: str, mode: str = "scratch") -> dict[str, Any]:
    kept = ("name", "mode", "arch_id", "params")
    return {**{key: row(name, 0.0, mode)[key] for key in kept}, "status": "failed", "reason": "training diverged"}


def test_small_counts_are_not_in_millions() -> None:
    assert transfer_table([row("a", 0.2, params=1_506)], LABELS, []).lines[0][2] == "1.506k"


def test_errors_become_accuracies_in_percent() -> None:
    table = transfer_table([row("a", 0.2346), failed("b"), row("a", 0.3, "finetune")], LABELS, ["what P10 is"])
    assert table.header == ("Network", "Mode", "Params", "Clean", "P10 2/255", "P10 8/255")
    assert table.lines == (
        ("a", "scratch", "1.6822M", "76.54", "66.54", "10.00"),
        ("a", "finetune", "1.6822M", "70.00", "60.00", "10.00"),
    )
    assert table.notes[0] == "what P10 is"
    assert "b (scratch)" in table.notes[1]


@pytest.mark.parametrize(
    ("data", "epsilon", "names", "title"),
    [
        ("cifar10", 8 / 255, ["a"], "Table II: accuracy on CIFAR-10"),
        ("cifar10", 4 / 255, ["a"], "Table IV: accuracy on CIFAR-10"),
        ("cifar10", 8 / 255, ["a", "Lego-Net"], "Table II and Table VIII: accuracy on CIFAR-10"),
        ("svhn", 8 / 255, ["a"], "Table III: accuracy on SVHN"),
        ("svhn", 2 / 255, ["a", "Lego-Net"], "Table V and Table IX: accuracy on SVHN"),
        ("digits", 6 / 255, ["a"], "In the form of Table IV: accuracy on digits"),
    ],
)
def test_tables_have_the_numbers_of_their_data_and_radius(
    data: str, epsilon: float, names: list[str], title: str
) -> None:
    table = transfer_table([row(name, 0.5) for name in names], LABELS, [], data, epsilon)
    assert table.title == f"{title}, in percent"


def test_table_x_is_of_cifar10_alone() -> None:
    assert handmade_table([], LABELS, []).title.startswith("Table X: hand-made networks beside the others, accuracy on")
    assert handmade_table([], LABELS, [], "svhn").title == (
        "In the form of Table X: hand-made networks beside the others, accuracy on SVHN in percent"
    )


def test_a_hand_made_network_is_set_beside_the_papers() -> None:
    made = row("ShuffleNetV2", 0.25, params=5_365_486, paper_params=4.82e6)
    table = handmade_table([row("a", 0.2), made], LABELS, [])
    assert [line[0] for line in table.lines] == ["a", "ShuffleNetV2"]
    assert table.notes == ("ShuffleNetV2 has 5,365,486 parameters; Table X says 4.82M (+11.32%).",)


INHERITED = {name: {"clean_error": error} for name, error in {"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}.items()}
PAIRS = {"clean_error": "clean_error"}


def agreed(errors: dict[str, float]) -> Agreement:
    (found,) = rank_agreement([row(name, error) for name, error in errors.items()], INHERITED, PAIRS)
    return found


@pytest.mark.parametrize(
    ("errors", "tau", "p"),
    [
        ({"a": 0.5, "b": 0.6, "c": 0.7, "d": 0.8}, 1.0, 2 / 24),
        ({"a": 0.8, "b": 0.7, "c": 0.6, "d": 0.5}, -1.0, 2 / 24),
        ({"a": 0.5, "b": 0.6, "d": 0.7, "c": 0.8}, (5 - 1) / 6, 8 / 24),  # 4 orders with <= 1 pair wrong, twice
        ({"a": 0.5, "b": 0.7, "c": 0.6}, (2 - 1) / 3, 1.0),
    ],
)
def test_kendalls_tau_by_counting_pairs(errors: dict[str, float], tau: float, p: float) -> None:
    found = agreed(errors)
    assert found[:4] == ("scratch", "clean_error", "clean_error", len(errors))
    assert found.tau == pytest.approx(tau)
    assert found.p == pytest.approx(p)


@pytest.mark.parametrize(
    ("errors", "why"),
    [({"a": 0.1, "b": 0.2}, "fewer than 3"), (dict.fromkeys("abcd", 0.5), "all errors of a column are equal")],
)
def test_no_tau_is_said_plainly(errors: dict[str, float], why: str) -> None:
    found = agreed(errors)
    assert (found.n, found.tau, found.p) == (len(errors), None, None)
    (line,) = agreement_table([found], {"clean_error": "clean"}).lines
    assert why in line[4]
    assert line[:4] == ("scratch", "clean", "clean", str(len(errors)))
    assert line[5] == "-"


def test_modes_are_apart_and_only_networks_with_both_scores_count() -> None:
    rows = [
        row("a", 0.5),
        row("a", 0.8, "finetune"),
        row("b", 0.6),
        row("b", 0.7, "finetune"),
        row("c", 0.7),
        row("c", 0.6, "finetune"),
        failed("d"),
        row("Lego-Net", 0.1),
        row("ResNet-18", 0.9),
    ]
    found = rank_agreement(rows, INHERITED, PAIRS)
    assert [(each.mode, each.n) for each in found] == [("scratch", 3), ("finetune", 3)]
    assert [each.tau for each in found] == pytest.approx([1.0, -1.0])


COUNTS: list[Count] = [
    (0, "block", 4, 2),
    (0, "block", 1, 2),
    (0, "block", 0, 1),
    (0, "ratio", 1.8, 5),
    (1, "block", 20, 3),
    (1, "block", 3, 1),
    (1, "block", 7, 1),
    (1, "ratio", 2.0, 4),
    (1, "ratio", 0.2, 1),
]


def test_codes_of_the_blocks() -> None:
    """Table VII's pattern at any depth of the supernet."""
    for space in (ShuffleSpace(), ShuffleSpace(width=0.25, depth=0.25)):
        lines = block_table(space).lines
        assert [line[0] for line in lines] == [str(code) for code in range(22)]
        assert lines[0] == ("0", "S+SE k3", "tiny")
        assert lines[16] == ("16", "SX+NG+SE k5", "tiny and robust")
        assert lines[19] == ("19", "NE+SE", "robust")


def test_equals_are_shown_together() -> None:
    assert most_frequent(COUNTS, 0, "block") == [[(1, 2), (4, 2)], [(0, 1)]]
    assert most_frequent(COUNTS, 1, "block") == [[(20, 3)], [(3, 1), (7, 1)]]
    assert most_frequent(COUNTS, 0, "ratio") == [[(1.8, 5)], []]
    assert most_frequent(COUNTS, 2, "ratio") == [[], []]
    assert layer_table(COUNTS, 5).lines == (
        ("0", "1, 4 (2)", "0 (1)", "1.8 (5)", "-"),
        ("1", "20 (3)", "3, 7 (1)", "2 (4)", "0.2 (1)"),
    )


def test_files(tmp_path: Path) -> None:
    rows = [row("a", 0.25), failed("b")]
    write_finalised(tmp_path, rows, [transfer_table(rows, LABELS, []), layer_table(COUNTS, 5)])
    write_layers(tmp_path, COUNTS)
    with open(tmp_path / "finalised.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert list(first) == [
        "name",
        "mode",
        "arch_id",
        "status",
        "clean_error",
        "pgd10_2_error",
        "pgd10_8_error",
        "params",
        "macs",
        "paper_params",
        "epochs",
        "train_seconds",
        "seed",
        "data",
        "genome",
        "reason",
    ]
    assert (first["clean_error"], first["pgd10_8_error"], first["paper_params"]) == ("0.25", "0.9", "")
    assert (second["status"], second["clean_error"], second["reason"]) == ("failed", "", "training diverged")
    assert "| a | scratch | 1.6822M | 75.00 | 65.00 | 10.00 |" in (tmp_path / "tables.md").read_text()
    lines = (tmp_path / "layer_statistics.csv").read_text().splitlines()
    assert lines[:5] == ["layer,kind,choice,count", "0,block,4,2", "0,block,1,2", "0,block,0,1", "0,ratio,1.8,5"]


@pytest.mark.lengthy
def test_the_picture_is_one(tmp_path: Path) -> None:
    plot_layers(tmp_path / "layer_statistics.png", COUNTS, 5, "digits")
    content = (tmp_path / "layer_statistics.png").read_bytes()
    assert content.startswith(b"\x89PNG")
    assert len(content) > 10_000
    assert [path.name for path in tmp_path.iterdir()] == ["layer_statistics.png"]
