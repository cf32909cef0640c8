"""The files of an audit, audit.csv and audit.json: written, read again, and shown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evonas.errors import StorageError
from evonas.files import decoding, exists, read_json, read_regular, storage_errors, write_json
from evonas.report.chance import Chance, chance_notes, marked
from evonas.report.output import write_csv
from evonas.report.retrained import TableRow, table_of_rows
from evonas.report.text_table import TextTable
from evonas.report.units import shown

__all__ = ["AuditFiles", "audit_lines", "audit_text", "read_audit_files", "write_audit", "write_audit_table"]

HEAD = ["arch_id", "weights", "status"]
TAIL = [
    "params",
    "macs",
    "channels",
    "layers",
    "mode",
    "epochs",
    "images",
    "epsilon",
    "train_seconds",
    "seed",
    "data",
    "genome",
    "reason",
]
WORDS = {"arch_id", "weights", "status", "mode", "data", "genome", "reason"}
"""Columns of text; all others hold numbers, or nothing."""
HIDDEN = ("configuration", "wrong")

_LARGEST_TABLE = 2**28
_REMEDY = "audit the run again, or remove it"


@dataclass(frozen=True)
class AuditFiles:
    """What an audit left in a run's folder."""

    rows: list[dict[str, Any]]
    """One for each network and weights (search, audit): column -> number, text, or None where a cell is empty."""
    summary: dict[str, Any]
    """Plain values: `changed`, `alarms`, `images` and more; empty where there is no audit.json."""


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


def read_audit_files(folder: Path) -> AuditFiles | None:
    """The audit of the run in a folder; None where there is none. StorageError where its files are damaged."""
    table, summary = folder / "audit.csv", folder / "audit.json"
    with storage_errors(f"read {folder}"):
        if not exists(table):
            return None
        stored = exists(summary)
    with decoding(f"expected the table of an audit in {table}", _REMEDY, StorageError):
        rows = list(_rows(read_regular(table, _LARGEST_TABLE).decode()))
    found = read_json(summary) if stored else {}
    with decoding(f"expected the summary of an audit in {summary}", _REMEDY, StorageError):
        _check(found)
    return AuditFiles(rows, found)


def _rows(text: str) -> Iterator[dict[str, Any]]:
    lines = csv.reader(io.StringIO(text), strict=True)
    header = next(lines, [])
    if len({*header}) < len(header) or not {*HEAD, "reason"} <= {*header}:
        raise ValueError(f"its columns are {','.join(header)[:200]}")
    seen = set()
    for cells in lines:
        if len(cells) != len(header):
            raise ValueError(f"a row has {len(cells)} cells, its header {len(header)}")
        row = {name: cell if name in WORDS else _number(name, cell) for name, cell in zip(header, cells, strict=True)}
        if row["weights"] not in ("search", "audit") or row["status"] not in ("ok", "failed"):
            raise ValueError(f"a row has weights {row['weights']!r} and status {row['status']!r}")
        key = row["arch_id"], row["weights"]
        if key in seen:
            raise ValueError(f"{key[0]} has two rows of {key[1]} weights")
        seen.add(key)
        yield row


def _number(name: str, cell: str) -> int | float | None:
    if not cell:
        return None
    value = int(cell) if cell.lstrip("-").isdecimal() else float(cell)
    if not math.isfinite(value):
        raise ValueError(f"{name} is {cell}")
    return value


def _check(summary: Mapping[str, Any]) -> None:
    """ValueError unless an audit could have written it."""
    if not summary:
        return
    alarms = summary.get("alarms")
    if not isinstance(alarms, list) or not all(
        isinstance(each, dict) and {name: type(value) for name, value in each.items()} == ALARM for each in alarms
    ):
        raise ValueError(f"its alarms are {alarms!r:.100}")
    changed, images = summary.get("changed"), summary.get("images")
    if not isinstance(changed, dict) or type(images) is not int or images < 1:
        raise ValueError(f"its changed is {changed!r:.60}, its images are {images!r:.20}")


ALARM = {"arch_id": str, "weights": str, "kind": str, "line": str}
"""Type of every value of an alarm."""


def audit_text(
    title: str,
    rows: Sequence[TableRow],
    columns: Mapping[str, str],
    chance: Chance,
    probabilities: Mapping[str, float],
) -> TextTable:
    """Networks and what they were measured under, with units and marks, for people.

    Args:
        columns: column -> its heading, in order.
        probabilities: arch_id -> probability of being on the front.
    """
    names = [*columns, "params", "macs"]
    lines = []
    for row in rows:
        if row["status"] == "failed":
            cells = ["-" if row.get(name) is None else shown(name, row[name]) for name in names]
        else:
            cells = list(marked(row, names, chance))
        likely = probabilities.get(row["arch_id"])
        lines.append((str(row["arch_id"]), *cells, "-" if likely is None else f"{100 * likely:.0f}%"))
    failed = [f"{row['arch_id']} failed: {row['reason']}" for row in rows if row["status"] == "failed"]
    header = ("arch_id", *columns.values(), "params", "MACs", "on front")
    return TextTable(title, header, tuple(lines), (*chance_notes(lines, chance), *failed))


def audit_lines(summary: Mapping[str, Any], arch_ids: Iterable[str], checked: bool) -> Iterator[str]:
    """What an audit changed, and its alarms, a line each.

    Args:
        arch_ids: of the networks that were audited.
        checked: whether gradients were looked at.
    """
    changed, count = summary["changed"], len([*arch_ids])
    for each in changed.get("columns", []):
        interval = each["interval"]
        between = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
        value = "-" if each["tau"] is None else f"{each['tau']:.2f}"
        yield (
            f"{each['search']} of the search and {each['audit']} of the audit: Kendall's tau {value}{between}, "
            f"{len(each['flips'])} of {count * (count - 1) // 2} pairs of networks change places"
        )
    if changed:
        left, volume = changed["left_front"], changed["hypervolume"]
        yield f"left the front: {', '.join(left)}" if left else "no network left the front"
        lost = volume["share_lost"]
        yield "hypervolume: " + ("none before" if lost is None else f"{100 * lost:.1f}% lost")
    alarms = summary["alarms"]
    yield from (f"ALARM {each['arch_id']} ({each['weights']}), {each['line']}" for each in alarms)
    if checked and not alarms:
        yield "no sign of masked gradients"
