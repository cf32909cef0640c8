"""The strongest cells whose cost is in a range, found exactly."""

import math
from itertools import combinations, product

import numpy as np
import numpy.typing as npt

from evonas.networks.darts import Genotype
from evonas.networks.darts_genotypes import Pairs
from evonas.networks.darts_operations import PRIMITIVES

__all__ = ["genotype_within"]

Odds = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Best = dict[tuple[int, int], tuple[float, Pairs]]
"""(cost, number of skip_connects that count) -> sum of log odds of the strongest choice, and the choice."""

SKIP = PRIMITIVES.index("skip_connect")


def genotype_within(odds: Odds, costs: Counts, least: float, most: float, max_skips: int | None = None) -> Genotype:
    """Cells with the largest product of odds of all whose cost is in a range.

    In an endless range these are the cells of `derive_genotype`, but for rounding. Where no cells are in the range,
    those nearest to its middle, and of equally near ones the strongest. For every cost that a cell can have, its best
    form is built up node by node, which is exact since costs and log odds add up.

    Args:
        odds: (2, edges, 8) from `log_odds`: normal and reduction cell.
        costs: (2, edges, 8) of operations, summed over all cells of a kind.
        least, most: range of the sum of both cells.
        max_skips: largest number of skip_connects in the normal cell; None: no limit.
    """
    normal, reduce = _cell(odds[0], costs[0], max_skips), _cell(odds[1], costs[1], None)
    sizes = np.array([cost for cost, _ in normal])
    scores = np.array([score for score, _ in normal.values()])
    normals = [pairs for _, pairs in normal.values()]
    middle = (least + most) / 2
    nearest, strongest = math.inf, -math.inf
    found: tuple[Pairs, Pairs] = ((), ())
    for (cost, _), (score, pairs) in reduce.items():
        totals = sizes + cost
        beyond = np.where((totals >= least) & (totals <= most), 0.0, np.abs(totals - middle))
        best = int(np.lexsort((-scores, beyond))[0])
        if (beyond[best], -scores[best] - score) < (nearest, -strongest):
            nearest, strongest, found = float(beyond[best]), float(scores[best]) + score, (normals[best], pairs)
    nodes = tuple(range(2, 2 + len(found[0]) // 2))
    return Genotype(found[0], nodes, found[1], nodes)


def _cell(odds: Odds, costs: Counts, max_skips: int | None) -> Best:
    """The strongest cell of every cost."""
    cell: Best = {(0, 0): (0.0, ())}
    first, inputs = 0, 2
    while first < len(odds):
        node = _node(odds[first : first + inputs], costs[first : first + inputs], max_skips is not None)
        longer: Best = {}
        for ((cost, skips), (score, pairs)), ((more, further), (gain, two)) in product(cell.items(), node.items()):
            if max_skips is None or skips + further <= max_skips:
                _keep(longer, (cost + more, skips + further), score + gain, pairs + two)
        cell, first, inputs = longer, first + inputs, inputs + 1
    return cell


def _node(odds: Odds, costs: Counts, count_skips: bool) -> Best:
    """The strongest two (operation, input) pairs of every cost, the stronger first."""
    edges = [
        [(float(odds[edge, name]), int(costs[edge, name]), name, edge) for name in range(1, len(PRIMITIVES))]
        for edge in range(len(odds))
    ]
    node: Best = {}
    for one, other in combinations(edges, 2):
        for left, right in product(one, other):
            stronger, weaker = (left, right) if left[0] >= right[0] else (right, left)
            skips = (left[2] == SKIP) + (right[2] == SKIP) if count_skips else 0
            pairs = tuple((PRIMITIVES[name], edge) for _, _, name, edge in (stronger, weaker))
            _keep(node, (left[1] + right[1], skips), left[0] + right[0], pairs)
    return node


def _keep(best: Best, cost: tuple[int, int], score: float, pairs: Pairs) -> None:
    if cost not in best or score > best[cost][0]:
        best[cost] = score, pairs
