"""RoCo-NAS's Tables III, IV and V for networks that were trained again (Geraeinejad et al., 2021)."""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from evonas.files import replace_file
from evonas.report.units import shown

__all__ = [
    "TOPS",
    "TextTable",
    "TopMean",
    "closest_pair",
    "configurations",
    "lightest",
    "retrained_table",
    "roco_tables",
    "top_mean",
    "write_retrained",
]

TOPS = (1, 3, 5)
"""How many of the lightest networks are averaged (IV-C)."""

SET_COLUMNS = {
    "adversarial_set_error": "L0 and L-inf",
    "adversarial_set_error_L0": "L0",
    "adversarial_set_error_Linf": "L-inf",
}
"""Column -> the images that it is over."""

TOP_WORDS = tuple(f"Top-{top}" for top in TOPS)
HEAD = ["configuration", "arch_id", "status"]
TAIL = ["params", "macs", "channels", "epochs", "train_seconds", "seed", "data", "genome", "reason"]

Row = Mapping[str, Any]
"""One network of one configuration: configuration, arch_id, status (ok, failed), params, macs; errors as fractions."""


@dataclass(frozen=True)
class TextTable:
    """A table as people read it."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        ruled = ["---"] * len(self.header)
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, ruled, *self.lines)]
        return "\n\n".join([f"**{self.title}**", "\n".join(lines), *self.notes]) + "\n"


@dataclass(frozen=True)
class TopMean:
    """A mean over the lightest networks."""

    value: float
    networks: int
    """How many were averaged: fewer than asked for where there are no more."""


def configurations(rows: Iterable[Row]) -> list[str]:
    """The configurations of rows, in order of appearance."""
    return list(dict.fromkeys(str(row["configuration"]) for row in rows))


def lightest(rows: Iterable[Row], configuration: str) -> list[Row]:
    """The networks of a configuration that were scored, by MACs and then by arch_id."""
    own = [row for row in rows if row["configuration"] == configuration and row["status"] == "ok"]
    return sorted(own, key=lambda row: (row["macs"], row["arch_id"]))


def top_mean(rows: Sequence[Row], configuration: str, column: str, top: int) -> TopMean | None:
    """Mean of a column over the `top` lightest networks of a configuration; None where there is none."""
    values = [float(row[column]) for row in lightest(rows, configuration)[:top]]
    return TopMean(statistics.fmean(values), len(values)) if values else None


def closest_pair(rows: Sequence[Row], first: str, second: str) -> tuple[Row, Row, int] | None:
    """The networks of two configurations that are closest in MACs, and how many pairs are as close.

    Closest: |a - b| / max(a, b) is smallest. Of several the lightest, then the one of the smaller arch_ids. A network
    is never compared with itself. None where there is no pair.
    """
    pairs = [(a, b) for a in lightest(rows, first) for b in lightest(rows, second) if a["arch_id"] != b["arch_id"]]
    if not pairs:
        return None
    a, b = min(pairs, key=lambda ab: (_apart(*ab), ab[0]["macs"] + ab[1]["macs"], ab[0]["arch_id"], ab[1]["arch_id"]))
    return a, b, sum(_apart(*pair) == _apart(a, b) for pair in pairs)


def roco_tables(rows: Sequence[Row], attacks: Mapping[str, str]) -> tuple[TextTable, ...]:
    """Tables III and IV, the other means over the top 1, 3 and 5, and Table V where there are two configurations.

    Args:
        attacks: column -> attack and its bound, for every attack of the suite that was measured.
    """
    tables: list[TextTable] = []
    measured = [name for name in SET_COLUMNS if any(name in row for row in rows)]
    if measured:
        tables.append(_table_three(rows, measured))
    tables.append(
        TextTable(
            "Table IV: accuracy on clean test images, of the lightest networks by MACs",
            ("Configuration", *TOP_WORDS),
            tuple((name, *_cells(rows, name, "clean_error")) for name in configurations(rows)),
            _notes(rows),
        )
    )
    others = {"params": "parameters", "macs": "MACs", **attacks}
    tables.append(
        TextTable(
            "Size, and accuracy under attacks on the network itself (white-box), of the lightest networks by MACs",
            ("Measure", "Configuration", *TOP_WORDS),
            tuple(
                (label, name, *_cells(rows, name, column))
                for column, label in others.items()
                for name in configurations(rows)
            ),
            _notes(rows),
        )
    )
    return (*tables, *_table_five(rows, attacks))


def retrained_table(rows: Sequence[Row]) -> pd.DataFrame:
    """One row a network and configuration, in natural values.

    Columns: configuration, arch_id, status, the measured errors, params, macs, channels, epochs, train_seconds, seed,
    data, genome, reason (of a failed one). Ordered by configuration, MACs, arch_id.
    """
    ends = {*HEAD, *TAIL}
    measured = list(dict.fromkeys(name for row in rows for name in row if name not in ends))
    names = configurations(rows)
    ordered = sorted(rows, key=lambda row: (names.index(row["configuration"]), row["macs"], row["arch_id"]))
    columns = [*HEAD, *measured, *TAIL]
    return pd.DataFrame([[row.get(name) for name in columns] for row in ordered], columns=columns, dtype=object)


def write_retrained(folder: Path, rows: Sequence[Row], tables: Sequence[TextTable], notes: Sequence[str] = ()) -> None:
    """Write retrained.csv and tables.md, each whole or not at all.

    Args:
        notes: lines below the tables, such as where the attacks' settings come from.
    """
    text = retrained_table(rows).to_csv(index=False, lineterminator="\n")
    replace_file(folder / "retrained.csv", lambda file: file.write(text.encode()))
    page = "\n".join([*(table.markdown() for table in tables), *(f"- {note}" for note in notes)]).rstrip() + "\n"
    replace_file(folder / "tables.md", lambda file: file.write(page.encode()))


def _apart(a: Row, b: Row) -> float:
    """Relative difference in MACs."""
    return float(abs(a["macs"] - b["macs"]) / max(a["macs"], b["macs"]))


def _table_three(rows: Sequence[Row], measured: Sequence[str]) -> TextTable:
    lines = tuple(
        (SET_COLUMNS[column], name, *_cells(rows, name, column)) for column in measured for name in configurations(rows)
    )
    return TextTable(
        "Table III: accuracy on the adversarial set, of the lightest networks by MACs",
        ("Images", "Configuration", *TOP_WORDS),
        lines,
        ("The set was made against other networks: transferred, not white-box robustness.", *_notes(rows)),
    )


def _table_five(rows: Sequence[Row], attacks: Mapping[str, str]) -> tuple[TextTable, ...]:
    names = configurations(rows)
    if len(names) != 2:
        return ()
    title = "Table V: the networks of both configurations that are closest in MACs"
    words = {"params": "Parameters", "macs": "MACs", "pgd_error": "PGD", "cw_error": "C&W"}
    shows = {name: word for name, word in words.items() if name in ("params", "macs") or name in attacks}
    header = ("Configuration", "Network", *shows.values())
    found = closest_pair(rows, *names)
    if found is None:
        return (TextTable(title, header, (), ("There is no pair of different networks.",)),)
    *pair, equally = found
    notes = [f"Their MACs differ by {100 * _apart(*pair):.2f}%; parameters and MACs are those of the networks scored."]
    if equally > 1:
        notes.append(f"{equally} pairs are equally close; the lightest one is shown, of equal ones by arch_id.")
    lines = tuple(
        (row["configuration"], row["arch_id"], *(_cell(column, float(row[column])) for column in shows)) for row in pair
    )
    return (TextTable(title, header, lines, tuple(notes)),)


def _cells(rows: Sequence[Row], configuration: str, column: str) -> list[str]:
    cells = []
    for top in TOPS:
        mean = top_mean(rows, configuration, column, top)
        if mean is None:
            cells.append("-")
        else:
            fewer = f" ({mean.networks})" if mean.networks < top else ""
            cells.append(_cell(column, mean.value) + fewer)
    return cells


def _cell(column: str, value: float) -> str:
    """A cost in millions; an error as an accuracy in percent with two digits."""
    return shown(column, value) if column in ("params", "macs") else f"{100 * (1 - value):.2f}%"


def _notes(rows: Sequence[Row]) -> tuple[str, ...]:
    notes = []
    if any(len(lightest(rows, name)) < TOPS[-1] for name in configurations(rows)):
        notes.append("In brackets: how many networks were averaged, where there are fewer.")
    failed = sorted({row["arch_id"] for row in rows if row["status"] != "ok"})
    if failed:
        notes.append(f"Left out, because training or scoring diverged: {', '.join(failed)}.")
    return tuple(notes)
