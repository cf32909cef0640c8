"""Networks of one run or several that satisfy a condition, in a stated order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from evonas.errors import ConfigurationError, check_name
from evonas.report.chance import Chance, chance_notes
from evonas.report.condition import Condition, read_condition
from evonas.report.joint import COSTS, JointRun, check_comparable
from evonas.report.table import knee_row, population_table
from evonas.report.text_table import TextTable
from evonas.report.units import shown
from evonas.search import ranks

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AUDIT", "Choice", "Choosing", "choose_networks", "number_of", "plain_rows"]

AUDIT = "audit."
"""Before the name of a column of audit.csv."""

HEAD, TAIL = ("arch_id", "generation", "rank"), (*COSTS, "train_seconds", "seed", "method", "data", "genome")
WORDS = ("run", "method", "space", "data", "arch_id")
"""Columns that hold text and can be asked for."""
COUNTED = ("generation", "rank", "seed")
"""Columns that hold numbers of things, shown as they are."""


@dataclass(frozen=True)
class Choosing:
    """Wishes for networks."""

    where: str = ""
    """Condition on columns, see `read_condition`; empty: every network with status ok."""
    by: str = ""
    """Column to sort by, best first; empty: by rank, then by the searched objectives."""
    knee: bool = False
    """Only the knee of their front, see `evonas.search.knee`."""
    top: int | None = None
    """At most so many, the first ones."""
    any_data: bool = False
    """Take runs on different data, too."""


@dataclass(frozen=True, eq=False)
class Choice:
    """Networks that were chosen, in order."""

    table: pd.DataFrame
    """run, space, arch_id, generation, rank (of the front among all networks of the runs), what was measured,
    audit.*, params, macs, train_seconds, seed, method, data, genome."""
    considered: int
    """Networks with status ok."""
    satisfied: int
    """Networks that satisfy the condition."""
    why: str
    """Condition, in words after `networks`."""
    asked: tuple[str, ...]
    """Columns that were asked for, and the searched objectives that all runs share."""
    notes: tuple[str, ...] = ()
    chance: Chance | None = None
    _measured: tuple[str, ...] = field(default=(), repr=False)

    def records(self) -> list[dict[str, Any]]:
        """Rows as plain values, None where nothing was measured."""
        return plain_rows(self.table)

    @property
    def named(self) -> int:
        """Leading columns of the text that name a network."""
        return 1 + (self.table["run"].nunique() > 1)

    def text(self, most: int = 20, every: bool = False) -> TextTable:
        """The first networks for people: what was asked for, the objectives and the costs.

        Args:
            every: every column that was measured, too, also by an audit.
        """
        measured = self._measured if every else ()
        names = [name for name in dict.fromkeys((*self.asked, *measured, *COSTS)) if name not in WORDS]
        several = self.named > 1
        lines = tuple(
            (*((str(row["run"]),) if several else ()), str(row["arch_id"]), *_cells(row, names, self.chance))
            for row in self.table.head(most).to_dict("records")
        )
        left = len(self.table) - len(lines)
        return TextTable(
            f"{self.satisfied} of {number_of(self.considered, 'network')} {self.why}; {len(self.table)} chosen",
            (*(("run",) if several else ()), "arch_id", *(name.replace("_", " ") for name in names)),
            lines,
            (
                *((f"{left} more; --csv FILE writes all of them",) if left else ()),
                *chance_notes(lines, self.chance, names),
                *self.notes,
            ),
        )


def choose_networks(
    runs: Sequence[JointRun],
    wanted: Choosing,
    audited: Mapping[str, Mapping[str, Mapping[str, float | None]]] | None = None,
) -> Choice:
    """The networks of runs with status ok that satisfy the wishes.

    Args:
        audited: name of a run -> arch_id -> column of its audit -> value, None where it has none.
    Raises:
        ConfigurationError, UnknownNameError: a condition or column that is none; no network satisfies it: the line
            names the condition that leaves out most, and the network that comes closest; columns that were measured
            differently, or runs on different data.
    """
    if not runs:
        raise ConfigurationError("expected at least one run folder, got none")
    table, measured = _table(runs, audited or {})
    numbers = ("generation", "rank", *measured, *COSTS, "train_seconds", "seed")
    condition = read_condition(wanted.where, numbers, WORDS) if wanted.where.strip() else None
    if wanted.by:
        check_name([*numbers, *WORDS], wanted.by, "column")
    named = (*(condition.columns if condition else ()), *((wanted.by,) if wanted.by else ()))
    _check(runs, named, wanted.any_data)
    objectives, notes = _objectives(runs, wanted)
    table["rank"] = _ranks(table, objectives, runs)
    rows: list[dict[Any, Any]] = table.to_dict("records")
    chosen = [number for number, row in enumerate(rows) if condition is None or condition.holds(row)]
    if not chosen:
        raise ConfigurationError(_nothing(rows, condition))
    found = table.iloc[_ordered(rows, chosen, wanted.by, objectives, runs)].reset_index(drop=True)
    return Choice(
        _kept(found, wanted, objectives, runs),
        len(rows),
        len(chosen),
        f"with {condition.text}" if condition else "with status ok",
        tuple(dict.fromkeys((*named, *objectives))),
        (*_partly(table, runs, named), *notes),
        _chance(runs),
        measured,
    )


def _kept(found: pd.DataFrame, wanted: Choosing, objectives: Sequence[str], runs: Sequence[JointRun]) -> pd.DataFrame:
    """Rows that are wanted of those that satisfy the condition, best first."""
    if wanted.knee:
        maximize = [name for name in objectives if _is_maximised(name, runs)]
        found = found.iloc[[knee_row(found, objectives, maximize)]]
    return found.head(len(found) if wanted.top is None else wanted.top).reset_index(drop=True)


def _table(
    runs: Sequence[JointRun], audited: Mapping[str, Mapping[str, Mapping[str, float | None]]]
) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Every row with status ok, and the columns that hold what was measured; a run lacks what it did not measure."""
    import pandas as pd

    names = [name for run in runs for name in run.columns if name not in COSTS]
    audits = [f"{AUDIT}{name}" for found in audited.values() for row in found.values() for name in row]
    measured = tuple(dict.fromkeys((*names, *audits)))
    rows: list[dict[Any, Any]] = []
    for run in runs:
        entries = [entry for entry in run.entries if entry.result.ok]
        for row in population_table(entries, run.searched).to_dict("records"):
            audit = audited.get(run.name, {}).get(str(row["arch_id"]), {})
            own = {f"{AUDIT}{name}": value for name, value in audit.items()}
            rows.append({**row, **own, "run": run.name, "space": run.space})
    return pd.DataFrame(rows, columns=["run", "space", *HEAD, *measured, *TAIL], dtype=object), measured


