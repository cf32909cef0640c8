"""Gaussian process regression over given distances, in plain NumPy and SciPy: small, fast, and the same every time."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.optimize import minimize

__all__ = ["GaussianProcess"]

Floats = npt.NDArray[np.float64]

MOST_FITTED = 150
"""Values that the marginal likelihood is maximised over; more of them cost more than they tell."""
JITTER = 1e-6
PRIOR = (-0.7, 0.0, -4.0)
"""Logarithms of the usual share of the variance of a kernel, of its rate, and of the noise: lognormal priors."""
SPREAD = (1.5, 1.5, 2.0)
"""Deviations of these logarithms."""


class GaussianProcess:
    """Regression with the kernel sum_g a_g exp(-w_g d_g), for squared distances d_g in several groups of features.

    Of one-hot features the squared distance is twice the number of genes that differ, so the kernel knows categories.
    Shares a_g, rates w_g and noise have the largest posterior density; the mean of the values is the prior mean.

    Args:
        distances: one (n, n) matrix of squared distances for each group.
        values: (n,) found.
    """

    def __init__(self, distances: Sequence[Floats], values: Floats) -> None:
        self._mean, self._scale = float(values.mean()), float(values.std()) or 1.0
        targets = (values - self._mean) / self._scale
        chosen = np.linspace(0, len(values) - 1, min(len(values), MOST_FITTED)).round().astype(np.int64)
        parts = [distance[np.ix_(chosen, chosen)] for distance in distances]
        self._units = [float(part.mean()) or 1.0 for part in parts]
        scaled = [part / unit for part, unit in zip(parts, self._units, strict=True)]
        fitted = _fit(scaled, targets[chosen])
        groups = len(distances)
        self._shares, self._rates = np.exp(fitted[:groups]), np.exp(fitted[groups:-1])
        self._noise = float(np.exp(fitted[-1]))
        kernel = self._kernel(distances)
        kernel[np.diag_indices(len(kernel))] += self._noise + JITTER
        self._factor = cho_factor(kernel, lower=True)
        self._weights = cho_solve(self._factor, targets)
        self._targets = targets

    @property
    def noise(self) -> float:
        """Deviation of a found value from the function."""
        return self._scale * float(np.sqrt(self._noise))

    def predict(self, distances: Sequence[Floats]) -> tuple[Floats, Floats, Floats]:
        """(N,) means and (N,) deviations of the function at other points, and (n, N) what `covariance` needs of them.

        Args:
            distances: for each group (N, n) squared distances from those points to the known ones.
        """
        kernel = self._kernel(distances)
        explained: Floats = solve_triangular(self._factor[0], kernel.T, lower=True, check_finite=False)
        variance = np.maximum(self._shares.sum() - (explained**2).sum(axis=0), JITTER)
        mean: Floats = self._mean + self._scale * (kernel @ self._weights)
        return mean, self._scale * np.sqrt(variance), explained

    def covariance(self, distances: Sequence[Floats], explained: Floats) -> Floats:
        """(N, N) covariance of the function among other points.

        Args:
            distances: for each group (N, N) squared distances among them.
            explained: (n, N) as `predict` gave it for them.
        """
        found: Floats = self._scale**2 * (self._kernel(distances) - explained.T @ explained)
        return found

    def leave_one_out(self) -> Floats:
        """(n,) prediction of each known value from all others, with the same hyperparameters."""
        inverse = np.diag(cho_solve(self._factor, np.eye(len(self._targets))))
        found: Floats = self._mean + self._scale * (self._targets - self._weights / inverse)
        return found

    def _kernel(self, distances: Sequence[Floats]) -> Floats:
        groups = zip(self._shares, self._rates, self._units, distances, strict=True)
        parts = [share * np.exp(distance * (-rate / unit)) for share, rate, unit, distance in groups]
        found: Floats = np.sum(parts, axis=0)
        return found


def _fit(distances: Sequence[Floats], targets: Floats) -> Floats:
    """Logarithms of shares, rates and noise with the largest posterior density, from a fixed start."""
    groups, n = len(distances), len(targets)
    prior, spread = (np.array([v[0]] * groups + [v[1]] * groups + [v[2]]) for v in (PRIOR, SPREAD))

    def loss(logarithms: Floats) -> tuple[float, Floats]:
        shares, rates, noise = np.split(np.exp(logarithms), [groups, 2 * groups])
        parts = [share * np.exp(-rate * d) for share, rate, d in zip(shares, rates, distances, strict=True)]
        kernel = np.sum(parts, axis=0)
        kernel[np.diag_indices(n)] += noise[0] + JITTER
        away = (logarithms - prior) / spread
        factor = cho_factor(kernel, lower=True, check_finite=False)
        weights = cho_solve(factor, targets, check_finite=False)
        value = 0.5 * targets @ weights + np.log(np.diag(factor[0])).sum() + 0.5 * away @ away
        slope = cho_solve(factor, np.eye(n), check_finite=False) - np.outer(weights, weights)
        by_part = [slope * part for part in parts]
        gradient = [0.5 * each.sum() for each in by_part]
        gradient += [-0.5 * rate * (each * d).sum() for rate, each, d in zip(rates, by_part, distances, strict=True)]
        gradient.append(0.5 * noise[0] * np.trace(slope))
        return float(value), np.array(gradient) + away / spread

    bounds = [(-6.0, 3.0)] * groups + [(-5.0, 6.0)] * groups + [(-10.0, 1.0)]
    try:
        found: Floats = minimize(loss, prior, jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 20}).x
    except LinAlgError:  # nearly equal points without noise
        return prior
    return found
