"""Means and deviations over searches that differ in their seed alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.report.output import write_csv
from evonas.report.units import shown

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["means_of_repeats", "means_text", "write_means"]


def means_of_repeats(rows: Sequence[tuple[str, Mapping[str, Any]]], columns: Sequence[str]) -> pd.DataFrame:
    """Columns search, column, searches, mean, deviation (of the sample; NaN for one search).

    One row for each search and column with a finite number, in the order of the arguments.

    Args:
        rows: (search, column -> value) of every repeat; only finite numbers count.
    """
    import pandas as pd

    values = [
        (name, column, float(row[column]))
        for name, row in rows
        for column in columns
        if isinstance(row.get(column), int | float) and math.isfinite(row[column])
    ]
    table = pd.DataFrame(values, columns=["search", "column", "value"])
    table["search"] = pd.Categorical(table["search"], list(dict.fromkeys(name for name, _ in rows)))
    table["column"] = pd.Categorical(table["column"], list(dict.fromkeys(columns)))
    groups = table.groupby(["search", "column"], observed=True)["value"]
    means = groups.agg(searches="count", mean=statistics.fmean, deviation=_deviation)  # exactly rounded, unlike pandas'
    return means.reset_index().astype({"search": str, "column": str})


def _deviation(values: pd.Series[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else math.nan


def means_text(means: pd.DataFrame) -> Iterator[str]:
    """One line for each search: `darts, 5 searches: clean_error 12.0% +- 1.0%, ...`."""
    for name, found in means.groupby("search", sort=False):
        most = found["searches"].max()
        values = ", ".join(_shown(*row) for row in found[["column", "mean", "deviation"]].itertuples(index=False))
        yield f"{name}, {most} {'searches' if most > 1 else 'search'}: {values}"


def _shown(column: str, mean: float, deviation: float) -> str:
    spread = "" if math.isnan(deviation) else f" +- {shown(column, deviation)}"
    return f"{column} {shown(column, mean)}{spread}"


def write_means(path: Path, means: pd.DataFrame) -> None:
    """Write repeats.csv: search, column, searches, mean, deviation (empty for one search)."""
    write_csv(path, means)
