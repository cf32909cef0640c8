"""TAM-NAS's Tables II and X and Figures 8 and 9 for networks that were trained to the end (Xie et al.)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from evonas.report.chance import Chance, chance_notes
from evonas.report.output import write_csv, write_png
from evonas.report.plots import panels
from evonas.report.retrained import TableRow, scored, table_of_rows
from evonas.report.text_table import TextTable, diverged_note, write_page
from evonas.report.units import shown

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from evonas.spaces import ShuffleSpace

__all__ = [
    "Agreement",
    "agreement_table",
    "block_table",
    "final_table",
    "handmade_table",
    "layer_table",
    "most_frequent",
    "plot_layers",
    "rank_agreement",
    "transfer_table",
    "write_finalised",
    "write_layers",
]

TABLES = {"cifar10": ("II", "IV", "VIII"), "svhn": ("III", "V", "IX")}
"""Data set -> tables of supernets by steps, by radius, and of Lego-Net."""
NAMES = {"cifar10": "CIFAR-10", "svhn": "SVHN"}

HEAD = ["name", "mode", "arch_id", "status"]
TAIL = ["params", "macs", "paper_params", "epochs", "train_seconds", "seed", "data", "genome", "reason"]

FEWEST = 3
"""Networks that a rank correlation needs: two are always in the same or in the opposite order."""

Count = tuple[int, str, float, int]
"""(layer, block or ratio, choice, number of networks that have it)."""

PANELS = (
    ("block", "Figure 8: blocks", range(0, 22, 3), (-1, 22)),
    ("ratio", "Figure 9: ratios of the inner channels", [each / 5 for each in range(1, 11)], (0.1, 2.1)),
)
"""Kind, title, ticks and limits."""
STYLES = (("#1f5fbf", "o", "most frequent"), ("#d1602a", "s", "second"))


class Agreement(NamedTuple):
    """Rank correlation of networks that inherit their weights and the same networks once they are trained."""

    mode: str
    inherited: str
    """A column of the search."""
    final: str
    """A column of the final networks."""
    n: int
    """Number of networks that have both."""
    tau: float | None
    """Kendall's tau-b in [-1, 1]; None where there are fewer than three networks, or one of the columns is constant."""
    p: float | None
    """Probability of a tau as far from 0 where there is no relation."""


def rank_agreement(
    rows: Sequence[TableRow], inherited: Mapping[str, TableRow], pairs: Mapping[str, str]
) -> list[Agreement]:
    """One agreement for every mode and pair of columns.

    Args:
        rows: with columns name, mode, arch_id, status and the measured ones.
        inherited: arch_id -> column of the search -> value; rows without are left out, as failed ones are.
        pairs: column of the search -> column of the final networks.
    """
    found = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        own = {row["arch_id"]: row for row in scored(rows) if row["mode"] == mode}
        both = [arch for arch in own if arch in inherited]
        for before, after in pairs.items():
            first, second = [inherited[arch][before] for arch in both], [own[arch][after] for arch in both]
            tau, p = _kendall(first, second)
            found.append(Agreement(mode, before, after, len(both), tau, p))
    return found


def _kendall(first: Sequence[float], second: Sequence[float]) -> tuple[float | None, float | None]:
    from scipy.stats import kendalltau

    if len(first) < FEWEST or min(map(len, map(set, (first, second)))) < 2:
        return None, None
    result = kendalltau(first, second)
    return float(result.statistic), float(result.pvalue)


def agreement_table(agreements: Iterable[Agreement], labels: Mapping[str, str]) -> TextTable:
    """Kendall's tau of inherited and final errors.

    Args:
        labels: column -> its name in the table.
    """
    lines = tuple(
        (each.mode, labels[each.inherited], labels[each.final], str(each.n), *_tau_cells(each)) for each in agreements
    )
    return TextTable(
        "Rank agreement: are the networks ordered alike with inherited weights and once they are trained?",
        ("Mode", "Inherited (validation)", "Trained (test)", "n", "Kendall's tau", "p"),
        lines,
        (
            "tau is 1 for the same order, -1 for the opposite, about 0 for none; p is the chance of a tau as far from "
            "0 where there is no relation.",
        ),
    )


def _tau_cells(agreement: Agreement) -> tuple[str, str]:
    if agreement.tau is None or agreement.p is None:
        why = f"fewer than {FEWEST} networks" if agreement.n < FEWEST else "all errors of a column are equal"
        return f"none: {why}", "-"
    return f"{agreement.tau:+.3f}", f"{agreement.p:.3g}"


