"""What several searches of one run have found: a table of them all, means and deviations over repeats."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from evonas.report import shown
from evonas.runs.checkpoint import write_rows

__all__ = ["Means", "means_of_repeats", "means_text", "write_means"]

Means = Mapping[str, Mapping[str, tuple[int, float, float]]]
"""Searches that differ in their seed alone, by name -> column -> (number, mean, sample standard deviation)."""


def means_of_repeats(rows: Sequence[tuple[str, Mapping[str, Any]]], columns: Sequence[str]) -> Means:
    """Over the rows of each name, in order of appearance; a deviation of one row is not a number.

    Args:
        rows: (name, column -> value); what is no finite number does not count.
    """
    found: dict[str, dict[str, tuple[int, float, float]]] = {}
    for name in dict.fromkeys(name for name, _ in rows):
        own = [row for each, row in rows if each == name]
        for column in columns:
            values = [float(row[column]) for row in own if isinstance(row.get(column), int | float)]
            values = [value for value in values if math.isfinite(value)]
            if values:
                spread = statistics.stdev(values) if len(values) > 1 else math.nan
                found.setdefault(name, {})[column] = (len(values), statistics.fmean(values), spread)
    return found


def means_text(means: Means) -> Iterator[str]:
    """A line each: `darts, 5 searches: clean_error 0.1200 +- 0.0100, ...`."""
    for name, columns in means.items():
        most = max(n for n, _, _ in columns.values())
        values = (f"{column} {_shown(column, *found[1:])}" for column, found in columns.items())
        yield f"{name}, {most} {'searches' if most > 1 else 'search'}: {', '.join(values)}"


def write_means(path: Path, means: Means) -> None:
    """repeats.csv: search, column, searches, mean, deviation (of the sample; empty for one search)."""
    lines = [
        [name, column, n, mean, "" if math.isnan(spread) else spread]
        for name, columns in means.items()
        for column, (n, mean, spread) in columns.items()
    ]
    write_rows(path, ["search", "column", "searches", "mean", "deviation"], lines)


def _shown(column: str, mean: float, spread: float) -> str:
    return shown(column, mean) if math.isnan(spread) else f"{shown(column, mean)} +- {shown(column, spread)}"
