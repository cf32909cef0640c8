"""The tables of a run: every evaluated architecture, the front, the history."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from evonas.errors import StorageError
from evonas.files import replace_file, storage_errors
from evonas.search import Entry, minimised, ranks
from evonas.types import Cost, Genome, arch_id

__all__ = ["HistoryRow", "Searched", "front", "population_table", "read_genomes", "write_table"]


@dataclass(frozen=True)
class Searched:
    """What the tables need to know about a search."""

    method: str
    data: str
    objectives: tuple[str, ...]
    """Searched columns, in order."""
    maximize: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Every measured column in the order of the tables; searched ones that are missing here come first."""
    cost: Callable[[Genome], Cost] | None = None
    """Looks up parameters and MACs of rows that have none of their own (failed ones)."""


@dataclass(frozen=True)
class HistoryRow:
    """A generation: evaluations and training seconds so far, and the hypervolume of everything found so far."""

    generation: int
    evaluations: int
    hypervolume: float
    seconds: float


def population_table(entries: Iterable[Entry], searched: Searched) -> pd.DataFrame:
    """Every evaluated architecture, one row each.

    Columns: arch_id, generation, rank, status, the measured columns, params, macs, train_seconds, seed, method, data,
    genome. `rank` is the number of its front among all evaluations with status ok, 0 the first; failed rows have none.
    Rows are ordered by rank (failed last), then by the searched objectives, best first, then by arch_id.
    """
    found = list(entries)
    names = tuple(dict.fromkeys((*searched.objectives, *searched.columns)))
    measured = [name for name in names if name not in ("params", "macs")]
    objectives = np.array([_objectives(entry, searched) for entry in found]).reshape(-1, len(searched.objectives))
    rank = ranks(objectives)
    order = sorted(
        range(len(found)),
        key=lambda i: (rank[i] < 0, rank[i], *np.nan_to_num(objectives[i], nan=math.inf), found[i].key),
    )
    rows = [_row(found[i], int(rank[i]), measured, searched) for i in order]
    head, tail = ["arch_id", "generation", "rank", "status"], ["train_seconds", "seed", "method", "data", "genome"]
    return pd.DataFrame(rows, columns=[*head, *measured, "params", "macs", *tail], dtype=object)


def front(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of a population table that no other one dominates."""
    return table[table["rank"] == 0]


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV, whole or not at all; floats in the shortest form that reads back equal."""
    text = table.to_csv(index=False, lineterminator="\n")
    replace_file(path, lambda file: file.write(text.encode()))


def read_genomes(path: Path) -> list[list[int]]:
    """Genomes of a front.csv or population.csv, best first, failed rows left out.

    Raises:
        StorageError: the file cannot be read or has no column `genome` of integers.
    """
    with storage_errors(f"read {path}"):
        try:
            table = pd.read_csv(path, dtype=str, keep_default_na=False)
            rows = table[table["status"] != "failed"] if "status" in table else table
            return [[int(gene) for gene in genome.split()] for genome in rows["genome"]]
        except (ValueError, KeyError, AttributeError) as error:
            raise StorageError(
                f"expected a table with a column 'genome' of integers in {path}, got something else ({error}); "
                "name a run folder, its front.csv or its population.csv"
            ) from error


def _objectives(entry: Entry, searched: Searched) -> list[float]:
    """(m,) minimised, NaN where failed."""
    if not entry.result.ok:
        return [math.nan] * len(searched.objectives)
    return minimised(entry.result.objectives, searched.objectives, searched.maximize)


def _row(entry: Entry, rank: int, measured: Sequence[str], searched: Searched) -> list[Any]:
    result = entry.result
    values = result.objectives
    params, macs = values.get("params"), values.get("macs")
    if searched.cost is not None and (params is None or macs is None):
        params, macs = searched.cost(np.array(result.genome, dtype=np.int64))
    return [
        arch_id(result.genome), entry.generation, None if rank < 0 else rank, result.status,
        *(values.get(name) for name in measured), params, macs, round(result.seconds, 3), result.seed,
        searched.method, searched.data, " ".join(map(str, result.genome)),
    ]  # fmt: skip
