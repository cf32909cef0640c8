"""Say how far a run is."""

from __future__ import annotations

import contextlib
import shlex
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import tyro

from evonas.commands.opened import Folder, print_json, print_table
from evonas.ranges import Range, check_ranges

if TYPE_CHECKING:
    from evonas.runs.status import Stage, Status

__all__ = ["RunStatus"]

FRONT = 10
"""Networks of the front that are shown."""


@dataclass(frozen=True)
class RunStatus:
    """Say how far a run is, also one that is going on: what is done, what failed, how long it takes, the front so far.

    Nothing is written and no lock is taken.
    """

    example: ClassVar[str] = "evonas status runs/roco-digits-quick-seed0 --watch 10"

    run: Folder
    """Folder of the run."""
    watch: Annotated[float | None, tyro.conf.arg(metavar="SECONDS"), Range(least=0.1, most=86400)] = None
    """Say it again after so many seconds, until no process writes the run."""
    json: bool = False
    """Print JSON for scripts."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self) -> None:
        from rich.console import Console

        from evonas.runs.sets import SETS, cache_folder
        from evonas.runs.status import read_status

        ending = contextlib.nullcontext() if self.watch is None else contextlib.suppress(KeyboardInterrupt)
        with ending:  # that is how a watch is ended
            while True:
                found = read_status(self.run, cache_folder() / SETS)
                if self.watch is not None and not self.json:
                    Console().clear()  # nothing outside a terminal
                print_json(_plain(found)) if self.json else _print(found)
                if self.watch is None or not found.process:
                    return
                time.sleep(self.watch)


def _plain(found: Status) -> dict[str, Any]:
    from evonas.report.choosing import plain_rows

    return {
        "run": str(found.path),
        "method": found.method,
        "data": found.data,
        "running": None if found.process is None else bool(found.process),
        "process": found.process,
        "complete": found.complete,
        "idle_seconds": round(found.idle, 1),
        "generation": found.generation,
        "stages": [
            {
                "name": stage.name,
                "unit": stage.unit,
                "done": stage.done,
                "total": stage.total,
                "failed": stage.failed,
                "stopped": stage.stopped,
                "seconds": stage.seconds,
                "workers": stage.workers,
                "seconds_left": stage.left,
            }
            for stage in found.stages
        ],
        "front": [] if found.front is None else plain_rows(found.front),
        "notes": list(found.notes),
        "continue": _again(found),
    }


def _print(found: Status) -> None:
    from evonas.report import front_text

    for line in _lines(found):
        print(line)
    if found.front is not None and found.searched is not None and len(found.front):
        objectives = replace(found.searched, columns=())
        print_table(front_text(found.front, objectives, FRONT, ("generation",)), kept=1)
    again = _again(found)
    if not found.process and not found.complete:
        print(f"continue: {again}" if again else "continue: give the command, or run the script, that began it again")


def _lines(found: Status) -> Iterator[str]:
    from evonas.report import duration

    what = " on ".join(filter(None, (found.method or "a run", found.data)))
    written = f"last written {duration(found.idle)} ago"
    if found.process:
        state = f"running, process {found.process}"
    elif found.process is None:
        state = "whether a process writes it is not known on this machine"
    else:
        state = "finished" if found.complete else "not running on this machine"
    yield f"{what}, {found.path}: {state}, {written}"
    for stage in found.stages:
        yield f"  {_stage(stage)}"
    if not found.stages:
        yield "  before its first stage: data, adversarial set"
    yield from found.notes


def _stage(stage: Stage) -> str:
    from evonas.report import duration

    of = f"{stage.done}/{stage.total}" if stage.total is not None else str(stage.done)
    counts = {"failed": stage.failed, "stopped": stage.stopped}
    parts = [f"{stage.name}: {of} {stage.unit}", *(f"{n} {what}" for what, n in counts.items() if n)]
    if stage.left:
        training = "training " if stage.unit == "evaluations" else ""
        many = "one at a time" if stage.workers == 1 else f"{stage.workers} at a time"
        parts.append(f"about {duration(stage.left)} of {training}left, {many} ({duration(stage.seconds or 0)} each)")
    return ", ".join(parts)


def _again(found: Status) -> str:
    """The command that continues the run; empty where it is not known."""
    from evonas.methods.stored import begun_command

    return shlex.join(begun_command(found.config, found.path))
