"""RoCo-NAS's Figures 2 to 6 for networks that were trained again (Geraeinejad et al., 2021)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evonas.files import replace_file
from evonas.report.roco_tables import TOPS, Row, configurations, lightest, top_mean
from evonas.report.units import axis_label, axis_scale, shown

__all__ = ["FIGURES", "write_figures"]

FIGURES = ("figure2.png", "figure3.png", "figure4.png", "figure5.png", "figure6.png")

COLOURS = ("#1f5fbf", "#d1602a")
"""Of the first and the second configuration."""
MARKERS = ("o", "s")


def write_figures(folder: Path, rows: Sequence[Row], attacks: Mapping[str, str], data: str) -> list[Path]:
    """Write Figures 2 to 6, each whole or not at all; gives those that could be drawn.

    2 accuracy over parameters, 3 and 4 MACs and parameters of the top 1, 3 and 5, 5 accuracy under PGD over MACs,
    6 the same under the other attacks. A figure whose attacks were not measured is removed: it would be an older one.
    Networks that failed are not drawn, nor are published points of other methods, which nobody measured here.

    Args:
        attacks: column -> attack and its bound, for every attack of the suite that was measured.
    """
    if not any(row["status"] == "ok" for row in rows):
        return _kept(folder, dict.fromkeys(FIGURES))
    others = [name for name in attacks if name != "pgd_error"]
    weak = [name for name in attacks if name == "pgd_error"]
    figures = {
        "figure2.png": _scatter(rows, ["clean_error"], "params", {"clean_error": CLEAN}, 2, data),
        "figure3.png": _bars(rows, "macs", 3, data),
        "figure4.png": _bars(rows, "params", 4, data),
        "figure5.png": _scatter(rows, weak, "macs", attacks, 5, data) if weak else None,
        "figure6.png": _scatter(rows, others, "macs", attacks, 6, data) if others else None,
    }
    return _kept(folder, figures)


def _kept(folder: Path, figures: Mapping[str, Figure | None]) -> list[Path]:
    """Write what was drawn, remove the others; gives what was written."""
    written = []
    for name, figure in figures.items():
        if figure is None:
            (folder / name).unlink(missing_ok=True)
        else:
            _save(figure, folder / name)
            written.append(folder / name)
    return written


CLEAN = "clean test images; published networks were not measured here and are not drawn"
TITLES = {
    2: "Figure 2: accuracy over parameters",
    3: "Figure 3: MACs of the lightest networks",
    4: "Figure 4: parameters of the lightest networks by MACs",
    5: "Figure 5: accuracy under attack over MACs",
    6: "Figure 6: accuracy under attack over MACs",
}


def _scatter(
    rows: Sequence[Row], columns: Sequence[str], horizontal: str, labels: Mapping[str, str], number: int, data: str
) -> Figure:
    """One panel a column, up to three beside each other: accuracy over parameters or MACs."""
    across = len(columns) if len(columns) < 4 else 2 if len(columns) == 4 else 3
    down = -(-len(columns) // across)
    figure = Figure(figsize=(max(5.0 * across, 7.0), 4.0 * down + 0.5), layout="constrained")
    for place, column in enumerate(columns, start=1):
        axes = figure.add_subplot(down, across, place)
        for name, colour, marker in zip(configurations(rows), COLOURS, MARKERS, strict=False):
            found = lightest(rows, name)
            x = [row[horizontal] * axis_scale(horizontal) for row in found]
            y = [100 * (1 - row[column]) for row in found]
            axes.scatter(x, y, s=36, color=colour, marker=marker, label=name, alpha=0.85, zorder=3)
        axes.set_title(labels[column], fontsize=10)
        axes.set_xlabel(axis_label(horizontal))
        axes.set_ylabel("accuracy (%)")
        axes.margins(0.08)
        axes.grid(alpha=0.3)
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(f"{TITLES[number]}, {data}", fontsize=12)
    return figure


def _bars(rows: Sequence[Row], column: str, number: int, data: str) -> Figure:
    """Means of the top 1, 3 and 5 beside each other, one colour a configuration."""
    figure = Figure(figsize=(7.0, 4.5), layout="constrained")
    axes = figure.add_subplot()
    names = configurations(rows)
    width = min(0.8 / len(names), 0.5)
    some_fewer = False
    for index, (name, colour) in enumerate(zip(names, COLOURS, strict=False)):
        means = [(place, top_mean(rows, name, column, top), top) for place, top in enumerate(TOPS)]
        drawn = [(place, mean, top) for place, mean, top in means if mean is not None]
        offset = (index - (len(names) - 1) / 2) * width
        heights = [mean.value * axis_scale(column) for _, mean, _ in drawn]
        bars = axes.bar([place + offset for place, _, _ in drawn], heights, 0.92 * width, color=colour, label=name)
        fewer = [f"\n({mean.networks})" if mean.networks < top else "" for _, mean, top in drawn]
        some_fewer |= any(fewer)
        texts = [shown(column, mean.value) + note for (_, mean, _), note in zip(drawn, fewer, strict=True)]
        axes.bar_label(bars, texts, fontsize=8, padding=2)
    _label_bars(axes, column, "in brackets: how many networks there are, where they are fewer" if some_fewer else "")
    figure.suptitle(f"{TITLES[number]}, {data}", fontsize=12)
    return figure


def _label_bars(axes: Axes, column: str, note: str) -> None:
    axes.set_title(note, fontsize=10)
    axes.set_xticks(range(len(TOPS)), [f"top {top}" for top in TOPS])
    axes.set_ylabel(f"mean {axis_label(column)}")
    axes.margins(y=0.2)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
    axes.legend(loc="upper left")


def _save(figure: Figure, path: Path) -> None:
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=120, metadata={"Software": "evonas"}))
