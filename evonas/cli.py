"""`evonas`: start searches, look at runs, and check them."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console
from rich.table import Table

from evonas.errors import ConfigurationError
from evonas.report import front, population_table, shown
from evonas.runs import ROCO_PRESETS, RunFolder, command, guarded, run_roco
from evonas.runs.folder import stored_searched
from evonas.runs.stored import recount, reevaluate, stored_plan
from evonas.search.executors import ignore

__all__ = ["main"]

RunPath = Annotated[Path, tyro.conf.Positional]


def show(run: RunPath, /) -> None:
    """Print the front of a run.

    Args:
        run: the run's folder.
    """
    folder = RunFolder(run)
    searched = stored_searched(folder.open_stored())
    table = front(population_table(folder.entries(), searched))
    names = list(dict.fromkeys((*searched.objectives, *searched.columns, "params", "macs")))
    printed = Table(
        "arch_id", *names, "generation", title=f"{searched.method} on {searched.data}: {len(table)} on the front"
    )
    for _, row in table.iterrows():
        printed.add_row(row["arch_id"], *(shown(name, row[name]) for name in names), str(row["generation"]))
    Console().print(printed)


def export(run: RunPath, /) -> None:
    """Write front.csv, population.csv, history.csv and the pictures of a run anew from its journal.

    Args:
        run: the run's folder.
    """
    folder = RunFolder(run)
    entries = folder.entries()
    folder.export(entries, stored_searched(folder.open_stored()))
    print(f"{len(entries)} evaluations exported to {run}")


def verify(run: RunPath, /, retrain: tuple[str, ...] = ()) -> None:
    """Check a run: rebuild every network and count it, and evaluate the named ones again from their seed.

    Args:
        run: the run's folder.
        retrain: arch_ids to evaluate again, with commas between them; `best` is the first row of front.csv.
    """
    folder = RunFolder(run)
    plan, entries = stored_plan(folder), folder.entries()
    wrong = 0
    for entry, params, macs in recount(plan, entries):
        values = entry.result.objectives
        if (params, macs) != (values["params"], values["macs"]):
            wrong += 1
            print(f"{entry.key}: recorded {values['params']} params, {values['macs']} macs; counted {params}, {macs}")
    print(f"{len(entries)} evaluations: {'all counts are equal' if not wrong else f'{wrong} counts differ'}")
    known = {entry.key: entry for entry in entries}
    for name in retrain:
        table = front(population_table(entries, plan.searched))
        key = table["arch_id"].iloc[0] if name == "best" and len(table) else name
        if key not in known or not known[key].result.ok:
            raise ConfigurationError(f"expected the arch_id of a row with status ok in {run}, got {name!r}")
        for column, (recorded, now) in reevaluate(plan, known[key], ignore).items():
            equal = recorded == now
            wrong += not equal
            print(f"{key} {column}: recorded {recorded!r}, now {now!r}, {'equal' if equal else 'DIFFERENT'}")
    if wrong:
        raise ConfigurationError(f"{wrong} recorded values were not found again; see the lines above")


def roco() -> None:
    """RoCo-NAS: search networks of phases (see `evonas roco --help`)."""


COMMANDS: dict[str, Callable[..., Any]] = {"export": export, "roco": roco, "show": show, "verify": verify}


def main(argv: Sequence[str] | None = None) -> int:
    """The command line `evonas`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["roco"]:
        return command(run_roco, ROCO_PRESETS, words[1:])
    return guarded(lambda: tyro.extras.subcommand_cli_from_dict(COMMANDS, prog="evonas", args=words))


if __name__ == "__main__":
    sys.exit(main())
