"""Short names beside the points of a picture, none on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["SHORT", "draw_labels"]

SHORT = 4
"""Digits of an arch_id beside its point."""
POINTS = 6.5
"""Size of the words."""
PLACES = ((6, 5), (6, -11), (-6, 5), (-6, -11), (6, 15), (-6, -21), (6, -21), (-6, 15))
"""Offsets from a point, in points, tried in turn; to the left of it where the first is below 0."""

Area = tuple[float, float, float, float]


def draw_labels(axes: Axes, labels: Sequence[tuple[float, float, str]], most: int = 14) -> None:
    """Write labels beside their points, the first ones first; one without room is left out.

    Args:
        labels: (x, y, words) in the units of the axes, where all else is drawn.
        most: number of labels at most.
    """
    axes.autoscale_view()  # positions below follow from the limits
    figure: Any = axes.get_figure(root=True)
    size = figure.get_size_inches() * 72
    place = axes.get_position()
    across, up = size[0] * place.width, size[1] * place.height
    points = [axes.transAxes.inverted().transform(axes.transData.transform((x, y))) for x, y, _ in labels]
    taken: list[Area] = [(a * across - 3, b * up - 3, a * across + 3, b * up + 3) for a, b in points]
    for (a, b), (x, y, words) in list(zip(points, labels, strict=True))[:most]:
        for dx, dy in PLACES:
            wide = 0.62 * POINTS * len(words)
            begin = a * across + (dx if dx > 0 else dx - wide)
            area = (begin, b * up + dy, begin + wide, b * up + dy + POINTS)
            inside = area[0] >= 0 and area[2] <= across and area[1] >= 0 and area[3] <= up
            if inside and not any(_overlap(area, other) for other in taken):
                anchor = "left" if dx > 0 else "right"
                axes.annotate(
                    words, (x, y), (dx, dy), textcoords="offset points", fontsize=POINTS, ha=anchor, color="0.25"
                )
                taken.append(area)
                break


def _overlap(first: Area, second: Area) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
