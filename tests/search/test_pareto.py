"""Fronts, ranks and hypervolume against brute force and by hand."""

import math
from itertools import product

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from evonas.search import hypervolume, knee, non_dominated, ranks

Floats = npt.NDArray[np.float64]
Matrices = hnp.arrays(
    np.float64,
    st.tuples(st.integers(0, 12), st.integers(1, 3)),
    elements=st.sampled_from([0.0, 1.0, 2.0, 3.0, -1.5, math.nan, math.inf, -math.inf]),
)
"""Few values, so that ties and duplicates abound."""


def dominates(a: Floats, b: Floats) -> bool:
    return bool((a <= b).all() and (a < b).any())


def brute_ranks(F: Floats) -> list[int]:
    """Peel off one front after another; rows that are not finite are in none."""
    rank = [-1] * len(F)
    left = {i for i in range(len(F)) if np.isfinite(F[i]).all()}
    for front in range(len(F)):
        first = {i for i in left if not any(dominates(F[j], F[i]) for j in left)}
        for i in first:
            rank[i] = front
        left -= first
    return rank


def test_front_of_a_few_points() -> None:
    F = np.array([[1, 5], [2, 3], [2, 4], [4, 1], [4, 1], [5, 5], [math.nan, 0], [0, math.inf], [-math.inf, -math.inf]])
    assert non_dominated(F).tolist() == [0, 1, 3, 4]
    assert ranks(F).tolist() == [0, 0, 1, 0, 0, 2, -1, -1, -1]


def test_one_objective_keeps_every_best_row() -> None:
    F = [[3.0], [1.0], [2.0], [1.0]]
    assert non_dominated(F).tolist() == [1, 3]
    assert ranks(F).tolist() == [2, 0, 1, 0]


@pytest.mark.parametrize("empty", [[], np.empty((0, 2)), [[math.nan, 1.0]], [[math.inf, math.inf]]])
def test_nothing_finite_gives_no_front(empty: npt.ArrayLike) -> None:
    assert non_dominated(empty).tolist() == []
    assert non_dominated(empty).dtype == np.int64
    assert ranks(empty).tolist() == [-1] * len(np.asarray(empty))
    assert hypervolume(empty, [5.0, 5.0]) == 0.0


@pytest.mark.lengthy
@given(Matrices)
@example(np.zeros((5, 3)))
def test_front_and_ranks_equal_brute_force(F: Floats) -> None:
    expected = brute_ranks(F)
    assert ranks(F).tolist() == expected
    assert non_dominated(F).tolist() == [i for i, rank in enumerate(expected) if rank == 0]


@pytest.mark.lengthy
@given(hnp.arrays(np.float64, (6, 2), elements=st.floats(-1e300, 1e300)))
def test_nearly_equal_numbers_are_not_taken_for_equal(F: Floats) -> None:
    assert ranks(F).tolist() == brute_ranks(F)


def test_hypervolume_by_hand() -> None:
    # in a 5 x 5 box: a strip of 4 x 1 above y = 4, one of 3 x 1 above y = 3 up to 4, one of 1 x 2 above y = 1 up to 3
    assert hypervolume([[1, 4], [2, 3], [4, 1]], [5, 5]) == pytest.approx(4 * 1 + 3 * 1 + 1 * 2, rel=1e-12)
    assert hypervolume([[1, 2, 3]], [2, 4, 6]) == pytest.approx(1 * 2 * 3, rel=1e-12)
    # two boxes of 2 x 1 x 1 and 1 x 2 x 1 that share 1 x 1 x 1
    assert hypervolume([[0, 1, 1], [1, 0, 1]], [2, 2, 2]) == pytest.approx(2 + 2 - 1, rel=1e-12)
    assert hypervolume([[3.0], [1.5]], [4]) == pytest.approx(2.5, rel=1e-12)
    assert hypervolume([[-0.9, 10.0]], [0.0, 20.0]) == pytest.approx(9.0, rel=1e-12)  # a maximised objective


@pytest.mark.parametrize(
    "row", [[6, 0], [0, 6], [5, 0], [0, 5], [5, 5], [-9, 7], [math.nan, 0], [0, -math.inf], [math.inf, 0]]
)
def test_rows_not_better_than_the_reference_add_nothing(row: list[float]) -> None:
    assert hypervolume([row], [5, 5]) == 0.0
    assert hypervolume(np.array([row, [2, 3]]), [5, 5]) == hypervolume([[2, 3]], [5, 5]) == 6.0


@given(Matrices)
def test_hypervolume_counts_cells(F: Floats) -> None:
    """On whole numbers the volume is the number of unit cells that some finite row dominates."""
    whole = np.rint(F)
    inside = [row for row in whole if np.isfinite(row).all()]
    cells = product(range(-2, 4), repeat=F.shape[1])
    covered = sum(any((row <= cell).all() for row in inside) for cell in cells)
    assert hypervolume(whole, [4.0] * F.shape[1]) == pytest.approx(covered, abs=1e-9)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match=r"expected objectives of shape \(n, m\), got \(3,\)"):
        non_dominated([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=r"expected a reference of shape \(2,\), got \(3,\)"):
        hypervolume([[1.0, 2.0]], [5.0, 5.0, 5.0])
    with pytest.raises(ValueError, match="expected a finite reference point"):
        hypervolume([[1.0, 2.0]], [5.0, math.inf])


def test_knee_of_a_circle_is_where_its_tangent_is_parallel_to_the_line_between_the_ends() -> None:
    """f1 = 1 - sin t, f2 = 1 - cos t: the distance below x + y = 1 is largest at t = 45 degrees."""
    t = np.linspace(0, np.pi / 2, 91)
    front = np.column_stack([1 - np.sin(t), 1 - np.cos(t)])
    assert knee(front) == 45
    assert knee(front * [1e6, 1e-3] + [7, -2]) == 45  # each objective is in units of its own range


def test_knee_of_a_power_is_where_its_slope_is_one() -> None:
    """y = (1 - x)^4 has the slope -1 at x = 1 - 4^(-1/3) = 0.370."""
    x = np.linspace(0, 1, 1001)
    assert knee(np.column_stack([x, (1 - x) ** 4])) == round(1000 * (1 - 4 ** (-1 / 3)))


def test_knee_by_hand() -> None:
    assert knee([[0, 10], [1, 4], [4, 1], [10, 0]]) == 1  # 0.5 and 0.5 of the ranges: the first of equal ones
    assert knee([[0, 10, 10], [10, 0, 10], [10, 10, 0], [4, 4, 5], [9, 9, 9]]) == 3
    assert knee([[3.0, 7.0], [3.0, 7.0]]) == 0
    assert knee([[5.0], [2.0], [2.0]]) == 1
    rows: list[list[float]] = [[math.nan, 0], [-math.inf, 0], [9, 9], [1, 5], [2, 3], [5, 1]]
    assert knee(rows) == 4  # rows that are dominated or not finite are left out
    assert knee([[-1e308, 1e308], [-5e307, -5e307], [1e308, -1e308]]) == 1
    with pytest.raises(ValueError, match="expected a finite row"):
        knee([[math.nan, 1.0]])
