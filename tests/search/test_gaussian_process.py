"""The Gaussian process beside textbook formulas, written out with other functions."""

import numpy as np
import pytest

from evonas.search.gaussian_process import GaussianProcess, _fit
from evonas.search.surrogate_models import _squared


def points(n: int, seed: int = 0) -> tuple[list[np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.integers(3, size=(n, 5)).astype(float)
    y = x[:, 0] + 0.5 * x[:, 1] * x[:, 2] + 0.05 * rng.normal(size=n)
    return [x, x[:, :1] + x[:, 1:2]], y


def distances(a: list[np.ndarray], b: list[np.ndarray]) -> list[np.ndarray]:
    return [_squared(x, y) for x, y in zip(a, b, strict=True)]


def test_squared_distances() -> None:
    a, b = np.array([[0.0, 1.0], [2.0, 2.0]]), np.array([[0.0, 1.0], [3.0, 0.0], [1.0, 1.0]])
    assert _squared(a, b).tolist() == [[0.0, 10.0, 1.0], [5.0, 5.0, 2.0]]


def test_predictions_are_those_of_the_normal_distribution() -> None:
    known, y = points(30)
    other, _ = points(7, seed=1)
    model = GaussianProcess(distances(known, known), y)
    mean, deviation, explained = model.predict(distances(other, known))
    covariance = model.covariance(distances(other, other), explained)

    kernel = model._kernel(distances(known, known)) * y.std() ** 2  # conditioning of a joint normal distribution
    across = model._kernel(distances(other, known)) * y.std() ** 2
    among = model._kernel(distances(other, other)) * y.std() ** 2
    inverse = np.linalg.inv(kernel + (model.noise**2 + 1e-6 * y.var()) * np.eye(30))
    assert mean == pytest.approx(y.mean() + across @ inverse @ (y - y.mean()), rel=1e-6)
    assert covariance == pytest.approx(among - across @ inverse @ across.T, abs=1e-7)
    assert deviation == pytest.approx(np.sqrt(np.diag(covariance)), rel=1e-4)


def test_leaving_one_out_is_predicting_it_from_the_others() -> None:
    known, y = points(25)
    model = GaussianProcess(distances(known, known), y)
    left_out = model.leave_one_out()
    kernel = model._kernel(distances(known, known))
    kernel[np.diag_indices(25)] += model._noise + 1e-6
    for i in range(25):
        rest = [j for j in range(25) if j != i]
        weights = np.linalg.solve(kernel[np.ix_(rest, rest)], (y[rest] - y.mean()) / y.std())
        assert left_out[i] == pytest.approx(y.mean() + y.std() * kernel[i, rest] @ weights, rel=1e-6)


def test_it_learns_what_is_there_and_its_intervals_hold() -> None:
    known, y = points(120)
    other, truth = points(200, seed=5)
    model = GaussianProcess(distances(known, known), y)
    mean, deviation, _ = model.predict(distances(other, known))
    assert np.corrcoef(mean, truth)[0, 1] > 0.99  # noise alone leaves 0.998
    inside = np.abs(truth - mean) < 1.645 * np.hypot(deviation, model.noise)
    assert 0.8 < inside.mean() < 0.98


def test_hyperparameters_are_the_densest_ones() -> None:
    """No step along any of them is better: the analytic gradient leads to a minimum."""
    known, y = points(40)
    d = [each / each.mean() for each in distances(known, known)]
    targets = (y - y.mean()) / y.std()
    found = _fit(d, targets)

    def loss(at: np.ndarray) -> float:
        a, w, noise = np.exp(at[:2]), np.exp(at[2:4]), np.exp(at[4])
        kernel = sum(a[g] * np.exp(-w[g] * d[g]) for g in range(2)) + (noise + 1e-6) * np.eye(40)
        prior, spread = np.array([-0.7, -0.7, 0, 0, -4]), np.array([1.5] * 4 + [2.0])
        value = 0.5 * targets @ np.linalg.solve(kernel, targets) + 0.5 * np.linalg.slogdet(kernel)[1]
        return float(value + 0.5 * (((at - prior) / spread) ** 2).sum())

    for i in range(5):
        for step in (-0.2, 0.2):
            assert loss(found + step * np.eye(5)[i]) > loss(found) - 1e-3


@pytest.mark.parametrize("values", [np.zeros(10), np.r_[np.zeros(9), 1.0], np.arange(10.0) * 1e9])
def test_odd_values_give_finite_predictions(values: np.ndarray) -> None:
    known, _ = points(10)
    model = GaussianProcess(distances(known, known), values)
    assert all(np.isfinite(each).all() for each in model.predict(distances(known, known)))
    assert np.isfinite(model.leave_one_out()).all()


def test_the_same_again() -> None:
    known, y = points(60)
    first, second = (GaussianProcess(distances(known, known), y) for _ in range(2))
    d = distances(known, known)
    assert all(np.array_equal(a, b) for a, b in zip(first.predict(d), second.predict(d), strict=True))
