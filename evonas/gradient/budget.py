"""The strongest cells whose costs are in ranges, found exactly where costs are whole numbers."""

import math
from collections.abc import Sequence
from itertools import combinations, product
from operator import add

import numpy as np
import numpy.typing as npt

from evonas.networks.darts import Genotype
from evonas.networks.darts_genotypes import Pairs
from evonas.networks.darts_operations import PRIMITIVES
from evonas.spaces.darts_costs import edges_into_nodes

__all__ = ["genotype_within"]

Odds = npt.NDArray[np.float64]
Costs = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Best = dict[tuple[tuple[int, ...], int], tuple[float, Pairs]]
"""(costs, number of skip_connects that count) -> sum of log odds of the strongest choice, and the choice."""

SKIP = PRIMITIVES.index("skip_connect")
AT_ONCE = 2**15
"""Pairs of cells that are compared at once."""


def genotype_within(
    odds: Odds,
    costs: Costs,
    least: float | Sequence[float],
    most: float | Sequence[float],
    max_skips: int | None = None,
    units: float | Sequence[float] = 1,
) -> Genotype:
    """Cells with the largest product of odds of all whose costs are in their ranges.

    In endless ranges these are the cells of `derive_genotype`, but for rounding. Where no cells are in all ranges,
    those nearest to the middles, by the largest distance as a share of its middle, and of equally near ones the
    strongest. For all costs that a cell can have, its best form is built up node by node, which is exact since costs
    and log odds add up. Costs are whole numbers of a unit there: with a coarser one than their own, of cells that have
    about the same cost the strongest stands for all. Its own cost is compared with the range.

    Args:
        odds: (2, edges, 8) from `log_odds`: normal and reduction cell.
        costs: (2, edges, 8) of operations, summed over all cells of a kind; or (m, 2, edges, 8), of m kinds of cost.
        least, most: range of the sum of both cells; or (m,) of each kind.
        max_skips: largest number of skip_connects in the normal cell; None: no limit.
        units: to which costs are rounded while cells are built; or (m,) of each kind. 1: whole numbers stay.
    """
    kinds = costs.reshape(-1, *odds.shape)
    whole = np.rint(kinds / np.reshape(units, (-1, 1, 1, 1))).astype(np.int64)
    normal, reduce = _cell(odds[0], whole[:, 0], max_skips), _cell(odds[1], whole[:, 1], None)
    low, high = np.ravel(least), np.ravel(most)  # (m,)
    sizes, others = _sums(normal, kinds[:, 0]), _sums(reduce, kinds[:, 1])
    scores = np.array([score for score, _ in normal.values()])
    reduce_scores = [score for score, _ in reduce.values()]
    normals, reduces = ([pairs for _, pairs in cell.values()] for cell in (normal, reduce))
    middles = (low + high) / 2
    scales = np.array([1.0, *(abs(middles[0] / middle) if middle else 1.0 for middle in middles[1:])])
    nearest, strongest = math.inf, -math.inf
    found: tuple[Pairs, Pairs] = ((), ())
    step = max(1, AT_ONCE // len(sizes))
    for first in range(0, len(others), step):
        beyond: Odds = np.zeros((1, 1))
        for kind, scale in enumerate(scales):
            totals = others[first : first + step, None, kind] + sizes[:, kind]  # (cells, cells)
            outside = (totals < low[kind]) | (totals > high[kind])
            beyond = np.maximum(beyond, outside * scale * np.abs(totals - middles[kind]))
        least_beyond = beyond.min(axis=1)
        best = np.where(beyond == least_beyond[:, None], scores, -np.inf).argmax(axis=1)
        for number, (far, index) in enumerate(zip(least_beyond.tolist(), best.tolist(), strict=True), start=first):
            score = float(scores[index]) + reduce_scores[number]
            if (far, -score) < (nearest, -strongest):
                nearest, strongest, found = far, score, (normals[index], reduces[number])
    nodes = tuple(range(2, 2 + len(found[0]) // 2))
    return Genotype(found[0], nodes, found[1], nodes)


def _sums(cells: Best, costs: Costs) -> Costs:
    """(cells, m) costs of cells, for (m, edges, 8) of operations."""
    into = edges_into_nodes(costs.shape[1])
    chosen = np.array([[into[at // 2].start + edge for at, (_, edge) in enumerate(two)] for _, two in cells.values()])
    names = np.array([[PRIMITIVES.index(name) for name, _ in pairs] for _, pairs in cells.values()])
    sums: Costs = costs[:, chosen, names].sum(axis=2).T
    return sums


def _cell(odds: Odds, costs: Counts, max_skips: int | None) -> Best:
    """The strongest cell of all costs, (m, edges, 8) for operations."""
    cell: Best = {((0,) * len(costs), 0): (0.0, ())}
    for into in edges_into_nodes(len(odds)):
        node = _node(odds[into], costs[:, into], max_skips is not None)
        longer: Best = {}
        for ((cost, skips), (score, pairs)), ((more, further), (gain, two)) in product(cell.items(), node.items()):
            if max_skips is None or skips + further <= max_skips:
                _keep(longer, (tuple(map(add, cost, more)), skips + further), score + gain, pairs + two)
        cell = longer
    return cell


def _node(odds: Odds, costs: Counts, count_skips: bool) -> Best:
    """The strongest two (operation, input) pairs of all costs, the stronger first."""
    edges = [
        [
            (float(odds[edge, name]), tuple(costs[:, edge, name].tolist()), name, edge)
            for name in range(1, len(PRIMITIVES))
        ]
        for edge in range(len(odds))
    ]
    node: Best = {}
    for one, other in combinations(edges, 2):
        for left, right in product(one, other):
            stronger, weaker = (left, right) if left[0] >= right[0] else (right, left)
            skips = (left[2] == SKIP) + (right[2] == SKIP) if count_skips else 0
            pairs = tuple((PRIMITIVES[name], edge) for _, _, name, edge in (stronger, weaker))
            _keep(node, (tuple(map(add, left[1], right[1])), skips), left[0] + right[0], pairs)
    return node


def _keep(best: Best, cost: tuple[tuple[int, ...], int], score: float, pairs: Pairs) -> None:
    if cost not in best or score > best[cost][0]:
        best[cost] = score, pairs
