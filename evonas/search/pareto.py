"""Fronts and hypervolume; everything is minimised."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["hypervolume", "knee", "minimised", "non_dominated", "ranks"]

Floats = npt.NDArray[np.float64]


def minimised(values: Mapping[str, float], objectives: Sequence[str], maximize: Sequence[str]) -> list[float]:
    """Objectives in order, with the sign of maximised ones changed."""
    return [-float(values[name]) if name in maximize else float(values[name]) for name in objectives]


def non_dominated(F: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Indices of the first front, ascending.

    Equal rows do not dominate each other: all of them are kept. A row that is not finite is never on a front.

    Args:
        F: (n, m) objectives, minimised.
    """
    from pymoo.util.nds.non_dominated_sorting import find_non_dominated

    values = _matrix(F)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if len(finite) == 0:
        return finite
    front: npt.NDArray[np.int64] = finite[find_non_dominated(values[finite])]
    return front


def ranks(F: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """(n,) front number of every row, 0 for the first front; -1 for rows that are not finite.

    Args:
        F: (n, m) objectives, minimised.
    """
    from pymoo.util.nds.non_dominated_sorting import NonDominatedSorting

    values = _matrix(F)
    result = np.full(len(values), -1, dtype=np.int64)
    finite = np.flatnonzero(np.isfinite(values).all(axis=1))
    if len(finite):
        result[finite] = NonDominatedSorting().do(values[finite], return_rank=True)[1]
    return result


def hypervolume(F: npt.ArrayLike, reference: npt.ArrayLike) -> float:
    """Volume that the rows dominate up to the reference point. Larger is better.

    Rows that are not finite, or not better than the reference in every objective, add nothing.

    Args:
        F: (n, m) objectives, minimised.
        reference: (m,) worst point that counts.
    """
    from pymoo.indicators.hv import Hypervolume

    values, worst = _matrix(F), np.asarray(reference, dtype=np.float64)
    if worst.ndim != 1 or ((np.size(F) or np.ndim(F) == 2) and values.shape[1] != len(worst)):
        raise ValueError(f"expected a reference of shape ({values.shape[1]},), got {worst.shape}")
    if not np.isfinite(worst).all():
        raise ValueError(f"expected a finite reference point, got {worst.tolist()}")
    inside = values[np.isfinite(values).all(axis=1)]
    inside = inside[(inside < worst).all(axis=1)]
    return float(Hypervolume(ref_point=worst)(inside)) if len(inside) else 0.0


def knee(F: npt.ArrayLike) -> int:
    """Index of the knee of a front: the row whose objectives, each in units of the front's range, have the least sum.

    The least Manhattan distance to the ideal point (Chiu et al., 2016). With two objectives it is the row farthest
    below the straight line between the ends of the front (Das, 1999). Of equal rows the first one.

    Args:
        F: (n, m) objectives, minimised; n > 0. Rows that are not finite, or not on the first front, are left out; an
            objective that is equal in all of the front counts nothing.
    Raises:
        ValueError: no row is finite.
    """
    values = _matrix(F)
    front = non_dominated(values)
    if len(front) == 0:
        raise ValueError("expected a finite row, got none")
    rows = values[front]
    low, high = rows.min(axis=0), rows.max(axis=0)
    scaled = (rows / 2 - low / 2) / np.where(high > low, high / 2 - low / 2, 1.0)  # halves do not overflow
    return int(front[scaled.sum(axis=1).argmin()])


def _matrix(F: npt.ArrayLike) -> Floats:
    values = np.asarray(F, dtype=np.float64)
    if values.size == 0 and values.ndim < 2:
        values = values.reshape(0, 1)
    if values.ndim != 2:
        raise ValueError(f"expected objectives of shape (n, m), got {values.shape}")
    return values
