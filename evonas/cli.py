"""`evonas`: start searches, look at runs, and check them."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.report import front, population_table, shown
from evonas.runs import ROCO_PRESETS, RunFolder, command, guarded, run_roco
from evonas.runs.command_line import one_line
from evonas.runs.folder import stored_searched
from evonas.runs.search import Plan
from evonas.runs.stored import recount, reevaluate, stored_plan
from evonas.search import Entry
from evonas.search.executors import ignore

__all__ = ["COMMANDS", "Export", "Show", "Verify", "main"]

Folder = Annotated[Path, tyro.conf.Positional]


@dataclass(frozen=True)
class Show:
    """Print the front of a run."""

    run: Folder
    """The run's folder."""

    def __call__(self) -> None:
        folder = RunFolder(self.run)
        searched = stored_searched(folder.open_stored())
        table = front(population_table(folder.entries(), searched))
        names = list(dict.fromkeys((*searched.objectives, *searched.columns, "params", "macs")))
        title = f"{searched.method} on {searched.data}: {len(table)} on the front"
        printed = Table("arch_id", *names, "generation", title=title)
        for _, row in table.iterrows():
            printed.add_row(row["arch_id"], *(shown(name, row[name]) for name in names), str(row["generation"]))
        Console().print(printed)


@dataclass(frozen=True)
class Export:
    """Write front.csv, population.csv, history.csv and the pictures of a run anew from its journal."""

    run: Folder
    """The run's folder."""

    def __call__(self) -> None:
        folder = RunFolder(self.run)
        searched = stored_searched(folder.open_stored())
        with folder.locked():
            entries = folder.entries()
            folder.export(entries, searched)
        print(f"{len(entries)} evaluations exported to {self.run}")


@dataclass(frozen=True)
class Verify:
    """Check a run: rebuild every network and count it, and evaluate the named ones again from their seed."""

    run: Folder
    """The run's folder."""
    retrain: tuple[str, ...] = ()
    """arch_ids to evaluate again; `best` is the first row of front.csv. On the CPU they give equal values."""

    def __call__(self) -> None:
        folder = RunFolder(self.run)
        plan, entries = stored_plan(folder), folder.entries()
        wrong = _recount(plan, entries) + sum(_retrain(plan, entries, name) for name in self.retrain)
        if wrong:
            raise ConfigurationError(f"{wrong} recorded values were not found again; see the lines above")


COMMANDS: dict[str, Callable[..., Any]] = {"export": Export, "show": Show, "verify": Verify}
"""Name -> command on a run that is there; `evonas roco` starts one and has options of its own."""


def main(argv: Sequence[str] | None = None) -> int:
    """The command line `evonas`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["roco"]:
        return command(run_roco, ROCO_PRESETS, words[1:])
    return guarded(lambda: _parse(words)())


def _parse(words: list[str]) -> Callable[[], None]:
    with one_line():
        chosen: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
            COMMANDS,
            prog="evonas",
            description="Look at a run or check it; `evonas roco --help`: start one.",
            args=words,
        )
    return chosen


def _recount(plan: Plan, entries: list[Entry]) -> int:
    """Prints and counts the entries whose recorded costs are not those of their network."""
    wrong = counted = 0
    for entry, params, macs in recount(plan, entries):
        counted += 1
        values = entry.result.objectives
        if (params, macs) != (values["params"], values["macs"]):
            wrong += 1
            print(f"{entry.key}: recorded {values['params']} params, {values['macs']} macs; counted {params}, {macs}")
    verdict = f"{wrong} counts differ" if wrong else "all counts are equal"
    print(f"{counted} networks counted anew, {len(entries) - counted} failed ones left out: {verdict}")
    return wrong


def _retrain(plan: Plan, entries: list[Entry], name: str) -> int:
    """Prints a network's values, recorded and found again, and counts those that differ."""
    known = {entry.key: entry for entry in entries}
    table = front(population_table(entries, plan.searched))
    key = table["arch_id"].iloc[0] if name == "best" and len(table) else name
    if key not in known or not known[key].result.ok:
        raise ConfigurationError(f"expected the arch_id of a row with status ok, got {name!r}; see population.csv")
    wrong = 0
    for column, (recorded, now) in reevaluate(plan, known[key], ignore).items():
        wrong += recorded != now
        print(f"{key} {column}: recorded {recorded!r}, now {now!r}, {'equal' if recorded == now else 'DIFFERENT'}")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
