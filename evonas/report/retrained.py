"""Networks that were trained again, one row each: their table on disk and what papers' tables share."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.report.output import write_csv
from evonas.report.text_table import TextTable, write_page

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["TableRow", "configurations", "over_seeds", "retrained_table", "scored", "table_of_rows", "write_retrained"]

TableRow = Mapping[str, Any]
"""One network or epoch: column -> natural value. Networks have a status (ok, failed), their costs, and errors as
fractions; a failed one has a reason instead of errors."""

HEAD = ["configuration", "arch_id", "status"]
TAIL = ["params", "macs", "channels", "epochs", "train_seconds", "seed", "data", "genome", "reason"]


def configurations(rows: Iterable[TableRow]) -> list[str]:
    """Different configurations of the rows, in order of appearance."""
    return list(dict.fromkeys(str(row["configuration"]) for row in rows))


def scored(rows: Iterable[TableRow]) -> list[TableRow]:
    """Rows with status ok."""
    return [row for row in rows if row["status"] == "ok"]


def over_seeds(counts: Iterable[int]) -> str:
    """Words for points with bars, by their numbers of seeds; nothing where none has two."""
    found = sorted({*counts})
    if not found or found[-1] < 2:
        return ""
    n = f"{found[0]} to {found[-1]}" if len(found) > 1 else f"{found[0]}"
    return f"mean and standard deviation of {n} seeds"


def table_of_rows(
    rows: Sequence[TableRow], head: Sequence[str] = (), tail: Sequence[str] = (), hidden: Collection[str] = ()
) -> pd.DataFrame:
    """Rows in their order; between the columns `head` and `tail` all others, in order of first appearance.

    Args:
        hidden: columns that are left out.
    """
    import pandas as pd

    seen = dict.fromkeys(name for row in rows for name in row)
    columns = [*head, *(name for name in seen if name not in {*head, *tail, *hidden}), *tail]
    return pd.DataFrame([[row.get(name) for name in columns] for row in rows], columns=columns, dtype=object)


def retrained_table(rows: Sequence[TableRow]) -> pd.DataFrame:
    """One row a network and configuration, in natural values.

    Columns: configuration, arch_id, status, the measured errors, params, macs, channels, epochs, train_seconds, seed,
    data, genome, reason (of a failed one). Ordered by configuration, MACs, arch_id.
    """
    names = configurations(rows)
    ordered = sorted(rows, key=lambda row: (names.index(row["configuration"]), row["macs"], row["arch_id"]))
    return table_of_rows(ordered, HEAD, TAIL)


def write_retrained(
    folder: Path, rows: Sequence[TableRow], tables: Sequence[TextTable], notes: Sequence[str] = ()
) -> None:
    """Write retrained.csv and tables.md.

    Args:
        notes: lines below the tables, such as the source of the attacks' settings.
    """
    write_csv(folder / "retrained.csv", retrained_table(rows))
    write_page(folder / "tables.md", tables, notes)
