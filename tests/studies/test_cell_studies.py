"""The studies of cells from files and rows that were written by hand."""

from pathlib import Path

import pytest

from evonas.data.out_of_distribution import resolve_ood_data
from evonas.files import write_json
from evonas.studies import STUDIES
from evonas.studies.grid import record
from evonas.studies.study import Row, Studied


@pytest.mark.parametrize(
    ("name", "group", "item", "drawn"),
    [
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


@pytest.mark.parametrize(
    ("name", "item", "expected"),
    [
        ("e2rnas-v1", "Table 1", ["C46 - DARTS", "C36 - DARTS-C28", "C25 - DARTS-C20", "C16 - DARTS-C12"]),
        (
            "e2rnas-v1",
            "Table 2",
            [
                *("C38 - DARTS", "C36 - DARTS-C34", "C29 - DARTS-C27", "C20 - DARTS-C19", "C36 - DARTS"),
                *("C39 - DARTS", "C36 - DARTS-C34", "C30 - DARTS-C28", "C21 - DARTS-C20", "C36 - DARTS"),
            ],
        ),
        (
            "e2rnas-v1",
            "Table 3",
            [f"E2RNAS - w/o {name}" for name in ("adv", "adv (C27)", "adv (L = 0)", "nop", "MGDA", "L")],
        ),
        ("e2rnas-v2", "Table I", [f"S{n} - {name}" for n in (1, 2) for name in ("DARTS", "P-DARTS", "PC-DARTS")]),
        ("e2rnas-v2", "Table III", [f"S{n} - {name}" for n in (1, 2) for name in ("DARTS", "P-DARTS", "PC-DARTS")]),
        ("e2rnas-v2", "Table V", [f"S{n} on ImageNet - DARTS on ImageNet" for n in (1, 2)]),
        (
            "darts",
            "Table 1",
            [f"{name} - DARTS (" for name in ("DARTS (2nd order)", "P-DARTS search", "PC-DARTS search")],
        ),
    ],
)
def test_methods_that_are_compared_have_their_differences(
    name: str, item: str, expected: list[str], tmp_path: Path
) -> None:
    """Differences of labels that the table has."""
    found = lines(name, item, tmp_path, [])
    pairs = [line[0] for line in found if line[1] == "difference"]
    assert len(pairs) == len(expected)
    assert all(part in pair for part, pair in zip(expected, pairs, strict=True)), pairs
    labels = {line[0] for line in found if line[1] == "measured"}
    assert {label for pair in pairs for label in pair.split(" - ")} <= labels


@pytest.mark.parametrize(
    ("asked", "note", "expected"),
    [
        ("svhn", "", "SVHN"),
        ("auto", resolve_ood_data("auto", "digits", Path("nowhere"))[1], "smooth noise"),
        ("auto", "out-of-distribution images: cifar10, found below /data, because SVHN is not there", "CIFAR-10"),
        ("auto", "out-of-distribution images: cifar10, as this run was started with", "CIFAR-10"),
    ],
)
def test_a_table_names_its_out_of_distribution_images(asked: str, note: str, expected: str, tmp_path: Path) -> None:
    study = STUDIES["e2rnas-v2"]
    found = Studied(study, "quick", 1, tmp_path)
    for cell in found.cells[:2]:
        record(tmp_path, cell, "finished", 1.0, 1.0)
        write_json(tmp_path / cell.folder / "config.json", {"settings": {"ood_data": asked}, "notes": ["a", note]})
    notes = {}
    for item in study.items:
        for table in item.tables(found) if item.tables else ():
            notes[table.title] = [note for note in table.notes if note.startswith("Out-of-distribution")]
            assert bool(notes[table.title]) == ("AUPR" in " ".join(table.header) and "digits" in table.title)
    assert [f"Out-of-distribution images of the AUPR: {expected}."] in notes.values()


def test_cells_of_dsrna_learn_imagenet_at_the_papers_rate() -> None:
    cells = [cell for cell in STUDIES["dsrna"].cells("paper", 1) if cell.role == "imagenet"]
    assert [cell.options.network.training.lr for cell in cells] == [0.5, 0.5]


def test_published_cells_on_other_data_need_no_ablation() -> None:
    """Table 2 of E2RNAS's first version has none."""
    of = [cell for cell in STUDIES["e2rnas-v1"].cells("paper", 1) if cell.role == "svhn"]
    assert [(cell.group, cell.method) for cell in of] == [("E2RNAS", "e2rnas"), ("Published cells", "darts")]
    assert of[1].options.after.published == ("PDARTS", "PC_DARTS_cifar")


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
