"""Searches by gradient, as DARTS draws them: everything logged in an epoch, and the weights of operations over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evonas.report.drawing import operation_colour, operation_words, state_name
from evonas.report.output import write_csv, write_png
from evonas.report.plots import panels
from evonas.report.retrained import TableRow, table_of_rows

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "OPERATIONS",
    "alpha_figure",
    "plot_alpha",
    "plot_search",
    "search_figure",
    "search_table",
    "write_search_csv",
]

OPERATIONS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""Operations of DARTS, in its order."""
NODES = {n * (n + 3) // 2: n for n in range(1, 20)}
"""Edges of a cell -> its nodes."""
SIZES, TIMES = (
    {f"{network}_{column}": network for network in ("expected", "derived", "delivered")}
    for column in ("size", "latency_ms")
)
"""Columns of a search that is held to a size, or a latency -> words in the legend."""
LAST = ("entropy_normal", "entropy_reduce", "expected_params", *SIZES, *TIMES, "genotype", "seconds")
"""Columns that close a row."""
TOGETHER = {
    "loss": {"train_loss": "train", "val_loss": "validation"},
    "entropy of alpha (nats)": {"entropy_normal": "normal cell", "entropy_reduce": "reduction cell"},
    "parameters of the network (millions)": SIZES,
    "latency of the network (ms)": TIMES,
}
"""Label of a panel -> its columns and their words in the legend."""
LABELS = {"expected_params": "expected parameters (millions)"}
UNDRAWN = ("epoch", "stage", "learning_rate", "genotype", "seconds")
WEIGHTS = "weights of the upper losses"
SHARES = "shares of the architecture's step"
COLOURS = ("#1f5fbf", "#d1602a", "#2b8a57", "#7a3fb0", "#a67c00", "#c22f5c", "#2a9db0", "#555b66")
ACROSS, DOWN = 1.45, 1.4
"""Inches from one edge's panel to the next one."""


def search_table(rows: Sequence[TableRow]) -> pd.DataFrame:
    """One row an epoch: columns in order of first appearance, then entropies, expected parameters, genotype, seconds.

    Args:
        rows: column -> value; None or absent where nothing was logged.
    """
    seen = {name for row in rows for name in row}
    return table_of_rows(rows, tail=[name for name in LAST if name in seen])


def write_search_csv(path: Path, rows: Sequence[TableRow]) -> None:
    """Write `search_table`, floats in the shortest form that reads back equal."""
    write_csv(path, search_table(rows))


def plot_search(path: Path, rows: Sequence[TableRow], title: str = "") -> None:
    """Draw `search_figure` into a PNG file."""
    write_png(path, search_figure(rows, title))


def search_figure(rows: Sequence[TableRow], title: str = "") -> Figure:
    """Everything that was logged, over epochs: losses, entropies, weights and shares of the upper losses have a panel.

    Other columns have a panel of their own. A dashed line stands where a stage begins.
    """
    lines = _panels(list(search_table(rows).dropna(axis=1, how="all").columns))
    figure, every = panels(len(lines), (4.6, 3.2), extra=0.4)
    for axes, (label, columns) in zip(every, lines.items(), strict=True):
        _curves(axes, rows, columns)
        axes.set(xlabel="epoch", ylabel=label)
        if label == SHARES or (label == WEIGHTS and axes.get_ylim()[1] < 1.1):
            axes.set_ylim(-0.03, 1.03)
    figure.suptitle(title)
    return figure


def _panels(logged: Sequence[str]) -> dict[str, dict[str, str]]:
    """Label of a panel -> its columns and their words in the legend."""
    weights, shares = (
        {name: _words(name.removeprefix(kind)) for name in logged if name.startswith(kind)}
        for kind in ("weight_", "share_")
    )
    together = {**TOGETHER, WEIGHTS: weights, SHARES: shares}
    shared = {name for lines in together.values() for name in lines}
    alone = [name for name in logged if name not in shared and name not in UNDRAWN]
    panels = {**together, **{LABELS.get(name, _words(name)): {name: ""} for name in alone}}
    found = {label: {name: words for name, words in lines.items() if name in logged} for label, lines in panels.items()}
    return {label: lines for label, lines in found.items() if lines} or {"nothing was logged": {}}


def _words(name: str) -> str:
    """`upper_ood_loss` -> `upper: ood loss`."""
    return name.replace("upper_", "upper: ", 1).replace("_", " ")


def _curves(axes: Axes, rows: Sequence[TableRow], lines: Mapping[str, str]) -> None:
    from matplotlib.ticker import MaxNLocator

    for (name, words), colour in zip(lines.items(), cycle(COLOURS), strict=False):
        points = [(row["epoch"], row[name]) for row in rows if row.get(name) is not None]
        marker = "." if len(points) < 30 else ""
        axes.plot(*zip(*points, strict=True), color=colour, marker=marker, linewidth=1.4, label=words)
    for before, row in pairwise(rows):
        if before.get("stage") != row.get("stage"):
            axes.axvline((before["epoch"] + row["epoch"]) / 2, color="0.6", linewidth=0.8, linestyle="--")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    if any(lines.values()):
        axes.legend(fontsize=8)


def plot_alpha(
    path: Path,
    history: Sequence[npt.NDArray[np.floating[Any]]],
    title: str = "",
    operations: Sequence[str] = OPERATIONS,
) -> None:
    """Draw `alpha_figure` into a PNG file."""
    write_png(path, alpha_figure(history, title, operations))


def alpha_figure(
    history: Sequence[npt.NDArray[np.floating[Any]]], title: str = "", operations: Sequence[str] = OPERATIONS
) -> Figure:
    """One small panel an edge: a row of panels a node, a column a state that it reads.

    Operations have the colours of `draw_genotype`; those over 5x5 pixels are dashed.

    Args:
        history: after every epoch (2, edges, operations): the softmax of alpha in the normal and the reduction cell,
            edges in DARTS's order. A line is broken where it is 0 or NaN: the edge has lost that operation.
    """
    from matplotlib.figure import Figure

    every, nodes = _weights(history, len(operations))
    width, height = 2 * (nodes + 1) * ACROSS + 1.1, nodes * DOWN + 0.9  # inches
    figure = Figure(figsize=(width, height))
    for half, name in enumerate(("normal cell", "reduction cell")):
        left = 0.5 + half * ((nodes + 1) * ACROSS + 0.4)
        figure.text(left / width, 1 - 0.5 / height, name, fontsize=10, weight="bold", va="center")
        edges = ((node, state) for node in range(nodes) for state in range(node + 2))
        for edge, (node, state) in enumerate(edges):
            corner = ((left + state * ACROSS) / width, (0.35 + (nodes - 1 - node) * DOWN) / height)
            axes = figure.add_axes((*corner, (ACROSS - 0.15) / width, (DOWN - 0.35) / height))
            _edge(axes, every[:, half, edge], operations)
            axes.set_title(f"{state_name(state)} \N{RIGHTWARDS ARROW} {node}", fontsize=8, pad=3)
            axes.tick_params(labelsize=7, labelleft=state == 0, labelbottom=node == nodes - 1)
    low, high = float(np.nanmin(every)), float(np.nanmax(every))
    room = 0.06 * (high - low) or 0.01
    for axes in figure.axes:
        axes.set_ylim(low - room, high + room)
    _legend(figure, (0.5 + (nodes + 1) * ACROSS) / width, 1 - 0.3 / height)
    figure.suptitle(title, y=1 - 0.2 / height, va="center", fontsize=11)
    return figure


def _legend(figure: Figure, right: float, top: float) -> None:
    figure.legend(
        *figure.axes[0].get_legend_handles_labels(),
        loc="upper right",
        fontsize=8,
        ncols=2,
        frameon=False,
        title="softmax of alpha over epochs",
        title_fontsize=8,
        bbox_to_anchor=(right, top),
    )


def _weights(history: Sequence[npt.NDArray[np.floating[Any]]], operations: int) -> tuple[npt.NDArray[np.float64], int]:
    """(epochs, 2, edges, operations) weights with NaN for 0, and the nodes of a cell. ValueError for other shapes."""
    every = np.array(history, dtype=np.float64)
    nodes = NODES.get(every.shape[2] if every.ndim == 4 else 0, 0)
    if every.shape != (len(history), 2, nodes * (nodes + 3) // 2, operations):
        raise ValueError(
            f"expected for at least one epoch weights of shape (2, edges, {operations}) with 2, 5, 9, 14, ... "
            f"edges, got {every.shape[1:]} for {len(every)} epochs"
        )
    every[every == 0] = np.nan
    return every, nodes


def _edge(axes: Axes, weights: npt.NDArray[np.float64], operations: Sequence[str]) -> None:
    """One line an operation.

    Args:
        weights: (epochs, operations).
    """
    from matplotlib.ticker import MaxNLocator

    epochs = range(1, len(weights) + 1)
    for name, line in zip(operations, weights.T, strict=True):
        (drawn,) = axes.plot(epochs, line, color=operation_colour(name), linewidth=1.2, label=operation_words(name))
        drawn.set(marker="." if len(line) < 3 else "", linestyle="--" if name.endswith("5x5") else "-")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
