"""The shortest convex combination against exact rational arithmetic, by hand, and at scales that squares overflow."""

from collections.abc import Sequence
from fractions import Fraction
from itertools import combinations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor

from evonas.gradient import min_norm
from evonas.gradient.min_norm import frank_wolfe_weights, min_norm_pair, min_norm_weights

Row = list[Fraction]
Matrix = list[Row]


def rational(values: Tensor) -> Matrix:
    return [[Fraction(value) for value in row] for row in values.tolist()]


def products(rows: Matrix) -> Matrix:
    return [[sum((a * b for a, b in zip(p, q, strict=True)), Fraction(0)) for q in rows] for p in rows]


def solution(system: Matrix, right: Row) -> Row | None:
    """Of a square system, by elimination; None if it is singular."""
    rows = [[*row, value] for row, value in zip(system, right, strict=True)]
    for i in range(len(rows)):
        pivot = next((r for r in range(i, len(rows)) if rows[r][i]), None)
        if pivot is None:
            return None
        rows[i], rows[pivot] = rows[pivot], rows[i]
        rows[i] = [value / rows[i][i] for value in rows[i]]
        for r in range(len(rows)):
            if r != i and rows[r][i]:
                rows[r] = [a - rows[r][i] * b for a, b in zip(rows[r], rows[i], strict=True)]
    return [row[-1] for row in rows]


def smallest_squared_norm(gram: Matrix) -> Fraction:
    """Over every face whose points are affinely independent: one of them has the optimum inside."""
    found = []
    for size in range(1, len(gram) + 1):
        for face in combinations(range(len(gram)), size):
            system = [[*(gram[i][j] for j in face), Fraction(1)] for i in face] + [[Fraction(1)] * size + [Fraction(0)]]
            solved = solution(system, [Fraction(0)] * size + [Fraction(1)])
            if solved is not None and min(solved[:size]) >= 0:
                found.append(-solved[size])  # the multiplier is minus the squared norm
    return min(found)


def squared_norm(gram: Matrix, weights: Row) -> Fraction:
    return sum(
        (a * b * gram[i][j] for i, a in enumerate(weights) for j, b in enumerate(weights) if a and b), Fraction(0)
    )


def simplex(weights: Tensor) -> Row:
    """As rational numbers of sum 1, after a look at them."""
    assert weights.dtype == torch.float64
    assert float(weights.sum()) == pytest.approx(1, abs=1e-14)
    values = [Fraction(value) for value in weights.tolist()]
    assert min(values) >= 0
    return [value / sum(values) for value in values]


def assert_optimal(gradients: Tensor, allowed: float, exhaustive: bool = True) -> None:
    """The squared norm is the optimum to within `allowed` times the largest squared norm, and so says KKT."""
    weights = min_norm_weights(gradients)
    values = simplex(weights)
    gram = products(rational(gradients))
    bound = Fraction(allowed) * max(gram[i][i] for i in range(len(gram)))
    length = squared_norm(gram, values)
    along = [sum((w * g for w, g in zip(values, row, strict=True)), Fraction(0)) for row in gram]
    assert 2 * (length - min(along)) <= bound  # KKT, and a bound of what is missing
    if exhaustive:
        assert length <= smallest_squared_norm(gram) + bound


def gap(gradients: Tensor, weights: Tensor) -> float:
    """KKT in float64: 2 (|x|^2 - min <x, g_i>) over the largest squared norm bounds what is missing to the optimum."""
    rows = gradients / gradients.abs().max()
    combined = weights @ rows
    return float(2 * ((combined - rows) @ combined).max() / rows.square().sum(dim=1).max())


