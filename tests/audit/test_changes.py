"""Changes by an audit: order, front, hypervolume, on numbers worked out by hand; intervals and probabilities."""

from typing import Any

import numpy as np
import pytest

from evonas.audit import Scores, changes, compared, intervals, on_front, replicated
from evonas.audit.changes import tau
from evonas.audit.intervals import drawn_errors, packed, unpacked
from evonas.errors import StorageError
from evonas.seeding import generator
from evonas.ship import wilson


def row(name: str, robust: float, macs: int, images: int = 100) -> dict[str, Any]:
    wrong = np.arange(images) < round(robust * images)
    return {
        "arch_id": name,
        "status": "ok",
        "pgd20_error": robust,
        "macs": macs,
        "wrong": {"pgd20_error": wrong},
    }


SCORES = Scores(
    values={
        "a": {"pgd_error": 0.2, "macs": 30},
        "b": {"pgd_error": 0.4, "macs": 20},
        "c": {"pgd_error": 0.6, "macs": 10},
    },
    objectives=("pgd_error", "macs"),
    maximize=(),
    reference=(1.0, 40.0),
)


def test_columns_that_stand_in_for_each_other() -> None:
    audited = ["clean_error", "fgsm_linf_error", "pgd20_error", "ece"]
    scored = ["clean_error", "macs", "pgd_error", "adversarial_set_error"]
    assert compared(scored, audited) == {
        "clean_error": "clean_error",
        "pgd_error": "pgd20_error",
        "adversarial_set_error": "pgd20_error",
    }
    assert compared(["pgd_error"], [*audited, "autoattack_error"]) == {"pgd_error": "autoattack_error"}
    assert compared(["pgd_error", "macs"], ["clean_error"]) == {}
    assert compared(["certified_error"], audited) == {}  # no attack's error stands for it
    assert compared(["certified_error"], [*audited, "certified_error"]) == {"certified_error": "certified_error"}


def test_one_network_leaves_the_front() -> None:
    """b's audited error of 0.9 is worse than c's 0.8, which costs less. a and b, b and c: b and c change places.

    Searched: (0.2, 30), (0.4, 20), (0.6, 10) against (1, 40): 8 + 6 + 4 = 8 + 0.6 * 10 + 0.4 * 10 = 18.
    Audited: (0.5, 30), (0.8, 10): 0.5 * 10 + 0.2 * 20 = 9.
    """
    found = changes([row("a", 0.5, 30), row("b", 0.9, 20), row("c", 0.8, 10)], SCORES)
    assert found["compared"] == {"pgd_error": "pgd20_error"}
    assert found["left_front"] == ["b"]
    assert (found["flips"], found["columns"][0]["pairs"]) == ([["b", "c"]], 3)
    assert found["tau"] == pytest.approx(1 / 3, abs=1e-6)  # two pairs agree, one does not
    assert found["hypervolume"] == pytest.approx({"search": 18.0, "audit": 9.0, "lost": 9.0, "share_lost": 0.5})
    low, high = found["interval"]
    assert -1 <= low <= found["tau"] <= high <= 1


def test_nothing_changes_where_the_audit_agrees() -> None:
    found = changes([row("a", 0.2, 30), row("b", 0.4, 20), row("c", 0.6, 10)], SCORES)
    assert (found["left_front"], found["flips"], found["tau"], found["hypervolume"]["lost"]) == ([], [], 1.0, 0.0)


def test_tau_of_too_few_or_constant_values_is_none() -> None:
    assert tau([1.0], [2.0]) is None
    assert tau([1.0, 2.0], [3.0, 3.0]) is None
    assert tau([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1.0
    assert tau([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == -1.0


@pytest.mark.parametrize(
    ("errors", "images", "low", "high"),
    [(0, 10, 0.0, 0.277533), (5, 10, 0.236593, 0.763407), (10, 10, 0.722467, 1.0)],
)
def test_intervals_of_wilson(errors: int, images: int, low: float, high: float) -> None:
    """Values of Newcombe (1998) and scipy's `binomtest(...).proportion_ci(method="wilson")`."""
    assert wilson(errors / images, images) == pytest.approx((low, high), abs=1e-6)


def test_intervals_of_a_row() -> None:
    assert intervals(row("a", 0.5, 30, images=10)) == {"pgd20_error": [0.236593, 0.763407]}
    assert intervals({"arch_id": "a"}) == {}


def test_bits_come_back_and_others_are_refused() -> None:
    for count in (1, 7, 8, 9, 300):
        bits = generator("bits", count).random(count) < 0.5
        assert unpacked(packed(bits)).tolist() == bits.tolist()
    for value in (None, [], [3], [9, "ff"], [0, ""], [-1, "ff"], [8, "zz"], ["8", "ff"], [8, 5], "ff"):
        with pytest.raises(StorageError, match="remove it"):
            unpacked(value)


def test_errors_on_drawn_images_spread_as_those_of_a_sample() -> None:
    """0.3 of 100 images: standard error sqrt(0.21 / 100) = 0.0458; the same images for every network."""
    wrong = np.arange(100) < 30
    drawn = drawn_errors([[wrong], [wrong]], 4000, generator("test"))
    assert drawn.shape == (4000, 2)
    assert drawn.mean() == pytest.approx(0.3, abs=0.003)
    assert drawn[:, 0].std() == pytest.approx(0.0458, rel=0.05)
    assert (drawn[:, 0] == drawn[:, 1]).all()


def test_probability_of_being_on_the_front() -> None:
    """c is alone in what it costs; a's error is far below b's, at the same costs, and near that of d."""
    scores = Scores({name: {"pgd_error": 0.5, "macs": 20} for name in "abcd"}, ("pgd_error", "macs"), (), (1.0, 40.0))
    near = row("d", 0.2, 20)
    near["wrong"] = {"pgd20_error": np.arange(100) >= 80}
    rows = [[row("a", 0.2, 20)], [row("b", 0.9, 20)], [row("c", 0.9, 10)], [near]]
    found = on_front(rows, scores, {"pgd_error": "pgd20_error"})
    assert found["c"] == 1.0
    assert found["b"] == 0.0
    assert 0.4 < found["a"] < 0.65
    assert 0.4 < found["d"] < 0.65


def test_seeds_are_drawn_with_the_images() -> None:
    """a's second training is worse than b, its first one better: the mean of two drawn ones is between."""
    scores = Scores({name: {"pgd_error": 0.5, "macs": 20} for name in "ab"}, ("pgd_error", "macs"), (), (1.0, 40.0))
    rows = [[row("a", 0.1, 20), row("a", 0.95, 20)], [row("b", 0.5, 20), row("b", 0.5, 20)]]
    found = on_front(rows, scores, {"pgd_error": "pgd20_error"})
    assert 0.2 < found["a"] < 0.6
    assert on_front([[rows[0][0]], [rows[1][0]]], scores, {"pgd_error": "pgd20_error"})["a"] == 1.0


def test_means_and_deviations_of_trainings() -> None:
    found = replicated([row("a", 0.2, 30), row("a", 0.4, 30)], ["pgd20_error", "ece"])
    assert found == {
        "pgd20_error": {"mean": pytest.approx(0.3), "deviation": pytest.approx(0.1414214), "values": [0.2, 0.4]}
    }
    assert replicated([row("a", 0.2, 30)], ["pgd20_error"])["pgd20_error"]["deviation"] is None
