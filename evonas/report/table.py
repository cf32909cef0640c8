"""The tables of a run: every evaluated architecture, the front, the history."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evonas.errors import StorageError
from evonas.files import decoding, read_regular, storage_errors
from evonas.report.chance import Chance, chance_notes, marked
from evonas.report.output import write_csv
from evonas.report.text_table import TextTable
from evonas.search import (
    Entry,
    Honesty,
    Stops,
    honesty,
    hypervolume,
    knee,
    minimised,
    non_dominated,
    rank_correlation,
    ranks,
    stops_of,
)
from evonas.types import Cost, EvaluationResult, Genome, arch_id

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "OWN_COLUMNS",
    "HistoryRow",
    "Searched",
    "front",
    "front_text",
    "history",
    "knee_row",
    "objective_values",
    "population_table",
    "rank_correlation",
    "rank_correlations",
    "read_genomes",
    "write_tables",
]

CLEAN = "clean_error"
HEAD, TAIL = ("arch_id", "generation", "rank", "status"), ("train_seconds", "seed", "method", "data", "genome")
OWN_COLUMNS = frozenset({*HEAD, "stopped_after", *TAIL, "run", "space"})
"""Columns of tables over one run and several that nothing measures, so that no objective may be called so."""

_LARGEST_TABLE = 2**30
"""Limit in bytes on a table that is read; fits millions of genomes."""


@dataclass(frozen=True)
class Searched:
    """Name, data, columns and directions of a search, as its tables need them."""

    method: str
    data: str
    objectives: tuple[str, ...]
    """Searched columns, in order."""
    maximize: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    """Every measured column in the order of the tables; searched ones that are missing here precede them."""
    reference: tuple[float, ...] = ()
    """Reference point of the hypervolume, one natural value a searched objective."""
    about: Mapping[str, str] = field(default_factory=dict)
    """Column -> a few words on what was measured, for pictures."""
    cost: Callable[[Genome], Cost] | None = None
    """Parameters and MACs of a genome, for rows without measured ones, such as failed ones; None: empty cells."""
    chance: Chance | None = None
    """Level of guessing on the images that errors are counted on; None: unknown."""

    @property
    def box(self) -> float:
        """Hypervolume between the reference point and the best values: 0 of what is minimised, 1 of what is maximised.

        1 where a side of that has no length: then hypervolumes stay as they are.
        """
        named = zip(self.objectives, self.reference, strict=True)
        sides = [1 - worst if name in self.maximize else worst for name, worst in named]
        return math.prod(sides) if min(sides, default=0) > 0 else 1.0


@dataclass(frozen=True)
class HistoryRow:
    """Totals at the end of a generation."""

    generation: int
    evaluations: int
    hypervolume: float
    """Hypervolume of all evaluations so far, against the run's reference point; larger is better."""
    seconds: float
    """Training time, summed over evaluations."""
    rank_correlation: Mapping[str, float | None] = field(default_factory=dict)
    """Error column -> how alike it and clean_error rank all evaluations so far; see `rank_correlations`."""
    assisted: int = 0
    """New evaluations that a surrogate chose."""
    predicted: Mapping[str, Honesty] = field(default_factory=dict)
    """Learned objective -> how well the surrogate predicted the new evaluations; empty without a surrogate."""
    failed: int = 0
    """Failed evaluations so far."""
    stops: Stops | None = None
    """Stops so far; None without early stopping."""


def population_table(entries: Iterable[Entry], searched: Searched) -> pd.DataFrame:
    """One row for each evaluated architecture.

    Columns: arch_id, generation, rank, status, the measured columns, params, macs, train_seconds, seed, method, data,
    genome. `rank` is the number of its front among all evaluations with status ok, 0 the first; failed and stopped rows
    have none. Rows are ordered by rank (those last), then by the searched objectives, best first, then by arch_id. With
    early stopping, `stopped_after` is the number of epochs after which a training was stopped, and `partial_COLUMN`
    what was measured then.
    """
    import pandas as pd

    found = list(entries)
    partial = _partial(found)
    names = tuple(dict.fromkeys((*searched.objectives, *searched.columns)))
    measured = [name for name in names if name not in ("params", "macs")]
    objectives = objective_values(found, searched)
    rank = ranks(objectives)
    order = sorted(
        range(len(found)),
        key=lambda i: (rank[i] < 0, rank[i], *np.nan_to_num(objectives[i], nan=math.inf), found[i].key),
    )
    rows = [_row(found[i], int(rank[i]), measured, searched, partial) for i in order]
    between = ["params", "macs", *(["stopped_after"] if partial else []), *(f"partial_{name}" for name in partial)]
    return pd.DataFrame(rows, columns=[*HEAD, *measured, *between, *TAIL], dtype=object)


