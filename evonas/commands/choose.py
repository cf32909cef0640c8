"""Choose networks of one run or several by a condition on what was measured."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import tyro

from evonas.commands.opened import Folders, joint_runs, print_json, print_table, say
from evonas.errors import ConfigurationError
from evonas.files import check_writable, exists, storage_errors
from evonas.ranges import COUNT, check_ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from evonas.report import Choice, JointRun

__all__ = ["Choose"]


@dataclass(frozen=True)
class Choose:
    """Choose networks of one run or several: those under a constraint, the best by a column, the knee of the front."""

    example: ClassVar[str] = (
        'evonas choose runs/roco-digits-quick-seed0 --where "macs < 8M and pgd_error < 60%" --by params'
    )

    runs: Folders
    """Folders of the runs."""
    where: Annotated[str, tyro.conf.arg(metavar="CONDITION")] = ""
    """Condition on columns, such as "macs < 8M and params < 5e4 and pgd_error <= 45%"; columns of audit.csv are called
    audit.NAME."""
    by: Annotated[str, tyro.conf.arg(metavar="COLUMN")] = ""
    """Column to sort by, best first; by default the rank, then the searched objectives."""
    knee: bool = False
    """Only the knee of the front: the least sum of the objectives, each in units of the front's range."""
    top: Annotated[int | None, COUNT] = None
    """At most so many networks, the first ones."""
    csv: Path | None = None
    """CSV file for the chosen rows."""
    json: bool = False
    """Print the chosen rows as JSON instead of a table."""
    all_columns: bool = False
    """Show every measured column, not only those of the condition, the objectives and the costs."""
    any_data: bool = False
    """Take runs on different data, too; errors then do not compare."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self) -> None:
        from evonas.report import Choosing, choose_networks
        from evonas.report.choosing import number_of
        from evonas.report.output import write_csv

        runs, notes = joint_runs(self.runs)
        audited, said = _audits(self.runs, runs)
        wanted = Choosing(self.where, self.by, self.knee, self.top, self.any_data)
        found = choose_networks(runs, wanted, audited)
        notes = [*notes, *said, *found.notes]
        if self.csv is not None:
            with storage_errors(f"write {self.csv}"):
                if exists(self.csv) and not self.csv.is_file():
                    raise ConfigurationError(f"expected a file for --csv, {self.csv} is none")
            check_writable(self.csv)
        self._show(found, notes)
        if self.csv is not None:
            write_csv(self.csv, found.table)
            if not self.json:
                say(f"{number_of(len(found.table), 'row')}: {self.csv}")

    def _show(self, found: Choice, notes: Sequence[str]) -> None:
        if self.json:
            print_json(
                {
                    "where": self.where,
                    "considered": found.considered,
                    "satisfied": found.satisfied,
                    "notes": list(notes),
                    "networks": found.records(),
                }
            )
            return
        for note in notes[: len(notes) - len(found.notes)]:
            say(note)
        print_table(found.text(every=self.all_columns), kept=found.named)


def _audits(
    paths: Sequence[Path], runs: Sequence[JointRun]
) -> tuple[dict[str, dict[str, dict[str, float | None]]], list[str]]:
    """Name of a run -> arch_id -> values of its audit, None in an empty cell; and lines on whose weights those are.

    All values of a column are of networks trained to the end, or all of networks as searched.
    """
    from evonas.report import decisive_by_column, read_audit
    from evonas.report.choosing import number_of

    files = {run.name: read_audit(path) for path, run in zip(paths, runs, strict=True)}
    decided = {name: [*decisive_by_column(each.networks)] for name, each in files.items()}
    parts = [(columns, rows) for each in decided.values() for columns, rows in each]
    trained = {name for columns, rows in parts for name in columns if rows[0].weights != "search"}
    audited, notes = dict[str, dict[str, dict[str, float | None]]](), list[str]()
    for run, each in files.items():
        values = {row.arch_id: dict[str, float | None].fromkeys(each.columns) for row in each.networks}
        for number, (columns, rows) in enumerate(decided[run]):
            left_out = {name for name in columns if name in trained and rows[0].weights == "search"}
            kept = [name for name in columns if name not in left_out]
            for row in rows:
                values[row.arch_id].update({name: row.values[name] for name in kept if name in row.values})
            if kept:
                which = _names(kept) if number or left_out else "audit.*"
                kinds = ", ".join({row.words: None for row in rows})
                notes.append(f"{which} of {run}: {number_of(len(rows), 'network')}, {kinds}")
            if left_out:
                notes.append(
                    f"{_names(name for name in columns if name in left_out)} of {run}: left out: measured on networks "
                    "as searched here, on networks trained to the end in another run"
                )
        audited[run] = values
    return audited, notes


def _names(columns: Iterable[str]) -> str:
    return ", ".join(f"audit.{name}" for name in columns)
