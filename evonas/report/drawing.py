"""A picture of a genotype: its two cells as graphs, with the operation on every edge."""

import textwrap
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve

from evonas.files import replace_file
from evonas.report.cell_layout import CellLayout, Item, Wire, cell_layout

__all__ = ["Cells", "draw_genotype", "genotype_figure", "operation_colour", "operation_words"]

INCHES = 0.42
"""Of one unit of the layout."""
STATE, OPERATION = 1.0, 3.0
"""Widths of columns."""
GUTTER, WIDEST = 1.1, 2.4
"""Between columns: where lines climb."""
NARROWEST = 15.0
MARGIN = 0.4
HEADING = 1.2
"""Room for a heading, as all lengths here in units of the layout."""
RADIUS = 0.46
PORT = 0.24
"""Between lines that leave or reach one state."""
HEAD = 0.22
"""Of an arrow."""
COLOURS = {"sep": "#1f5fbf", "dil": "#7a3fb0", "max": "#c2571a", "avg": "#a67c00", "skip": "#2b8a57"}
"""Of operations, by the first word of their names."""
OTHER, OUTPUT, INK = "#555b66", "#a9afba", "#22262e"


class Cells(Protocol):
    """A normal and a reduction cell: (operation, input) pairs, two a node, and the states that the output takes."""

    @property
    def normal(self) -> Sequence[tuple[str, int]]: ...
    @property
    def normal_concat(self) -> Sequence[int]: ...
    @property
    def reduce(self) -> Sequence[tuple[str, int]]: ...
    @property
    def reduce_concat(self) -> Sequence[int]: ...


def draw_genotype(path: Path, cells: Cells, title: str) -> None:
    """Draw both cells into a PNG file, one below the other. Written whole or not at all.

    From the inputs c_{k-2} and c_{k-1} on the left to the output c_k on the right. A node is the sum of its two
    operations; the output is what grey lines lead to it, one after another.
    """
    figure = genotype_figure(cells, title)
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=150, metadata={"Software": "evonas"}))


def genotype_figure(cells: Cells, title: str) -> Figure:
    """The picture of `draw_genotype`."""
    layouts = {
        "normal cell": cell_layout(cells.normal, cells.normal_concat),
        "reduction cell": cell_layout(cells.reduce, cells.reduce_concat),
    }
    width = max(NARROWEST, *(_edges(layout, GUTTER)[-1][1] for layout in layouts.values()))
    across = width + 2 * MARGIN
    lines = textwrap.wrap(title, int(9 * across * INCHES)) or [""]
    top = MARGIN + 0.65 * len(lines)
    heights = [2 * max(abs(item.y) + item.half_height for item in layout.items) for layout in layouts.values()]
    total = top + sum(heights) + HEADING * len(layouts) + MARGIN
    figure = Figure(figsize=(across * INCHES, total * INCHES))
    figure.text(MARGIN / across, 1 - MARGIN / total, "\n".join(lines), fontsize=13, va="top", color=INK)
    bottom = total - top
    for (name, layout), height in zip(layouts.items(), heights, strict=True):
        bottom -= HEADING + height
        axes = figure.add_axes((0, bottom / total, 1, (height + HEADING) / total))
        axes.set(xlim=(-MARGIN, width + MARGIN), ylim=(-height / 2, height / 2 + HEADING))
        axes.set_axis_off()
        axes.text(0, height / 2 + 0.5 * HEADING, name, fontsize=10, weight="bold", va="center", color=INK)
        _draw(axes, layout, _edges(layout, _gutter(layout, width)))
    return figure


def _gutter(layout: CellLayout, width: float) -> float:
    """Wider in a cell with fewer columns, so that it is as wide as the other one, but not endlessly."""
    columns = len(layout.columns)
    left = width - _edges(layout, 0)[-1][1]
    return min(left / (columns - 1), WIDEST)


def _edges(layout: CellLayout, gutter: float) -> list[tuple[float, float]]:
    """Where each column begins and ends."""
    found, at = [], 0.0
    for column in layout.columns:
        kinds = {layout.items[item].kind for item in column}
        width = OPERATION if "operation" in kinds else STATE
        found.append((at, at + width))
        at += width + gutter
    return found


