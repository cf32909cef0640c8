"""The files of an audit, audit.csv and audit.json: written, and read again."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from evonas.errors import StorageError
from evonas.files import decoding, exists, read_json, read_regular, storage_errors, write_json
from evonas.report.audit_text import audit_lines
from evonas.report.output import write_csv
from evonas.report.retrained import TableRow, table_of_rows

__all__ = ["AuditFiles", "AuditRow", "decisive", "decisive_by_column", "read_audit", "write_audit", "write_audit_table"]

HEAD = ["arch_id", "weights", "status"]
TAIL = [
    "params",
    "macs",
    "channels",
    "layers",
    "mode",
    "recipe",
    "epochs",
    "train_on",
    "training",
    "images",
    "epsilon",
    "train_seconds",
    "seed",
    "data",
    "genome",
    "reason",
]
WORDS = {
    *("configuration", "arch_id", "weights", "status", "mode", "recipe", "train_on", "training", "data", "genome"),
    "reason",
}
"""Columns of text; all others hold numbers, or nothing."""
HIDDEN = ("configuration", "wrong")

_LARGEST_TABLE = 2**28
_REMEDY = "audit the run again, or remove it"


@dataclass(frozen=True)
class AuditRow:
    """A network under the measurements of an audit."""

    arch_id: str
    weights: str
    """`search`: as searched; `audit`: trained to the end."""
    status: str
    values: Mapping[str, float]
    """Measured column -> value."""
    reason: str = ""
    recipe: str = ""
    """Loss of the training to the end."""
    epochs: int | None = None
    training: str = ""
    """First digits of the digest of the training to the end: two of one network have two rows."""

    @property
    def words(self) -> str:
        """Kind of weights, in words."""
        if self.weights == "search":
            return "as searched"
        how = [self.recipe, "" if self.epochs is None else f"{self.epochs} epochs"]
        return f"trained to the end ({', '.join(filter(None, how))})" if any(how) else "trained to the end"


@dataclass(frozen=True)
class AuditFiles:
    """Content of audit.csv and audit.json in a run's folder; empty without an audit."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """One for each network and its weights: column -> number, text, or None where a cell is empty."""
    summary: dict[str, Any] = field(default_factory=dict)
    """Plain values: `changed`, `alarms`, `images` and more; empty without audit.json."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Measured columns, those between `status` and the costs, also where every cell is empty."""
        return tuple(dict.fromkeys(name for row in self.rows for name in row if name not in {*HEAD, *TAIL, *HIDDEN}))

    @property
    def networks(self) -> list[AuditRow]:
        """The rows with their measurements apart."""
        columns = self.columns
        return [
            AuditRow(
                row["arch_id"],
                row["weights"],
                row["status"],
                {name: row[name] for name in columns if row.get(name) is not None},
                row.get("reason", ""),
                row.get("recipe", ""),
                row.get("epochs"),
                row.get("training", ""),
            )
            for row in self.rows
        ]

    @property
    def lines(self) -> list[str]:
        """Changes and alarms, a line each."""
        return [*audit_lines(self.summary, checked=False)] if self.summary else []


def with_earlier(folder: Path, rows: Sequence[TableRow]) -> list[TableRow]:
    """Rows of an audit with what earlier ones have measured besides, and rows of other networks, weights or trainings.

    Raises:
        StorageError: see `read_audit`.
    """
    new = {_key(row) for row in rows}
    shapes = {_shape(row) for row in rows}
    earlier = read_audit(folder).rows
    before = {_key(row): row for row in earlier}
    return [
        *({**row, **_besides(row, before.get(_key(row), {}))} for row in rows),
        *(
            row
            for row in earlier
            if _key(row) not in new and (row.get("training") or _shape(row) not in shapes)  # or of version 0.1.0
        ),
    ]


def _besides(row: TableRow, before: TableRow) -> TableRow:
    """Measured columns of an earlier row that a new one lacks; none where the two are not measured alike."""
    alike = (name for name in ["status", *TAIL] if name not in ("train_seconds", "reason"))
    if row["status"] != "ok" or any((row.get(name) or None) != (before.get(name) or None) for name in alike):
        return {}
    return {name: value for name, value in before.items() if name not in row and name not in TAIL and value is not None}


def _key(row: TableRow) -> tuple[str, str, str]:
    return str(row["arch_id"]), str(row["weights"]), str(row.get("training") or "")


def _shape(row: TableRow) -> tuple[Any, ...]:
    """Everything that tells the trainings of a table of version 0.1.0 apart."""
    named = (row.get(name) for name in ("channels", "layers", "epochs"))
    return row["arch_id"], row["weights"], row.get("train_on") or "train", *named


def shown_row(row: TableRow) -> dict[str, Any]:
    """A row as audit.csv has it."""
    return {name: value for name, value in row.items() if name not in HIDDEN}