def integers(rng: np.random.Generator, m: int, d: int, kind: str) -> npt.NDArray[np.int64]:
    rows = rng.integers(-3, 4, size=(m, d))
    if kind == "flat":  # in a plane: affinely dependent, often with the origin inside
        rows = rng.integers(-2, 3, size=(m, 2)) @ rng.integers(-2, 3, size=(2, d))
    elif kind == "on a line":
        rows = np.outer(rng.integers(-2, 4, size=m), rng.integers(-2, 3, size=d)) + rng.integers(-1, 2, size=d)
    elif kind == "repeated":
        rows = rows[rng.integers(m, size=m)] * rng.choice([-1, 1, 1], size=(m, 1))
    elif kind == "on a face":  # all points of the first coordinate's face are as near: many optima
        rows[:, 0] = 2
        rows = np.concatenate([rows, -rows * ([-1] + [1] * (d - 1))])[rng.permutation(2 * m)[:m]]
    elif kind == "of many lengths":
        rows = rows * 10 ** rng.integers(0, 13, size=(m, 1))
    return rows


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["any", "flat", "on a line", "repeated", "on a face", "of many lengths"])
def test_integers_against_every_face(kind: str) -> None:
    rng = np.random.default_rng(len(kind))
    for m in (2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6):
        for d in (1, 2, 3, 5, 8):
            assert_optimal(torch.from_numpy(integers(rng, m, d, kind).astype(np.float64)), allowed=1e-13)


@pytest.mark.parametrize(
    ("gradients", "expected"),
    [
        ([[3.0, 4.0]], [1.0]),
        ([[2.0, 0.0], [0.0, 1.0]], [0.2, 0.8]),
        ([[1.0, 0.0], [3.0, 0.0]], [1.0, 0.0]),
        ([[1.0, 2.0], [-1.0, -2.0]], [0.5, 0.5]),
        ([[3.0, 0.0], [-1.0, 0.0]], [0.25, 0.75]),
        ([[1.0, 1.0], [1.0, 1.0]], [0.5, 0.5]),
        ([[1.0, 1.0], [0.0, 0.0]], [0.0, 1.0]),
        ([[0.0, 0.0], [0.0, -0.0]], [0.5, 0.5]),
        ([[0.0, 0.0], [0.0, 3.0], [0.0, -0.0]], [0.5, 0.0, 0.5]),
        ([[5.0], [-3.0]], [0.375, 0.625]),
        ([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 2.0]], [4 / 9, 4 / 9, 1 / 9]),
        ([[0.0, 2.0], [3.0, 0.0], [0.0, 2.0]], [9 / 26, 4 / 13, 9 / 26]),
        ([[1.0, 0.0], [0.0, 0.0], [-1.0, 5.0]], [0.0, 1.0, 0.0]),
        ([[0.0, 0.0]] * 4, [0.25] * 4),
        ([[], [], []], [1 / 3] * 3),
        ([[2.0, 1.0], [2.0, -1.0], [2.0, 3.0], [5.0, 0.0]], [0.5, 0.5, 0.0, 0.0]),
    ],
)
def test_by_hand(gradients: list[list[float]], expected: list[float]) -> None:
    assert min_norm_weights(torch.tensor(gradients)).tolist() == pytest.approx(expected, abs=1e-15)


def test_of_a_whole_face_that_is_optimal_an_independent_part_is_taken_each_time() -> None:
    corners = torch.tensor([[2.0, 1.0, 0.0], [2.0, -1.0, 0.0], [2.0, 0.0, 1.0], [2.0, 0.0, -1.0]])
    weights = min_norm_weights(corners)
    assert (weights @ corners.double()).tolist() == [2.0, 0.0, 0.0]
    assert weights.tolist() == [0.5, 0.5, 0.0, 0.0]
    assert all(torch.equal(min_norm_weights(corners), weights) for _ in range(5))


def rows_of(m: int) -> st.SearchStrategy[Sequence[tuple[Sequence[float], int]]]:
    """At most m rows of one length, each with a power of ten to be scaled by."""
    entry = st.floats(-1, 1, width=16) | st.sampled_from([0.0, 1.0, -1.0, 0.5])
    return st.integers(0, 6).flatmap(
        lambda d: st.lists(
            st.tuples(st.lists(entry, min_size=d, max_size=d), st.integers(-12, 0)), min_size=1, max_size=m
        )
    )


def assert_of_any_scale(drawn: Sequence[tuple[Sequence[float], int]], scale: int, exhaustive: bool) -> None:
    rows = [[entry * 10.0**exponent for entry in row] for row, exponent in drawn]
    assert_optimal(torch.tensor(rows, dtype=torch.float64) * 10.0**scale, allowed=1e-9, exhaustive=exhaustive)


