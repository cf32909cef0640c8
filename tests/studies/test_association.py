"""Matching, regression, partial rank correlations and their intervals, against closed forms and planted effects."""

import math

import numpy as np
import pytest
import scipy.stats

from evonas.studies.association import (
    Groups,
    Point,
    adjusted_difference,
    effect,
    kendall,
    matched,
    matched_difference,
    mean_difference,
    pairs,
    partial_spearman,
    spearman,
)

ONE = Point(True, 100.0, 0.10, 0.5, name="a")


def planted(gain: float, seeds: int = 3, n: int = 30, noise: float = 0.01) -> Groups:
    """Robust errors that follow from MACs and clean error, and a gain of the treated, who are smaller besides."""
    rng, groups = np.random.default_rng(4), []
    for seed in range(seeds):
        group = []
        for number in range(n):
            treated = number % 2 == 0
            macs = float(np.exp(rng.normal(2.0 - 0.5 * treated, 0.5)))
            clean = float(0.1 + 0.05 * rng.random())
            value = 0.6 - 0.1 * math.log(macs) + clean - gain * treated + 0.2 * seed + noise * rng.normal()
            group.append(Point(treated, macs, clean, value, name=str(number)))
        groups.append(tuple(group))
    return tuple(groups)


@pytest.mark.parametrize(
    ("macs", "clean", "matched"),
    [(125.0, 0.12, True), (80.0, 0.08, True), (126.0, 0.10, False), (79.0, 0.10, False), (100.0, 0.121, False)],
)
def test_pairs_lie_within_both_calipers(macs: float, clean: float, matched: bool) -> None:
    other = Point(False, macs, clean, 0.7, name="b")
    assert pairs([ONE, other]) == ([(ONE, other)] if matched else [])


def test_pairs_are_of_both_groups() -> None:
    other = ONE._replace(treated=False)
    assert pairs([ONE, other, ONE._replace(name="b")]) == [(ONE, other), (ONE._replace(name="b"), other)]


def test_differences_by_hand() -> None:
    """Seed 0: pairs (0.5, 0.7) and (0.5, 0.6), mean -0.15. Seed 1: 0.4 - 0.9 = -0.5. Seed 2 has no pair."""
    near = [Point(False, 110.0, 0.11, value, name=str(value)) for value in (0.7, 0.6)]
    far = Point(False, 900.0, 0.11, 0.0, name="far")
    groups = (
        (ONE, *near, far),
        (ONE._replace(value=0.4), near[0]._replace(value=0.9)),
        (ONE, far),
    )
    assert matched_difference(groups) == pytest.approx((-0.15 - 0.5) / 2, abs=1e-12)
    assert mean_difference(groups[:1]) == pytest.approx(0.5 - 1.3 / 3, abs=1e-12)
    assert math.isnan(matched_difference(groups[2:]))
    assert effect(groups[2:], matched_difference) is None
    assert effect((), matched_difference) is None


def test_size_and_clean_error_explain_what_they_do() -> None:
    """Without a gain, smaller networks are the less robust: their plain difference is 0.05, and 0 at equal size."""
    none = planted(0.0, noise=0.0)
    assert mean_difference(none) > 0.02
    assert adjusted_difference(none) == pytest.approx(0.0, abs=1e-9)
    assert adjusted_difference(planted(0.07, noise=0.0)) == pytest.approx(-0.07, abs=1e-9)
    assert abs(matched_difference(none)) < 0.02  # 0.1 * log(1.25) + 0.02 at most, for every pair


@pytest.mark.lengthy
def test_a_planted_gain_is_found_and_none_is_not() -> None:
    """The noise of 0.01 gives the difference of two means of 45 a deviation of 0.002: 0.07 is far outside of it."""
    for statistic in (matched_difference, adjusted_difference):
        found, nothing = effect(planted(0.07), statistic), effect(planted(0.0), statistic)
        assert found is not None
        assert nothing is not None
        assert found.low < -0.07 + 0.02
        assert found.high < 0
        assert nothing.low < 0.02
        assert nothing.high > -0.02
    assert effect(planted(0.07), adjusted_difference) == effect(planted(0.07), adjusted_difference)


def test_a_regression_that_is_not_determined_is_none() -> None:
    alike = tuple(Point(True, 10.0 + n, 0.1 * n, 0.5) for n in range(10))
    assert math.isnan(adjusted_difference((alike,)))  # all of one method
    assert math.isnan(adjusted_difference((alike[:4],)))


