"""TAM-NAS's study from files that were written by hand: layers, their statistics, when hypervolume settles."""

from pathlib import Path

from evonas.report import write_rows
from evonas.report.papers.tam_fronts import letter
from evonas.studies import STUDIES
from evonas.studies.grid import record
from evonas.studies.study import Studied
from evonas.studies.tam import BASE, WIDE, _fronts, layers, read, settled, statistics


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
    (table,) = statistics(found)
    assert "top 6 of the front" in table.title
    assert table.lines == (("0", "4 (4)", "15 (2)", "1.8 (3)", "-"),)


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
