"""The table of E2RNAS for cells that were trained again (v1: Table 1; v2: Tables I and IV)."""

from collections.abc import Mapping, Sequence
from typing import Any

from evonas.report.roco_tables import TextTable

__all__ = ["cell_table"]

SECONDS_OF_A_DAY = 86_400

Row = Mapping[str, Any]
"""One network: configuration, status (ok, failed), channels, params, macs, paper_flops, search_seconds (None: not
known); clean_error, pgd_error and ood_aupr as fractions."""


def cell_table(rows: Sequence[Row], notes: Sequence[str] = (), data: str = "cifar10", device: str = "cpu") -> TextTable:
    """Architecture, test error, parameters, FLOPs, MACs, accuracy under PGD, AUPR where it was measured, search cost.

    An architecture is called as in the papers: `darts-C36` is what darts found, with 36 channels in its first cell.
    Percent and millions; the search cost in days of the device.

    Args:
        notes: what the numbers were measured with.
        device: `cpu` or `cuda`, where cells were searched.
    """
    ok = [row for row in rows if row["status"] == "ok"]
    aupr = any(row.get("ood_aupr") is not None for row in ok)
    days = "GPU days" if device.startswith("cuda") else f"{device.upper()} days"
    header = (
        "Architecture",
        "Test error %",
        "Params M",
        "FLOPs M",
        "MACs M",
        "PGD acc. %",
        *(["AUPR %"] if aupr else []),
        f"Search {days}",
    )
    counted = (
        "Params, FLOPs and MACs are those of the network that is scored, without an auxiliary head. FLOPs as in "
        "E2RNAS's tables: MACs, 2 an element that batch normalisation reads and 1 an element that average pooling "
        "gives."
    )
    failed = [f"{_name(row)} ({row['reason']})" for row in rows if row["status"] != "ok"]
    left_out = [f"Left out, because training or scoring diverged: {', '.join(failed)}."] if failed else []
    title = f"Cells trained again, scored on test images of {data} (the form of E2RNAS's tables)"
    return TextTable(title, header, tuple(_line(row, aupr) for row in ok), (counted, *notes, *left_out))


def _line(row: Row, aupr: bool) -> tuple[str, ...]:
    costs = (f"{row[name] / 1e6:.4g}" for name in ("params", "paper_flops", "macs"))
    seconds = row.get("search_seconds")
    return (
        _name(row),
        f"{100 * row['clean_error']:.2f}",
        *costs,
        f"{100 * (1 - row['pgd_error']):.2f}",
        *([f"{100 * row['ood_aupr']:.2f}"] if aupr else []),
        "-" if seconds is None else f"{seconds / SECONDS_OF_A_DAY:.3g}",
    )


def _name(row: Row) -> str:
    return f"{row['configuration']}-C{row['channels']}"
