"""Pictures of the studies beyond the papers: effects with their intervals, and one value over another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

from evonas.report.output import write_png
from evonas.report.plots import panels

__all__ = ["Scattered", "draw_curves", "draw_effects", "draw_scattered"]

COLOURS = ("#1f5fbf", "#c22f2f", "#2a8a4a", "#8a5fbf")
MARKERS = ("o", "s", "^", "D", "v")
"""One more than colours: twenty groups differ."""


class Interval(Protocol):
    """A value with the ends of its interval, NaN where there is none."""

    @property
    def value(self) -> float: ...
    @property
    def low(self) -> float: ...
    @property
    def high(self) -> float: ...


class Scattered(NamedTuple):
    """A panel of points."""

    title: str
    x: str
    y: str
    groups: Mapping[str, Sequence[tuple[float, float]]]
    """Group -> its points."""


def draw_effects(
    path: Path, effects: Mapping[str, Mapping[str, Interval]], title: str, axis: str, scale: float = 1.0
) -> bool:
    """Draw a line for every name, and on it a point with its interval for every kind of effect.

    Args:
        effects: name -> kind -> effect.
        scale: factor on the values.
    Returns:
        Whether there is an effect.
    """
    effects = {name: found for name, found in effects.items() if found}
    kinds = list(dict.fromkeys(kind for found in effects.values() for kind in found))
    if not kinds:
        return False
    figure, (axes,) = panels(1, (8.0, 0.55 * len(effects) + 0.8), extra=0.9)
    for place, kind in enumerate(kinds):
        shift = (place - (len(kinds) - 1) / 2) * 0.22
        for line, found in enumerate(effects.values()):
            if kind not in found:
                continue
            each = found[kind]
            if not math.isnan(each.low):
                axes.plot([scale * each.low, scale * each.high], [line + shift] * 2, color=COLOURS[place], lw=1.5)
            axes.plot([scale * each.value], [line + shift], MARKERS[place], color=COLOURS[place], ms=6)
        axes.plot([], [], f"{MARKERS[place]}-", color=COLOURS[place], label=kind)
    axes.axvline(0, color="0.4", lw=1, ls=":")
    axes.set_yticks(range(len(effects)), list(effects))
    axes.set_ylim(len(effects) - 0.5, -0.5)
    axes.set(xlabel=axis)
    axes.grid(alpha=0.3, axis="x")
    figure.legend(loc="outside lower center", ncols=len(kinds))
    figure.suptitle(title)
    write_png(path, figure)
    return True


def draw_scattered(path: Path, shown: Sequence[Scattered], title: str, across: int = 2) -> bool:
    """Draw a panel for each of `shown` that has points; returns whether there is one."""
    with_points = [each for each in shown if any(each.groups.values())]
    if not with_points:
        return False
    figure, every = panels(len(with_points), (4.6, 3.6), extra=0.7, across=across, narrowest=7.0)
    names = list(dict.fromkeys(name for each in with_points for name in each.groups))
    for axes, panel in zip(every, with_points, strict=True):
        for name, points in panel.groups.items():
            x, y = [point[0] for point in points], [point[1] for point in points]
            place = names.index(name)
            colour, marker = COLOURS[place % len(COLOURS)], MARKERS[place % len(MARKERS)]
            axes.scatter(x, y, s=30, color=colour, marker=marker, alpha=0.75, label=name, zorder=3)
        axes.set(title=panel.title, xlabel=panel.x, ylabel=panel.y)
        axes.grid(alpha=0.3)
    marks = {name: mark for axes in every for mark, name in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend([marks[name] for name in names], names, loc="outside lower center", ncols=len(names))
    figure.suptitle(title)
    write_png(path, figure)
    return True


def draw_curves(path: Path, curves: Mapping[str, Sequence[Sequence[float]]], title: str, x: str, y: str) -> bool:
    """Draw curves over 1, 2, ...; those of one name have one colour.

    Args:
        curves: name -> its curves.
    Returns:
        Whether there is a curve.
    """
    if not any(curves.values()):
        return False
    figure, (axes,) = panels(1, (7.0, 4.0), extra=0.5)
    for place, (name, found) in enumerate(curves.items()):
        for number, values in enumerate(found):
            label = name if number == 0 else None
            axes.plot(range(1, len(values) + 1), values, color=COLOURS[place % len(COLOURS)], lw=1.5, label=label)
    axes.set(xlabel=x, ylabel=y)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(curves))
    figure.suptitle(title)
    write_png(path, figure)
    return True