def test_a_partial_correlation_by_its_closed_form() -> None:
    """r12.3 = (r12 - r13 r23) / sqrt((1 - r13^2)(1 - r23^2)), of ranks."""
    rng = np.random.default_rng(1)
    size = rng.normal(size=40)
    value, other = size + rng.normal(size=40), size + rng.normal(size=40)
    group = tuple(Point(True, *row) for row in zip(np.exp(size), np.zeros(40), value, other, strict=True))
    ranks = [np.argsort(np.argsort(each)) for each in (value, other, size)]
    r: np.ndarray = np.asarray(np.corrcoef(ranks))
    expected = (r[0, 1] - r[0, 2] * r[1, 2]) / math.sqrt((1 - r[0, 2] ** 2) * (1 - r[1, 2] ** 2))
    assert partial_spearman((group,), [lambda each: each.macs]) == pytest.approx(expected, abs=1e-9)
    assert partial_spearman((group,), ()) == pytest.approx(r[0, 1], abs=1e-9)


def test_a_correlation_that_cannot_be_had() -> None:
    group = tuple(Point(True, float(n), 0.1, float(n), float(n)) for n in range(1, 10))
    assert partial_spearman((group,), ()) == pytest.approx(1.0)
    assert math.isnan(partial_spearman((group,), [lambda each: each.macs]))  # MACs explain all
    assert math.isnan(partial_spearman((group[:4],), ()))
    assert math.isnan(partial_spearman((), ()))


def test_ranks_are_taken_seed_by_seed() -> None:
    """Levels that differ from seed to seed are no correlation of networks."""
    up = tuple(Point(True, 1.0, 0.1, float(n), float(n)) for n in range(6))
    moved = tuple(each._replace(value=each.value + 100, other=-each.other) for each in up)
    assert partial_spearman((up, moved), ()) == pytest.approx(0.0, abs=1e-12)


def test_tau_is_the_mean_over_seeds() -> None:
    up = tuple(Point(True, 1.0, 0.1, float(n), float(n)) for n in range(4))
    down = tuple(each._replace(other=-each.other) for each in up)
    flat = tuple(each._replace(other=0.0) for each in up)
    one_swap = tuple(Point(True, 1.0, 0.1, value, other) for value, other in ((0, 0), (1, 2), (2, 1), (3, 3)))
    assert kendall((up,)) == 1.0
    assert kendall((up, down)) == 0.0
    assert kendall((up, flat)) == 1.0  # a constant says nothing
    assert kendall((one_swap,)) == pytest.approx(4 / 6)  # five pairs alike, one not
    assert math.isnan(kendall((flat,)))


def test_few_finite_resamples_have_no_interval() -> None:
    lone = ((ONE, Point(False, 100.0, 0.1, 0.7, name="b"), Point(False, 900.0, 0.1, 0.7, name="c")),)
    found = effect(
        lone, lambda groups: matched_difference(groups) if len({each.name for each in groups[0]}) > 9 else 0.0
    )
    assert found is not None
    assert (found.low, found.high) == (0.0, 0.0)
    never = effect(lone, lambda groups: 1.0 if groups is lone else math.nan)
    assert never is not None
    assert never.value == 1.0
    assert math.isnan(never.low)


def test_few_matched_networks_have_no_interval() -> None:
    """Five of either group have one; four of one group, however many pairs they make, have none."""

    def group(treated: int, others: int) -> Groups:
        first = [Point(True, 100.0, 0.1, 0.01 * n, name=f"a{n}") for n in range(treated)]
        second = [Point(False, 100.0, 0.1, 0.5 + 0.01 * n, name=f"b{n}") for n in range(others)]
        return ((*first, *second),)

    found = matched(group(5, 5))
    assert found is not None
    assert found.n == 25
    assert found.value == pytest.approx(-0.5)
    assert found.low < found.value < found.high < 0
    few = matched(group(4, 9))
    assert few is not None
    assert few.n == 36
    assert math.isnan(few.low)
    assert matched(((ONE,),)) is None


def test_matched_networks_with_equal_values_are_several() -> None:
    """Ten of the same size and errors: five of either group, told apart by their names alone."""
    alike = [ONE._replace(treated=treated, name=f"{treated}{n}") for treated in (True, False) for n in range(5)]
    assert matched((tuple(alike),)) == (0.0, 0.0, 0.0, 25)
    few = matched((tuple(alike[:-1]),))
    assert few is not None
    assert math.isnan(few.low)


def test_tau_is_scipy_s() -> None:
    """With ties in either, of values of their own."""
    rng = np.random.default_rng(2)
    for ties in (2, 5, 1000):
        values, others = rng.integers(ties, size=(2, 30))
        group = tuple(Point(True, 1.0, 0.1, float(a), float(b)) for a, b in zip(values, others, strict=True))
        assert kendall((group,)) == pytest.approx(scipy.stats.kendalltau(values, others).statistic, abs=1e-12)
        assert spearman((group,)) == pytest.approx(scipy.stats.spearmanr(values, others).statistic, abs=1e-12)
