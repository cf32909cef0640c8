"""Pictures of a run: their axes say what was measured, and how."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from evonas.report import Searched
from evonas.report.plots import front_figure


def table(names: tuple[str, ...]) -> pd.DataFrame:
    values = {name: [0.25, 0.5, 0.75] for name in names}
    return pd.DataFrame({"status": ["ok", "ok", "failed"], "rank": [0, 1, None], **values})


def searched(names: tuple[str, ...], about: dict[str, str]) -> Searched:
    return Searched("roco-nas", "digits", names, about=about)


def test_an_axis_says_below_its_name_what_was_measured() -> None:
    """One panel for every pair; MACs need no words."""
    names = ("clean_error", "macs", "adversarial_set_error_Linf")
    about = {"clean_error": "", "adversarial_set_error_Linf": "transferred: precomputed set of 8 images"}
    figure = front_figure(table(names), searched(names, about))
    labels = [(axes.get_ylabel(), axes.get_xlabel()) for axes in figure.axes]
    assert len(labels) == 3
    assert all("\n" not in label for label in labels[0])
    below = "\ntransferred: precomputed set of 8 images"
    assert [pair[1].endswith(below) for pair in labels] == [False, True, True]
    name, _ = labels[1][1].split("\n")
    assert "adversarial" in name
    assert "%" in name  # of the set, as every error


def test_a_picture_of_an_older_run_has_names_alone() -> None:
    names = ("clean_error", "pgd_error")
    (axes,) = front_figure(table(names), searched(names, {})).axes
    assert "\n" not in axes.get_xlabel() + axes.get_ylabel()
    about = {"pgd_error": "white-box: PGD, linf 8/255, 10 steps"}
    (axes,) = front_figure(table(names), searched(names, about)).axes
    assert axes.get_xlabel().endswith("\nwhite-box: PGD, linf 8/255, 10 steps")
    assert "\n" not in axes.get_ylabel()


def drawn(names: tuple[str, ...], rows: int, front: int) -> tuple[pd.DataFrame, Searched]:
    """Rows, the first of them on the front; parameters grow."""
    falling = {name: [0.9 - 0.01 * number for number in range(rows)] for name in names[:1]}
    rising = {name: [0.1 + 0.01 * number for number in range(rows)] for name in names[1:]}
    ids = [f"{number:016x}" for number in range(0x1A2B0000, 0x1A2B0000 + rows * 0x10000, 0x10000)]
    made = {
        "arch_id": [f"{number:02d}cd{identity}" for number, identity in enumerate(ids)],
        "status": ["ok"] * rows,
        "rank": [0 if number < front else 1 for number in range(rows)],
        "params": [1000 * (number + 1) for number in range(rows)],
    }
    return pd.DataFrame({**made, **falling, **rising}), Searched("roco-nas", "digits", names)


def test_there_is_one_legend_below_all_panels() -> None:
    figure = front_figure(*drawn(("clean_error", "macs", "pgd_error"), 9, 5))
    assert [axes.get_legend() for axes in figure.axes] == [None] * 3
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["evaluated", "front"]
    figure.draw_without_rendering()
    box = legend.get_window_extent()
    assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    assert all(box.y1 <= axes.get_window_extent().y0 for axes in figure.axes)


def test_the_front_has_names_the_best_and_the_knee_first() -> None:
    """In units of their ranges, .125 to .25 is the least sum."""
    table, searched = drawn(("clean_error", "macs"), 5, 5)
    table["clean_error"], table["macs"] = [0.1, 0.2, 0.5, 0.7, 0.9], [9e6, 3e6, 2.5e6, 2e6, 1e6]
    figure = front_figure(table, searched)
    (axes,) = figure.axes
    names = [text.get_text() for text in axes.texts]
    assert names == ["knee 01cd", "best 00cd", "02cd", "03cd", "04cd"]
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in axes.texts]
    assert not any(a.overlaps(b) for number, a in enumerate(boxes) for b in boxes[:number])


def test_marks_grow_with_parameters_where_there_is_a_third_objective() -> None:
    two, three = (front_figure(*drawn(names, 9, 5)) for names in (("a", "b"), ("a", "b", "c")))
    assert [sizes(points).max() for points in two.axes[0].collections] == [18, 34]
    evaluated, front = map(sizes, three.axes[0].collections)
    assert front.tolist() == sorted(set(front.tolist()))
    assert front[0] / 34 == 0.4
    assert evaluated[-1] / 18 == 2.5


def sizes(points: Any) -> Any:
    return np.asarray(points.get_sizes())


def test_a_front_of_one_is_a_panel_with_a_name() -> None:
    for names in (("clean_error", "macs"), ("clean_error",)):
        figure = front_figure(*drawn(names, 1, 1))
        (axes,) = figure.axes
        assert [text.get_text() for text in axes.texts] == ["best, knee 00cd"]
        assert sum(len(np.asarray(points.get_offsets())) for points in axes.collections) == 1
        assert axes.get_xlim()[0] < axes.get_xlim()[1]


def test_panels_without_any_value_are_left_out() -> None:
    """Such as of an error that was to be measured beside the objectives, and could not be."""
    table, searched = drawn(("clean_error", "macs"), 4, 2)
    beside = replace(searched, columns=("clean_error", "macs", "pgd_error"))
    assert len(front_figure(table.assign(pgd_error=0.5), beside).axes) == 2
    assert len(front_figure(table.assign(pgd_error=None), beside).axes) == 1
