"""A picture of a genotype: its two cells with the operation on every edge.

Every state has a line to the right, every node a column. Where a node reads a state, a dot branches off that state's
line into an operation, which leads down to the node. Lines that cross without a dot are not joined.
"""

import textwrap
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from evonas.report.output import write_png
from evonas.report.scene import END, INCHES, INK, LINE, PAPER, Box, Disc, Line, Point, Scene, Shape, Words

__all__ = [
    "Cells",
    "draw_edge",
    "draw_genotype",
    "draw_state",
    "genotype_scene",
    "operation_colour",
    "operation_words",
    "state_name",
]

MARGIN, RADIUS, ARROW, BEND = 0.9, 0.46, 0.22, 0.3
COLUMN, BOX, BESIDE = 4.9, 2.6, 0.75
"""Distance of nodes, width of an operation, and its distance to its node's column."""
ROW, DROP, STACK, THICK = 1.1, 0.8, 0.9, 0.74
"""Room of a state's line, and below it: distance of operations to it and to each other, and their height."""
SPREAD = 0.16
"""Half the distance of the two lines that reach one node."""

COLOURS = {"sep": "#1f5fbf", "dil": "#7a3fb0", "max": "#c2571a", "avg": "#a67c00", "skip": "#2b8a57", "nor": "#1f5fbf"}
"""First word of an operation -> colour."""
OTHER = "#555b66"


class Cells(Protocol):
    """A normal and a reduction cell: (operation, input) pairs, two a node, and the states that form the output."""

    @property
    def normal(self) -> Sequence[tuple[str, int]]: ...
    @property
    def normal_concat(self) -> Sequence[int]: ...
    @property
    def reduce(self) -> Sequence[tuple[str, int]]: ...
    @property
    def reduce_concat(self) -> Sequence[int]: ...


def draw_genotype(path: Path, genotype: Cells, title: str) -> None:
    """Draw `genotype_scene` into a PNG file, whole or not at all."""
    write_png(path, genotype_scene(genotype, title).figure(), dpi=150)


def genotype_scene(genotype: Cells, title: str = "") -> Scene:
    """Both cells, one below the other: inputs c_{k-2} and c_{k-1} on the left, nodes 0, 1, ..., the output c_k.

    A node is the sum of its two operations; the output is the concatenation of the states that lead to it.
    """
    cells = {
        "normal cell": (genotype.normal, genotype.normal_concat),
        "reduction cell": (genotype.reduce, genotype.reduce_concat),
    }
    width = max(2 * MARGIN + COLUMN * (len(pairs) // 2 + 0.5) for pairs, _ in cells.values())
    lines = textwrap.wrap(title, int(9 * width * INCHES))
    scene = Scene(width)
    left = MARGIN - RADIUS
    if lines:
        scene.add(Words((left, -0.4), "\n".join(lines), 13, anchor="left", vertical="top"))
    y = -0.9 - 0.65 * len(lines)
    for name, (pairs, concat) in cells.items():
        scene.add(Words((left, y), name, 10, anchor="left", vertical="center", bold=True))
        heights = _heights(pairs, y - ROW)
        _draw_cell(scene, pairs, concat, heights)
        y = heights[-1] - 1.3
    scene.height = -(y + 0.5)
    return scene


def _heights(pairs: Sequence[tuple[str, int]], top: float) -> list[float]:
    """Height of every state's line, with room below it for the operations that read it."""
    reads = Counter((source, number // 2) for number, (_, source) in enumerate(pairs))
    heights = [top]
    for state in range(1 + len(pairs) // 2):
        stacked = max((count for (source, _), count in reads.items() if source == state), default=0)
        heights.append(heights[-1] - ROW - STACK * stacked)
    return heights


def _draw_cell(scene: Scene, pairs: Sequence[tuple[str, int]], concat: Sequence[int], heights: Sequence[float]) -> None:
    columns = [MARGIN + COLUMN * max(state - 1, 0) for state in range(len(heights))]
    ends = columns[:]
    for node in range(2, len(heights)):
        edges = sorted(pairs[2 * node - 4 : 2 * node - 2], key=lambda pair: pair[1])
        for place, (operation, source) in enumerate(edges):
            branch = columns[node] - BESIDE - BOX - DROP
            ends[source] = max(ends[source], branch)
            below = DROP + STACK * (place if edges[0][1] == source else 0)
            offset = -SPREAD if place else SPREAD  # the upper one outside, so that the two do not cross
            top = heights[node] + (RADIUS**2 - SPREAD**2) ** 0.5
            draw_edge(scene, operation, (branch, heights[source]), below, (columns[node] + offset, top))
    output = columns[-1] + COLUMN / 2, sum(heights[state] for state in concat) / len(concat)
    for state, (x, y) in enumerate(zip(columns, heights, strict=True)):
        if state in concat:
            above = SPREAD * ((len(concat) - 1) / 2 - sorted(concat).index(state))
            _draw_output(scene, (x, y), columns[-1] + RADIUS, (output[0] - RADIUS, output[1] + above))
        else:
            scene.add(Line([(x, y), (ends[state], y)], LINE))
        draw_state(scene, (x, y), state_name(state), inner=state > 1)
    draw_state(scene, output, "$c_k$", inner=False)


def draw_edge(scene: Scene, operation: str, start: Point, below: float, end: Point) -> None:
    """A branch of a state's line that leads through an operation below it to the top of a node."""
    (x, y), (column, top), colour = start, end, operation_colour(operation)
    left, middle = x + DROP, y - below
    corner = [(column - BEND, middle), (column, middle), (column, middle - BEND)]
    scene.add(Line([start, (x, middle), (left, middle), *corner, (column, top + ARROW)], colour, "MQLQL"))
    scene.add(Shape([(column, top), (column - ARROW / 2, top + ARROW), (column + ARROW / 2, top + ARROW)], colour))
    scene.add(Disc(start, 0.1, colour), Box((left, middle - THICK / 2), BOX, THICK, colour))
    scene.add(Words((left + BOX / 2, middle), operation_words(operation), 8.5, "white"))


def _draw_output(scene: Scene, start: Point, bend: float, end: Point) -> None:
    """A state's line, level as far as x = `bend`, then to the output."""
    (_, y), (x, to_y) = start, (end[0] - ARROW, end[1])
    middle = (bend + x) / 2
    scene.add(Line([start, (bend, y), (middle, y), (middle, to_y), (x, to_y)], LINE, "MLC"))
    scene.add(Shape([end, (x, to_y + ARROW / 2), (x, to_y - ARROW / 2)], LINE))


def draw_state(scene: Scene, centre: Point, name: str, inner: bool) -> None:
    """A disc with a name: a node, or an input or the output of a cell."""
    scene.add(Disc(centre, RADIUS, PAPER if inner else END, INK))
    scene.add(Words(centre, name, 10 if inner else 9, vertical="center_baseline" if inner else "center"))


def state_name(state: int) -> str:
    """`c_{k-2}` and `c_{k-1}` for the inputs 0 and 1, then the nodes from 0."""
    return ("$c_{k-2}$", "$c_{k-1}$")[state] if state < 2 else str(state - 2)


def operation_words(operation: str) -> str:
    """`sep_conv_3x3` -> `sep conv 3×3`."""
    words = operation.split("_")
    return " ".join(word.replace("x", "×") if word[0].isdigit() else word for word in words if word)


def operation_colour(operation: str) -> str:
    """One colour for every kind of operation."""
    return COLOURS.get(operation.split("_")[0], OTHER)
