"""The shortest convex combination of gradients: exact, in closed form for two, and by Frank-Wolfe.

A step against it decreases every loss to first order, unless it is zero: then no direction does (Desideri, 2012).
Problem (1) of E2RNAS, in both versions.
"""

from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from evonas.errors import ConfigurationError

__all__ = ["frank_wolfe_weights", "min_norm_pair", "min_norm_weights"]

Floats = npt.NDArray[np.float64]

ROUNDING = 8 * float(np.finfo(np.float64).eps)
"""Generous bound on the relative error of a scalar product."""


def min_norm_weights(gradients: Tensor) -> Tensor:
    """Weights of the shortest convex combination of gradients, exact to rounding.

    Its squared norm exceeds the optimum by at most 1e-9 times the largest squared norm of a gradient, at any scale. The
    combination is unique, its weights need not be: equal gradients share their weight evenly; otherwise the weights
    are those of a subset with a unique solution, built up from the shortest gradient, the first of equally short ones.
    The same gradients always give the same weights. A zero gradient gets all the weight; `mgda_weights` leaves zero
    gradients out.

    Args:
        gradients: (m, d), m >= 1, on any device.
    Returns:
        (m,) float64, >= 0, of sum 1, on the device of `gradients`.
    Raises:
        ValueError: another shape, or nan or infinity.
        ArithmeticError: the bound above is missed.
    """
    rows = _scaled(gradients)
    owner: dict[bytes, int] = {}
    same = np.array([owner.setdefault(row.tobytes(), len(owner)) for row in rows])
    distinct = rows[[int(np.argmax(same == each)) for each in range(len(owner))]]
    points = _reduced(distinct)
    if len(points) == 2:
        first = _pair(points[0], points[1])
        weights = np.array([first, 1 - first])
    else:
        weights = _wolfe(points)
    if not _gap(points, weights) <= 1e-9:
        raise ArithmeticError(f"the shortest combination of {len(rows)} gradients was not found")
    return torch.from_numpy(weights[same] / np.bincount(same)[same]).to(gradients.device)


