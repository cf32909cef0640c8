"""Drawing of a network of shuffle blocks: stages one below the other, a box for every block, its inner width below."""

from __future__ import annotations

from typing import TYPE_CHECKING

from evonas.report.scene import INK, LINE, Box, Disc, Line, Scene, Shape, Words
from evonas.types import Genome

if TYPE_CHECKING:
    from evonas.spaces import ShuffleSpace

__all__ = ["block_colour", "block_scene"]

MARGIN, ARROW, STEP, BOX, THICK, DOWN = 0.44, 0.22, 3.9, 3.3, 0.74, 1.7
"""Room at the left, arrow, distance and width of boxes, their height, and distance of rows."""
ACROSS = 4
"""Blocks beside each other."""
COLOURS = {"S": "#1f5fbf", "SX": "#7a3fb0", "": "#c2571a"}
"""Main branch -> colour."""
WIDEST = 2.0
"""Ratio of a bar as wide as its box."""


def block_scene(space: ShuffleSpace, genome: Genome) -> Scene:
    """Blocks of a genome, stage by stage; the bar below a block is its ratio, 2.0 as wide as the box.

    A dot marks a block that halves its maps.
    """
    units, places, ratios = space.units(genome), space.plan.places, space.ratios(genome)
    scene = Scene(2 * MARGIN + STEP * (ACROSS - 1) + BOX)
    y, number = 0.0, 0
    for stage, (channels, blocks) in enumerate(space.plan.stages, start=1):
        y -= 0.7
        text = f"stage {stage}: {channels} channels"
        scene.add(Words((MARGIN, y), text, 10, anchor="left", vertical="center", bold=True))
        y -= 0.85
        for column in range(blocks):
            if column and column % ACROSS == 0:
                y -= DOWN
            x = MARGIN + STEP * (column % ACROSS)
            if column % ACROSS:
                _draw_arrow(scene, x, y)
            unit = units[number]
            _draw_block(scene, (x, y), unit.kind.main, unit.kind.name, places[number].stride == 2)
            _draw_width(scene, (x, y), ratios[number], unit.mid)
            number += 1
        y -= 0.95
    scene.height = 0.4 - y
    return scene


def block_colour(main: str) -> str:
    """One colour for every kind of main branch."""
    return COLOURS[main]


def _draw_arrow(scene: Scene, x: float, y: float) -> None:
    scene.add(Line([(x - STEP + BOX, y), (x - ARROW, y)], LINE))
    scene.add(Shape([(x, y), (x - ARROW, y + ARROW / 2), (x - ARROW, y - ARROW / 2)], LINE))


def _draw_block(scene: Scene, at: tuple[float, float], main: str, name: str, halves: bool) -> None:
    x, y = at
    scene.add(Box((x, y - THICK / 2), BOX, THICK, COLOURS[main]))
    scene.add(Words((x + BOX / 2, y), name, 8.5, "white"))
    if halves:
        scene.add(Disc((x + 0.3, y), 0.1, "#ffffff"))


def _draw_width(scene: Scene, at: tuple[float, float], ratio: float, mid: int) -> None:
    x, y = at[0] + THICK / 2, at[1] - THICK / 2 - 0.17
    longest = BOX - THICK
    scene.add(Line([(x, y), (x + longest, y)], LINE), Line([(x, y), (x + longest * ratio / WIDEST, y)], INK))
    scene.add(Words((x, y - 0.32), f"×{ratio:.1f}, {mid} inner", 8, anchor="left"))
