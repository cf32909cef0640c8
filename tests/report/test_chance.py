"""Chance level: where guessing stands, what counts as no better, and where it is drawn and said."""

import pandas as pd
import pytest
from matplotlib.figure import Figure

from evonas.report import Chance, cell_table, transfer_table
from evonas.report.chance import chance_notes, draw_chance
from evonas.report.plots import front_figure
from evonas.report.table import Searched

TEN = Chance(10, 100)
"""Guessing errs on 90%, with a standard error of 3% on 100 images."""


@pytest.mark.parametrize(
    ("column", "value", "reached"),
    [
        ("clean_error", 0.9, True),
        ("clean_error", 0.841, True),
        ("clean_error", 0.839, False),
        ("pgd_error", 1.0, True),
        ("adversarial_set_error_L0", 0.9, True),
        ("ood_aupr", 0.9, False),
        ("params", 5e6, False),
    ],
)
def test_an_error_within_two_standard_errors_of_guessing_is_at_chance(column: str, value: float, reached: bool) -> None:
    assert TEN.reached(column, value) is reached
    assert TEN.mark(column, value) == "*" * reached


def test_more_images_tell_more_from_chance() -> None:
    assert Chance(10, 100).reached("clean_error", 0.85)
    assert not Chance(10, 10_000).reached("clean_error", 0.85)
    assert Chance(2, 10_000).error == 0.5


def test_the_note_comes_with_a_mark_alone() -> None:
    assert chance_notes([("a", "10.00*")], TEN) == (TEN.note,)
    assert "chance level; guessing one of 10 classes errs on 90.0%, and on 100 images" in TEN.note
    assert chance_notes([("a", "20.00")], TEN) == ()
    assert chance_notes([("a", "10.00*")], None) == ()


def test_papers_tables_call_it_so() -> None:
    row = {
        "configuration": "darts",
        "name": "a",
        "mode": "scratch",
        "status": "ok",
        "channels": 4,
        "params": 1e6,
        "macs": 1e6,
        "paper_flops": 1e6,
        "clean_error": 0.5,
        "pgd_error": 0.95,
    }
    for table in (cell_table([row], chance=TEN), transfer_table([row], {"pgd_error": "P1 8/255"}, [], chance=TEN)):
        (line,) = table.lines
        assert "50.00" in line
        assert "5.00*" in line
        assert TEN.note in table.notes
        assert TEN.note not in cell_table([{**row, "pgd_error": 0.6}], chance=TEN).notes


def lines_of(figure: Figure) -> list[list[float]]:
    """Positions of the chance lines of each panel."""
    return [
        sorted({float(value) for line in axes.get_lines() if line.get_linestyle() == ":" for value in _constant(line)})
        for axes in figure.axes
    ]


def _constant(line: object) -> set[float]:
    across, up = line.get_data()  # type: ignore[attr-defined]
    return {across[0]} if across[0] == across[1] else {up[0]}


@pytest.mark.parametrize(("worst", "drawn"), [(0.95, [[90.0]]), (0.5, [[]])])
def test_fronts_have_a_line_at_chance_where_errors_come_near(worst: float, drawn: list[list[float]]) -> None:
    searched = Searched("m", "d", ("clean_error", "params"), chance=TEN)
    table = pd.DataFrame({"status": "ok", "rank": [0, 1], "clean_error": [0.3, worst], "params": [1e6, 2e6]})
    assert lines_of(front_figure(table, searched)) == drawn


def test_two_errors_have_two_lines_and_one_name() -> None:
    axes = Figure().add_subplot()
    axes.scatter([80, 95], [70, 99])
    draw_chance(axes, "clean_error", "pgd_error", TEN)
    assert next(line.get_label() for line in axes.get_lines()) == "chance"
    assert len(axes.get_legend_handles_labels()[1]) == 1
    draw_chance(axes, "clean_error", "pgd_error", None)
    assert len(axes.get_lines()) == 2


def test_errors_on_an_unknown_number_of_images_have_no_chance_level() -> None:
    assert Chance.of(10, 0, {}) is None


def test_an_attack_on_fewer_images_has_a_bar_of_its_own() -> None:
    chance = Chance.of(
        10, 250, {"clean_error": {"about": ""}, "pgd_error": {"images": 100}, "fgsm_error": {"images": None}}
    )
    assert chance is not None
    assert [chance.reached(name, 0.85) for name in ("clean_error", "pgd_error", "fgsm_error")] == [False, True, False]
    assert "on 250 images (pgd_error: 100) this is no better" in chance.note
