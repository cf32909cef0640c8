"""Expected hypervolume improvement, exact for independent normal predictions, and the choice of a batch by it."""

import itertools
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import ndtr

from evonas.search.pareto import non_dominated

__all__ = ["choose_batch", "expected_improvement", "free_boxes"]

Floats = npt.NDArray[np.float64]


def free_boxes(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """(b, m) lower and (b, m) upper corners of disjoint boxes: all that is better than the reference and not dominated.

    Lower corners may be at minus infinity.

    Args:
        front: (n, m) objectives, minimised.
        reference: (m,) worst point that counts.
    """
    front = front[(front < reference).all(axis=1)]
    if len(reference) == 1:
        return np.array([[-np.inf]]), np.array([[front.min(initial=reference[0])]])
    edges = np.array([-np.inf, *np.unique(front[:, -1]), reference[-1]])
    lower, upper = [], []
    for low, high in itertools.pairwise(edges):  # between them the same points dominate
        inner = free_boxes(front[front[:, -1] <= low, :-1], reference[:-1])
        lower.append(np.column_stack([inner[0], np.full(len(inner[0]), low)]))
        upper.append(np.column_stack([inner[1], np.full(len(inner[1]), high)]))
    return np.concatenate(lower), np.concatenate(upper)


def expected_improvement(mean: Floats, deviation: Floats, front: Floats, reference: Floats) -> Floats:
    """(n,) expected growth of the hypervolume by each prediction; deviation 0 is an exact value.

    The volume of a box that a point dominates is a product over objectives, and so is its expectation: over the boxes,
    the sum of products of E[(u - Y)+] - E[(l - Y)+] (Emmerich et al., 2011).

    Args:
        mean, deviation: (n, m) predictions, minimised.
        front: (k, m) found.
        reference: (m,) worst point that counts.
    """
    lower, upper = free_boxes(front, reference)
    volume = np.ones((len(mean), len(lower)))
    for j in range(len(reference)):
        ends, where = np.unique(np.concatenate([lower[:, j], upper[:, j]]), return_inverse=True)
        below = np.zeros((len(mean), len(ends)))  # E[(end - Y)+]
        finite = np.isfinite(ends)
        spread = np.maximum(deviation[:, j, None], 1e-12)
        z = (ends[finite] - mean[:, j, None]) / spread
        below[:, finite] = spread * (z * ndtr(z) + np.exp(-0.5 * z**2) / np.sqrt(2 * np.pi))
        volume *= below[:, where[len(lower) :]] - below[:, where[: len(lower)]]
    found: Floats = volume.sum(axis=1)
    return found


def choose_batch(
    mean: Floats,
    deviation: Floats,
    success: Floats,
    covariances: Sequence[Floats | None],
    noise: Floats,
    front: Floats,
    reference: Floats,
    wanted: int,
    pending: int = 0,
) -> tuple[list[int], list[float]]:
    """Indices of a batch, one after another, and the expected improvement of each.

    Each has the largest expected improvement times its probability of success, if those before it give what is
    predicted of them (Ginsbourger et al., 2010): they join the front, and deviations shrink near them.

    Args:
        mean, deviation: (n, m) predictions, minimised.
        success: (n,) probability that an evaluation does not fail.
        covariances: for each objective (n, n) among the predictions; None where it is exact.
        noise: (m,) deviation of a found value from the function.
        front: (k, m) found; reference: (m,) worst point that counts.
        pending: number of rows, from the first on, that are being evaluated: chosen already, and not in the batch.
    """
    left = list(covariances)
    deviation, free = deviation.copy(), np.ones(len(mean), dtype=bool)
    chosen: list[int] = []
    gains: list[float] = []
    for number in range(min(wanted + pending, len(mean))):
        best = number
        if number >= pending:
            gain = np.where(free, success * expected_improvement(mean, deviation, front, reference), -1.0)
            best = int(gain.argmax())
            chosen.append(best)
            gains.append(float(gain[best]))
        free[best] = False
        front = np.concatenate([front, mean[best : best + 1]])
        front = front[non_dominated(front)]
        for j, covariance in enumerate(left):
            if covariance is not None:
                known = covariance[:, best] / np.sqrt(covariance[best, best] + noise[j] ** 2 + 1e-12)
                left[j] = rest = covariance - np.outer(known, known)
                deviation[:, j] = np.sqrt(np.maximum(np.diag(rest), 1e-12))
    return chosen, gains
