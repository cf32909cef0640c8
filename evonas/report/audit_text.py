"""An audit for people: a table, and a line for each change and alarm."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from evonas.report.chance import Chance, chance_notes, marked
from evonas.report.retrained import TableRow
from evonas.report.text_table import TextTable
from evonas.report.units import shown

__all__ = ["audit_lines", "audit_text"]


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


def audit_lines(summary: Mapping[str, Any], checked: bool) -> Iterator[str]:
    """Changes that an audit made, and its alarms, a line each.

    Args:
        checked: whether gradients were looked at.
    """
    changed = summary["changed"]
    for each in changed.get("columns", []):
        interval = each["interval"]
        between = f" [{interval[0]:.2f}, {interval[1]:.2f}]" if interval else ""
        value = "-" if each["tau"] is None else f"{each['tau']:.2f}"
        yield (
            f"{each['search']} of the search and {each['audit']} of the audit: Kendall's tau {value}{between}, "
            f"{len(each['flips'])} of {each['pairs']} pairs of networks change places"
        )
    if changed:
        left, volume = changed["left_front"], changed["hypervolume"]
        yield f"left the front: {', '.join(left)}" if left else "no network left the front"
        lost = volume["share_lost"]
        share = "none before" if lost is None else f"{100 * abs(lost):.1f}% {'gained' if lost < 0 else 'lost'}"
        yield f"hypervolume: {share}"
    alarms = summary["alarms"]
    for each in alarms:
        weights = " ".join(filter(None, (each["weights"], each.get("training", ""))))
        yield f"ALARM {each['arch_id']} ({weights}), {each['line']}"
    if checked and not alarms:
        yield "no sign of masked gradients"
