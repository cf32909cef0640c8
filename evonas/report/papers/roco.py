"""RoCo-NAS's Tables III to V and Figures 2 to 6 for networks that were trained again (Geraeinejad et al., 2021)."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from evonas.report.chance import Chance, chance_notes
from evonas.report.labels import draw_labels
from evonas.report.output import write_png
from evonas.report.plots import panels
from evonas.report.retrained import TableRow, configurations, over_seeds, scored
from evonas.report.text_table import TextTable, diverged_note
from evonas.report.units import axis_label, axis_scale, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "FIGURES",
    "TOPS",
    "TopMean",
    "closest_pair",
    "draw_figure",
    "lightest",
    "roco_tables",
    "top_mean",
    "write_figures",
]

TOPS = (1, 3, 5)
"""Numbers of lightest networks that are averaged (IV-C)."""
TOP_WORDS = tuple(f"Top-{top}" for top in TOPS)

SET_COLUMNS = {
    "adversarial_set_error": "L0 and L-inf",
    "adversarial_set_error_L0": "L0",
    "adversarial_set_error_Linf": "L-inf",
    "second_set_error": "second set",
    "second_set_error_L0": "second set, L0",
    "second_set_error_Linf": "second set, L-inf",
}
"""Column -> images of the adversarial set that it covers."""
PAIR_COLUMNS = {"params": "Parameters", "macs": "MACs", "pgd_error": "PGD", "cw_error": "C&W"}
"""Column -> its heading in Table V."""

FIGURES = ("figure2.png", "figure3.png", "figure4.png", "figure5.png", "figure6.png")
TITLES = (
    "Figure 2: accuracy over parameters",
    "Figure 3: MACs of the lightest networks",
    "Figure 4: parameters of the lightest networks by MACs",
    "Figure 5: accuracy under attack over MACs",
    "Figure 6: accuracy under attack over MACs",
)
CLEAN = "clean test images"
PUBLISHED = {"DARTS": (3.3, 97.24), "ENAS": (4.6, 97.11), "ProxylessNAS": (5.7, 97.92), "SMASHv2": (16.0, 95.97)}
"""Figure 2's other methods -> millions of parameters and accuracy in percent, as their own papers report them."""
STYLES = (("#1f5fbf", "o"), ("#d1602a", "s"))
"""(colour, marker) of the first and the second configuration."""


class TopMean(NamedTuple):
    """A mean over the lightest networks."""

    value: float
    networks: int
    """Number of averaged networks: smaller than asked for where there are no more."""
    deviation: float = 0.0
    """Standard deviation over seeds; 0 for one seed."""


def lightest(rows: Iterable[TableRow], configuration: str) -> list[TableRow]:
    """Scored networks of a configuration, by MACs and then by arch_id."""
    own = [row for row in scored(rows) if row["configuration"] == configuration]
    return sorted(own, key=lambda row: (row["macs"], row["arch_id"]))


def top_mean(rows: Sequence[TableRow], configuration: str, column: str, top: int) -> TopMean | None:
    """Mean of a column over the `top` lightest networks of a configuration; None where there is none."""
    values = [float(row[column]) for row in lightest(rows, configuration)[:top]]
    return TopMean(statistics.fmean(values), len(values)) if values else None


def closest_pair(rows: Sequence[TableRow], first: str, second: str) -> tuple[TableRow, TableRow, int] | None:
    """The networks of two configurations that are closest in MACs, and the number of pairs that are as close.

    Closest: |a - b| / max(a, b) is smallest. Among equals the lightest pair, then the one of the smaller arch_ids. A
    network is never compared with itself. None where there is no pair.
    """
    pairs = [(a, b) for a in lightest(rows, first) for b in lightest(rows, second) if a["arch_id"] != b["arch_id"]]
    if not pairs:
        return None
    a, b = min(pairs, key=lambda ab: (_apart(*ab), ab[0]["macs"] + ab[1]["macs"], ab[0]["arch_id"], ab[1]["arch_id"]))
    return a, b, sum(_apart(*pair) == _apart(a, b) for pair in pairs)


