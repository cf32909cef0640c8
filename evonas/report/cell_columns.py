"""Columns of a layered drawing (Sugiyama et al., 1981): an order with few crossings, and heights for it."""

import math
from collections.abc import Sequence
from itertools import pairwise

__all__ = ["Column", "Columns"]

Column = list[int]
"""Numbers of items from the top down."""
Heights = list[float]
"""Of every item's middle, upwards."""

GAP = 0.22
"""Between what stands in a column."""
SWEEPS = 30
"""Rounds over the columns in which heights settle."""
STIFFNESS = (1.0, 4.0, 30.0)
"""How much a piece of a line wants to be level, by how many of its ends are bends."""


class Columns:
    """Items in columns, joined by pieces of lines from one column to the next.

    Args:
        columns: the items of each; their order is changed here.
        pieces: (item, item of the next column).
        half_heights: of every item.
        bends: items that are no more than a line on its way.
    """

    def __init__(
        self, columns: list[Column], pieces: Sequence[tuple[int, int]], half_heights: Sequence[float], bends: set[int]
    ) -> None:
        self.columns = columns
        self.half_heights = half_heights
        self.bends = bends
        self.left: list[list[int]] = [[] for _ in half_heights]
        self.right: list[list[int]] = [[] for _ in half_heights]
        for first, second in pieces:
            self.right[first].append(second)
            self.left[second].append(first)
        self.rank = [0] * len(half_heights)
        for column in columns:
            self._number(column)

    def _number(self, column: Column) -> None:
        for place, item in enumerate(column):
            self.rank[item] = place

    def crossings(self) -> int:
        """Pairs of pieces that cross."""
        pairs = ((a, b) for column in self.columns for place, a in enumerate(column) for b in column[place + 1 :])
        return sum(self._between(a, b) for a, b in pairs) // 2  # each is seen from both of its columns

    def _between(self, upper: int, lower: int) -> int:
        """Crossings of the pieces of two items of a column, on both sides."""
        rank, sides = self.rank, (self.left, self.right)
        return sum(rank[a] > rank[b] for side in sides for a in side[upper] for b in side[lower])

    def untangle(self) -> None:
        """Every item to the mean place of its neighbours, from both ends in turn; then swaps as long as they help."""
        for _ in range(4):
            for column in self.columns[1:]:
                self._sort(column, self.left)
            for column in self.columns[-2::-1]:
                self._sort(column, self.right)
        while sum(self._swap(column) for column in self.columns):
            pass

    def _sort(self, column: Column, side: list[list[int]]) -> None:
        means = {
            item: sum(self.rank[each] for each in side[item]) / len(side[item]) if side[item] else self.rank[item]
            for item in column
        }
        column.sort(key=means.__getitem__)
        self._number(column)

    def _swap(self, column: Column) -> bool:
        """Swap neighbours of a column where fewer pieces cross then; whether any were."""
        swapped = False
        for place in range(len(column) - 1):
            upper, lower = column[place : place + 2]
            if self._between(upper, lower) > self._between(lower, upper):
                column[place : place + 2] = lower, upper
                self._number(column)
                swapped = True
        return swapped

    def heights(self, lines: Sequence[Sequence[int]]) -> Heights:
        """Heights that keep order and gaps, with lines as level as they can be; the middle of all is 0.

        Args:
            lines: the items along each line.
        """
        y = [0.0] * len(self.half_heights)
        for column in self.columns:
            self._settle(column, [0.0] * len(column), [1.0] * len(column), y)
        for _ in range(SWEEPS):
            for column in (*self.columns, *self.columns[::-1]):
                weights, wanted = zip(*(self._wanted(item, y) for item in column), strict=True)
                self._settle(column, wanted, weights, y)
        for line in lines:
            self._straighten(line, y)
        highest = max(height + half for height, half in zip(y, self.half_heights, strict=True))
        lowest = min(height - half for height, half in zip(y, self.half_heights, strict=True))
        return [height - (highest + lowest) / 2 for height in y]

    def _wanted(self, item: int, y: Heights) -> tuple[float, float]:
        """How much an item wants a height, and which: the mean of its neighbours'."""
        near = self.left[item] + self.right[item]
        stiff = [STIFFNESS[(item in self.bends) + (each in self.bends)] for each in near]
        if not near:
            return 0.1, y[item]
        return sum(stiff), sum(s * y[each] for s, each in zip(stiff, near, strict=True)) / sum(stiff)

    def _settle(self, column: Column, wanted: Sequence[float], weights: Sequence[float], y: Heights) -> None:
        """Heights closest to the wanted ones that keep order and gaps: an isotonic regression, by pooling."""
        offsets = [0.0]
        for upper, lower in pairwise(column):
            offsets.append(offsets[-1] + self._apart(upper, lower))
        blocks: list[tuple[float, float, int]] = []  # (mean, weight, how many); means fall from the top down
        for height, offset, weight in zip(wanted, offsets, weights, strict=True):
            block = (height + offset, weight, 1)
            while blocks and blocks[-1][0] < block[0]:
                mean, total, n = blocks.pop()
                pooled = (mean * total + block[0] * block[1]) / (total + block[1])
                block = (pooled, total + block[1], n + block[2])
            blocks.append(block)
        means = [mean for mean, _, n in blocks for _ in range(n)]
        for item, mean, offset in zip(column, means, offsets, strict=True):
            y[item] = mean - offset

    def _straighten(self, line: Sequence[int], y: Heights) -> None:
        """Make the bends of a line level from its end on, as many at once as their neighbours leave room for."""
        bends = [item for item in line if item in self.bends]
        level = y[line[len(bends) + 1]]
        while bends:
            run = [bends.pop()]
            low, high = self._room(run[0], y)
            while bends:
                below, above = self._room(bends[-1], y)
                if max(low, below) > min(high, above):
                    break
                low, high = max(low, below), min(high, above)
                run.append(bends.pop())
            level = min(max(level, low), high)
            for bend in run:
                y[bend] = level

    def _room(self, item: int, y: Heights) -> tuple[float, float]:
        """The lowest and the highest place of an item between its neighbours, which stay."""
        place = self.rank[item]
        column = next(column for column in self.columns if column[place : place + 1] == [item])
        above = y[column[place - 1]] - self._apart(column[place - 1], item) if place else math.inf
        below = y[column[place + 1]] + self._apart(item, column[place + 1]) if place + 1 < len(column) else -math.inf
        return below, above

    def _apart(self, upper: int, lower: int) -> float:
        """The least distance between the middles of two neighbours of a column."""
        return self.half_heights[upper] + GAP + self.half_heights[lower]
