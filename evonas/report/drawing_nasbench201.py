"""Drawing of a cell of NAS-Bench-201, in the manner of those of DARTS: every node is the sum of its operations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evonas.report.drawing import (
    BESIDE,
    BOX,
    COLUMN,
    DROP,
    MARGIN,
    RADIUS,
    ROW,
    SPREAD,
    STACK,
    draw_edge,
    draw_state,
)
from evonas.report.scene import LINE, Line, Scene, Words
from evonas.types import Genome

if TYPE_CHECKING:
    from evonas.spaces import NasBench201Space

__all__ = ["nasbench201_scene"]


def nasbench201_scene(space: NasBench201Space, genome: Genome) -> Scene:
    """The cell of a genome from its input to its output, with the edges that carry something."""
    edges = [(start, end, operation) for start, end, operation in space.edges(genome) if operation != "none"]
    nodes = [node for node in range(4) if node in (0, 3) or any(end == node for _, end, _ in edges)]
    at = {node: (MARGIN + COLUMN * k, -0.9 - ROW - (ROW + STACK) * k) for k, node in enumerate(nodes)}
    scene = Scene(2 * MARGIN + COLUMN * (len(nodes) - 1))
    title = f"cell; 3 stages of {space.cells} from {space.channels} channels on" + (
        "" if edges else "; its output is 0"
    )
    scene.add(Words((MARGIN - RADIUS, -0.6), title, 10, anchor="left", vertical="center", bold=True))
    for node, (x, y) in at.items():
        reads = [(start, operation) for start, end, operation in edges if end == node]
        for place, (start, operation) in enumerate(reads):
            branch = x - BESIDE - BOX - DROP
            offset = SPREAD * ((len(reads) - 1) / 2 - place) * 2  # the upper ones outside, so that none cross
            top = y + (RADIUS**2 - offset**2) ** 0.5
            draw_edge(scene, operation, (branch, at[start][1]), DROP, (x + offset, top))
        last = max((at[end][0] - BESIDE - BOX - DROP for start, end, _ in edges if start == node), default=x)
        scene.add(Line([(x, y), (last, y)], LINE))
        draw_state(scene, (x, y), {0: "in", 3: "out"}.get(node, str(node)), inner=node in (1, 2))
    scene.height = 0.9 - at[3][1]
    return scene
