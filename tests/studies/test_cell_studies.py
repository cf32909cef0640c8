"""The studies of cells from files and rows that were written by hand."""

from pathlib import Path

import pytest

from evonas.studies import STUDIES
from evonas.studies.grid import record
from evonas.studies.study import Row, Studied


@pytest.mark.parametrize(
    ("name", "group", "item", "drawn"),
    [
        ("tam", "2S 8/255, 1 step", "Fig. 8", "finalised/layer_statistics.png"),
        ("e2rnas-v1", "E2RNAS", "Fig. 2", "genotype.png"),
        ("e2rnas-v2", "E2RNAS-S1", "Fig. 2", "genotype.png"),
    ],
)
def test_a_picture_of_cifar10_is_of_no_other_data(name: str, group: str, item: str, drawn: str, tmp_path: Path) -> None:
    """The same group is run on other data, too, and may be finished there first."""
    study = STUDIES[name]
    draw = next(each.draw for each in study.items if each.name == item)
    assert draw is not None
    cells = [cell for cell in study.cells("paper", 1) if cell.group == group]
    assert len({cell.role for cell in cells}) > 1
    for cell in sorted(cells, key=lambda cell: cell.role == "cifar10"):  # CIFAR-10 last
        assert not draw(Studied(study, "paper", 1, tmp_path), tmp_path / "figure.png")
        path = tmp_path / cell.folder / drawn
        path.parent.mkdir(parents=True)
        path.write_bytes(cell.role.encode())
        record(tmp_path, cell, "finished", 1.0, 1.0)
    assert draw(Studied(study, "paper", 1, tmp_path), tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes() == b"cifar10"


def lines(name: str, item: str, root: Path, rows: list[Row]) -> list[tuple[str, ...]]:
    """Lines of all tables of an item, of the preset `paper` with these rows."""
    found = Studied(STUDIES[name], "paper", 2, root)
    found.__dict__["rows"] = rows  # a cached property
    tables = next(each.tables for each in STUDIES[name].items if each.name == item)
    assert tables is not None
    return [line for table in tables(found) for line in table.lines]


def test_cifar100_has_accuracies_as_the_paper_prints_them(tmp_path: Path) -> None:
    rows = [
        {"label": "E2RNAS-S1", "role": "cifar100", "seed": seed, "clean_error": error, "params": 2.5e6}
        for seed, error in ((0, 0.2), (1, 0.3))
    ]
    found = lines("e2rnas-v2", "Table III", tmp_path, rows)
    assert ("E2RNAS-S1", "measured", "75.00 +- 7.07 (2)", "2.5000 +- 0.0000 (2)", "-", "-", "-") in found
    assert ("E2RNAS-S1", "as reported", "79.39", "2.3", "375", "22.26", "32.88") in found


def test_the_duration_of_a_search_stands_beside_the_papers(tmp_path: Path) -> None:
    rows = [
        {"label": "DSRNA-CB", "role": role, "seed": 0, "search_seconds": seconds}
        for role, seconds in (("cifar10", 43_200.0), ("mnist", 8_640.0))
    ]
    assert lines("dsrna", "Text 4.3.1", tmp_path, rows) == [
        ("DSRNA-CB", "measured", "0.5000 (1)"),
        ("DSRNA-CB", "as reported", "4"),
        ("DSRNA-Jacobian", "measured", "-"),
        ("DSRNA-Jacobian", "as reported", "0.4"),
        ("DSRNA-CB", "measured", "0.1000 (1)"),
        ("DSRNA-CB", "as reported", "1"),
        ("DSRNA-Jacobian", "measured", "-"),
        ("DSRNA-Jacobian", "as reported", "0.2"),
    ]
