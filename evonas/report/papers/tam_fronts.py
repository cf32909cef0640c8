"""TAM-NAS's Figures 5 to 7: fronts of several supernets, with inherited weights and trained to the end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from string import ascii_uppercase

from evonas.report.output import write_png
from evonas.report.plots import panels
from evonas.report.retrained import TableRow

__all__ = ["draw_bubbles", "draw_ways"]

WAYS = {"scratch": ("#c22f2f", "o", "from scratch"), "finetune": ("#1f5fbf", "s", "fine-tuned")}
ERRORS = {"clean_error": "clean error (%)", "adversarial_error": "adversarial error (%)"}


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
    path: Path, fronts: Mapping[str, Sequence[TableRow]], order: Mapping[str, Sequence[str]], title: str
) -> bool:
    """Draw Figure 6 or 7: clean over adversarial error, a panel a supernet, the area of a circle its parameters.

    Args:
        fronts: supernet -> rows with arch_id, params, clean_error and adversarial_error.
        order: supernet -> the arch_ids of its front; a network's place there is its colour and letter in both figures.
    Returns:
        Whether there is a network.
    """
    from matplotlib import colormaps

    shown = {name: rows for name, rows in fronts.items() if rows}
    if not shown:
        return False
    figure, every = panels(len(shown), (5.0, 4.2), extra=0.4)
    for axes, (name, rows) in zip(every, shown.items(), strict=True):
        largest = max(row["params"] for row in rows)
        for row in rows:
            place = order[name].index(row["arch_id"])
            x, y = 100 * row["adversarial_error"], 100 * row["clean_error"]
            colour = colormaps["tab20"](place % 20)
            axes.scatter(x, y, s=500 * row["params"] / largest, color=colour, alpha=0.7, zorder=3)
            axes.annotate(ascii_uppercase[place % 26], (x, y), ha="center", va="center", fontsize=8, zorder=4)
        axes.set(title=name, xlabel="adversarial error (%)", ylabel="clean error (%)")
        axes.margins(0.15)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    write_png(path, figure)
    return True
