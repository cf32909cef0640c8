"""Pictures of a run: the front over everything that was evaluated, and the hypervolume over time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from evonas.report.chance import Chance, draw_chance
from evonas.report.output import write_png
from evonas.report.table import HistoryRow, Searched, rank_correlation
from evonas.report.units import axis_scale, axis_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["front_figure", "panels", "plot_front", "plot_history", "plot_images", "values_of"]

GREY, BLUE = "#b8bcc4", "#1f5fbf"


def panels(
    count: int, size: tuple[float, float], extra: float = 0.0, narrowest: float = 0.0, across: int = 3
) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels, at most `across` beside each other.

    Args:
        size: width and height of a panel, in inches.
        extra: height besides the panels.
        narrowest: least width of the figure.
    """
    from matplotlib.figure import Figure

    across = min(count, across)
    down = -(-count // across)
    figure = Figure(figsize=(max(size[0] * across, narrowest), size[1] * down + extra), layout="constrained")
    return figure, [figure.add_subplot(down, across, number + 1) for number in range(count)]


def values_of(table: pd.DataFrame, column: str) -> pd.Series[float]:
    """A column in the unit of its axis."""
    return table[column].astype(float) * axis_scale(column)


def plot_front(path: Path, table: pd.DataFrame, searched: Searched) -> None:
    """Draw `front_figure` into a PNG file."""
    write_png(path, front_figure(table, searched))


def front_figure(table: pd.DataFrame, searched: Searched) -> Figure:
    """One panel for every pair of objectives, and one for every error beside them: evaluated grey, the front blue,
    chance level dotted.

    An error that is measured and not searched stands over the last searched one. Where both axes of a panel are errors,
    its title says how alike they rank the evaluated networks.

    Args:
        table: a population table.
    """
    evaluated = table[table["status"] == "ok"]
    errors = [name for name in searched.objectives if name.endswith("_error")]
    beside = [name for name in searched.columns if name.endswith("_error") and name not in searched.objectives]
    pairs = list(combinations(searched.objectives, 2)) or [(searched.objectives[0],) * 2]
    pairs += [(name, errors[-1]) for name in beside if errors]
    figure, every = panels(len(pairs), (6.0, 4.5), across=2 if len(pairs) == 4 else 3)
    for axes, (vertical, horizontal) in zip(every, pairs, strict=True):
        joined = len(searched.objectives) == 2 and not searched.maximize and vertical not in beside
        _panel(axes, evaluated, horizontal, vertical, joined, searched.chance)
        if vertical != horizontal and {vertical, horizontal} <= {*errors, *beside}:
            correlation = rank_correlation(evaluated[vertical].tolist(), evaluated[horizontal].tolist())
            axes.set_title("" if correlation is None else f"rank correlation {correlation:.2f}", fontsize=10)
        axes.set(xlabel=axis_text(horizontal, searched.about), ylabel=axis_text(vertical, searched.about))
    found = evaluated[evaluated["rank"] == 0]
    figure.suptitle(f"{searched.method} on {searched.data}: {len(found)} on the front of {len(evaluated)} evaluated")
    return figure


def _panel(
    axes: Axes, evaluated: pd.DataFrame, horizontal: str, vertical: str, joined: bool, chance: Chance | None
) -> None:
    x, y = values_of(evaluated, horizontal), values_of(evaluated, vertical)
    on_front = evaluated["rank"] == 0
    axes.scatter(x[~on_front], y[~on_front], s=18, color=GREY, label="evaluated")
    if joined:
        order = x[on_front].sort_values().index
        axes.step(x[order], y[order], where="post", color=BLUE, alpha=0.5, linewidth=1)
    axes.scatter(x[on_front], y[on_front], s=34, color=BLUE, label="front", zorder=3)
    draw_chance(axes, horizontal, vertical, chance)
    axes.grid(alpha=0.3)
    axes.legend()


def plot_history(path: Path, history: Sequence[HistoryRow], searched: Searched) -> None:
    """Draw the hypervolume over evaluations into a PNG file, one point a generation."""
    figure, (axes,) = panels(1, (6.0, 4.5))
    shares = [row.hypervolume / searched.box for row in history]
    axes.plot([row.evaluations for row in history], shares, "o-", color=BLUE)
    axes.set(xlabel="evaluations", ylabel="hypervolume, share of its box (larger is better)")
    axes.grid(alpha=0.3)
    figure.suptitle(f"{searched.method} on {searched.data}")
    write_png(path, figure)


def plot_images(path: Path, images: npt.NDArray[np.uint8], captions: Sequence[str], title: str) -> None:
    """Draw a page of images into a PNG file, eight in a row.

    Args:
        images: (n, 3, H, W) uint8.
        captions: one for each image, drawn above it.
    """
    from matplotlib.figure import Figure

    rows = -(-len(images) // 8)
    figure = Figure(figsize=(12.0, 1.75 * rows + 0.6), layout="constrained")
    for number, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(rows, 8, number)
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(caption, fontsize=7)
        axes.set_axis_off()
    figure.suptitle(title)
    write_png(path, figure)
