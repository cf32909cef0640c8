"""TAM-NAS's Figures 8 and 9: blocks and ratios that the best networks have most often, layer by layer (Xie et al.)."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from evonas.files import replace_file
from evonas.report.tam_tables import Count, most_frequent

__all__ = ["plot_layers"]

PANELS = (
    ("block", "Figure 8: blocks", "block", range(0, 22, 3), (-1, 22)),
    ("ratio", "Figure 9: ratios of the inner channels", "ratio", [each / 5 for each in range(1, 11)], (0.1, 2.1)),
)
STYLES = (("#1f5fbf", "o", "most frequent"), ("#d1602a", "s", "second"))


def plot_layers(path: Path, counts: Sequence[Count], networks: int, data: str) -> None:
    """Two panels: over the layers the most frequent choices and those that come second; every one of equals is drawn.

    A mark's area grows with the number of networks. Written whole or not at all.
    """
    layers = sorted({layer for layer, *_ in counts})
    figure = Figure(figsize=(max(8.0, 0.5 * len(layers) + 3), 8.0), layout="constrained")
    for number, (kind, title, label, ticks, limits) in enumerate(PANELS, start=1):
        axes = figure.add_subplot(2, 1, number)
        _panel(axes, counts, kind, networks)
        axes.set(title=title, xlabel="layer", ylabel=label, ylim=limits, yticks=ticks)
        axes.set_xticks(layers)
        axes.grid(alpha=0.3)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2)
    figure.suptitle(f"The top {networks} of the front, {data}; a larger mark is more networks", fontsize=12)
    replace_file(path, lambda file: figure.savefig(file, format="png", dpi=120, metadata={"Software": "evonas"}))


def _panel(axes: Axes, counts: Sequence[Count], kind: str, networks: int) -> None:
    layers = sorted({layer for layer, *_ in counts})
    for place, (colour, marker, label) in enumerate(STYLES):
        found = [(layer, *each) for layer in layers for each in most_frequent(counts, layer, kind)[place]]
        areas = [20 + 100 * count / networks for _, _, count in found]
        x, y = [layer for layer, _, _ in found], [choice for _, choice, _ in found]
        axes.scatter(x, y, s=areas, color=colour, marker=marker, label=label, alpha=0.85, zorder=3)
    if kind == "block":
        for edge in (5.5, 17.5):
            axes.axhline(edge, color="0.6", linewidth=0.8, linestyle="--")
        for at, word in ((2.5, "tiny"), (11.5, "tiny, robust"), (19.5, "robust")):
            axes.annotate(word, (1.005, at), xycoords=("axes fraction", "data"), va="center", fontsize=8)
