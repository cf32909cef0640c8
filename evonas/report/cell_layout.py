"""Where the parts of a cell stand in its picture: in columns, with few crossings, nothing on top of anything else.

A layered drawing (Sugiyama et al., 1981). States stand in even columns, as far right as the longest way to them says;
the operations on a node's two inputs in the column before it; a line that passes a column has a place of its own there.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from evonas.report.cell_columns import Column, Columns

__all__ = ["CellLayout", "Item", "Wire", "cell_layout"]

STARTS = 30
"""Orders from which few crossings are looked for."""
HALF_HEIGHTS = {"state": 0.65, "operation": 0.42, "bend": 0.12}


@dataclass(frozen=True)
class Item:
    """What has a place in a column: a state, an operation, or a line that passes by."""

    kind: str
    """state, operation or bend."""
    column: int
    name: str = ""
    """Of the operation."""
    state: int = -1
    """0 and 1 are the cell's inputs, then its nodes; the last is its output."""
    y: float = 0.0
    """Upwards."""

    @property
    def half_height(self) -> float:
        return HALF_HEIGHTS[self.kind]


@dataclass(frozen=True)
class Wire:
    """A line through items of columns beside each other: through an operation to a node, or to the output."""

    items: tuple[int, ...]
    operation: str = ""
    """Empty where the output takes a state."""


@dataclass(frozen=True)
class CellLayout:
    """A cell, ready to be drawn."""

    items: tuple[Item, ...]
    wires: tuple[Wire, ...]

    @property
    def columns(self) -> list[Column]:
        """Items from the top down."""
        last = max(item.column for item in self.items)
        numbers = sorted(range(len(self.items)), key=lambda i: -self.items[i].y)
        return [[i for i in numbers if self.items[i].column == column] for column in range(last + 1)]

    @property
    def pieces(self) -> list[tuple[int, int]]:
        """The items at the two ends of every piece of a line from one column to the next."""
        return [piece for wire in self.wires for piece in pairwise(wire.items)]

    def ordered(self, columns: list[Column]) -> Columns:
        """The items in such an order."""
        bends = {number for number, item in enumerate(self.items) if item.kind == "bend"}
        return Columns(columns, self.pieces, [item.half_height for item in self.items], bends)


def cell_layout(pairs: Sequence[tuple[str, int]], concat: Sequence[int]) -> CellLayout:
    """The layout of a cell with two (operation, input) pairs a node; `concat` are the states that its output takes."""
    layout = _parts(pairs, concat)
    rng = random.Random(0)
    found = []
    for number in range(STARTS):
        order = layout.ordered([rng.sample(each, len(each)) if number else each for each in layout.columns])
        order.untangle()
        found.append(order)
    fewest = min(order.crossings() for order in found)
    best = [order.columns for order in found if order.crossings() == fewest]
    best += [[column[::-1] for column in columns] for columns in best]
    different = {repr(columns): columns for columns in best}
    return min((_placed(layout, columns) for columns in different.values()), key=_climbed)


def _parts(pairs: Sequence[tuple[str, int]], concat: Sequence[int]) -> CellLayout:
    """Items and lines of a cell, all at height 0."""
    depths = [0, 0]
    for node in range(len(pairs) // 2):
        depths.append(1 + max(depths[source] for _, source in pairs[2 * node : 2 * node + 2]))
    output, last = len(depths), 2 * max(depths) + 1
    items = [Item("state", 2 * depth, state=state) for state, depth in enumerate(depths)]
    items.append(Item("state", last, state=output))
    wires: list[Wire] = []

    def passing(source: int, end: int) -> list[Item]:
        return [Item("bend", column) for column in range(2 * depths[source] + 1, end)]

    def join(source: int, between: list[Item], target: int, operation: str = "") -> None:
        wires.append(Wire((source, *range(len(items), len(items) + len(between)), target), operation))
        items.extend(between)

    for number, (name, source) in enumerate(pairs):
        target = 2 + number // 2
        before = 2 * depths[target] - 1
        join(source, [*passing(source, before), Item("operation", before, name)], target, name)
    for source in concat:
        join(source, passing(source, last), output)
    return CellLayout(tuple(items), tuple(wires))


def _placed(layout: CellLayout, columns: list[Column]) -> CellLayout:
    heights = layout.ordered(columns).heights([wire.items for wire in layout.wires])
    items = (replace(item, y=y) for item, y in zip(layout.items, heights, strict=True))
    return CellLayout(tuple(items), layout.wires)


def _climbed(layout: CellLayout) -> tuple[float, int]:
    """How far lines climb; then, to choose between mirror images, how many states stand below one that comes later."""
    items = layout.items
    climbed = sum((items[a].y - items[b].y) ** 2 for a, b in layout.pieces)
    states = [item for item in items if item.kind == "state"]
    pairs = [(a, b) for i, a in enumerate(states) for b in states[i + 1 :] if a.column == b.column]
    return round(climbed, 1), sum((2 if a.column == 0 else 1) * (a.y < b.y) for a, b in pairs)
