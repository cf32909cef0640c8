"""Rank correlation of cheap measures with robust accuracy, over a table of trained networks.

    python benchmarks/proxies.py nas-robbench-201-cifar10.json

Every other error of the table, parameters and MACs, against one error, by default the table's last one: over all
networks, and over the tenth with the least of that error, among which a search has to choose.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import tyro
from rich.console import Console
from rich.table import Table
from scipy.stats import kendalltau, spearmanr

from evonas.errors import check_name
from evonas.evaluation import ScoreTable, read_table
from evonas.runs import guarded

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Rank correlation of cheap measures with robust accuracy."""

    table: Annotated[Path, tyro.conf.Positional]
    """JSON file; see docs/tables.md."""
    target: str = ""
    """Error that is ranked by; the table's last one by default."""


class Agreement(NamedTuple):
    """Two rankings of the same networks; 1: equal, 0: unrelated, NaN: one of them ranks nothing."""

    spearman: float
    kendall: float
    n: int


def agreement(measure: Floats, target: Floats) -> Agreement:
    """Agreement of two measures of the same networks."""
    if len(target) < 2 or min(len(np.unique(measure)), len(np.unique(target))) < 2:
        return Agreement(math.nan, math.nan, len(target))
    spearman, kendall = spearmanr(measure, target).statistic, kendalltau(measure, target).statistic
    return Agreement(float(spearman), float(kendall), len(target))


def measures(table: ScoreTable, target: str) -> tuple[Floats, dict[str, Floats]]:
    """(n,) target error, and (n,) of each measure; less is better, of parameters and MACs more."""
    known = [genes for genes, errors in table.scores.items() if target in errors]
    costs = np.array([table.space.cost(genes, table.data.n_classes) for genes in known], dtype=np.float64)
    found = {
        name: np.array([table.scores[genes].get(name, math.nan) for genes in known])
        for name in table.columns
        if name != target
    }
    errors = np.array([table.scores[genes][target] for genes in known])
    return errors, {"params": -costs[:, 0], "macs": -costs[:, 1], **found}


def rows(table: ScoreTable, target: str) -> Iterator[tuple[str, Agreement, Agreement, float]]:
    """Name of a measure, its agreement over all and within the best tenth, and the target error of its first choice."""
    errors, found = measures(table, target)
    best = np.argsort(errors, kind="stable")[: math.ceil(len(errors) / 10)]
    for name, values in found.items():
        known = ~np.isnan(values)
        tenth = best[known[best]]
        first = errors[known][np.argmin(values[known])]
        yield name, agreement(values[known], errors[known]), agreement(values[tenth], errors[tenth]), float(first)


def show(table: ScoreTable, target: str, console: Console) -> None:
    shown = Table(title=f"rank correlation with {target}, {table.data.name}: over all, within the best tenth")
    shown.add_column("measure", no_wrap=True)
    for heading in ("Spearman", "Kendall", "n", "tenth: Spearman", "Kendall", "n", "its first choice has"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, every, tenth, first in rows(table, target):
        words = [(f"{each.spearman:.3f}", f"{each.kendall:.3f}", str(each.n)) for each in (every, tenth)]
        shown.add_row(name, *words[0], *words[1], f"{first:.4f}")
    console.print(shown)
    errors, _ = measures(table, target)
    console.print("parameters and MACs: more of them count as better")
    console.print(f"{target} of the best network: {errors.min():.4f}, of the median one: {np.median(errors):.4f}")


def main() -> int:
    def run() -> None:
        args = tyro.cli(Args, description=__doc__)
        table = read_table(args.table)
        target = args.target or table.columns[-1]
        check_name(table.columns, target, "error of the table")
        show(table, target, Console(width=120))

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
