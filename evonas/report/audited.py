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
        reader = csv.DictReader(io.StringIO(content.decode(), newline=""))
        names = list(reader.fieldnames or ())
        measured = names[names.index("status") + 1 : names.index("params")]
        return [
            AuditRow(
                row["arch_id"],
                row.get("weights") or "audit",
                row["status"],
                {name: value for name in measured if math.isfinite(value := float(row[name] or "nan"))},
                row.get("reason") or "",
            )
            for row in reader
        ]


def decisive(rows: Sequence[AuditRow]) -> dict[str, Mapping[str, float]]:
    """arch_id -> values of the networks trained to the end, where there are such; else of those as searched."""
    kind = "audit" if any(row.weights != "search" for row in rows) else "search"
    return {row.arch_id: row.values for row in rows if row.weights == kind and row.values}
