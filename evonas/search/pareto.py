"""Fronts and hypervolume; everything is minimised."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

__all__ = ["hypervolume", "minimised", "non_dominated", "ranks"]

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


def _matrix(F: npt.ArrayLike) -> Floats:
    values = np.asarray(F, dtype=np.float64)
    if values.size == 0 and values.ndim < 2:
        values = values.reshape(0, 1)
    if values.ndim != 2:
        raise ValueError(f"expected objectives of shape (n, m), got {values.shape}")
    return values