def _apart(a: TableRow, b: TableRow) -> float:
    """Relative difference in MACs."""
    return float(abs(a["macs"] - b["macs"]) / max(a["macs"], b["macs"]))


def roco_tables(
    rows: Sequence[TableRow], attacks: Mapping[str, str], chance: Chance | None = None
) -> tuple[TextTable, ...]:
    """Tables III and IV, the other means over the top 1, 3 and 5, and Table V where there are two configurations.

    Args:
        attacks: column -> attack and its bound, for every attack of the suite that was measured.
        chance: level of guessing on the test images, whose results have a mark; None: unknown.
    """
    tables = _tables(rows, attacks, chance)
    return tuple(replace(table, notes=(*table.notes, *chance_notes(table.lines, chance))) for table in tables)


def _tables(rows: Sequence[TableRow], attacks: Mapping[str, str], chance: Chance | None) -> tuple[TextTable, ...]:
    notes = _notes(rows)
    four = TextTable(
        "Table IV: accuracy on clean test images, of the lightest networks by MACs",
        ("Configuration", *TOP_WORDS),
        tuple(line[1:] for line in _means(rows, {"clean_error": ""}, chance)),
        notes,
    )
    others = TextTable(
        "Size, and accuracy under attacks on the network itself (white-box), of the lightest networks by MACs",
        ("Measure", "Configuration", *TOP_WORDS),
        _means(rows, {"params": "parameters", "macs": "MACs", **attacks}, chance),
        notes,
    )
    return (*_table_three(rows, notes, chance), four, others, *_table_five(rows, attacks, chance))


def _table_three(rows: Sequence[TableRow], notes: Sequence[str], chance: Chance | None) -> tuple[TextTable, ...]:
    measured = {name: words for name, words in SET_COLUMNS.items() if any(name in row for row in rows)}
    if not measured:
        return ()
    title = "Table III: accuracy on the adversarial set, of the lightest networks by MACs"
    transferred = "The set was made against other networks: transferred, not white-box robustness."
    header = ("Images", "Configuration", *TOP_WORDS)
    return (TextTable(title, header, _means(rows, measured, chance), (transferred, *notes)),)


def _table_five(rows: Sequence[TableRow], attacks: Mapping[str, str], chance: Chance | None) -> tuple[TextTable, ...]:
    names = configurations(rows)
    if len(names) != 2:
        return ()
    title = "Table V: the networks of both configurations that are closest in MACs"
    shows = {name: word for name, word in PAIR_COLUMNS.items() if name in ("params", "macs", *attacks)}
    header = ("Configuration", "Network", *shows.values())
    found = closest_pair(rows, *names)
    if found is None:
        return (TextTable(title, header, (), ("There is no pair of different networks.",)),)
    *pair, equally = found
    notes = [f"Their MACs differ by {100 * _apart(*pair):.2f}%; parameters and MACs are those of the networks scored."]
    if equally > 1:
        notes.append(f"{equally} pairs are equally close; the lightest one is shown, of equal ones by arch_id.")
    lines = tuple(
        (
            row["configuration"],
            row["arch_id"],
            *(_cell(name, float(row[name])) + _mark(name, float(row[name]), chance) for name in shows),
        )
        for row in pair
    )
    return (TextTable(title, header, lines, tuple(notes)),)


def _means(rows: Sequence[TableRow], columns: Mapping[str, str], chance: Chance | None) -> tuple[tuple[str, ...], ...]:
    """Lines of a column's words, a configuration, and the means of its lightest networks."""
    return tuple(
        (words, name, *(_mean_cell(column, top_mean(rows, name, column, top), top, chance) for top in TOPS))
        for column, words in columns.items()
        for name in configurations(rows)
    )


