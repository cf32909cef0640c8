"""Cells from architecture parameters: the two strongest edges of every node (DARTS; Liu et al., 2019, 2.4).

The strength of an edge is the largest softmax weight among its operations other than `none`, in PC-DARTS times the
edge's share of the node. Strengths are compared exactly, for the parameters in memory: a computed softmax rounds, which
separates rows that differ only in their order, and saturates, which merges clearly different ones.
"""

from collections import Counter
from collections.abc import Iterable
from decimal import Context, Decimal, localcontext
from fractions import Fraction
from functools import cmp_to_key
from math import exp, fsum, inf, isfinite

import torch
from torch import Tensor

from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.spaces.darts_costs import edges_into_nodes

__all__ = ["derive_genotype"]

Pairs = tuple[tuple[str, int], ...]
"""(operation, input) pairs, two for each node."""

Strength = Counter[Fraction]
"""Exponents; the strength of an edge is the inverse of the sum of their exponentials."""

FLOOR = Fraction(-1000)
"""Exponents below it have an exponential of zero in floating point."""


def derive_genotype(
    alpha_normal: Tensor,
    alpha_reduce: Tensor,
    beta_normal: Tensor | None = None,
    beta_reduce: Tensor | None = None,
) -> Genotype:
    """The two strongest edges of every node, the stronger first, each with its strongest operation except `none`.

    Between equal edges or operations, the lower index wins.

    Args:
        alpha_normal, alpha_reduce: (edges, 8) before the softmax over `PRIMITIVES`; the edges of each node in turn,
            2 + 3 + ... of them, which determines the number of nodes: (14, 8) for 4. -inf for an operation that an
            edge does not have.
        beta_normal, beta_reduce: (edges,) before the softmax over a node's edges (PC-DARTS); None: all edges equal.
    Raises:
        ValueError: another shape, nan, +inf, or an edge without an operation.
    """
    normal = _cell(alpha_normal, beta_normal, "normal")
    reduce = _cell(alpha_reduce, beta_reduce, "reduce")
    return Genotype(normal, _nodes(normal), reduce, _nodes(reduce))


def _nodes(pairs: Pairs) -> tuple[int, ...]:
    return tuple(range(2, 2 + len(pairs) // 2))


def _cell(alpha: Tensor, beta: Tensor | None, kind: str) -> Pairs:
    rows = _rows(alpha, kind)
    shares = [0.0] * len(rows) if beta is None else _shares(beta, len(rows), kind)
    operations = [max(range(1, len(row)), key=row.__getitem__) for row in rows]  # the first of equal ones
    sort_key = cmp_to_key(_compare)
    strengths = [sort_key(_strength(row, share)) for row, share in zip(rows, shares, strict=True)]
    pairs: list[tuple[str, int]] = []
    every = range(len(rows))
    for into in edges_into_nodes(len(rows)):
        edges = sorted(every[into], key=strengths.__getitem__, reverse=True)  # stable: equal edges stay in order
        pairs += [(PRIMITIVES[operations[edge]], edge - into.start) for edge in edges[:2]]
    return tuple(pairs)


def _rows(alpha: Tensor, kind: str) -> list[list[float]]:
    edges, nodes = 0, 0
    while edges < len(alpha):
        nodes += 1
        edges += nodes + 1
    if alpha.ndim != 2 or alpha.shape[1] != len(PRIMITIVES) or edges != len(alpha) or not edges:
        raise ValueError(
            f"expected alpha_{kind} of shape (2 + 3 + ..., {len(PRIMITIVES)}), e.g. (14, 8), got {tuple(alpha.shape)}"
        )
    rows: list[list[float]] = alpha.detach().cpu().to(torch.float64).tolist()
    for edge, row in enumerate(rows):
        if not all(value < inf for value in row) or not max(row[1:]) > -inf:  # false for nan, too
            raise ValueError(f"expected alpha_{kind} to be finite, or -inf for some operations, got {row} at {edge}")
    return rows


def _shares(beta: Tensor, edges: int, kind: str) -> list[float]:
    shares: list[float] = beta.detach().cpu().to(torch.float64).reshape(-1).tolist()
    if beta.shape != (edges,) or not all(map(isfinite, shares)):
        raise ValueError(f"expected beta_{kind} of shape ({edges},) and finite, got {tuple(beta.shape)}: {shares}")
    return shares


def _strength(row: list[float], share: float) -> Strength:
    """Exponents row_i - row_k - share: softmax(row)_k exp(share) is the inverse of the sum of their exponentials."""
    top = Fraction(max(row[1:])) + Fraction(share)
    return Counter(Fraction(value) - top for value in row if value > -inf)


def _compare(a: Strength, b: Strength) -> int:
    """1 if a is stronger, -1 if b is, 0 if they are equal as real numbers.

    By the theorem of Lindemann and Weierstrass, sums of exponentials of rationals are equal only if the exponents are
    the same; otherwise enough digits show the difference.
    """
    left, right = a - b, b - a  # common exponents cancel
    if not left and not right:
        return 0
    top = max((*left, *right))
    rough = _sum(left, top) - _sum(right, top)
    if abs(rough) > 1e-12:
        return -1 if rough > 0 else 1
    digits = 30
    while True:
        with localcontext(Context(prec=digits)):
            difference = _decimal_sum(left, top) - _decimal_sum(right, top)
        if abs(difference) > Decimal(10) ** (4 - digits):  # each sum has at most eight terms, each at most 1
            return -1 if difference > 0 else 1
        digits *= 2


def _sum(exponents: Strength, top: Fraction) -> float:
    return fsum(count * exp(max(value - top, FLOOR)) for value, count in exponents.items())


def _decimal_sum(exponents: Strength, top: Fraction) -> Decimal:
    shifted: Iterable[tuple[Fraction, int]] = ((value - top, count) for value, count in exponents.items())
    return sum((count * (Decimal(x.numerator) / x.denominator).exp() for x, count in shifted), Decimal(0))