def transfer_table(
    rows: Sequence[TableRow],
    labels: Mapping[str, str],
    notes: Sequence[str],
    data: str = "cifar10",
    epsilon: float = 8 / 255,
    chance: Chance | None = None,
) -> TextTable:
    """The form of Tables II to V: parameters, accuracy on clean test images and under PGD, in percent.

    Args:
        labels: column -> its name, such as `P10 8/255`, in the table's order.
        data: name of the data set. CIFAR-10 has Tables II and IV, and VIII for Lego-Net, SVHN has III, V and IX; all
            others take the form of CIFAR-10's.
        epsilon: radius of the supernet's attack; supernets of other radii than 8/255 are Table IV's and V's.
        chance: level of guessing on the test images, whose results have a mark; None: unknown.
    """
    numbers = TABLES.get(data, TABLES["cifar10"])
    number = numbers[0] if math.isclose(epsilon, 8 / 255) else numbers[1]
    lego = f" and Table {numbers[2]}" if any(row["name"] == "Lego-Net" for row in rows) else ""
    form = "" if data in TABLES else "In the form of "
    title = f"{form}Table {number}{lego}: accuracy on {NAMES.get(data, data)}, in percent"
    return _accuracies(title, rows, labels, notes, chance)


def handmade_table(
    rows: Sequence[TableRow],
    labels: Mapping[str, str],
    notes: Sequence[str],
    data: str = "cifar10",
    chance: Chance | None = None,
) -> TextTable:
    """Table X, which is of CIFAR-10: hand-made networks under the same recipe, with their parameters in the paper."""
    apart = [
        f"{row['name']} has {row['params']:,} parameters; Table X says {shown('params', row['paper_params'])} "
        f"({100 * (row['params'] / row['paper_params'] - 1):+.2f}%)."
        for row in rows
        if row.get("paper_params") is not None
    ]
    form = "" if data == "cifar10" else "In the form of "
    title = f"{form}Table X: hand-made networks beside the others, accuracy on {NAMES.get(data, data)} in percent"
    return _accuracies(title, rows, labels, [*notes, *apart], chance)


def _accuracies(
    title: str,
    rows: Sequence[TableRow],
    labels: Mapping[str, str],
    notes: Sequence[str],
    chance: Chance | None,
) -> TextTable:
    def accuracy(row: TableRow, column: str) -> str:
        mark = "" if chance is None else chance.mark(column, row[column])
        return f"{100 * (1 - row[column]):.2f}{mark}"

    lines = tuple(
        (
            row["name"],
            row["mode"],
            shown("params", row["params"], digits=5),
            *(accuracy(row, column) for column in ("clean_error", *labels)),
        )
        for row in scored(rows)
    )
    diverged = diverged_note(f"{row['name']} ({row['mode']})" for row in rows if row["status"] != "ok")
    header = ("Network", "Mode", "Params", "Clean", *labels.values())
    return TextTable(title, header, lines, (*notes, *chance_notes(lines, chance), *diverged))


def most_frequent(counts: Iterable[Count], layer: int, kind: str) -> list[list[tuple[float, int]]]:
    """(choice, count) of the most frequent choices in a layer, and of the second ones; equals stand together.

    A list is empty where there is none.
    """
    own = [(choice, count) for at, of, choice, count in counts if (at, of) == (layer, kind)]
    best = sorted({count for _, count in own}, reverse=True)[:2]
    return [sorted(each for each in own if each[1] == count) for count in best] + [[]] * (2 - len(best))


def layer_table(counts: Sequence[Count], networks: int, seeds: int = 1) -> TextTable:
    """Figures 8 and 9 in numbers.

    Args:
        networks: number of networks behind the counts.
        seeds: number of searches whose counts are added up.
    """
    fronts = "the front" if seeds == 1 else f"the fronts of {seeds} seeds"
    lines = tuple(
        (str(layer), *(_choices(each) for kind in ("block", "ratio") for each in most_frequent(counts, layer, kind)))
        for layer in _layers(counts)
    )
    return TextTable(
        f"Figures 8 and 9: blocks and ratios of the top {networks} of {fronts}, layer by layer",
        ("Layer", "Most frequent blocks", "Second blocks", "Most frequent ratios", "Second ratios"),
        lines,
        (
            "In brackets: how many of the networks. Blocks 0 to 5 are tiny, 6 to 17 tiny and robust, 18 to 21 robust. "
            "Top: the smallest sums of the ranks by clean and by PGD error, both with inherited weights.",
        ),
    )


