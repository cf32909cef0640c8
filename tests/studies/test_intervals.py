"""Means over seeds and paired bootstrap intervals against closed forms."""

import math

import numpy as np
import pytest

from evonas.studies.intervals import paired_difference, spread


def test_mean_deviation_and_number() -> None:
    assert spread([1.0, 2.0, 3.0]) == (2.0, 1.0, 3)
    found = spread([2.0, 4.0])
    assert found is not None
    assert found.mean == 3.0
    assert found.deviation == pytest.approx(math.sqrt(2), abs=1e-12)


def test_one_value_has_no_deviation_and_none_has_no_mean() -> None:
    found = spread([5.0, math.nan])
    assert found is not None
    assert (found.mean, found.n) == (5.0, 1)
    assert math.isnan(found.deviation)
    assert spread([]) is None
    assert spread([math.nan, math.inf]) is None


def test_two_pairs_are_resampled_to_their_own_range() -> None:
    """Means of resampled pairs are 1, 1.5 and 2 with chances 1/4, 1/2 and 1/4, so that both ends are the pairs."""
    assert paired_difference({0: 1.0, 1: 3.0}, {0: 0.0, 1: 1.0}) == (1.5, 1.0, 2.0, 2)


def test_equal_differences_leave_no_doubt() -> None:
    assert paired_difference({0: 2.0, 1: 5.0, 2: 9.0}, {0: 1.0, 1: 4.0, 2: 8.0}) == (1.0, 1.0, 1.0, 3)


def test_only_seeds_that_both_have_count() -> None:
    assert paired_difference({0: 2.0, 1: 4.0, 2: 1.0}, {1: 4.0, 0: 2.0, 7: 0.0}) == (0.0, 0.0, 0.0, 2)
    assert paired_difference({0: 1.0}, {1: 1.0}) is None
    one = paired_difference({0: 3.0}, {0: 1.0})
    assert one is not None
    assert (one.mean, one.n) == (2.0, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_many_normal_differences_have_the_normal_interval() -> None:
    """mean +- 1.96 s / sqrt(n) for n = 400.

    A quantile at 2.5% of 9,999 normal resamples has a standard error of sqrt(0.025 * 0.975 / 9999) / 0.0584 = 0.027
    standard deviations; BCa's correction of skewness is some 0.03 of them at this n: 0.2 covers both.
    """
    values = np.random.default_rng(3).normal(0.3, 1.0, 400)
    found = paired_difference(dict(enumerate(values.tolist())), dict.fromkeys(range(400), 0.0))
    assert found is not None
    error = values.std(ddof=1) / math.sqrt(400)
    assert found.mean == pytest.approx(values.mean(), abs=1e-12)
    assert found.low == pytest.approx(values.mean() - 1.96 * error, abs=0.2 * error)
    assert found.high == pytest.approx(values.mean() + 1.96 * error, abs=0.2 * error)


def test_what_both_have_in_common_cancels() -> None:
    """Pairing removes what differs from seed to seed and is the same for both methods."""
    shift = {seed: 100.0 * seed for seed in range(5)}
    first, second = {seed: 1.0 + seed % 2 for seed in shift}, dict.fromkeys(shift, 0.0)
    shifted = paired_difference({s: first[s] + shift[s] for s in shift}, {s: second[s] + shift[s] for s in shift})
    assert shifted == paired_difference(first, second)
