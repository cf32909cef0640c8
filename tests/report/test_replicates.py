"""Further evaluations of a front by other seeds: means, intervals, and the winner's curse, by hand."""

import numpy as np
import pytest
from scipy.stats import t

from evonas.report import Replicates, Searched
from evonas.search import Entry
from evonas.types import EvaluationResult

SEARCHED = Searched("m", "d", ("clean_error", "macs"), reference=(1.0, 1000.0))


def entry(number: int, error: float, macs: int) -> Entry:
    return Entry(EvaluationResult((number,), {"clean_error": error, "macs": macs}), 0, number)


def replicates(*rows: tuple[float, int, list[float]], searched: Searched = SEARCHED) -> Replicates:
    """(error that the search found, macs, errors by further seeds) of each network."""
    front = [entry(number, error, macs) for number, (error, macs, _) in enumerate(rows)]
    further = [[entry(number, error, macs) for error in found] for number, (_, macs, found) in enumerate(rows)]
    return Replicates(searched, front, further)


THREE = replicates((0.10, 300, [0.20, 0.24]), (0.20, 200, [0.19, 0.23]), (0.30, 100, [0.33, 0.35]))
"""Means .22, .21 and .34: the first one was lucky."""


def test_means_intervals_and_ranks_by_hand() -> None:
    assert THREE.columns == ["clean_error"]
    table = THREE.table()
    first, second, third = table.values()
    assert [row["clean_error_mean"] for row in table.values()] == pytest.approx([0.22, 0.21, 0.34])
    deviation = np.sqrt((2 * 0.02**2 + 2 * 0.02**2 + 2 * 0.01**2) / 3)  # of all three together, 3 degrees of freedom
    half = t.ppf(0.975, 3) * deviation / np.sqrt(2)
    assert first["clean_error_high"] == pytest.approx(0.22 + half, abs=1e-6)
    assert first["clean_error_low"] == pytest.approx(0.22 - half, abs=1e-6)
    assert [row["rank_by_means"] for row in table.values()] == [1, 0, 0]
    assert not any(row["beaten_beyond_intervals"] for row in table.values())  # the intervals overlap
    assert third["replicates"] == second["replicates"] == 2


def test_optimism_by_hand() -> None:
    assert THREE.optimism("clean_error") == pytest.approx((0.12 + 0.01 + 0.04) / 3)
    # by the second seed alone the front is .23 and .35, found .19 and .33; by the first .19 and .33, found .23 and .35
    assert THREE.optimism_of_means("clean_error") == pytest.approx(0.0, abs=1e-12)
    one = replicates((0.10, 300, [0.20]), (0.20, 200, [0.19]))
    assert one.optimism("clean_error") == pytest.approx(0.045)
    assert one.optimism_of_means("clean_error") is None
    assert [row["clean_error_low"] for row in one.table().values()] == [None, None]


def test_what_is_maximised_is_optimistic_where_it_falls() -> None:
    searched = Searched("m", "d", ("clean_error", "macs"), maximize=("clean_error",), reference=(0.0, 1000.0))
    up = replicates((0.9, 300, [0.7, 0.8]), (0.8, 200, [0.8, 0.8]), searched=searched)
    assert up.optimism("clean_error") == pytest.approx((0.15 + 0.0) / 2)
    assert [row["rank_by_means"] for row in up.table().values()] == [1, 0]


def test_beaten_beyond_intervals_by_the_ends_of_intervals() -> None:
    found = replicates((0.1, 300, [0.5, 0.501, 0.499]), (0.2, 200, [0.2, 0.201, 0.199]))
    assert [row["beaten_beyond_intervals"] for row in found.table().values()] == [True, False]
    assert found.summary()["beaten_beyond_intervals"] == 1
    assert "1 stay on the front by means, 1 are beaten beyond their intervals" in found.words()


def test_where_no_seed_matters() -> None:
    found = replicates((0.1, 300, [0.1]), (0.2, 200, [0.2]))
    assert found.columns == []
    assert found.words().endswith("; no objective changed with the seed")


def test_the_front_by_luck_is_optimistic_and_means_are_less_so() -> None:
    """Twenty equal networks of a price: the best by one seed is worse by the next ones, the best by means much less."""
    rng = np.random.default_rng(0)
    found = [0.5 + 0.05 * rng.standard_normal(9) for _ in range(400)]
    rows = [(float(values[0]), 100 + i // 20, values[1:].tolist()) for i, values in enumerate(found)]
    lucky = [min(rows[20 * k : 20 * k + 20]) for k in range(20)]  # the best of each price
    again = replicates(*lucky)
    before, after = again.optimism("clean_error"), again.optimism_of_means("clean_error")
    assert after is not None
    assert before == pytest.approx(0.05 * 1.867, abs=3 * 0.05 * 0.525 / np.sqrt(20))  # the mean of the best of twenty
    assert after < before