def block_table(space: ShuffleSpace) -> TextTable:
    """Table VII's codes of the blocks that a layer of stride 1 can have."""
    place = [each.stride for each in space.plan.places].index(1)
    genomes = np.zeros((space.upper[place] + 1, space.n_genes), dtype=np.int64)
    genomes[:, place] = range(len(genomes))
    lines = []
    for code, genome in enumerate(genomes):
        kind = space.units(genome)[place].kind
        sort = "robust" if not kind.main else "tiny and robust" if kind.non_local else "tiny"
        lines.append((str(code), kind.name, sort))
    return TextTable(
        "Table VII: codes of the blocks",
        ("Code", "Block", "Kind"),
        tuple(lines),
        (
            "S: ShuffleNetV2's branch, SX: its Xception variant, k: kernel size of its depthwise convolutions; NE, NG: "
            "non-local part, embedded Gaussian or Gaussian; BN: normalisation behind it, where it stands alone; SE: "
            "squeeze-and-excitation. Layers of stride 2 have codes 0 to 5.",
        ),
    )


def _choices(found: Sequence[tuple[float, int]]) -> str:
    return f"{', '.join(f'{choice:g}' for choice, _ in found)} ({found[0][1]})" if found else "-"


def _layers(counts: Iterable[Count]) -> list[int]:
    return sorted({layer for layer, *_ in counts})


def plot_layers(path: Path, counts: Sequence[Count], networks: int, data: str, only: str = "") -> None:
    """Draw Figures 8 and 9 into a PNG file: over the layers the most frequent choices and the second ones.

    A mark's area grows with the number of networks; equals are all drawn.

    Args:
        only: block (Figure 8) or ratio (Figure 9); empty: both.
    """
    layers, shown = _layers(counts), [each for each in PANELS if only in ("", each[0])]
    figure, every = panels(len(shown), (max(8.0, 0.5 * len(layers) + 3), 4.0), across=1)
    for axes, (kind, title, ticks, limits) in zip(every, shown, strict=True):
        _panel(axes, counts, kind, networks)
        axes.set(title=title, xlabel="layer", ylabel=kind, ylim=limits, yticks=ticks)
        axes.set_xticks(layers)
        axes.grid(alpha=0.3)
    figure.legend(*every[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    figure.suptitle(f"The top {networks} of the front, {data}; a larger mark is more networks", fontsize=12)
    write_png(path, figure)


def _panel(axes: Axes, counts: Sequence[Count], kind: str, networks: int) -> None:
    for place, (colour, marker, label) in enumerate(STYLES):
        found = [(layer, *each) for layer in _layers(counts) for each in most_frequent(counts, layer, kind)[place]]
        areas = [20 + 100 * count / networks for _, _, count in found]
        x, y = [layer for layer, _, _ in found], [choice for _, choice, _ in found]
        axes.scatter(x, y, s=areas, color=colour, marker=marker, label=label, alpha=0.85, zorder=3)
    if kind == "block":
        for edge in (5.5, 17.5):
            axes.axhline(edge, color="0.6", linewidth=0.8, linestyle="--")
        for at, word in ((2.5, "tiny"), (11.5, "tiny, robust"), (19.5, "robust")):
            axes.annotate(word, (1.005, at), xycoords=("axes fraction", "data"), va="center", fontsize=8)


def final_table(rows: Sequence[TableRow]) -> pd.DataFrame:
    """One row a network and mode, in natural values and the order given.

    Columns: name, mode (scratch, finetune), arch_id, status, the measured errors, params, macs, paper_params (of
    hand-made networks), epochs, train_seconds, seed, data, genome, reason (of a failed one).
    """
    return table_of_rows(rows, HEAD, TAIL, hidden=["configuration"])


def write_finalised(folder: Path, rows: Sequence[TableRow], tables: Sequence[TextTable]) -> None:
    """Write finalised.csv and tables.md."""
    write_csv(folder / "finalised.csv", final_table(rows))
    write_page(folder / "tables.md", tables)


def write_layers(folder: Path, counts: Sequence[Count]) -> None:
    """Write layer_statistics.csv: layer, kind, choice, count."""
    import pandas as pd

    lines = [(layer, kind, f"{choice:g}", count) for layer, kind, choice, count in counts]
    write_csv(folder / "layer_statistics.csv", pd.DataFrame(lines, columns=["layer", "kind", "choice", "count"]))
