"""The shortest convex combination of gradients: exactly, for two in closed form, and by plain Frank-Wolfe.

Minus that combination decreases every one of the losses to first order, unless it is zero: then no direction does
(Desideri, 2012). It is problem (1) of E2RNAS, in both versions.
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
"""Relative error of a scalar product, generously."""


def min_norm_weights(gradients: Tensor) -> Tensor:
    """Weights of the shortest vector among all convex combinations of gradients, to rounding.

    Its squared norm is at most the optimum + 1e-9 times the largest squared norm of a gradient, whatever their scale.
    The point is unique, its weights need not be: equal gradients share theirs evenly; for the rest a subset is taken
    that has only one solution, found from the shortest gradient on, the earlier one first. The same gradients always
    give the same weights. A zero gradient takes all the weight; `mgda_weights` leaves such gradients out.

    Args:
        gradients: (m, d) of any scale and device, m >= 1.
    Returns:
        (m,) float64, >= 0, of sum 1, on the device of `gradients`.
    Raises:
        ValueError: another shape, or a number that is not finite.
        ArithmeticError: the bound above is not met.
    """
    rows = _scaled(gradients)
    owner: dict[bytes, int] = {}
    same = np.array([owner.setdefault(row.tobytes(), len(owner)) for row in rows])
    distinct = rows[[int(np.argmax(same == each)) for each in range(len(owner))]]
    points = _reduced(distinct)
    if len(points) == 2:
        first = _pair(points[0], points[1])
        found = np.array([first, 1 - first])
    else:
        found = _wolfe(points)
    if not _gap(points, found) <= 1e-9:
        raise ArithmeticError(f"the shortest combination of {len(rows)} gradients was not found")
    return torch.from_numpy(found[same] / np.bincount(same)[same]).to(gradients.device)


def min_norm_pair(first: Tensor, second: Tensor) -> Tensor:
    """Weight of `first` in the shortest convex combination of two gradients.

    E2RNAS (Yue et al., 2020), Eq. 11. Where both are equal, Eq. 11 is 0/0 and every weight is right: 0.5.

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

    It nears the optimum ever more slowly where that lies inside a face: `min_norm_weights` is exact, and faster.

    Args:
        gradients: (m, d), m >= 1.
        iterations: it returns after as many, at the latest; 0 returns the start.
        tolerance: it returns after a step that changes the weights by less, in sum.
        start: from the best combination of two gradients (Sener & Koltun, 2018), or from equal weights.
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
    """(m, d) gradients times the power of two that brings the largest entry into [1/2, 1): exact, save underflow."""
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
    return np.asarray(np.ldexp(rows, -exponent) + 0.0)  # + 0.0: no -0.0, so that equal rows have equal bytes


def _reduced(rows: Floats) -> Floats:
    """(m, min(m, d)) points with the scalar products of the rows.

    Householder's QR errs in proportion to each row's own norm; a Gram matrix would lose half of the digits.
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
    """(m,) weights of the shortest combination of two points, the earliest of equals."""
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

    The weights always are the best of their own points alone. A point that lies nearer to the origin, along the
    combination, than the combination itself joins them; whoever's weight would become negative then leaves.
    """
    norms = np.linalg.norm(points, axis=1)
    weights = _corner(len(points), int(norms.argmin()))
    for _ in range(100 + 10 * len(points)):  # about as many as there are points are enough
        combined = weights @ points
        nearer = (combined - points) @ combined
        nearer[weights > 0] = 0.0
        corner = int(nearer.argmax())
        if not nearer[corner] > 0:
            break
        moved = _best_of(points, weights, corner)
        step = (moved - weights) @ (points - combined)  # exact to many digits, also where it is short
        if not -step @ (2 * combined + step) > ROUNDING * np.linalg.norm(step) * (weights @ norms):
            break  # the squared norm would not shrink, to rounding
        weights = moved
    return np.asarray(weights / weights.sum())


def _best_of(points: Floats, weights: Floats, corner: int) -> Floats:
    """(m,) the best weights of some of the points that have one now, and of a further one."""
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
        used = [each for each in used if weights[each] > 0]


def _affine(points: Floats) -> Floats:
    """(k,) weights of sum 1, of any sign, of the shortest combination of points."""
    if len(points) == 1:
        return np.ones(1)
    base = int(np.linalg.norm(points, axis=1).argmin())  # the shortest: least is lost in the differences
    across = np.delete(points, base, axis=0) - points[base]
    lengths = np.linalg.norm(across, axis=1)
    lengths[lengths == 0] = 1.0
    along = np.linalg.lstsq((across / lengths[:, None]).T, -points[base], rcond=None)[0] / lengths
    return np.insert(along, base, 1 - along.sum())
