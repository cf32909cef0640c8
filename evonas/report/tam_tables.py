"""TAM-NAS's Tables II and X, and what Figures 8 and 9 say, for networks that were trained to the end (Xie et al.)."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from scipy.stats import kendalltau  # type: ignore[import-untyped]

from evonas.files import replace_file
from evonas.report.roco_tables import TextTable
from evonas.report.units import shown

__all__ = [
    "Agreement",
    "agreement_table",
    "final_table",
    "folded",
    "handmade_table",
    "layer_table",
    "most_frequent",
    "rank_agreement",
    "transfer_table",
    "write_finalised",
    "write_layers",
]

HEAD = ["name", "mode", "arch_id", "status"]
TAIL = ["params", "macs", "paper_params", "epochs", "train_seconds", "seed", "data", "genome", "reason"]

FEWEST = 3
"""Networks that a rank correlation needs to say anything: two are in the same or in the opposite order."""

Row = Mapping[str, Any]
"""One network: name, mode, arch_id, status (ok, failed), params; errors as fractions; paper_params of a hand-made."""

Count = tuple[int, str, float, int]
"""(layer, block or ratio, choice, how many networks have it)."""


class Agreement(NamedTuple):
    """Whether networks that inherit their weights are ordered as they are once they are trained."""

    mode: str
    inherited: str
    """Column of the search."""
    final: str
    """Column of the final networks."""
    n: int
    """Networks that have both."""
    tau: float | None
    """Kendall's tau-b in [-1, 1]; None where there are fewer than three networks, or one of the columns is constant."""
    p: float | None
    """Chance of a tau as far from 0 where there is no relation."""


def rank_agreement(rows: Sequence[Row], inherited: Mapping[str, Row], pairs: Mapping[str, str]) -> list[Agreement]:
    """One for every mode and pair of columns.

    Args:
        inherited: arch_id -> what the search measured of it; rows without are left out, as failed ones are.
        pairs: column of the search -> column of the final networks.
    """
    found = []
    for mode in dict.fromkeys(row["mode"] for row in rows):
        own = {row["arch_id"]: row for row in rows if row["mode"] == mode and row["status"] == "ok"}
        both = [arch for arch in own if arch in inherited]
        for before, after in pairs.items():
            first, second = [inherited[arch][before] for arch in both], [own[arch][after] for arch in both]
            tau, p = _kendall(first, second)
            found.append(Agreement(mode, before, after, len(both), tau, p))
    return found


def _kendall(first: Sequence[float], second: Sequence[float]) -> tuple[float | None, float | None]:
    if len(first) < FEWEST or min(map(len, map(set, (first, second)))) < 2:
        return None, None
    result = kendalltau(first, second)
    return float(result.statistic), float(result.pvalue)


def agreement_table(agreements: Iterable[Agreement], labels: Mapping[str, str]) -> TextTable:
    """Kendall's tau of inherited and final errors.

    Args:
        labels: column -> how the table calls it.
    """
    lines = tuple(
        (each.mode, labels[each.inherited], labels[each.final], str(each.n), *_tau_cells(each)) for each in agreements
    )
    return TextTable(
        "Rank agreement: are the front's networks ordered alike with inherited weights and once they are trained?",
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
    rows: Sequence[Row], labels: Mapping[str, str], notes: Sequence[str], data: str = "cifar10"
) -> TextTable:
    """The form of Tables II to V: parameters, accuracy on clean test images and under PGD, in percent.

    Args:
        data: name of the data set; Table III is SVHN's, Table II CIFAR-10's, whose form all others take.
        labels: column -> its name, such as `P10 8/255`, in the table's order.
    """
    named = {"cifar10": "Table II: accuracy on CIFAR-10", "svhn": "Table III: accuracy on SVHN"}
    title = named.get(data, f"In the form of Table II: accuracy on {data}")
    return _accuracies(f"{title}, in percent", rows, labels, notes)


def handmade_table(rows: Sequence[Row], labels: Mapping[str, str], notes: Sequence[str]) -> TextTable:
    """Table X: hand-made networks under the same recipe beside the others, with their parameters in the paper."""
    apart = [
        f"{row['name']} has {row['params']:,} parameters; Table X says {shown('params', row['paper_params'])} "
        f"({100 * (row['params'] / row['paper_params'] - 1):+.2f}%)."
        for row in rows
        if row.get("paper_params") is not None
    ]
    return _accuracies(
        "Table X: hand-made networks beside the others, accuracy in percent", rows, labels, [*notes, *apart]
    )