def _draw(axes: Axes, layout: CellLayout, edges: list[tuple[float, float]]) -> None:
    leaving, reaching = _ports(layout, at_end=False), _ports(layout, at_end=True)
    for number, wire in enumerate(layout.wires):
        colour = operation_colour(wire.operation) if wire.operation else OUTPUT
        points = _points(layout, wire, edges)
        points[0] = _port(*points[0], leaving[number], 1)
        x, y = _port(*points[-1], reaching[number], -1)
        points[-1] = (x - HEAD, y)
        for width, edge in ((4.5, "white"), (1.5, colour)):  # where lines cross, the later one passes above
            axes.add_patch(PathPatch(_curve(points), fill=False, edgecolor=edge, linewidth=width, capstyle="butt"))
        axes.add_patch(Polygon([(x, y), (x - HEAD, y + HEAD / 2), (x - HEAD, y - HEAD / 2)], color=colour, zorder=2))
    output = max(item.state for item in layout.items)
    for item in layout.items:
        begin, end = edges[item.column]
        if item.kind == "operation":
            _draw_operation(axes, item, begin, end)
        elif item.kind == "state":
            _draw_state(axes, item, (begin + end) / 2, output)


def _port(x: float, y: float, above: float, side: int) -> tuple[float, float]:
    """The point of a state's circle that is so far above its middle, on the right (1) or left (-1) side."""
    return x + side * (RADIUS**2 - above**2) ** 0.5, y + above


def _ports(layout: CellLayout, at_end: bool) -> list[float]:
    """How far above a state's middle each line leaves or reaches it, so that lines do not cross there."""
    offsets = [0.0] * len(layout.wires)
    step = -1 if at_end else 1
    for state in {wire.items[-1 if at_end else 0] for wire in layout.wires}:
        own = [i for i, wire in enumerate(layout.wires) if wire.items[-1 if at_end else 0] == state]
        own.sort(key=lambda i: -layout.items[layout.wires[i].items[::step][1]].y)
        gap = min(PORT, 1.7 * RADIUS / max(len(own) - 1, 1))
        for place, number in enumerate(own):
            offsets[number] = ((len(own) - 1) / 2 - place) * gap
    return offsets


def _points(layout: CellLayout, wire: Wire, edges: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Where a line enters and leaves each column; it begins and ends in the middle of a state."""
    found = []
    for number in wire.items:
        item = layout.items[number]
        begin, end = edges[item.column]
        found += [((begin + end) / 2, item.y)] if item.kind == "state" else [(begin, item.y), (end, item.y)]
    return found


def _curve(points: list[tuple[float, float]]) -> Curve:
    """Level across columns, a smooth step between them."""
    path, codes = [points[0]], [Curve.MOVETO]
    for (x, y), (to_x, to_y) in pairwise(points):
        if y == to_y:
            path.append((to_x, to_y))
            codes.append(Curve.LINETO)
        else:
            middle = (x + to_x) / 2
            path += [(middle, y), (middle, to_y), (to_x, to_y)]
            codes += [Curve.CURVE4] * 3
    return Curve(path, codes)


def _draw_operation(axes: Axes, item: Item, begin: float, end: float) -> None:
    low, height = item.y - item.half_height, 2 * item.half_height
    box = FancyBboxPatch(
        (begin, low),
        end - begin,
        height,
        boxstyle=f"round,pad=0,rounding_size={height / 2}",
        facecolor=operation_colour(item.name),
        edgecolor="none",
        zorder=3,
    )
    axes.add_patch(box)
    axes.text(
        (begin + end) / 2,
        item.y,
        operation_words(item.name),
        color="white",
        fontsize=8.5,
        ha="center",
        va="center_baseline",
        zorder=4,
    )


def _draw_state(axes: Axes, item: Item, x: float, output: int) -> None:
    names = {0: "$c_{k-2}$", 1: "$c_{k-1}$", output: "$c_k$"}
    outer = item.state in names
    axes.add_patch(
        Circle((x, item.y), RADIUS, facecolor="#e9ecf1" if outer else "white", edgecolor=INK, linewidth=1.2, zorder=3)
    )
    size, vertical = (9, "center") if outer else (10, "center_baseline")
    axes.text(
        x,
        item.y,
        names.get(item.state, str(item.state - 2)),
        fontsize=size,
        color=INK,
        ha="center",
        va=vertical,
        zorder=4,
    )


def operation_words(operation: str) -> str:
    """`sep_conv_3x3` -> `sep conv 3×3`."""
    words = operation.split("_")
    return " ".join(word.replace("x", "×") if word[0].isdigit() else word for word in words if word)


def operation_colour(operation: str) -> str:
    """One for every kind of operation."""
    return COLOURS.get(operation.split("_")[0], OTHER)
