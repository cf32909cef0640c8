"""Pictures of a run: their axes say what was measured, and how."""

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
