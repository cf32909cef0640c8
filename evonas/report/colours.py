"""Colours of runs and methods, the same in pictures and on the report's page; colour-blind people tell them apart."""

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["BLUE", "GREY", "SERIES", "Style", "styles_of"]

GREY, BLUE = "#a3a8b2", "#0072B2"


class Style(NamedTuple):
    """How the points of a run or method look."""

    colour: str
    marker: str
    """As matplotlib names it."""
    shape: str
    """As Vega names it."""


SERIES = (
    Style(BLUE, "o", "circle"),
    Style("#D55E00", "s", "square"),
    Style("#009E73", "^", "triangle-up"),
    Style("#CC79A7", "D", "diamond"),
    Style("#E69F00", "v", "triangle-down"),
    Style("#56B4E9", "P", "cross"),
    Style("#8a7d00", "X", "triangle-right"),
    Style("#6f7480", "*", "triangle-left"),
)
"""The colours of Okabe and Ito (2008), the yellow darker for white pages, the black grey for dark ones."""


def styles_of(names: Iterable[str]) -> dict[str, Style]:
    """A style for each name, in order; beyond eight the colours repeat with other markers, beyond 64 both do."""
    found = {}
    for place, name in enumerate(names):
        turn, at = divmod(place, len(SERIES))
        found[name] = SERIES[(at + turn) % len(SERIES)]._replace(colour=SERIES[at].colour)
    return found
