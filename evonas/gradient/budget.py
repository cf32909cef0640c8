"""The strongest cells whose costs are in ranges, found exactly."""

import math
from collections.abc import Sequence
from itertools import combinations, product
from operator import add

import numpy as np
import numpy.typing as npt

from evonas.networks.darts import Genotype
from evonas.networks.darts_genotypes import Pairs
from evonas.networks.darts_operations import PRIMITIVES

__all__ = ["genotype_within"]

Odds = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]
Best = dict[tuple[tuple[int, ...], int], tuple[float, Pairs]]
"""(costs, number of skip_connects that count) -> sum of log odds of the strongest choice, and the choice."""

SKIP = PRIMITIVES.index("skip_connect")


def genotype_within(
    odds: Odds,
    costs: Counts,
    least: float | Sequence[float],
    most: float | Sequence[float],
    max_skips: int | None = None,
) -> Genotype:
    """Cells with the largest product of odds of all whose costs are in their ranges.

    In endless ranges these are the cells of `derive_genotype`, but for rounding. Where no cells are in all ranges,
    those nearest to the middles, by the largest distance as a share of its middle, and of equally near ones the
    strongest. For all costs that a cell can have, its best form is built up node by node, which is exact since costs
    and log odds add up.

    Args:
        odds: (2, edges, 8) from `log_odds`: normal and reduction cell.
        costs: (2, edges, 8) of operations, summed over all cells of a kind; or (m, 2, edges, 8), of m kinds of cost.
        least, most: range of the sum of both cells; or (m,) of each kind.
        max_skips: largest number of skip_connects in the normal cell; None: no limit.
    """
    kinds = costs.reshape(-1, *odds.shape)
    normal, reduce = _cell(odds[0], kinds[:, 0], max_skips), _cell(odds[1], kinds[:, 1], None)
    low, high = np.ravel(least), np.ravel(most)  # (m,)
    sizes = np.array([cost for cost, _ in normal])  # (cells, m)
    scores = np.array([score for score, _ in normal.values()])
    normals = [pairs for _, pairs in normal.values()]
    middles = (low + high) / 2
    scales = np.array([1.0, *(abs(middles[0] / middle) if middle else 1.0 for middle in middles[1:])])
    nearest, strongest = math.inf, -math.inf
    found: tuple[Pairs, Pairs] = ((), ())
    for (cost, _), (score, pairs) in reduce.items():
        totals = sizes + np.array(cost)
        within = (totals >= low) & (totals <= high)
        beyond = np.where(within, 0.0, scales * np.abs(totals - middles)).max(axis=1)
        best = int(np.lexsort((-scores, beyond))[0])
        if (beyond[best], -scores[best] - score) < (nearest, -strongest):
            nearest, strongest, found = float(beyond[best]), float(scores[best]) + score, (normals[best], pairs)
    nodes = tuple(range(2, 2 + len(found[0]) // 2))
    return Genotype(found[0], nodes, found[1], nodes)


def _cell(odds: Odds, costs: Counts, max_skips: int | None) -> Best:
    """The strongest cell of all costs, (m, edges, 8) for operations."""
    cell: Best = {((0,) * len(costs), 0): (0.0, ())}
    first, inputs = 0, 2
    while first < len(odds):
        node = _node(odds[first : first + inputs], costs[:, first : first + inputs], max_skips is not None)
        longer: Best = {}
        for ((cost, skips), (score, pairs)), ((more, further), (gain, two)) in product(cell.items(), node.items()):
            if max_skips is None or skips + further <= max_skips:
                _keep(longer, (tuple(map(add, cost, more)), skips + further), score + gain, pairs + two)
        cell, first, inputs = longer, first + inputs, inputs + 1
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