def _mean_cell(column: str, mean: TopMean | None, top: int, chance: Chance | None) -> str:
    if mean is None:
        return "-"
    fewer = f" ({mean.networks})" if mean.networks < top else ""
    return _cell(column, mean.value) + fewer + _mark(column, mean.value, chance)


def _mark(column: str, value: float, chance: Chance | None) -> str:
    return "" if chance is None else chance.mark(column, value)


def _cell(column: str, value: float) -> str:
    """A cost in millions; an error as an accuracy in percent with two digits."""
    return shown(column, value) if column in ("params", "macs") else f"{100 * (1 - value):.2f}%"


def _notes(rows: Sequence[TableRow]) -> tuple[str, ...]:
    few = any(len(lightest(rows, name)) < TOPS[-1] for name in configurations(rows))
    brackets = ("In brackets: how many networks were averaged, where there are fewer.",) if few else ()
    whole = any(row.get("train_on") == "all" for row in rows)
    images = ("Trained on all images but the test part, those that searches held out, too.",) if whole else ()
    return (*images, *brackets, *diverged_note(sorted({row["arch_id"] for row in rows if row["status"] != "ok"})))


def write_figures(folder: Path, rows: Sequence[TableRow], attacks: Mapping[str, str], data: str) -> list[Path]:
    """Write Figures 2 to 6 of one run, each whole or not at all; returns those that could be drawn.

    2 accuracy over parameters, 3 and 4 MACs and parameters of the top 1, 3 and 5, 5 accuracy under PGD over MACs,
    6 the same under the other attacks. An older figure is removed where its attacks were not measured now. Networks
    that failed are not drawn.

    Args:
        attacks: column -> attack and its bound, for every attack of the suite that was measured.
    """
    written = []
    for place, name in enumerate(FIGURES):
        if draw_figure(folder / name, place, rows, attacks, data):
            written.append(folder / name)
        else:
            (folder / name).unlink(missing_ok=True)
    return written


def draw_figure(path: Path, place: int, rows: Sequence[TableRow], attacks: Mapping[str, str], data: str) -> bool:
    """Draw one of `FIGURES`; false where nothing that it shows was measured.

    Args:
        rows: of one run, or of runs that differ in their seed: bars are means over seeds then.
    """
    figure = _figure(place, rows, attacks, data) if scored(rows) else None
    if figure is None:
        return False
    figure.suptitle(f"{TITLES[place]}, {data}", fontsize=12)
    write_png(path, figure)
    return True


def _figure(place: int, rows: Sequence[TableRow], attacks: Mapping[str, str], data: str) -> Figure | None:
    """One of `FIGURES` without its title; None where its attacks were not measured."""
    if place in (1, 2):
        return _bars(rows, ("macs", "params")[place - 1])
    if place == 0:
        return _scatter(rows, {"clean_error": CLEAN}, "params", PUBLISHED if data == "cifar10" else {})
    labels = {name: label for name, label in attacks.items() if (name == "pgd_error") == (place == 3)}
    return _scatter(rows, labels, "macs") if labels else None


def _scatter(
    rows: Sequence[TableRow],
    labels: Mapping[str, str],
    horizontal: str,
    published: Mapping[str, tuple[float, float]] | None = None,
) -> Figure:
    """Accuracy over parameters or MACs, one panel a column; over MACs with a curve through RoCo-NAS's networks."""
    figure, every = panels(len(labels), (5.0, 4.0), extra=0.5, narrowest=7.0, across=2 if len(labels) == 4 else 3)
    for axes, (column, label) in zip(every, labels.items(), strict=True):
        for name, (colour, marker) in zip(configurations(rows), STYLES, strict=False):
            found = lightest(rows, name)
            x = [row[horizontal] * axis_scale(horizontal) for row in found]
            y = [100 * (1 - row[column]) for row in found]
            axes.scatter(x, y, s=36, color=colour, marker=marker, label=name, alpha=0.85, zorder=3)
            if horizontal == "macs" and name.startswith("RoCo-NAS"):
                _curve(axes, x, y)
        if published:
            axes.set_xscale("log")
            millions, accuracies = zip(*published.values(), strict=True)
            axes.scatter(
                millions,
                accuracies,
                s=40,
                facecolors="none",
                edgecolors="0.35",
                marker="D",
                label="published",
                zorder=2,
            )
        axes.set_title(label, fontsize=10)
        axes.set(xlabel=axis_label(horizontal), ylabel="accuracy (%)")
        axes.margins(0.08)
        axes.grid(alpha=0.3)
        largest_first = sorted((published or {}).items(), key=lambda item: -item[1][0])  # so names go outwards
        draw_labels(axes, [(*point, name) for name, point in largest_first])
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    return figure


