"""The runs of a study, one after another; another process of the same study does those that this one leaves."""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from evonas.errors import EvonasError, RunInUseError
from evonas.methods import method_module
from evonas.runs.interrupt import interruptible
from evonas.runs.screen import Screen
from evonas.studies.grid import Cell, placed, record, state

__all__ = ["run_cells"]

PAUSE = 1.0
"""Seconds between looks at runs that another process has in hand."""


def run_cells(root: Path, cells: Sequence[Cell], where: Mapping[str, Any], console: Console | None = None) -> None:
    """Run whatever is not finished, or continue with that; a run that fails is said, recorded, and left behind.

    A run goes on from its own folder, and a finished one is not begun again. What failed before is tried again. Runs
    that another process has in hand are waited for.

    Args:
        where: options of every run that change no result; see `placed`.
    Raises:
        StorageError: a folder cannot be read or written.
        Interrupted: a signal came; the same command continues.
    """
    begun = round(time.time(), 3)
    with interruptible() as interruption:
        screen = Screen(console, interruption.check)
        told: set[str] = set()
        while left := list(_left(root, cells, begun)):
            ended = 0
            for cell in left:
                if cell in _left(root, cells, begun):  # else another process has ended it meanwhile
                    ended += _run(root, cell, where, screen, console, told)
            if not ended:  # all of them are in other hands
                screen.check()
                time.sleep(PAUSE)


def _left(root: Path, cells: Sequence[Cell], begun: float) -> Iterator[Cell]:
    """Cells that can be run now: neither finished nor failed since this process began, with all that they need."""
    states = {cell.folder: state(root, cell) for cell in cells}
    for cell in cells:
        own = states[cell.folder]
        over = own.status == "finished" or (own.status == "failed" and own.ended >= begun)
        if not over and all(states[need].status == "finished" for need in cell.needs):
            yield cell


def _run(
    root: Path, cell: Cell, where: Mapping[str, Any], screen: Screen, console: Console | None, told: set[str]
) -> bool:
    """Whether the run ended here; false where another process has it in hand."""
    screen.say(f"study: {cell.folder}" if cell.folder not in told else "")
    started = time.time()
    try:
        method_module(cell.method).run(placed(cell, root, where), console)
    except RunInUseError:
        if cell.folder not in told:
            screen.say(f"study: another process has {cell.folder} in hand")
        told.add(cell.folder)
        return False
    except Exception as error:
        reason = str(error) if isinstance(error, EvonasError) else f"{type(error).__name__}: {error}"
        now = time.time()
        record(root, cell, "failed", now - started, now, " ".join(reason.split()), traceback.format_exc())
        screen.say(f"study: {cell.folder} failed: {reason}; the others go on")
        return True
    now = time.time()
    record(root, cell, "finished", now - started, now)
    return True
