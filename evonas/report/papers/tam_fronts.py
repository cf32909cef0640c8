"""TAM-NAS's Figures 5 to 7: fronts of several supernets, with inherited weights and trained to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING

from evonas.report.labels import draw_labels
from evonas.report.output import write_png
from evonas.report.plots import panels
from evonas.report.retrained import TableRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_bubbles", "draw_ways"]

WAYS = {"scratch": ("#c22f2f", "o", "from scratch"), "finetune": ("#1f5fbf", "s", "fine-tuned")}
ERRORS = {"clean_error": "clean error (%)", "adversarial_error": "adversarial error (%)"}

AREAS = (60, 450)
"""Areas of the circles of the fewest and of the most parameters, in square points."""


def letter(place: int) -> str:
    """Name of a network by its place on the front: A to Z, A1 to Z1, A2, ..."""
    turn, at = divmod(place, len(ascii_uppercase))
    return f"{ascii_uppercase[at]}{turn or ''}"


def draw_ways(path: Path, fronts: Mapping[str, Sequence[TableRow]], data: str) -> bool:
    """Draw Figure 5: errors over parameters of networks from scratch and fine-tuned, one row of panels a supernet.

    Args:
        fronts: supernet -> rows with params, mode, clean_error and adversarial_error.
    Returns:
        Whether there is a network trained in both ways.
    """
    shown = {name: rows for name, rows in fronts.items() if {row["mode"] for row in rows} >= WAYS.keys()}
    if not shown:
        return False
    figure, every = panels(2 * len(shown), (5.0, 3.4), extra=0.6, across=2)
    cells = ((name, rows, error) for name, rows in shown.items() for error in ERRORS)
    for axes, (name, rows, error) in zip(every, cells, strict=True):
        for mode, (colour, marker, words) in WAYS.items():
            own = [row for row in rows if row["mode"] == mode]
            x, y = [1e-6 * row["params"] for row in own], [100 * row[error] for row in own]
            axes.scatter(x, y, s=34, color=colour, marker=marker, label=words, alpha=0.8, zorder=3)
        axes.set(title=name, xlabel="parameters (millions)", ylabel=ERRORS[error])
        axes.locator_params(axis="x", nbins=5)
        axes.ticklabel_format(axis="x", useOffset=False)
        axes.grid(alpha=0.3)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(f"Figure 5: from scratch and fine-tuned, {data}")
    write_png(path, figure)
    return True


def draw_bubbles(
    path: Path, fronts: Mapping[str, Sequence[TableRow]], searched: Mapping[str, Sequence[TableRow]], title: str
) -> bool:
    """Draw Figure 6 or 7: clean over adversarial error, a panel a supernet.

    A circle's area grows from the fewest parameters of the supernet's front to the most; sizes of a front differ too
    little to be seen in areas that begin at 0.

    Args:
        fronts: supernet -> rows with arch_id, params, clean_error and adversarial_error.
        searched: supernet -> rows of its front; a network has the circle, colour and letter of its place there in both
            figures.
    Returns:
        Whether there is a network.
    """
    shown = {name: rows for name, rows in fronts.items() if rows}
    if not shown:
        return False
    figure, every = panels(len(shown), (5.0, 4.2), extra=0.4)
    for axes, (name, rows) in zip(every, shown.items(), strict=True):
        _circles(axes, rows, searched[name])
        fewest, most = (1e-6 * pick(row["params"] for row in searched[name]) for pick in (min, max))
        count = f"{len(rows)} of {len(searched[name])} networks of the front"
        axes.set_title(f"{name}: {count}\ncircles: {fewest:.4f} to {most:.4f} million parameters", fontsize=10)
    figure.suptitle(title)
    write_png(path, figure)
    return True


def _circles(axes: Axes, rows: Sequence[TableRow], front: Sequence[TableRow]) -> None:
    """Draw the networks of a supernet, those at the same point with their letters side by side."""
    from matplotlib import colormaps

    order = [row["arch_id"] for row in front]
    fewest, most = (pick(row["params"] for row in front) for pick in (min, max))
    letters: dict[tuple[float, float], list[int]] = {}
    for row in sorted(rows, key=lambda row: -row["params"]):
        place, at = order.index(row["arch_id"]), (100 * row["adversarial_error"], 100 * row["clean_error"])
        area = AREAS[0] + (AREAS[1] - AREAS[0]) * (row["params"] - fewest) / ((most - fewest) or 1)
        axes.scatter(*at, s=area, color=colormaps["tab20"](place % 20), alpha=0.6, zorder=3, clip_on=False)
        letters.setdefault(at, []).append(place)
    axes.set(xlabel="adversarial error (%)", ylabel="clean error (%)")
    axes.margins(0.15)
    axes.autoscale_view()
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    axes.set_xlim(max(left, 0), min(right, 100))
    axes.set_ylim(max(bottom, 0), min(top, 100))
    axes.grid(alpha=0.3)
    words = [(*at, ", ".join(map(letter, sorted(places)))) for at, places in letters.items()]
    draw_labels(axes, words, most=len(words))
