"""Pictures of a run: the front over everything that was evaluated, and the hypervolume over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evonas.report.chance import draw_chance
from evonas.report.colours import BLUE, GREY
from evonas.report.labels import SHORT, draw_labels
from evonas.report.output import write_png
from evonas.report.table import HistoryRow, Searched, knee_row, rank_correlation
from evonas.report.units import axis_scale, axis_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "front_figure",
    "front_labels",
    "panels",
    "placed",
    "plot_front",
    "plot_history",
    "plot_images",
    "sizes_of",
    "values_of",
]


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
    chance level dotted; the knee and the first row of the front by name, others on the front by the first digits.

    An error that is measured and not searched stands over the last searched one. Where both axes of a panel are errors,
    its title says how alike they rank the evaluated networks. With three or more objectives, marks grow with the
    parameters.

    Args:
        table: a population table.
    """
    evaluated = table[table["status"] == "ok"]
    errors = [name for name in searched.objectives if name.endswith("_error")]
    beside = [name for name in searched.columns if name.endswith("_error") and name not in searched.objectives]
    pairs = list(combinations(searched.objectives, 2)) or [_alone(searched, evaluated)]
    pairs += [(name, errors[-1]) for name in beside if errors]
    pairs = [pair for pair in pairs if evaluated[list(pair)].notna().all(axis=1).any()] or pairs[:1]
    figure, every = panels(len(pairs), (6.0, 4.5), extra=0.4, across=2 if len(pairs) == 4 else 3)
    names = front_labels(evaluated, searched.objectives, searched.maximize)
    sizes = sizes_of(evaluated, len(searched.objectives) > 2)
    for axes, (vertical, horizontal) in zip(every, pairs, strict=True):
        joined = len(searched.objectives) == 2 and not searched.maximize and vertical not in beside
        _panel(axes, evaluated, horizontal, vertical, joined, sizes)
        draw_chance(axes, horizontal, vertical, searched.chance)
        draw_labels(axes, placed(evaluated, names, horizontal, vertical))
        if vertical != horizontal and {vertical, horizontal} <= {*errors, *beside}:
            correlation = rank_correlation(evaluated[vertical].tolist(), evaluated[horizontal].tolist())
            axes.set_title("" if correlation is None else f"rank correlation {correlation:.2f}", fontsize=10)
        axes.set(xlabel=axis_text(horizontal, searched.about), ylabel=axis_text(vertical, searched.about))
    found = evaluated[evaluated["rank"] == 0]
    grown = "; the more parameters, the larger" if sizes is not None else ""
    legend_below(figure, every, f"marks with a name: the front{grown}")
    figure.suptitle(f"{searched.method} on {searched.data}: {len(found)} on the front of {len(evaluated)} evaluated")
    return figure


def _alone(searched: Searched, evaluated: pd.DataFrame) -> tuple[str, str]:
    """A single objective over the first cost that there is."""
    only = searched.objectives[0]
    costs = [name for name in ("params", "macs") if name in evaluated and name != only]
    return only, costs[0] if costs else only


def front_labels(evaluated: pd.DataFrame, objectives: Sequence[str], maximize: Sequence[str]) -> dict[Any, str]:
    """Index of a row on the front -> its name in a picture; the knee and the first row come first."""
    rows = evaluated[evaluated["rank"] == 0]
    if rows.empty or "arch_id" not in rows:
        return {}
    ids = rows["arch_id"].astype(str).str[:SHORT].to_dict()
    best = rows.index[0]
    middle = rows.index[knee_row(rows, objectives, maximize)]
    words = {middle: f"knee {ids[middle]}", best: f"best {ids[best]}"}
    if middle == best:
        words = {best: f"best, knee {ids[best]}"}
    return {**words, **{index: name for index, name in ids.items() if index not in words}}


def sizes_of(evaluated: pd.DataFrame, wanted: bool) -> pd.Series[float] | None:
    """Area of every mark, relative to the usual one, by parameters: .4 to 2.5; None where they are not known."""
    params = evaluated["params"].astype(float) if wanted and "params" in evaluated else None
    if params is None or params.isna().any() or params.min() == params.max():
        return None
    return 0.4 + 2.1 * (params - params.min()) / (params.max() - params.min())


def placed(
    evaluated: pd.DataFrame, names: Mapping[Any, str], horizontal: str, vertical: str
) -> list[tuple[float, float, str]]:
    """(x, y, name) of the rows that have both columns."""
    x, y = values_of(evaluated, horizontal), values_of(evaluated, vertical)
    return [(x[i], y[i], words) for i, words in names.items() if np.isfinite([x[i], y[i]]).all()]


def _panel(
    axes: Axes, evaluated: pd.DataFrame, horizontal: str, vertical: str, joined: bool, sizes: pd.Series[float] | None
) -> None:
    x, y = values_of(evaluated, horizontal), values_of(evaluated, vertical)
    on_front = evaluated["rank"] == 0
    grown = 1.0 + 0 * x if sizes is None else sizes
    axes.scatter(x[~on_front], y[~on_front], s=18 * grown[~on_front], color=GREY, label="evaluated", linewidths=0)
    if joined:
        order = x[on_front].sort_values().index
        axes.step(x[order], y[order], where="post", color=BLUE, alpha=0.5, linewidth=1)
    look: dict[str, Any] = {"color": BLUE, "label": "front", "zorder": 3, "alpha": 0.9, "linewidths": 0}
    axes.scatter(x[on_front], y[on_front], s=34 * grown[on_front], **look)
    axes.margins(0.08)
    axes.grid(alpha=0.3)


def legend_below(figure: Figure, every: Sequence[Axes], title: str = "") -> None:
    """One legend for all panels, below them, with marks of one size."""
    from matplotlib.collections import PathCollection

    found: dict[str, Any] = {}
    for axes in every:
        handles, labels = axes.get_legend_handles_labels()
        found |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in found}
    legend = figure.legend(found.values(), found.keys(), loc="outside lower center", ncols=len(found), frameon=False)
    legend.set_title(title)
    legend.get_title().set_fontsize(8)
    for handle in legend.legend_handles:
        if isinstance(handle, PathCollection):
            handle.set_sizes([30])


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