def write_audit_table(folder: Path, rows: Sequence[TableRow]) -> None:
    """Write audit.csv: arch_id, weights, status, what was measured, costs and settings."""
    seen = {name for row in rows for name in row}
    tail = [name for name in TAIL if name in seen]
    write_csv(folder / "audit.csv", table_of_rows(rows, HEAD, tail, HIDDEN))


def write_audit(folder: Path, rows: Sequence[TableRow], summary: Mapping[str, Any]) -> None:
    """Write audit.csv and audit.json."""
    write_audit_table(folder, rows)
    write_json(folder / "audit.json", summary)


def read_audit(folder: Path) -> AuditFiles:
    """The audit of the run in a folder.

    A table without a column `weights`, as version 0.1.0 wrote it, has networks trained to the end.

    Raises:
        StorageError: a file cannot be read, or no audit has written it.
    """
    table, summary = folder / "audit.csv", folder / "audit.json"
    with storage_errors(f"read {folder}"):
        if not exists(table):
            return AuditFiles()
        stored = exists(summary)
        content = read_regular(table, _LARGEST_TABLE)
    with decoding(f"expected the table of an audit in {table}", _REMEDY, StorageError):
        rows = list(_rows(content.decode()))
    found = AuditFiles(rows, read_json(summary) if stored else {})
    with decoding(f"expected the summary of an audit in {summary}", _REMEDY, StorageError):
        _check(found)
    return found


def _rows(text: str) -> Iterator[dict[str, Any]]:
    lines = csv.reader(io.StringIO(text), strict=True)
    header = next(lines, [])
    if len({*header}) < len(header) or not {"arch_id", "status", "params"} <= {*header}:
        raise ValueError(f"its columns are {','.join(header)[:200]}")
    seen = set()
    for cells in lines:
        if len(cells) != len(header):
            raise ValueError(f"a row has {len(cells)} cells, its header {len(header)}")
        read = {name: cell if name in WORDS else _number(name, cell) for name, cell in zip(header, cells, strict=True)}
        row = {**read, "weights": read.get("weights") or "audit"}
        if row["weights"] not in ("search", "audit") or row["status"] not in ("ok", "failed"):
            raise ValueError(f"a row has weights {row['weights']!r} and status {row['status']!r}")
        key = _key(row)
        if key in seen:
            raise ValueError(f"{key[0]} has two rows of {' '.join(filter(None, key[1:]))} weights")
        seen.add(key)
        yield row


def _number(name: str, cell: str) -> int | float | None:
    if not cell:
        return None
    value = int(cell) if cell.lstrip("-").isdecimal() else float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{name} is {cell}")
    return value


def _check(found: AuditFiles) -> None:
    """An error of any kind unless an audit could have written the summary: what cannot be said in lines is damaged."""
    summary = found.summary
    if not summary:
        return
    alarms = summary.get("alarms")
    if not isinstance(alarms, list) or not all(
        isinstance(each, dict) and {"training": str, **{name: type(value) for name, value in each.items()}} == ALARM
        for each in alarms
    ):
        raise ValueError(f"its alarms are {alarms!r:.100}")
    changed, images = summary.get("changed"), summary.get("images")
    if not isinstance(changed, dict) or type(images) is not int or images < 1:
        raise ValueError(f"its changed is {changed!r:.60}, its images are {images!r:.20}")
    _ = found.lines


ALARM = {"arch_id": str, "weights": str, "training": str, "kind": str, "line": str}
"""Type of every value of an alarm; version 0.1.0 knew no `training`."""


def decisive(rows: Sequence[AuditRow]) -> dict[str, Mapping[str, float]]:
    """arch_id -> values of the networks trained to the end, where there are such; else of those as searched.

    Of several trainings the longest counts, as of `Result.load`; of equally long ones the one whose digest comes first.
    """
    return {row.arch_id: row.values for row in _decisive(rows)}


def decisive_by_column(rows: Sequence[AuditRow]) -> Iterator[tuple[tuple[str, ...], list[AuditRow]]]:
    """Columns and the rows that decide on them, one for each network; every measured column comes once.

    First the rows and columns of `decisive`. Columns that none of these has are of the other rows, chosen likewise.
    """
    known = set[str]()
    while left := [row for row in rows if row.values.keys() - known]:
        chosen = _decisive(left)
        columns = tuple(dict.fromkeys(name for row in chosen for name in row.values if name not in known))
        known.update(columns)
        yield columns, chosen


def _decisive(rows: Sequence[AuditRow]) -> list[AuditRow]:
    """One row for each network, see `decisive`."""
    kind = "audit" if any(row.weights != "search" and row.values for row in rows) else "search"
    chosen = [row for row in rows if row.weights == kind and row.values]
    chosen.sort(key=lambda row: (-(row.epochs or 0), row.training), reverse=True)
    return [*{row.arch_id: row for row in chosen}.values()]
