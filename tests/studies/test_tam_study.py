"""TAM-NAS's study from files that were written by hand: layers, their statistics, when hypervolume settles."""

from pathlib import Path
from typing import Any

import pytest

from evonas.report import write_rows
from evonas.report.papers import tam as tam_report
from evonas.report.papers import tam_fronts
from evonas.report.papers.tam_fronts import draw_bubbles, letter
from evonas.studies import STUDIES
from evonas.studies.grid import record
from evonas.studies.study import Studied
from evonas.studies.tam import (
    BASE,
    LEGO,
    TABLE_NINE,
    TABLE_TEN,
    WIDE,
    WIDE_SVHN,
    _fronts,
    layers,
    read,
    settled,
    statistics,
)


def studied(root: Path, preset: str = "quick", seeds: int = 2) -> Studied:
    return Studied(STUDIES["tam"], preset, seeds, root)


def test_the_papers_supernet_has_the_layers_of_table_one_but_for_the_heads_slips(tmp_path: Path) -> None:
    """The head has 920 channels, not 176, and a pooling's input are maps."""
    (table,) = layers(studied(tmp_path, "paper", 1))
    assert len(table.lines) == 14
    differing = [(line[0], line[1:5], line[5:]) for line in table.lines if line[1:5] != line[5:]]
    assert differing == [
        ("1x1 Conv", ("4^2 x 192", "920", "1", "1"), ("4^2 x 192", "176", "1", "1")),
        ("BN", ("4^2 x 920", "920", "1", ""), ("4^2 x 176", "176", "1", "")),
        ("Pooling", ("4^2 x 920", "920", "1", ""), ("1^2 x 176", "176", "1", "")),
        ("SE", ("1^2 x 920", "920", "1", ""), ("1^2 x 176", "920", "1", "")),
    ]
    assert [line[1:5] for line in table.lines[2:4]] == [("32^2 x 24", "48", "1", "2"), ("16^2 x 48", "48", "3", "1")]


def test_the_supernet_of_doubled_channels_is_searched_in_the_papers_window(tmp_path: Path) -> None:
    """III-C2's, as the others are; what III-C1 fences in is the training of the block phase."""
    cells = studied(tmp_path, "paper", 1).cells
    assert {cell.options.window for cell in cells} == {(1.61e6, 2.37e6)}
    assert {cell.options.intermediate for cell in cells} == {1, 2}


def test_statistics_are_those_of_both_seeds_together(tmp_path: Path) -> None:
    found = studied(tmp_path)
    counts = {0: ((0, "block", 15, 2), (0, "block", 4, 1), (0, "ratio", 1.8, 3)), 1: ((0, "block", 4, 3),)}
    for cell in found.cells:
        if cell.group == WIDE:
            record(tmp_path, cell, "finished", 1.0, 1.0)
            (tmp_path / cell.folder / "finalised").mkdir()
            names = ("layer", "kind", "choice", "count")
            rows = [dict(zip(names, each, strict=True)) for each in counts[cell.seed]]
            write_rows(tmp_path / cell.folder / "finalised" / "layer_statistics.csv", rows)
    table, codes = statistics(found)
    assert "top 6 of the fronts of 2 seeds" in table.title
    assert len(codes.lines) == 22
    assert table.lines == (("0", "4 (4)", "15 (2)", "1.8 (3)", "-"),)


