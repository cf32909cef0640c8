"""The audit of a run as tables find it: audit.csv in its folder."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from evonas.errors import StorageError
from evonas.files import decoding, read_regular, storage_errors

__all__ = ["AuditRow", "decisive", "read_audit"]

_LARGEST = 2**28
"""Limit in bytes on an audit.csv."""


@dataclass(frozen=True)
class AuditRow:
    """A network under the measurements of an audit."""

    arch_id: str
    weights: str
    """`search`: as searched; `audit`: trained to the end."""
    status: str
    values: Mapping[str, float]
    """Column -> value, of what was measured."""
    reason: str = ""

    @property
    def words(self) -> str:
        """Kind of weights, in words."""
        return "as searched" if self.weights == "search" else "trained to the end"


def read_audit(folder: Path) -> list[AuditRow]:
    """Rows of audit.csv in a run's folder; none where there is no such file.

    What was measured stands between the columns `status` and `params`.

    Raises:
        StorageError: it cannot be read, or is no such table.
    """
    path = folder / "audit.csv"
    with storage_errors(f"read {path}"):
        try:
            content = read_regular(path, _LARGEST)
        except FileNotFoundError:
            return []
    remedy = "the command that wrote it writes it again; or move it away"
    with decoding(f"expected the table of an audit in {path}", remedy, StorageError):
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""), strict=True)
        names = list(reader.fieldnames or ())
        measured = names[names.index("status") + 1 : names.index("params")]
        return [_row(row, measured) for row in reader]


def _row(row: Mapping[str | None, str | None], measured: Sequence[str]) -> AuditRow:
    if None in row or None in row.values():
        raise ValueError("a line has more or fewer cells than the first one")
    cells = {str(name): str(cell) for name, cell in row.items()}
    values = {name: float(cells[name] or "nan") for name in measured}
    return AuditRow(
        cells["arch_id"],
        cells.get("weights") or "audit",
        cells["status"],
        {name: value for name, value in values.items() if math.isfinite(value)},
        cells.get("reason", ""),
    )


def decisive(rows: Sequence[AuditRow]) -> dict[str, Mapping[str, float]]:
    """arch_id -> values of the networks trained to the end, where there are such; else of those as searched."""
    kind = "audit" if any(row.weights != "search" for row in rows) else "search"
    return {row.arch_id: row.values for row in rows if row.weights == kind and row.values}
