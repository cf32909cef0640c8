"""Drawing of a network of phases: every phase a row, its nodes from left to right, an arc for a connection that skips.

A node is a 3x3 convolution; lines that end on one node are merged by a 1x1 convolution.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from evonas.report.scene import END, INK, PAPER, Disc, Line, Scene, Shape, Words
from evonas.types import Genome

if TYPE_CHECKING:
    from evonas.spaces import PhaseSpace

__all__ = ["phase_scene"]

MARGIN, RADIUS, ARROW, STEP = 0.9, 0.46, 0.22, 2.0
"""Room at the edges, size of a node and of an arrow, and distance of nodes."""
LANE, BEND = 0.42, 0.3
"""Distance of the lines above nodes, and how round their corners are."""
COLOURS = ("#1f5fbf", "#7a3fb0", "#2b8a57", "#a67c00", "#c22f5c", "#2a7f92")
"""Colours of connections, by turns from node to node."""
RESIDUAL = "#c2571a"
"""Colour of the connection from a phase's input to its output."""

Edges = Sequence[tuple[int, int]]
"""(source, node), both counted from the phase's input, 0."""


def phase_scene(space: PhaseSpace, genome: Genome) -> Scene:
    """Active phases of a genome, one below the other, with their channels and the sizes of their maps."""
    phases = space.plan(genome)
    longest = max((graph.n_active for graph, _ in phases), default=0)
    scene = Scene(max(2 * MARGIN + STEP * (longest + 1), 13))
    y = 0.0
    for number, (graph, place) in enumerate(phases, start=1):
        size = f"{place.size}×{place.size}"
        y -= 0.7
        _note(scene, y, f"phase {number}: {place.out_channels} channels, {size}, {graph.n_active} nodes", bold=True)
        y = _draw_phase(scene, graph.node_inputs, graph.output_inputs, y - 0.5)
    pooled = "2×2 max pooling between phases, then " if len(phases) > 1 else ""
    _note(scene, y - 0.6, f"{pooled}the mean over each map and a linear layer" if phases else "no active phase")
    scene.height = 1.1 - y
    return scene


def _note(scene: Scene, y: float, text: str, bold: bool = False) -> None:
    scene.add(Words((MARGIN - RADIUS, y), text, 10 if bold else 9, anchor="left", vertical="center", bold=bold))


def _draw_phase(scene: Scene, inputs: Sequence[Sequence[int]], output: Sequence[int], top: float) -> float:
    """Draws a phase below `top`, and gives the y below it."""
    active = [node for node, read in enumerate(inputs, start=1) if read]
    place = {0: 0, **{node: number for number, node in enumerate(active, start=1)}}
    reads = [*(inputs[node - 1] for node in active), output]
    edges = [(place[source], node) for node, sources in enumerate(reads, start=1) for source in sources]
    last = len(reads)
    arcs = [(source, node) for source, node in edges if node - source > 1 and (source, node) != (0, last)]
    lanes = _lanes(arcs)
    y = top - RADIUS - (0.25 + LANE * (1 + max(lanes.values())) if arcs else 0)
    for source, node in edges:
        if node - source == 1:
            _draw_step(scene, source, node, y)
    for source, node in arcs:
        sources = sorted((s for s, n in arcs if n == node), key=lambda s: -lanes[s])
        at = -0.3 + 0.13 * sources.index(source)
        _draw_arc(scene, (source, node), y, RADIUS + 0.25 + LANE * (1 + lanes[source]), at, COLOURS[source % 6])
    if (0, last) in edges:
        _draw_arc(scene, (0, last), y, -RADIUS - 0.5, -0.3, RESIDUAL)
    for number, name in enumerate(["in", *map(str, range(1, last)), "out"]):
        inner = 0 < number < last
        scene.add(Disc((_x(number), y), RADIUS, PAPER if inner else END, INK))
        scene.add(Words((_x(number), y), name, 10 if inner else 9))
    return y - RADIUS - (0.7 if (0, last) in edges else 0.1)


def _lanes(arcs: Edges) -> dict[int, int]:
    """Source -> number of its line, the lowest 0; a line is above those of the nodes that it passes."""
    lanes: dict[int, int] = {}
    for source in sorted({source for source, _ in arcs}, reverse=True):
        farthest = max(node for begin, node in arcs if begin == source)
        lanes[source] = 1 + max((lane for other, lane in lanes.items() if other < farthest), default=-1)
    return lanes


def _x(number: int) -> float:
    return MARGIN + STEP * number


def _draw_step(scene: Scene, source: int, node: int, y: float) -> None:
    """An arrow from a node to the next."""
    end, colour = _x(node) - RADIUS, COLOURS[source % 6]
    scene.add(Line([(_x(source), y), (end - ARROW, y)], colour))
    scene.add(Shape([(end, y), (end - ARROW, y + ARROW / 2), (end - ARROW, y - ARROW / 2)], colour))


def _draw_arc(scene: Scene, edge: tuple[int, int], y: float, rise: float, at: float, colour: str) -> None:
    """An arrow over the nodes between, or below them.

    Args:
        rise: height of its line over the nodes' centres; < 0: below.
        at: where it ends, beside the node's centre.
    """
    begin, end, way = _x(edge[0]) + 0.3, _x(edge[1]) + at, 1 if rise > 0 else -1
    feet = [y + way * (RADIUS**2 - beside**2) ** 0.5 for beside in (0.3, at)]
    head, line, below = feet[1] + way * ARROW, y + rise, y + rise - way * BEND
    corners = [(begin, below), (begin, line), (begin + BEND, line), (end - BEND, line), (end, line), (end, below)]
    scene.add(Line([(begin, feet[0]), *corners, (end, head)], colour, "MLQLQL"))
    scene.add(Shape([(end, feet[1]), (end - ARROW / 2, head), (end + ARROW / 2, head)], colour))