def history(entries: Iterable[Entry], searched: Searched) -> list[HistoryRow]:
    """One row for each generation, from the generation in which every evaluation first appeared."""
    sign = np.array([-1.0 if name in searched.maximize else 1.0 for name in searched.objectives])
    reference = sign * np.array(searched.reference)
    found = sorted(entries, key=lambda entry: entry.generation)
    rows: list[HistoryRow] = []
    best = np.empty((0, len(sign)))
    for generation, group in itertools.groupby(found, key=lambda entry: entry.generation):
        new = list(group)
        best = np.concatenate([best, objective_values(new, searched)])
        best = best[non_dominated(best)]
        before = rows[-1] if rows else HistoryRow(0, 0, 0.0, 0.0)
        seconds = round(before.seconds + sum(entry.result.seconds for entry in new), 3)
        evaluations, volume = before.evaluations + len(new), hypervolume(best, reference)
        correlation = rank_correlations(found[:evaluations], searched)
        assisted = sum(entry.assisted for entry in new)
        failed = before.failed + sum(entry.result.status == "failed" for entry in new)
        stops = stops_of(entry.result for entry in found[:evaluations])
        row = HistoryRow(generation, evaluations, volume, seconds, correlation, assisted, honesty(new), failed, stops)
        rows.append(row)
    return rows


def rank_correlations(entries: Iterable[Entry], searched: Searched) -> dict[str, float | None]:
    """Error column -> Spearman's rank correlation with clean_error, in [-1, 1], over the evaluations with status ok.

    An error that ranks networks as clean_error does (near 1) says little that clean_error does not. None as in
    `rank_correlation`; empty where clean_error, or another error, is not measured.
    """
    measured = dict.fromkeys((*searched.objectives, *searched.columns))
    others = [name for name in measured if name.endswith("_error") and name != CLEAN and CLEAN in measured]
    values = [entry.result.objectives for entry in entries if entry.result.ok]
    found: dict[str, float | None] = {}
    for name in others:
        both = [(each[CLEAN], each[name]) for each in values if {CLEAN, name} <= each.keys()]
        found[name] = rank_correlation([clean for clean, _ in both], [error for _, error in both])
    return found


