"""TAM-NAS's study from files that were written by hand: layers, their statistics, when hypervolume settles."""

from pathlib import Path

from evonas.report import write_rows
from evonas.studies import STUDIES
from evonas.studies.grid import record
from evonas.studies.study import Studied
from evonas.studies.tam import BASE, WIDE, layers, settled, statistics


def studied(root: Path, preset: str = "quick", seeds: int = 2) -> Studied:
    return Studied(STUDIES["tam"], preset, seeds, root)


def test_the_papers_supernet_has_the_layers_of_table_one_but_for_the_heads_slip(tmp_path: Path) -> None:
    (table,) = layers(studied(tmp_path, "paper", 1))
    differing = [line for line in table.lines if line[1] != line[3]]
    assert differing == [("1x1 Conv", "920", "1", "176", "1")]
    assert [line[2] for line in table.lines[1:4]] == ["4", "8", "4"]


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
    found = studied(tmp_path)
    volumes = {0: (0.5, 0.98, 0.99, 1.0), 1: (0.0, 0.4, 0.4, 0.4)}
    for cell in found.cells:
        if cell.group == BASE:
            record(tmp_path, cell, "finished", 1.0, 1.0)
            write_rows(tmp_path / cell.folder / "history.csv", [{"hypervolume": each} for each in volumes[cell.seed]])
    (table,) = settled(found)
    assert table.lines[0] == (BASE, "1.5 +- 0.7 (2)")
    assert {line[1] for line in table.lines[1:]} == {"-"}
