"""E2RNAS's table of cells that were trained again (v1: Table 1; v2: Tables I and IV), and Figure 4 of v1."""

import statistics
from collections.abc import Sequence
from pathlib import Path

from evonas.report.chance import Chance, chance_notes
from evonas.report.output import write_png
from evonas.report.plots import panels
from evonas.report.retrained import TableRow, over_seeds, scored
from evonas.report.text_table import TextTable, diverged_note
from evonas.report.units import shown

__all__ = ["cell_table", "draw_over_limit"]

SECONDS_OF_A_DAY = 86_400

COUNTED = (
    "Params, FLOPs and MACs are those of the network that is scored, without an auxiliary head. FLOPs as in E2RNAS's "
    "tables: MACs, 2 an element that batch normalisation reads and 1 an element that average pooling gives."
)


def cell_table(
    rows: Sequence[TableRow],
    notes: Sequence[str] = (),
    data: str = "cifar10",
    device: str = "cpu",
    chance: Chance | None = None,
) -> TextTable:
    """Architecture, test error, parameters, FLOPs, MACs, accuracy under PGD, AUPR and latency if measured, search cost.

    Names as in the papers: `darts-C36` are the cells of darts with 36 channels in the first one. Errors in
    percent; the search cost in days of the device.

    Args:
        rows: with columns configuration, channels, params, macs, paper_flops, search_seconds (None: unknown);
            clean_error, pgd_error and ood_aupr as fractions; latency_ms.
        notes: conditions of the measurements.
        device: `cpu` or `cuda`, where cells were searched.
        chance: level of guessing on the test images, whose results have a mark; None: unknown.
    """
    ok = scored(rows)
    aupr, latency = (any(row.get(name) is not None for row in ok) for name in ("ood_aupr", "latency_ms"))
    days = "GPU days" if device.startswith("cuda") else f"{device.upper()} days"
    header = (
        "Architecture",
        "Test error %",
        "Params",
        "FLOPs",
        "MACs",
        "PGD acc. %",
        *(["AUPR %"] if aupr else []),
        *(["ms"] if latency else []),
        f"Search {days}",
    )
    diverged = diverged_note(f"{_name(row)} ({row['reason']})" for row in rows if row["status"] != "ok")
    title = f"Cells trained again, scored on test images of {data} (the form of E2RNAS's tables)"
    lines = tuple(_line(row, aupr, latency, chance) for row in ok)
    return TextTable(title, header, lines, (COUNTED, *notes, *chance_notes(lines, chance), *diverged))


def _line(row: TableRow, aupr: bool, latency: bool, chance: Chance | None) -> tuple[str, ...]:
    clean, pgd = ("" if chance is None else chance.mark(name, row[name]) for name in ("clean_error", "pgd_error"))
    costs = (shown(name, row[name]) for name in ("params", "paper_flops", "macs"))
    seconds = row.get("search_seconds")
    return (
        _name(row),
        f"{100 * row['clean_error']:.2f}{clean}",
        *costs,
        f"{100 * (1 - row['pgd_error']):.2f}{pgd}",
        *([f"{100 * row['ood_aupr']:.2f}"] if aupr else []),
        *([f"{row['latency_ms']:.3g}"] if latency else []),
        "-" if seconds is None else f"{seconds / SECONDS_OF_A_DAY:.3g}",
    )


def _name(row: TableRow) -> str:
    return f"{row['configuration']}-C{row['channels']}"


def draw_over_limit(path: Path, rows: Sequence[TableRow], data: str) -> bool:
    """Draw Figure 4 of version 1: test error, parameters and PGD accuracy over L; false where there are no rows.

    Args:
        rows: of every seed, with a column limit: L in millions.
    """
    columns = {"clean_error": (100, 0, "test error (%)"), "params": (1e-6, 0, "parameters (M)")}
    columns["pgd_error"] = (-100, 100, "PGD accuracy (%)")
    if not rows:
        return False
    limits = sorted({row["limit"] for row in rows})
    figure, every = panels(len(columns), (4.2, 3.4), extra=0.4)
    for axes, (column, (scale, offset, label)) in zip(every, columns.items(), strict=True):
        found = [[offset + scale * row[column] for row in rows if row["limit"] == limit] for limit in limits]
        means = [statistics.fmean(each) for each in found]
        spread = [statistics.stdev(each) if len(each) > 1 else 0.0 for each in found]
        axes.errorbar(limits, means, yerr=spread if any(spread) else None, marker="o", color="#1f5fbf", capsize=3)
        axes.set(xlabel="L (millions of parameters)", ylabel=label)
        axes.grid(alpha=0.3)
    bars = over_seeds(len({row.get("seed") for row in rows if row["limit"] == limit}) for limit in limits)
    figure.suptitle(f"Figure 4: E2RNAS with different L, {data}" + (f"; {bars}" if bars else ""))
    write_png(path, figure)
    return True