def _check(runs: Sequence[JointRun], named: Sequence[str], any_data: bool) -> None:
    """An error where runs are on different data, or where those that have a column measured it differently."""
    for run in runs:
        check_comparable(runs[0], run, (), any_data)
    for name in named:
        having = [run for run in runs if name in run.columns]
        for run in having:
            check_comparable(having[0], run, [name], any_data)


def _objectives(runs: Sequence[JointRun], wanted: Choosing) -> tuple[tuple[str, ...], list[str]]:
    """Objectives that all runs searched and measured alike, and notes on the others."""
    objectives, others, notes = list[str](), list[str](), list[str]()
    for name in dict.fromkeys(name for run in runs for name in run.searched.objectives):
        if any(name not in run.searched.objectives for run in runs):
            others.append(name)
            continue
        try:
            _check(runs, [name], wanted.any_data)
        except ConfigurationError as error:
            notes.append(f"{name} does not count for rank and knee: {error}")
        else:
            objectives.append(name)
    if others:
        notes.append(
            f"rank and knee by {', '.join(objectives) or 'nothing'}: not all runs searched {', '.join(others)}"
        )
    if wanted.knee and not objectives:
        raise ConfigurationError(f"expected an objective that all runs share for --knee, got none; {'; '.join(notes)}")
    return tuple(objectives), notes


def _ranks(table: pd.DataFrame, objectives: Sequence[str], runs: Sequence[JointRun]) -> pd.Series:
    """Number of every row's front among all rows, 0 the first; None without an objective that all share."""
    import pandas as pd

    if not objectives or not len(table):
        return pd.Series([None] * len(table), dtype=object)
    signs = [-1.0 if _is_maximised(name, runs) else 1.0 for name in objectives]
    values = table[list(objectives)].to_numpy(dtype=np.float64) * np.array(signs)
    return pd.Series(ranks(values).tolist(), dtype=object)