@pytest.mark.lengthy
@given(rows_of(4), st.integers(-150, 150))
@example([([1.0, 0.0], 0), ([1.0, 0.0], -12), ([-1.0, 1.0], -12)], 150)
@example([([1.0, 1.0], 0), ([1.0, 1.0], -7), ([-1.0, -1.0], -12)], -150)
def test_any_scale_against_every_face(drawn: Sequence[tuple[Sequence[float], int]], scale: int) -> None:
    assert_of_any_scale(drawn, scale, exhaustive=True)


@pytest.mark.lengthy
@given(rows_of(12), st.integers(-150, 150))
def test_any_scale_and_number_by_its_certificate(drawn: Sequence[tuple[Sequence[float], int]], scale: int) -> None:
    assert_of_any_scale(drawn, scale, exhaustive=False)


@pytest.mark.lengthy
@pytest.mark.parametrize("distance", [1e-3, 1e-8, 1e-12, 1e-15, 1e-16])
def test_nearly_equal_and_nearly_opposite_gradients(distance: float) -> None:
    rng = np.random.default_rng(3)
    for m, d in 5 * [(3, 2), (4, 4), (4, 20), (5, 3), (8, 6), (8, 30)]:
        near = rng.standard_normal((1, d)) + distance * rng.standard_normal((m, d))
        for rows in (near, near * rng.choice([-1, 1], size=(m, 1))):
            assert_optimal(torch.from_numpy(rows), allowed=1e-13, exhaustive=m < 5)


def test_weights_so_small_that_the_norm_hides_them() -> None:
    """Found by chance: a billionth of the second and third row is right, and changes the norm by less than rounding."""
    assert_optimal(
        torch.tensor(
            [
                [-1.0820465774735985e-05, -1.1029057812573782e-08, 0, 6.1525873133076003e-10, 0, 0.10151094859842487],
                [5.4102328873679925e-06, 1.1029057812573782e-08, 0, 0, -0.3626440354302522, 0.10151094859842487],
                [5.4102328873679925e-06, 0, -0.5153717835927717, -6.1525873133076e-10, 0, 0.10151094859842487],
            ],
            dtype=torch.float64,
        ),
        allowed=1e-13,
    )


@pytest.mark.parametrize("m", [20, 64])
def test_many_gradients(m: int) -> None:
    rng = np.random.default_rng(m)
    for d in (3, 224):
        gradients = torch.from_numpy(rng.standard_normal((m, d)) + 0.3)
        assert gap(gradients, min_norm_weights(gradients)) < 1e-13


@pytest.mark.parametrize("scale", [5e-324, 1e-200, 1.0, 1e200, 1.7e308])
def test_the_ends_of_the_range(scale: float) -> None:
    gradients = torch.tensor([[scale, 0.0], [0.0, scale], [scale, scale]], dtype=torch.float64)
    assert min_norm_weights(gradients).tolist() == pytest.approx([0.5, 0.5, 0.0], abs=1e-15)
    assert min_norm_pair(gradients[0], gradients[1]) == 0.5