def test_blocks_and_ratios_have_a_figure_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of CIFAR-10 alone, where the other data set's supernet was finished first."""
    drawn: list[Any] = []
    monkeypatch.setattr(tam_report, "write_png", lambda path, figure: drawn.append(figure))
    choices = {"cifar10": {"block": 15, "ratio": 1.8}, "svhn": {"block": 4, "ratio": 0.2}}
    cells = sorted((cell for cell in studied(tmp_path, "paper", 1).cells if cell.group == WIDE), key=lambda c: c.role)
    figures = {item.name: item.draw for item in STUDIES["tam"].items if item.name in ("Fig. 8", "Fig. 9")}
    for cell in reversed(cells):
        assert not any(draw and draw(studied(tmp_path, "paper", 1), tmp_path) for draw in figures.values())
        rows = [{"layer": 0, "kind": kind, "choice": choice, "count": 3} for kind, choice in choices[cell.role].items()]
        (tmp_path / cell.folder / "finalised").mkdir(parents=True)
        write_rows(tmp_path / cell.folder / "finalised" / "layer_statistics.csv", rows)
        record(tmp_path, cell, "finished", 1.0, 1.0)
    assert [cell.role for cell in cells] == ["cifar10", "svhn"]
    assert all(draw and draw(studied(tmp_path, "paper", 1), tmp_path) for draw in figures.values())
    shown = [(axes.get_ylabel(), axes.collections[0].get_offsets().tolist()) for each in drawn for axes in each.axes]
    assert shown == [("block", [[0.0, 15.0]]), ("ratio", [[0.0, 1.8]])]


def test_hypervolume_settles_where_it_has_99_percent_of_its_last_value(tmp_path: Path) -> None:
    found = studied(tmp_path, seeds=3)
    volumes = {0: (0.5, 0.98, 0.99, 1.0), 1: (0.0, 0.4, 0.4, 0.4), 2: (0.0, 0.0, 0.0, 0.0)}
    for cell in found.cells:
        if cell.group == BASE:
            record(tmp_path, cell, "finished", 1.0, 1.0)
            write_rows(tmp_path / cell.folder / "history.csv", [{"hypervolume": each} for each in volumes[cell.seed]])
    (table,) = settled(found)
    assert table.lines[0] == (BASE, "measured", "1.5 +- 0.7 (2)")
    assert {line[2] for line in table.lines[1:-1]} == {"-"}
    assert table.lines[-1] == ("most runs of the paper", "as reported", "18")


def test_both_figures_of_a_front_have_the_networks_of_one_seed_whatever_failed(tmp_path: Path) -> None:
    """Nothing of seed 0 could be trained, so that Figure 7 is of seed 1; and so is Figure 6, whose colours it has."""
    found = studied(tmp_path)
    costs = {"params": 1e6, "role": "cifar10"}
    errors = {"clean_error": 0.2, "adversarial_error": 0.5}
    searched = [
        {**costs, **errors, "label": f"{WIDE} searched", "arch_id": f"s{seed}", "seed": seed} for seed in (0, 1)
    ]
    trained = {**costs, **errors, "label": f"{WIDE} front", "arch_id": "s1", "seed": 1, "mode": "scratch"}
    found.__dict__["rows"] = [*searched, trained]  # a cached property
    assert [row["arch_id"] for row in _fronts(found, [WIDE], "searched")[WIDE]] == ["s1"]
    for item in found.study.items:
        if item.name in ("Fig. 6", "Fig. 7"):
            assert item.draw is not None
            assert item.draw(found, tmp_path / f"{item.stem}.png"), item.name
    found.__dict__["rows"] = searched
    assert [row["arch_id"] for row in _fronts(found, [WIDE], "searched")[WIDE]] == ["s0"]
    assert _fronts(found, [WIDE], "front")[WIDE] == []


def test_the_best_network_is_of_those_that_did_not_fail_and_was_trained_from_scratch(tmp_path: Path) -> None:
    cell = next(cell for cell in studied(tmp_path).cells if cell.group == BASE)
    errors = {"clean_error": 0.1, "pgd30_8_error": 0.2, "pgd10_8_error": 0.6, "pgd10_2_error": 0.1}
    common = {"status": "ok", "mode": "scratch", "params": 1e6, **errors}
    rows = [
        {**common, "name": "a", "arch_id": "a", "pgd10_8_error": 0.5},
        {**common, "name": "b", "arch_id": "b", "pgd30_8_error": 0.1},
        {**common, "name": "c", "arch_id": "c", "pgd10_8_error": 0.4, "mode": "finetune"},
        {"name": "d", "arch_id": "d", "mode": "scratch", "status": "failed", "params": 1e6},
    ]
    (tmp_path / cell.folder / "finalised").mkdir(parents=True)
    write_rows(tmp_path / cell.folder / "finalised" / "finalised.csv", rows)
    found = read(tmp_path / cell.folder, cell)
    assert [row["arch_id"] for row in found if row["label"] == BASE] == ["a"]
    front = [row for row in found if row["label"] == f"{BASE} front"]
    assert [(row["arch_id"], row.get("adversarial_error")) for row in front] == [
        ("a", 0.5), ("b", 0.6), ("c", 0.4), ("d", None)
    ]  # fmt: skip


