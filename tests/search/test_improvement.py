"""Expected hypervolume improvement: closed forms, laws, and brute force."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from evonas.search import hypervolume, non_dominated
from evonas.search.improvement import choose_batch, expected_improvement, free_boxes

ONE = np.ones(2)


def test_boxes_by_hand() -> None:
    lower, upper = free_boxes(np.array([[0.25, 0.5], [0.5, 0.25]]), ONE)
    assert lower.tolist() == [[-np.inf, -np.inf], [-np.inf, 0.25], [-np.inf, 0.5]]
    assert upper.tolist() == [[1.0, 0.25], [0.5, 0.5], [0.25, 1.0]]


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 4), st.integers(0, 8), st.integers(0, 10**6))
def test_boxes_are_disjoint_and_fill_what_is_not_dominated(m: int, n: int, seed: int) -> None:
    front = np.random.default_rng(seed).integers(0, 6, size=(n, m)) / 5
    lower, upper = free_boxes(front, np.ones(m))
    inside = np.maximum(lower, 0.0)  # the box of [0, 1]
    volumes = np.prod(np.maximum(upper - inside, 0.0), axis=1)
    assert volumes.sum() == pytest.approx(1 - hypervolume(front, np.ones(m)), abs=1e-12)
    points = np.random.default_rng(seed + 1).random((50, m))
    holding = ((points[:, None] > lower) & (points[:, None] < upper)).all(axis=2).sum(axis=1)
    dominated = np.any(np.all(front[None] <= points[:, None], axis=2), axis=1)
    assert holding.tolist() == (~dominated).astype(int).tolist()


def test_one_objective_is_the_well_known_expected_improvement() -> None:
    mean, deviation, best = 0.3, 0.2, 0.4
    z = (best - mean) / deviation
    known = deviation * (z * norm.cdf(z) + norm.pdf(z))  # Jones et al., 1998, Eq. 15
    found = expected_improvement(np.array([[mean]]), np.array([[deviation]]), np.array([[best], [0.7]]), np.ones(1))
    assert found == pytest.approx([known], rel=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 4), st.integers(0, 6), st.integers(0, 10**6))
def test_of_exact_values_it_is_the_growth_of_the_hypervolume(m: int, n: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    front, points, worst = rng.random((n, m)), 1.2 * rng.random((5, m)), np.ones(m)
    grown = [hypervolume(np.concatenate([front, point[None]]), worst) - hypervolume(front, worst) for point in points]
    assert expected_improvement(points, np.zeros((5, m)), front, worst) == pytest.approx(grown, abs=1e-9)


@pytest.mark.parametrize("m", [2, 3])
def test_it_is_the_mean_growth_over_draws(m: int) -> None:
    rng = np.random.default_rng(0)
    front, worst = rng.random((5, m)), np.ones(m)
    mean, deviation = np.full(m, 0.4), np.array([0.2, 0.1, 0.0][:m])
    draws = rng.normal(mean, deviation, size=(2000, m))
    grown = expected_improvement(draws, np.zeros_like(draws), front, worst)
    (found,) = expected_improvement(mean[None], deviation[None], front, worst)
    assert abs(found - grown.mean()) < 4 * grown.std() / np.sqrt(2000)  # four standard errors


def test_a_batch_is_spread_and_skips_what_fails_or_is_pending() -> None:
    mean = np.array([[0.2, 0.5], [0.2, 0.5], [0.5, 0.2], [0.1, 0.1]])
    success = np.array([1.0, 1.0, 1.0, 0.0])
    none: list[None] = [None, None]
    exact = np.zeros((4, 2))
    chosen, gains = choose_batch(mean, exact, success, none, np.zeros(2), np.empty((0, 2)), ONE, 3)
    assert chosen[:2] == [0, 2]  # the twin of the first adds nothing, the last one fails for certain
    assert gains == pytest.approx([0.8 * 0.5, 0.5 * 0.8 - 0.5 * 0.5, 0.0])
    chosen, _ = choose_batch(mean, exact, success, none, np.zeros(2), np.empty((0, 2)), ONE, 1, pending=1)
    assert chosen == [2]


def test_deviations_shrink_beside_what_is_chosen() -> None:
    """Two points that are known to be alike, and one of its own: the second choice is the one of its own."""
    covariance = np.array([[0.04, 0.04, 0.0], [0.04, 0.04, 0.0], [0.0, 0.0, 0.04]])
    mean = np.array([[0.6, 0.5], [0.6, 0.5], [0.61, 0.5]])
    deviation = np.array([[0.2, 0.0]] * 3)
    given = [covariance, None]
    chosen, gains = choose_batch(mean, deviation, np.ones(3), given, np.zeros(2), np.array([[0.5, 0.5]]), ONE, 2)
    assert chosen == [0, 2]
    assert gains[0] > gains[1] > 0
    assert len(non_dominated(mean)) == 2
