"""Drawings of lines, boxes, discs and words, as SVG or by matplotlib."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["END", "INK", "LINE", "PAPER", "STYLE", "Box", "Disc", "Line", "Mark", "Scene", "Shape", "Words"]

INCHES = 0.42
"""Inches to one unit of a drawing."""
PIXELS = 30
"""Pixels of an SVG to one unit."""

LINE, INK, PAPER, END = "#a9afba", "#22262e", "white", "#e9ecf1"
"""Colours that a dark page changes: lines between boxes; words and edges; inner and outer discs."""

_CLASSES = {LINE: "l", INK: "i", PAPER: "p", END: "e"}
_DARK = {LINE: "#6d7482", INK: "#e8eaee", PAPER: "#23262d", END: "#343943"}


def _rules(shown: dict[str, str]) -> str:
    return "".join(
        f".net .{name}{{fill:{shown.get(colour, colour)}}}.net .s{name}{{stroke:{shown.get(colour, colour)}}}"
        for colour, name in _CLASSES.items()
    )


STYLE = (
    ".net{font-family:system-ui,sans-serif}.net path{fill:none;stroke-width:2}"
    f"{_rules({})}@media(prefers-color-scheme:dark){{{_rules(_DARK)}}}"
)
"""CSS of every SVG: colours on light and on dark pages."""

Point = tuple[float, float]


class Mark(Protocol):
    """Something drawn, in units of the drawing; x grows to the right from 0, y falls from 0 at the top."""

    def svg(self) -> str: ...
    def add_to(self, axes: Axes) -> None: ...


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: Sequence[Point]
    colour: str
    kinds: str = ""
    """Its pieces as an SVG path names them: M and L take one of the points, Q two and C three; empty: straight."""

    def svg(self) -> str:
        at = iter(self.points)
        pieces = (kind + " ".join(_point(next(at)) for _ in range(_TAKES[kind])) for kind in self._kinds)
        return f'<path d="{"".join(pieces)}"{_paint(stroke=self.colour)}/>'

    def add_to(self, axes: Axes) -> None:
        from matplotlib.patches import PathPatch
        from matplotlib.path import Path

        codes = {"M": [Path.MOVETO], "L": [Path.LINETO], "Q": [Path.CURVE3] * 2, "C": [Path.CURVE4] * 3}
        path = Path(list(self.points), [code for kind in self._kinds for code in codes[kind]])
        axes.add_patch(PathPatch(path, fill=False, edgecolor=self.colour, linewidth=1.5, capstyle="butt"))

    @property
    def _kinds(self) -> str:
        return self.kinds or "M" + "L" * (len(self.points) - 1)


_TAKES = {"M": 1, "L": 1, "Q": 2, "C": 3}


@dataclass(frozen=True)
class Shape:
    """A filled polygon, such as the head of an arrow."""

    points: Sequence[Point]
    colour: str

    def svg(self) -> str:
        return f'<polygon points="{" ".join(map(_point, self.points))}"{_paint(fill=self.colour)}/>'

    def add_to(self, axes: Axes) -> None:
        from matplotlib.patches import Polygon

        axes.add_patch(Polygon(list(self.points), color=self.colour, zorder=2))


@dataclass(frozen=True)
class Disc:
    """A disc; without an edge it is a dot."""

    centre: Point
    radius: float
    face: str
    edge: str = ""

    def svg(self) -> str:
        x, y = self.centre
        at = f'cx="{_n(x)}" cy="{_n(-y)}" r="{_n(self.radius)}"'
        return f"<circle {at}{_paint(fill=self.face, stroke=self.edge)}/>"

    def add_to(self, axes: Axes) -> None:
        from matplotlib.patches import Circle

        rim = {"edgecolor": self.edge, "linewidth": 1.2} if self.edge else {"edgecolor": self.face}
        axes.add_patch(Circle(self.centre, self.radius, facecolor=self.face, zorder=3, **rim))


@dataclass(frozen=True)
class Box:
    """A box with round ends."""

    corner: Point
    """Lower left."""
    width: float
    height: float
    colour: str

    def svg(self) -> str:
        x, y = self.corner
        at = f'x="{_n(x)}" y="{_n(-y - self.height)}" width="{_n(self.width)}" height="{_n(self.height)}"'
        return f'<rect {at} rx="{_n(self.height / 2)}"{_paint(fill=self.colour)}/>'

    def add_to(self, axes: Axes) -> None:
        from matplotlib.patches import FancyBboxPatch

        shape = f"round,pad=0,rounding_size={self.height / 2}"
        look: dict[str, Any] = {"facecolor": self.colour, "edgecolor": "none"}
        axes.add_patch(FancyBboxPatch(self.corner, self.width, self.height, shape, zorder=3, **look))


@dataclass(frozen=True)
class Words:
    """Words; `$c_{k-1}$` has an index."""

    at: Point
    text: str
    size: float
    """In points."""
    colour: str = INK
    anchor: Literal["left", "center"] = "center"
    vertical: Literal["top", "center", "center_baseline"] = "center_baseline"
    bold: bool = False

    def svg(self) -> str:
        pixels = self.size * PIXELS / (72 * INCHES)
        y = -self.at[1] * PIXELS + pixels * (1 if self.vertical == "top" else 0.35)
        where = f'x="{_n(self.at[0])}" y="{y:.4g}" font-size="{pixels:.3g}"'
        where += ' text-anchor="middle"' if self.anchor == "center" else ""
        where += ' font-weight="bold"' if self.bold else ""
        index = r'\1<tspan font-size="70%" dy="3">\2</tspan>'
        words = re.sub(r"\$(\w)_\{?([^}$]+)\}?\$", index, html.escape(self.text))
        return f"<text {where}{_paint(fill=self.colour)}>{words}</text>"

    def add_to(self, axes: Axes) -> None:
        look: dict[str, Any] = {
            "fontsize": self.size,
            "color": self.colour,
            "weight": "bold" if self.bold else "normal",
        }
        axes.text(*self.at, self.text, ha=self.anchor, va=self.vertical, zorder=4, **look)


@dataclass
class Scene:
    """A drawing: its marks, and its size in units."""

    width: float
    height: float = 0
    marks: list[Mark] = field(default_factory=list)

    def add(self, *marks: Mark) -> None:
        self.marks += marks

    def svg(self) -> str:
        """The drawing as an SVG file that stands alone, every text escaped."""
        wide, high = self._pixels
        size = f'width="{wide}" height="{high}" xmlns="http://www.w3.org/2000/svg"'
        head, *marks = self.pieces()
        return "".join([head.replace("<svg ", f"<svg {size} ", 1), f"<style>{STYLE}</style>", *marks])

    def pieces(self) -> list[str]:
        """The same as an element of a page that has `STYLE`: beginning, one piece a mark, end."""
        wide, high = self._pixels
        order = (Line, Shape, Box, Disc, Words)
        marks = sorted(self.marks, key=lambda mark: order.index(type(mark)))
        head = f'<svg class="net" viewBox="0 0 {wide} {high}" role="img">'
        return [head, *(mark.svg() for mark in marks), "</svg>"]

    @property
    def _pixels(self) -> tuple[int, int]:
        return round(PIXELS * self.width), round(PIXELS * self.height)

    def figure(self) -> Figure:
        """The drawing as a figure of matplotlib, on white."""
        from matplotlib.figure import Figure

        figure = Figure()
        axes = figure.add_axes((0, 0, 1, 1))
        for mark in self.marks:
            mark.add_to(axes)
        axes.set(xlim=(0, self.width), ylim=(-self.height, 0))
        axes.set_axis_off()
        figure.set_size_inches(self.width * INCHES, self.height * INCHES)
        return figure


def _n(length: float) -> str:
    return f"{round(length * PIXELS, 1):g}"


def _point(point: Point) -> str:
    return f"{_n(point[0])} {_n(-point[1])}"


def _paint(fill: str = "", stroke: str = "") -> str:
    """Attributes of colours: classes where a dark page changes them."""
    given = {"fill": fill, "stroke": stroke}
    classes = [("s" if what == "stroke" else "") + _CLASSES[it] for what, it in given.items() if it in _CLASSES]
    plain = "".join(f' {what}="{it}"' for what, it in given.items() if it and it not in _CLASSES)
    return plain + (f' class="{" ".join(classes)}"' if classes else "")