def test_networks_of_a_large_front_have_names_of_their_own() -> None:
    assert [letter(place) for place in (0, 25, 26, 51, 52)] == ["A", "Z", "A1", "Z1", "A2"]


def test_circles_have_one_size_before_and_after_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One of three networks is not trained; the other two have equal errors then, and errors end at 100%."""
    drawn: list[Any] = []
    monkeypatch.setattr(tam_fronts, "write_png", lambda path, figure: drawn.append(figure))
    searched = [
        {"arch_id": name, "params": params, "clean_error": error, "adversarial_error": 1.0}
        for name, params, error in (("a", 3e6, 0.7), ("b", 2e6, 0.8), ("c", 1e6, 0.9))
    ]
    trained = [{**row, "clean_error": 0.5, "adversarial_error": 0.6} for row in searched[:2]]
    for rows in (searched, trained):
        assert draw_bubbles(tmp_path / "a.png", {"S": rows}, {"S": searched}, "S")
    before, after = (figure.axes[0] for figure in drawn)
    areas = [[float(each.get_sizes()[0]) for each in axes.collections] for axes in (before, after)]
    assert areas == [[450, 255, 60], [450, 255]]
    assert before.get_xlim()[1] == 100
    assert [text.get_text() for text in after.texts] == ["A, B"]
    assert [text.get_text() for text in before.texts] == ["A", "B", "C"]
    assert [axes.get_title().splitlines()[0] for axes in (before, after)] == [
        "S: 3 of 3 networks of the front",
        "S: 2 of 3 networks of the front",
    ]


def test_lego_net_stands_against_all_that_the_text_compares_it_with(tmp_path: Path) -> None:
    assert TABLE_TEN.relative
    assert [second for first, second in TABLE_TEN.pairs] == ["ResNet-18", "ShuffleNetV2", "MobileNetV3", WIDE]
    assert {label for pair in TABLE_TEN.pairs for label in pair} <= {*TABLE_TEN.labels}
    groups = {cell.group for cell in studied(tmp_path, "paper", 1).cells if cell.role == "svhn"}
    assert WIDE_SVHN in groups
    assert TABLE_NINE.pairs == ((f"LEGO {WIDE_SVHN}", WIDE), (f"LEGO {WIDE_SVHN}", WIDE_SVHN))
    assert WIDE_SVHN in TABLE_NINE.labels


def test_it_is_said_where_lego_net_is_a_network_of_the_front(tmp_path: Path) -> None:
    """A network of the front with seed 0, the best one with seed 1, none with seed 2."""
    found = studied(tmp_path, seeds=3)
    common = {"role": "cifar10", "params": 1e6, "clean_error": 0.2}
    networks = {LEGO: "aac", f"{WIDE} searched": "aab", WIDE: "bab"}
    found.__dict__["rows"] = [
        {**common, "label": label, "arch_id": arch, "seed": seed}
        for label, archs in networks.items()
        for seed, arch in enumerate(archs)
    ]  # a cached property
    for name in ("Table VIII", "Table X"):
        item = next(item for item in found.study.items if item.name == name)
        assert item.tables is not None
        (table,) = item.tables(found)
        assert table.notes[-2:] == (
            f"Lego-Net is a network of the front of {WIDE} itself: seed 0, 1.",
            "Lego-Net is its best one, too: seed 1.",
        )