def _ordered(
    rows: Sequence[Mapping[Any, Any]],
    chosen: Sequence[int],
    by: str,
    objectives: Sequence[str],
    runs: Sequence[JointRun],
) -> list[int]:
    """Numbers of the chosen rows, best first: by a column in its own direction, missing values last, then by rank."""
    signs = {name: -1.0 if _is_maximised(name, runs) else 1.0 for name in (*objectives, *((by,) if by else ()))}

    def key(number: int) -> tuple[Any, ...]:
        row = rows[number]
        first = (_plain(row[by]) is None, row[by] if by in WORDS else _signed(row[by], signs[by])) if by else ()
        rank = _plain(row["rank"])
        values = (signs[name] * float(row[name]) for name in objectives)
        return (*first, rank is None, rank or 0, *values, str(row["run"]), str(row["arch_id"]))

    return sorted(chosen, key=key)


def _signed(value: Any, sign: float) -> float:
    return 0.0 if _plain(value) is None else sign * float(value)


def _is_maximised(name: str, runs: Iterable[JointRun]) -> bool:
    """Whether more of a column is better; a column of an audit goes by its own name."""
    plain = name.removeprefix(AUDIT)
    declared = any(plain in run.searched.maximize or run.measured.get(plain, {}).get("maximize") for run in runs)
    return declared or plain.endswith(("accuracy", "aupr")) or "radius" in plain


def _nothing(rows: Sequence[Mapping[Any, Any]], condition: Condition | None) -> str:
    """A line on why no row is left: the part without which most would be, and the row that comes closest."""
    if condition is None or not rows:
        return "expected a network with status ok, got none; see failed rows in population.csv"
    parts = condition.parts
    answers = [[part.holds(row) for part in parts] for row in rows]
    alone = [sum(answer[at] for answer in answers) for at in range(len(parts))]
    without = [sum(all(answer[:at] + answer[at + 1 :]) for answer in answers) for at in range(len(parts))]
    tightest = min(range(len(parts)), key=lambda at: (-without[at], alone[at]))
    closest = min(rows, key=lambda row: sum(part.shortfall(row) for part in parts))
    values = ", ".join(f"{name} {_cell(name, closest[name], None)}" for name in condition.columns)
    rest = f", {_satisfy(without[tightest])} all else" if len(parts) > 1 else ""
    return (
        f"expected a network with {condition.text}, got none of {len(rows)}; the tightest is {parts[tightest].text} "
        f"({_satisfy(alone[tightest])} it{rest}); closest: {closest['arch_id']} with {values}"
    )


def _satisfy(count: int) -> str:
    return f"{count} {'satisfies' if count == 1 else 'satisfy'}"


def _partly(table: pd.DataFrame, runs: Sequence[JointRun], named: Sequence[str]) -> Iterator[str]:
    """Notes on columns that were asked for and are not there for all rows: these satisfy no condition on them."""
    for name in named:
        lacking = table[table[name].isna()]
        if len(lacking):
            where = f" of {', '.join(sorted(set(lacking['run'])))}" if len(runs) > 1 else ""
            satisfy = "it satisfies" if len(lacking) == 1 else "they satisfy"
            of = f"{len(lacking)} of {number_of(len(table), 'network')}{where}"
            yield f"{name}: not measured for {of}; {satisfy} nothing on it"


def number_of(count: int, noun: str) -> str:
    """The count and its noun, in the plural unless it is 1."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _chance(runs: Sequence[JointRun]) -> Chance | None:
    levels = {run.searched.chance for run in runs}
    return levels.pop() if len(levels) == 1 else None


def _cells(row: Mapping[Any, Any], names: Iterable[str], chance: Chance | None) -> Iterator[str]:
    for name in names:
        yield _cell(name, row[name], None if name.startswith(AUDIT) else chance)


def _cell(name: str, value: Any, chance: Chance | None) -> str:
    value = _plain(value)
    if value is None or isinstance(value, str) or name in COUNTED:
        return "-" if value is None else str(value)
    return shown(name, value) + ("" if chance is None else chance.mark(name, value))


def plain_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain values, None where a cell is missing."""
    return [{str(name): _plain(value) for name, value in row.items()} for row in table.to_dict("records")]


def _plain(value: Any) -> Any:
    """A cell as a plain value; None where it is missing."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and np.isnan(value) else value