def test_scale_makes_no_difference() -> None:
    gradients = torch.randn(5, 9, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(min_norm_weights(gradients * 2.0**300), min_norm_weights(gradients * 2.0**-300))


def test_the_combination_descends_on_every_loss() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        gradients = torch.randn(5, 20, generator=generator, dtype=torch.float64) + 0.2
        combined = min_norm_weights(gradients) @ gradients
        assert float((gradients @ combined).min()) >= float(combined @ combined) * (1 - 1e-12) > 0


def test_single_precision_and_gradients_in_a_graph_are_taken() -> None:
    gradients = torch.tensor([[1.0, 0.0], [0.0, 1.0]], requires_grad=True)
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        weights = min_norm_weights(gradients.to(dtype))
        assert weights.tolist() == [0.5, 0.5]
        assert (weights.dtype, weights.requires_grad) == (torch.float64, False)


def test_pair_is_equation_11() -> None:
    first, second = torch.tensor([2.0, 1.0]), torch.tensor([-1.0, 3.0])
    assert float(min_norm_pair(first, second)) == pytest.approx(9 / 13, abs=1e-15)  # (-3, 2).(-1, 3) / |(-3, 2)|^2
    assert float(min_norm_pair(first, first)) == 0.5
    assert float(min_norm_pair(torch.zeros(3), torch.zeros(3))) == 0.5
    assert float(min_norm_pair(torch.zeros(2), second)) == 1.0
    assert float(min_norm_pair(first, torch.zeros(2))) == 0.0
    assert float(min_norm_pair(first, 2 * first)) == 1.0
    assert (min_norm_pair(first, second).shape, min_norm_pair(first, second).dtype) == ((), torch.float64)


def test_frank_wolfe_starts_where_it_says_and_stops_when_it_says() -> None:
    gradients = torch.tensor([[4.0, 0.0, 0.0], [0.0, 2.0, 0.0], [0.0, 0.0, 1.0]])
    even = frank_wolfe_weights(gradients, iterations=0, start="even")
    assert even.tolist() == pytest.approx([1 / 3] * 3)
    assert frank_wolfe_weights(gradients, iterations=0).tolist() == pytest.approx([0.0, 0.2, 0.8])
    # From (0, .2, .8) the steepest corner is the first; Eq. 11 between (4, 0, 0) and (0, .4, .8) gives 0.8 / 16.8.
    one = frank_wolfe_weights(gradients, iterations=1)
    assert one.tolist() == pytest.approx([1 / 21, 4 / 21, 16 / 21])
    assert torch.equal(frank_wolfe_weights(gradients, iterations=5, tolerance=2.1), one)


def test_frank_wolfe_nears_the_exact_optimum_and_never_passes_it() -> None:
    generator = torch.Generator().manual_seed(2)
    for m in (1, 2, 3, 5, 8):
        gradients = torch.randn(m, 12, generator=generator, dtype=torch.float64) + 0.3
        shortest = float((min_norm_weights(gradients) @ gradients).norm())
        before = float("inf")
        for iterations in (0, 1, 10, 100, 1000):
            weights = frank_wolfe_weights(gradients, iterations, tolerance=0.0)
            simplex(weights)
            length = float((weights @ gradients).norm())
            assert shortest * (1 - 1e-12) <= length <= before * (1 + 1e-12)
            before = length
        assert before <= shortest * 1.001


def test_frank_wolfe_of_any_scale() -> None:
    gradients = torch.tensor([[3e200, 0.0], [0.0, 3e200], [-3e-200, 1e100]], dtype=torch.float64)
    weights = frank_wolfe_weights(gradients)
    simplex(weights)
    assert gap(gradients, weights) < 1e-4


def test_weights_that_are_not_optimal_are_not_given_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With unit gradients and weights of 1/3 + e, 1/3 - e, 1/3 the gap is 2 (e + 2 e^2); 1e-9 is allowed."""
    gradients = torch.eye(3, dtype=torch.float64)
    assert min_norm_weights(gradients).tolist() == pytest.approx([1 / 3] * 3, abs=1e-15)
    for error, refused in ((1e-9, True), (1e-10, False)):
        wrong = np.array([1 / 3 + error, 1 / 3 - error, 1 / 3])
        monkeypatch.setattr(min_norm, "_wolfe", lambda points, found=wrong: found)
        if refused:
            with pytest.raises(ArithmeticError, match="combination of 3 gradients was not found"):
                min_norm_weights(gradients)
        else:
            assert min_norm_weights(gradients).tolist() == wrong.tolist()


@pytest.mark.parametrize("solve", [min_norm_weights, frank_wolfe_weights])
@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (torch.zeros(0, 3), r"expected gradients of shape \(m, d\), m >= 1, got \(0, 3\)"),
        (torch.zeros(3), r"got \(3,\)"),
        (torch.tensor([[0.0, 1.0], [float("nan"), 0.0]]), "in number 1 of 2; has the training diverged"),
        (torch.tensor([[0.0, float("-inf")]]), "in number 0 of 1"),
    ],
)
def test_what_cannot_be_combined_is_refused(solve: type, gradients: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        solve(gradients)


def test_arguments_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match=r"got \(3,\) and \(2,\)"):
        min_norm_pair(torch.zeros(3), torch.zeros(2))
    with pytest.raises(ValueError, match="finite"):
        min_norm_pair(torch.tensor([float("inf")]), torch.zeros(1))
    with pytest.raises(ValueError, match="iterations >= 0"):
        frank_wolfe_weights(torch.ones(2, 2), iterations=-1)
    with pytest.raises(ValueError, match="'middle'"):
        frank_wolfe_weights(torch.ones(2, 2), start="middle")  # type: ignore[arg-type]
