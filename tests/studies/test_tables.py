"""Tables of a study: means over seeds above what is reported, dashes where runs are missing."""

from pathlib import Path

from evonas.files import write_json
from evonas.methods.roco import RocoOptions
from evonas.report import Chance
from evonas.studies.grid import Cell, record
from evonas.studies.intervals import Difference, Spread
from evonas.studies.page import write_study
from evonas.studies.study import Row, Studied, Study, read_rows
from evonas.studies.tables import Measure, PaperTable, difference_cell, spread_cell

TABLE = PaperTable(
    "Table 1",
    "some networks",
    (Measure("Acc. %", "clean_error", -100), Measure("Params M", "params", 1e-6, 3)),
    """
Ours    | 90.0 | 1.5
* Other | 80.0 | -
Theirs  | -    | -
""",
    pairs=(("Ours", "Theirs"),),
    relative=True,
)
ERRORS = {("Ours", 0): 0.1, ("Ours", 1): 0.2, ("Theirs", 0): 0.2, ("Theirs", 1): 0.5}


def read(folder: Path, cell: Cell) -> list[Row]:
    return [{"clean_error": ERRORS[cell.group, cell.seed], "params": 2e6, "status": "ok"}, {"status": "failed"}]


def grid(preset: str, seeds: int) -> list[Cell]:
    return [
        Cell(group=name, method="roco", options=RocoOptions(seed=n))
        for n in range(seeds)
        for name in ("Ours", "Theirs")
    ]


STUDY = Study(name="toy", paper="Nobody", cells=grid, read=read, items=())


def studied(root: Path, finished: int) -> Studied:
    """The study with so many of its four runs finished."""
    found = Studied(STUDY, "quick", 2, root)
    for cell in found.cells[:finished]:
        record(root, cell, "finished", 1.0, 1.0)
    return found


def test_means_reported_lines_differences_and_changes(tmp_path: Path) -> None:
    (table,) = TABLE(studied(tmp_path, 4))
    assert table.header == ("Architecture", "Source", "Acc. %", "Params M")
    assert table.lines == (
        ("Ours", "measured", "85.00 +- 7.07 (2)", "2.000 +- 0.000 (2)"),
        ("Ours", "as reported", "90.0", "1.5"),
        ("Other", "as reported", "80.0", "-"),
        ("Theirs", "measured", "65.00 +- 21.21 (2)", "2.000 +- 0.000 (2)"),
        ("Ours - Theirs", "difference", "+20.00 [+10.00, +30.00] (2)", "+0.000 [+0.000, +0.000] (2)"),
        ("Ours against Theirs", "change in %", "36.25 +- 33.59 (2)", "0.00 +- 0.00 (2)"),
    )


def test_a_run_that_is_missing_is_a_dash(tmp_path: Path) -> None:
    (table,) = TABLE(studied(tmp_path, 0))
    assert [line[2:] for line in table.lines if line[1] != "as reported"] == [("-", "-")] * 4
    (table,) = TABLE(studied(tmp_path, 1))
    assert table.lines[0] == ("Ours", "measured", "90.00 (1)", "2.000 (1)")
    assert [line[2] for line in table.lines[3:]] == ["-", "-", "-"]


def test_networks_that_failed_in_a_finished_run_are_counted_on_the_page(tmp_path: Path) -> None:
    found = studied(tmp_path, 3)
    record(tmp_path, found.cells[3], "failed", 1.0, 1.0, "no images")
    page = write_study(studied(tmp_path, 3)).read_text()
    for cell in found.cells[:3]:
        assert f"- {cell.folder}: 1 of 2 rows are of failed networks, and left out\n" in page
    assert f"- {found.cells[3].folder} failed: no images\n" in page
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 1 + 3


def test_rows_of_runs_that_are_gone_do_not_stay(tmp_path: Path) -> None:
    write_study(studied(tmp_path, 1))
    assert (tmp_path / "rows.csv").exists()
    (tmp_path / Studied(STUDY, "quick", 2, tmp_path).cells[0].folder / "study.json").unlink()
    write_study(studied(tmp_path, 0))
    assert not (tmp_path / "rows.csv").exists()


def test_a_mean_that_is_no_better_than_guessing_has_a_mark() -> None:
    """Guessing one of ten errs on 90%; 100 images of it have a standard error of 3%, two of which are allowed for."""
    chance = Chance(10, 100)
    accuracy, params = TABLE.measures
    nan = float("nan")
    assert accuracy.mark(Spread(15.9, nan, 1), chance) == "*"
    assert accuracy.mark(Spread(16.1, nan, 1), chance) == ""
    assert Measure("Test error %", "clean_error", 100).mark(Spread(84.1, nan, 1), chance) == "*"
    assert params.mark(Spread(0.1, nan, 1), chance) == accuracy.mark(None, chance) == ""
    assert accuracy.mark(Spread(10.0, nan, 1), None) == ""
    assert spread_cell(Spread(16.0, nan, 2), 1, "*") == "16.0 (2)*"


def test_the_marks_are_of_the_images_that_the_runs_scored_on(tmp_path: Path) -> None:
    found = studied(tmp_path, 1)
    assert found.chance() is None
    measured = {"pgd_error": {"images": 7}, "adversarial_set_error_L0": {"images": 31}}
    config = {"identity": {"data": {"n_classes": 5}}, "measured": measured}
    write_json(tmp_path / found.cells[0].folder / "config.json", config)
    assert found.chance() == Chance(5, 10_000, {"adversarial_set_error_L0": 31})
    assert found.chance("svhn") is None
    write_json(tmp_path / found.cells[0].folder / "config.json", {"identity": {}})  # of a run that searched nothing
    assert found.chance() is None


def test_what_was_not_measured_is_a_dash(tmp_path: Path) -> None:
    other = PaperTable("Table 2", "others", (Measure("PGD %", "pgd_error", -100),), "Ours | 1")
    (table,) = other(studied(tmp_path, 4))
    assert table.lines[0] == ("Ours", "measured", "-")


def test_cells() -> None:
    nan = float("nan")
    assert spread_cell(None) == difference_cell(None) == "-"
    assert spread_cell(Spread(1.25, nan, 1), 1) == "1.2 (1)"
    assert difference_cell(Difference(-1.0, nan, nan, 1)) == "-1.00 (1)"
    assert difference_cell(Difference(-1.0, -2.0, 0.5, 3), 1) == "-1.0 [-2.0, +0.5] (3)"


def test_a_value_that_is_not_zero_is_not_shown_as_zero() -> None:
    assert spread_cell(Spread(1.7e-7, 0.0, 2), 4) == "1.7e-07 +- 0.0000 (2)"
    assert spread_cell(Spread(0.0003, 4e-6, 2), 4) == "0.0003 +- 4.0e-06 (2)"
    assert difference_cell(Difference(-2e-8, -3e-4, 1e-17, 2), 4) == "-2.0e-08 [-0.0003, +0.0000] (2)"


def test_rows_are_read_as_numbers_and_words(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("arch_id,status,clean_error,pgd_error\n12e4,ok,0.5,\n")
    assert read_rows(path) == [{"arch_id": "12e4", "status": "ok", "clean_error": 0.5}]
    assert read_rows(tmp_path / "none.csv") == []