def front(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of a population table that no other row dominates."""
    return table[table["rank"] == 0]


def knee_row(table: pd.DataFrame, objectives: Sequence[str], maximize: Sequence[str]) -> int:
    """Position of the knee of the front among a table's rows; see `evonas.search.knee`."""
    signs = np.array([-1.0 if name in maximize else 1.0 for name in objectives])
    return knee(table[list(objectives)].to_numpy(dtype=np.float64) * signs)


def front_text(table: pd.DataFrame, searched: Searched, most: int = 20, last: Sequence[str] = ()) -> TextTable:
    """Rows of a front for people: what was measured, with units and marks; at most so many rows, the first ones.

    Args:
        table: a front.
        last: columns of the table that stand behind what was measured, as they are.
    """
    names = list(dict.fromkeys((*searched.objectives, *searched.columns, "params", "macs")))
    lines = tuple(
        (str(row["arch_id"]), *marked(row, names, searched.chance), *(str(row[name]) for name in last))
        for row in table.head(most).to_dict("records")
    )
    left = len(table) - len(lines)
    return TextTable(
        f"{searched.method} on {searched.data}: {len(table)} on the front",
        ("arch_id", *(name.replace("_", " ") for name in (*names, *last))),
        lines,
        (
            *((f"{left} more in front.csv",) if left else ()),
            *chance_notes(lines, searched.chance, names),
            *(f"{name}: {searched.about[name]}" for name in names if searched.about.get(name)),
        ),
    )


def write_tables(
    folder: Path,
    table: pd.DataFrame,
    rows: Sequence[HistoryRow],
    replicates: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> None:
    """Write population.csv, front.csv and history.csv, each whole or not at all.

    Args:
        replicates: arch_id -> columns that front.csv has besides, see `Replicates.table`.
    """
    write_csv(folder / "population.csv", table)
    write_csv(folder / "front.csv", with_columns(front(table), replicates))
    write_csv(folder / "history.csv", history_table(rows))


def with_columns(front: pd.DataFrame, beside: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """The rows of a front with further columns; empty cells where a network has none."""
    import pandas as pd

    found = [beside.get(key, {}) for key in front["arch_id"]]
    names = dict.fromkeys(name for row in found for name in row)
    new = pd.DataFrame({name: [row.get(name) for row in found] for name in names}, index=front.index, dtype=object)
    return pd.concat([front, new], axis=1) if names else front


def history_table(rows: Sequence[HistoryRow]) -> pd.DataFrame:
    """A row for each generation; a column rank_correlation_ERROR for each error beside clean_error.

    With a surrogate also `assisted` and, for each learned objective, predicted_rank_correlation_OBJECTIVE and
    predicted_coverage_OBJECTIVE; empty where nothing was predicted. With early stopping the totals `failed`, `stopped`,
    `epochs_saved`, `stops_tried` and `wrong_stops`, and the 95% interval of the share of wrong stops.
    """
    import pandas as pd

    table = pd.DataFrame(
        {name: [getattr(row, name) for row in rows] for name in ("generation", "evaluations", "hypervolume", "seconds")}
    )
    for name in rows[-1].rank_correlation if rows else ():
        table[f"rank_correlation_{name}"] = [row.rank_correlation[name] for row in rows]
    learned = dict.fromkeys(name for row in rows for name in row.predicted)
    if learned or any(row.assisted for row in rows):
        table["assisted"] = [row.assisted for row in rows]
    for name in learned:
        found = [row.predicted.get(name, Honesty(None, None)) for row in rows]
        table[f"predicted_rank_correlation_{name}"] = [each.rank_correlation for each in found]
        table[f"predicted_coverage_{name}"] = [each.coverage for each in found]
    if rows and rows[-1].stops is not None:
        stops = [row.stops or Stops(0, 0, 0, 0) for row in rows]
        table["failed"] = [row.failed for row in rows]
        counts = {
            "stopped": "stopped",
            "epochs_saved": "epochs_saved",
            "stops_tried": "finished",
            "wrong_stops": "wrong",
        }
        for name, count in counts.items():
            table[name] = [getattr(each, count) for each in stops]
        for number, name in enumerate(("wrong_stops_low", "wrong_stops_high")):
            table[name] = [each.interval[number] for each in stops]
    return table


def read_genomes(path: Path) -> list[list[int]]:
    """Genomes of a front.csv or population.csv, best first, failed and stopped rows left out.

    Raises:
        StorageError: the file cannot be read or has no column `genome` of integers.
    """
    import pandas as pd

    with storage_errors(f"read {path}"):
        content = read_regular(path, _LARGEST_TABLE)
    expected = f"expected a table with a column 'genome' of integers in {path}, got something else"
    with decoding(expected, "name a run folder, its front.csv or its population.csv", StorageError):
        table = pd.read_csv(io.BytesIO(content), dtype=str, keep_default_na=False)
        rows = table[table["status"] == "ok"] if "status" in table else table
        return [[int(gene) for gene in genome.split()] for genome in rows["genome"]]


def objective_values(entries: Iterable[Entry], searched: Searched) -> npt.NDArray[np.float64]:
    """(n, m) searched objectives, minimised; NaN where the evaluation failed or was stopped."""
    names = searched.objectives
    results = [entry.result for entry in entries]
    failed = [math.nan] * len(names)
    rows = [minimised(result.objectives, names, searched.maximize) if result.ok else failed for result in results]
    return np.array(rows, dtype=np.float64).reshape(-1, len(names))


def _partial(entries: Sequence[Entry]) -> tuple[str, ...]:
    """Columns, costs apart, that are measured at rungs; empty without early stopping."""
    curves = [entry.result.curve for entry in entries if entry.result.curve is not None]
    names = dict.fromkeys(name for curve in curves for _, values in curve.rungs for name in values)
    return tuple(name for name in names if name.endswith("error"))


def _row(entry: Entry, rank: int, measured: Sequence[str], searched: Searched, partial: Sequence[str]) -> list[Any]:
    result = entry.result
    values = result.objectives
    params, macs = values.get("params"), values.get("macs")
    if searched.cost is not None and (params is None or macs is None):
        params, macs = searched.cost(np.array(result.genome, dtype=np.int64))
    return [
        arch_id(result.genome),
        entry.generation,
        None if rank < 0 else rank,
        result.status,
        *(values.get(name) for name in measured),
        params,
        macs,
        *(_stopped(result, partial) if partial else ()),
        round(result.seconds, 3),
        result.seed,
        searched.method,
        searched.data,
        " ".join(map(str, result.genome)),
    ]


def _stopped(result: EvaluationResult, partial: Sequence[str]) -> list[Any]:
    """Epochs after which it was stopped, and what was measured then; empty cells where it was not."""
    if result.status != "stopped" or result.curve is None:
        return [None] * (1 + len(partial))
    epoch, values = result.curve.rungs[-1]
    return [epoch, *(values.get(name) for name in partial)]