def _curve(axes: Axes, x: Sequence[float], y: Sequence[float]) -> None:
    """A parabola in the logarithm of x by least squares; a line through points at two x, nothing through one."""
    import numpy as np

    degree = min(2, len(set(x)) - 1)
    if degree < 1:
        return
    fitted = np.polynomial.Polynomial.fit(np.log(x), y, degree)
    along = np.linspace(np.log(min(x)), np.log(max(x)), 100)
    axes.plot(np.exp(along), fitted(along), color="#c22f2f", linewidth=1.6, label="fitted to RoCo-NAS", zorder=2)


def _bars(rows: Sequence[TableRow], column: str) -> Figure:
    """Means of the top 1, 3 and 5 beside each other, one colour a configuration; of several seeds with a deviation."""
    figure, (axes,) = panels(1, (7.0, 4.5))
    names = configurations(rows)
    width = min(0.8 / len(names), 0.5)
    fewer, seeds = False, []
    for index, (name, (colour, _)) in enumerate(zip(names, STYLES, strict=False)):
        means = [(place, _over_seeds(rows, name, column, top), top) for place, top in enumerate(TOPS)]
        drawn = [(place, mean, mean.networks < top) for place, mean, top in means if mean is not None]
        left = [place + (index - (len(names) - 1) / 2) * width for place, _, _ in drawn]
        heights = [mean.value * axis_scale(column) for _, mean, _ in drawn]
        spread = [mean.deviation * axis_scale(column) for _, mean, _ in drawn]
        bars = axes.bar(left, heights, 0.92 * width, color=colour, label=name, yerr=spread if any(spread) else None)
        texts = [shown(column, mean.value) + (f"\n({mean.networks})" if few else "") for _, mean, few in drawn]
        axes.bar_label(bars, texts, fontsize=8, padding=2)
        fewer |= any(few for _, _, few in drawn)
        seeds.append(len({row.get("seed") for row in lightest(rows, name)}))
    notes = (over_seeds(seeds), "in brackets: how many networks there are, where they are fewer" if fewer else "")
    _label_bars(axes, column, "\n".join(filter(None, notes)))
    figure.legend(loc="outside lower center", ncols=2)
    return figure


def _over_seeds(rows: Sequence[TableRow], configuration: str, column: str, top: int) -> TopMean | None:
    """`top_mean` of every seed's rows, averaged; the fewest networks of a seed count."""
    seeds = dict.fromkeys(row.get("seed") for row in rows)
    every = [top_mean([row for row in rows if row.get("seed") == seed], configuration, column, top) for seed in seeds]
    found = [mean for mean in every if mean is not None]
    if not found:
        return None
    values = [mean.value for mean in found]
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return TopMean(statistics.fmean(values), min(mean.networks for mean in found), deviation)


def _label_bars(axes: Axes, column: str, note: str) -> None:
    axes.set_title(note, fontsize=10)
    axes.set_xticks(range(len(TOPS)), [f"top {top}" for top in TOPS])
    axes.set_ylabel(f"mean {axis_label(column)}")
    axes.margins(y=0.2)
    axes.grid(axis="y", alpha=0.3)
    axes.set_axisbelow(True)
