"""DSRNA's tables: measured rows with their deviations, and the paper's own apart from them."""

from typing import get_args

import pytest

from evonas.certify.settings import Intermediate
from evonas.report import means_of_repeats, measured_table, reported_tables

ATTACKS = {"fgsm_error": ("FGSM", "2/255"), "pgd10_error": ("PGD (10)", "8/255"), "pgd20_error": ("PGD (20)", "8/255")}
RADII = {"certified_radius_linf": "Radius L-inf", "certified_radius_l2": "Radius L2"}
NAMES = ["clean_error", *ATTACKS, *RADII]
FAILED = [{"configuration": "x", "status": "failed", "reason": "diverged"}]


def test_errors_become_accuracies_and_radii_stay() -> None:
    """0.25 +- 0.01: two values 0.01 / sqrt(2) apart on both sides."""
    apart = 0.01 / 2**0.5
    repeats = [("dsrna-bound", dict.fromkeys(NAMES, 0.25 + sign * apart)) for sign in (-1, 1)]
    means = means_of_repeats([*repeats, ("darts", dict.fromkeys(NAMES, 0.5))], NAMES)
    table = measured_table(
        means, FAILED, ATTACKS, RADII, "cifar10", certified_images=7, targets="all", intermediate="linear"
    )
    assert table.title == "Robustness of cells trained again, on cifar10"
    assert table.header == (
        "Architecture",
        "Searches",
        "No attack %",
        "FGSM %",
        "PGD (10) %",
        "PGD (20) %",
        "Radius L-inf",
        "Radius L2",
    )
    assert table.lines == (
        ("dsrna-bound", "2", *["75.00 +- 1.00"] * 4, *["0.25 +- 0.01"] * 2),
        ("darts", "1", *["50.00"] * 4, *["0.5"] * 2),
    )
    _, fgsm, pgd, radii, failed = table.notes
    assert (fgsm, pgd) == ("FGSM: 2/255.", "PGD (10), PGD (20): 8/255.")
    assert "the first 7 test images" in radii
    assert "taken for any other" in radii
    assert "over linear bounds within the network" in radii
    assert failed == "Left out, because training or scoring diverged: x (diverged)."


@pytest.mark.parametrize("kind", get_args(Intermediate))
def test_the_table_says_over_which_bounds_radii_are(kind: Intermediate) -> None:
    means = means_of_repeats([("a", dict.fromkeys(NAMES, 0.5))], NAMES)
    note = measured_table(means, [], ATTACKS, RADII, "cifar10", intermediate=kind).notes[-1]
    named = {"interval": "intervals within the network.", "linear": "linear bounds within the network."}
    assert note.endswith(f"over {named.get(kind, 'linear bounds within the network, as far as signs need them.')}")


def test_nothing_is_said_of_radii_that_were_not_measured() -> None:
    means = means_of_repeats([("a", dict.fromkeys(NAMES, 0.5))], NAMES)
    table = measured_table(means, [], {}, {}, "mnist")
    assert table.lines == (("a", "1", "50.00"),)
    assert len(table.notes) == 1


@pytest.mark.parametrize(
    ("data", "lines", "name", "cells"),
    [
        (
            "cifar10",
            6,
            "DSRNA-CB",
            "97.42 +- 0.07, 69.88 +- 0.09, 60.31 +- 0.07, 60.22 +- 0.11, 59.93 +- 0.24, "
            "63.01 +- 0.07, 0.0049, 0.0412, 3.5",
        ),
        ("cifar10", 6, "RobNet-free", "82.79, 58.38, 52.80, 52.74, 52.57, 46.95, -, -, 5.5"),
        ("mnist", 5, "DSRNA-Jacobian", "99.36 +- 0.01, 98.79 +- 0.01, 96.82 +- 0.02, 95.37 +- 0.02, 0.0514, 0.4285"),
    ],
)
def test_published_numbers_stand_as_they_were_printed(data: str, lines: int, name: str, cells: str) -> None:
    (table,) = reported_tables(data)
    assert table.title.startswith("As reported")
    assert len(table.lines) == lines
    assert all(len(line) == len(table.header) for line in table.lines)
    (line,) = (line for line in table.lines if line[0] == name)
    assert ", ".join(line[1:]) == cells
    assert "none of it measured here" in table.notes[0]


def test_other_data_has_no_published_numbers() -> None:
    assert reported_tables("svhn") == []