def _accuracies(title: str, rows: Sequence[Row], labels: Mapping[str, str], notes: Sequence[str]) -> TextTable:
    ok = [row for row in rows if row["status"] == "ok"]
    lines = tuple(
        (
            row["name"],
            row["mode"],
            f"{row['params'] / 1e6:.4f}M",
            *(f"{100 * (1 - row[column]):.2f}" for column in ("clean_error", *labels)),
        )
        for row in ok
    )
    failed = [f"{row['name']} ({row['mode']})" for row in rows if row["status"] != "ok"]
    left_out = [f"Left out, because training or scoring diverged: {', '.join(failed)}."] if failed else []
    header = ("Network", "Mode", "Params", "Clean", *labels.values())
    return TextTable(title, header, lines, (*notes, *left_out))


def folded(table: TextTable, width: int, kept: int) -> list[TextTable]:
    """The table for a terminal of so many characters: in parts with fewer columns each, where it is wider.

    Header cells break at their spaces; the last part has the notes.

    Args:
        kept: columns that every part begins with.
    """
    wide = [
        max(map(len, [*name.split(), *(line[at] for line in table.lines)])) + 3 for at, name in enumerate(table.header)
    ]
    parts: list[list[int]] = [[]]
    for column in range(kept, len(table.header)):
        if parts[-1] and 1 + sum(wide[:kept]) + sum(wide[each] for each in [*parts[-1], column]) > width:
            parts.append([])
        parts[-1].append(column)
    chosen = [[*range(kept), *part] for part in parts]
    return [
        TextTable(
            table.title,
            tuple(table.header[each].replace(" ", "\n") for each in columns),
            tuple(tuple(line[each] for each in columns) for line in table.lines),
            table.notes if columns is chosen[-1] else (),
        )
        for columns in chosen
    ]


def most_frequent(counts: Iterable[Count], layer: int, kind: str) -> list[list[tuple[float, int]]]:
    """The choices that appear most often in a layer, and those that come second: (choice, count), all that are equal.

    Empty where there is none.
    """
    own = [(choice, count) for at, of, choice, count in counts if (at, of) == (layer, kind)]
    best = sorted({count for _, count in own}, reverse=True)[:2]
    return [sorted(each for each in own if each[1] == count) for count in best] + [[]] * (2 - len(best))


def layer_table(counts: Sequence[Count], networks: int) -> TextTable:
    """What Figures 8 and 9 show, in numbers."""
    layers = sorted({layer for layer, *_ in counts})
    lines = tuple(
        (str(layer), *(_choices(each) for kind in ("block", "ratio") for each in most_frequent(counts, layer, kind)))
        for layer in layers
    )
    return TextTable(
        f"Figures 8 and 9: blocks and ratios of the top {networks} of the front, layer by layer",
        ("Layer", "Most frequent blocks", "Second blocks", "Most frequent ratios", "Second ratios"),
        lines,
        (
            "In brackets: how many of the networks. Blocks 0 to 5 are tiny, 6 to 17 tiny and robust, 18 to 21 robust. "
            "Top: the smallest sums of the ranks by clean and by PGD error, both with inherited weights.",
        ),
    )


def _choices(found: Sequence[tuple[float, int]]) -> str:
    return f"{', '.join(f'{choice:g}' for choice, _ in found)} ({found[0][1]})" if found else "-"


def final_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a network and mode, in natural values and the order given.

    Columns: name, mode (scratch, finetune), arch_id, status, the measured errors, params, macs, paper_params (of
    hand-made networks), epochs, train_seconds, seed, data, genome, reason (of a failed one).
    """
    ends = {*HEAD, *TAIL, "configuration"}
    measured = list(dict.fromkeys(name for row in rows for name in row if name not in ends))
    columns = [*HEAD, *measured, *TAIL]
    values = [[row.get(name) for name in columns] for row in rows]
    return pd.DataFrame(values, columns=columns, dtype=object)


def write_finalised(folder: Path, rows: Sequence[Row], tables: Sequence[TextTable]) -> None:
    """Write finalised.csv and tables.md, each whole or not at all."""
    _write(folder / "finalised.csv", final_table(rows))
    page = "\n".join(table.markdown() for table in tables)
    replace_file(folder / "tables.md", lambda file: file.write(page.encode()))


def write_layers(folder: Path, counts: Sequence[Count]) -> None:
    """Write layer_statistics.csv whole or not at all: layer, kind, choice, count."""
    lines = [(layer, kind, f"{choice:g}", count) for layer, kind, choice, count in counts]
    _write(folder / "layer_statistics.csv", pd.DataFrame(lines, columns=["layer", "kind", "choice", "count"]))


def _write(path: Path, table: pd.DataFrame) -> None:
    text = table.to_csv(index=False, lineterminator="\n")
    replace_file(path, lambda file: file.write(text.encode()))