def min_norm_pair(first: Tensor, second: Tensor) -> Tensor:
    """Weight of `first` in the shortest convex combination of two gradients.

    E2RNAS (Yue et al., 2020), Eq. 11. For equal gradients Eq. 11 is 0/0 and any weight is optimal: 0.5.

    Args:
        first, second: (n_alpha,) gradients of two losses to be minimised.
    Returns:
        () float64 weight in [0, 1]; `second` has one minus it.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"expected two gradients of shape (n,), got {tuple(first.shape)} and {tuple(second.shape)}")
    rows = _scaled(torch.stack([first.detach().to(torch.float64), second.detach().to(torch.float64)]))
    return torch.tensor(_pair(rows[0], rows[1]), dtype=torch.float64, device=first.device)


def frank_wolfe_weights(
    gradients: Tensor, iterations: int = 250, tolerance: float = 1e-5, start: Literal["pair", "even"] = "pair"
) -> Tensor:
    """Weights of a short convex combination, by the Frank-Wolfe algorithm with exact line search (E2RNAS v2, III-B).

    Converges slowly to an optimum inside a face: `min_norm_weights` is exact, and faster.

    Args:
        gradients: (m, d), m >= 1.
        iterations: maximum number; 0 returns the start.
        tolerance: stop after a step that changes the weights by less, in the 1-norm.
        start: pair: the best combination of two gradients (Sener & Koltun, 2018). even: equal weights.
    Returns:
        (m,) float64, >= 0, of sum 1, on the device of `gradients`.
    """
    if iterations < 0 or not tolerance >= 0 or start not in ("pair", "even"):
        raise ConfigurationError(
            f"expected iterations >= 0, tolerance >= 0 and start 'pair' or 'even', "
            f"got {iterations}, {tolerance} and {start!r}"
        )
    points = _reduced(_scaled(gradients))
    weights = _best_pair(points) if start == "pair" else np.full(len(points), 1 / len(points))
    for _ in range(iterations):
        combined = weights @ points
        corner = int(np.argmin(points @ combined))
        ahead = _pair(points[corner], combined)
        moved = (1 - ahead) * weights
        moved[corner] += ahead
        change, weights = float(np.abs(moved - weights).sum()), moved
        if change < tolerance:
            break
    return torch.from_numpy(weights / weights.sum()).to(gradients.device)


def _scaled(gradients: Tensor) -> Floats:
    """(m, d) gradients times the power of two that brings the largest entry into [1/2, 1): exact but for underflow."""
    if gradients.ndim != 2 or len(gradients) == 0:
        raise ValueError(f"expected gradients of shape (m, d), m >= 1, got {tuple(gradients.shape)}")
    rows: Floats = gradients.detach().cpu().to(torch.float64).numpy()
    broken = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(broken):
        raise ValueError(
            f"expected finite gradients, got nan or infinity in number {broken[0]} of {len(rows)}; "
            f"has the training diverged?"
        )
    _, exponent = np.frexp(np.abs(rows).max(initial=0.0))
    return np.asarray(np.ldexp(rows, -exponent) + 0.0)  # + 0.0 removes -0.0, so equal rows have equal bytes


def _reduced(rows: Floats) -> Floats:
    """(m, min(m, d)) points with the same scalar products as the rows.

    The error of a Householder QR is relative to the norm of each row; a Gram matrix would lose half of the digits.
    """
    if rows.shape[1] <= len(rows):
        return rows
    triangle = np.asarray(np.linalg.qr(rows.T, mode="r"))
    return np.ascontiguousarray(triangle.T)


def _gap(points: Floats, weights: Floats) -> float:
    """Bound on how far the squared norm is above the smallest one, in units of the largest squared norm of a point.

    With x the combination it is 2 (|x|^2 - min over i of <x, g_i>), which is zero exactly at the optimum (KKT).
    """
    combined = weights @ points
    largest = float((points * points).sum(axis=1).max())
    missing = 2 * float(((combined - points) @ combined).max())
    return max(0.0, missing) / largest if largest > 0 else 0.0


def _pair(first: Floats, second: Floats) -> float:
    """E2RNAS, Eq. 11."""
    across = second - first
    length = float(across @ across)
    return min(max(float(across @ second) / length, 0.0), 1.0) if length > 0 else 0.5


def _corner(size: int, index: int) -> Floats:
    weights = np.zeros(size)
    weights[index] = 1.0
    return weights


def _best_pair(points: Floats) -> Floats:
    """(m,) weights of the shortest combination of two points, the first of equally short ones."""
    best, shortest = _corner(len(points), 0), np.inf
    for i in range(len(points)):
        for j in range(i + 1, len(points)):
            weights = np.zeros(len(points))
            weights[i] = _pair(points[i], points[j])
            weights[j] = 1 - weights[i]
            length = float(np.linalg.norm(weights @ points))
            if length < shortest:
                best, shortest = weights, length
    return best


def _wolfe(points: Floats) -> Floats:
    """(m,) weights of the shortest convex combination (Wolfe, 1976, "Finding the nearest point in a polytope").

    Invariant: the weights are the best ones for the points in use. Each iteration adds a point that is nearer to the
    origin along the combination than the combination itself, and drops the points whose weight would become negative.
    """
    norms = np.linalg.norm(points, axis=1)
    weights = _corner(len(points), int(norms.argmin()))
    for _ in range(100 + 10 * len(points)):  # about one iteration for each point is enough
        combined = weights @ points
        nearer = (combined - points) @ combined
        nearer[weights > 0] = 0.0
        corner = int(nearer.argmax())
        if not nearer[corner] > 0:
            break
        moved = _best_of(points, weights, corner)
        step = (moved - weights) @ (points - combined)  # many exact digits even for a short step
        if not -step @ (2 * combined + step) > ROUNDING * np.linalg.norm(step) * (weights @ norms):
            break  # no decrease of the squared norm beyond rounding
        weights = moved
    return np.asarray(weights / weights.sum())


def _best_of(points: Floats, weights: Floats, corner: int) -> Floats:
    """(m,) best weights over one further point and some of the points in use."""
    weights, used = weights.copy(), [*np.flatnonzero(weights).tolist(), corner]
    while True:
        best = _affine(points[used])
        if (best > 0).all():
            weights[used] = best
            return weights
        now = weights[used]
        share = np.where(best <= 0, now / np.maximum(now - best, np.finfo(np.float64).tiny), np.inf)
        first = int(share.argmin())
        weights[used] = np.maximum(now + min(float(share[first]), 1.0) * (best - now), 0.0)
        weights[used[first]] = 0.0
        used = [index for index in used if weights[index] > 0]


def _affine(points: Floats) -> Floats:
    """(k,) weights of sum 1 and any sign of the shortest affine combination of points."""
    if len(points) == 1:
        return np.ones(1)
    base = int(np.linalg.norm(points, axis=1).argmin())  # the shortest loses the least in differences
    across = np.delete(points, base, axis=0) - points[base]
    lengths = np.linalg.norm(across, axis=1)
    lengths[lengths == 0] = 1.0
    along = np.linalg.lstsq((across / lengths[:, None]).T, -points[base], rcond=None)[0] / lengths
    return np.insert(along, base, 1 - along.sum())
