"""Pictures of a run: the front over everything that was evaluated, and the hypervolume over time."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evonas.files import replace_file
from evonas.report.table import HistoryRow, Searched
from evonas.report.units import axis_label, axis_scale

__all__ = ["plot_front", "plot_history", "plot_images"]

GREY, BLUE = "#b8bcc4", "#1f5fbf"


def plot_front(path: Path, table: pd.DataFrame, searched: Searched) -> None:
    """One panel for every pair of objectives: grey what was evaluated, blue the front. Written whole or not at all.

    Args:
        table: a population table.
    """
    evaluated = table[table["status"] == "ok"]
    pairs = list(combinations(searched.objectives, 2)) or [(searched.objectives[0],) * 2]
    columns = min(len(pairs), 3)
    rows = -(-len(pairs) // columns)
    figure = Figure(figsize=(6.0 * columns, 4.5 * rows), layout="constrained")
    for number, (vertical, horizontal) in enumerate(pairs, start=1):
        axes = figure.add_subplot(rows, columns, number)
        _panel(axes, evaluated, horizontal, vertical, joined=len(searched.objectives) == 2 and not searched.maximize)
        axes.set_xlabel(_label(horizontal, searched))
        axes.set_ylabel(_label(vertical, searched))
    found = evaluated[evaluated["rank"] == 0]
    figure.suptitle(f"{searched.method} on {searched.data}: {len(found)} on the front of {len(evaluated)} evaluated")
    _save(figure, path)


def plot_history(path: Path, history: Sequence[HistoryRow], searched: Searched) -> None:
    """Hypervolume over evaluations, one point a generation. Written whole or not at all."""
    figure = Figure(figsize=(6.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    axes.plot([row.evaluations for row in history], [row.hypervolume for row in history], "o-", color=BLUE)
    axes.set_xlabel("evaluations")
    axes.set_ylabel("hypervolume (larger is better)")
    axes.grid(alpha=0.3)
    figure.suptitle(f"{searched.method} on {searched.data}")
    _save(figure, path)


def plot_images(path: Path, images: npt.NDArray[np.uint8], captions: Sequence[str], title: str) -> None:
    """A page of images, eight in a row. Written whole or not at all.

    Args:
        images: (n, 3, H, W) uint8; captions: one for each, drawn above it.
    """
    rows = -(-len(images) // 8)
    figure = Figure(figsize=(12.0, 1.75 * rows + 0.6), layout="constrained")
    for number, (image, caption) in enumerate(zip(images, captions, strict=True), start=1):
        axes = figure.add_subplot(rows, 8, number)
        axes.imshow(image.transpose(1, 2, 0), interpolation="nearest")
        axes.set_title(caption, fontsize=7)
        axes.set_axis_off()
    figure.suptitle(title)
    _save(figure, path)


def _panel(axes: Axes, evaluated: pd.DataFrame, horizontal: str, vertical: str, joined: bool) -> None:
    x = evaluated[horizontal].astype(float) * axis_scale(horizontal)
    y = evaluated[vertical].astype(float) * axis_scale(vertical)
    on_front = evaluated["rank"] == 0
    axes.scatter(x[~on_front], y[~on_front], s=18, color=GREY, label="evaluated")
    if joined:
        order = x[on_front].sort_values().index
        axes.step(x[order], y[order], where="post", color=BLUE, alpha=0.5, linewidth=1)
    axes.scatter(x[on_front], y[on_front], s=34, color=BLUE, label="front", zorder=3)
    axes.grid(alpha=0.3)
    axes.legend()


def _label(column: str, searched: Searched) -> str:
    """Name and unit, and below what was measured."""
    about = searched.about.get(column)
    return f"{axis_label(column)}\n{about}" if about else axis_label(column)


def _save(figure: Figure, path: Path) -> None:
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=120, metadata={"Software": "evonas"}))
