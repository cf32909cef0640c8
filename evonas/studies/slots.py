"""Several runs of a study at once on one machine: a process a slot, each with a share of the processors."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from evonas.errors import ConfigurationError
from evonas.studies.grid import Cell
from evonas.studies.running import run_cells

__all__ = ["run_on_slots"]


def run_on_slots(root: Path, cells: Sequence[Cell], where: Mapping[str, Any], slots: int) -> None:
    """`run_cells`, so many runs at once; this process is one of them, the others write to slot-2.log, slot-3.log, ...

    Whatever ends this process ends them, too. Runs that one has in hand are left alone by the others, so that each
    result is the one that a single slot gives.

    Raises:
        ConfigurationError: there are fewer processors than slots, or a process cannot be kept to its share here.
        Interrupted: a signal came; the same command continues.
    """
    if slots == 1:
        return run_cells(root, cells, where)
    own, *others = _shares(slots)
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=_slot, args=(root, tuple(cells), dict(where), share, number))
        for number, share in enumerate(others, 2)
    ]
    for process in processes:
        process.start()
    try:
        with _kept_to(own):
            run_cells(root, cells, where)
    finally:
        for process in processes:  # whoever ends with nothing left has nothing to lose
            process.terminate()
            process.join()


def _shares(slots: int) -> list[list[int]]:
    """Processors of each slot."""
    if not hasattr(os, "sched_setaffinity"):
        raise ConfigurationError("expected --slots 1 on this system; start the same command in several terminals")
    there = sorted(os.sched_getaffinity(0))
    if slots > len(there):
        raise ConfigurationError(f"expected at most {len(there)} slots, one a processor, got {slots}")
    return [there[place::slots] for place in range(slots)]


@contextlib.contextmanager
def _kept_to(share: Sequence[int]) -> Iterator[None]:
    """Within, this process and those that it starts use these processors alone."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, share)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _slot(root: Path, cells: Sequence[Cell], where: Mapping[str, Any], share: Sequence[int], number: int) -> None:
    from rich.console import Console

    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.setsid()  # Ctrl-C is for the first process, which ends the others
    with open(root / f"slot-{number}.log", "a") as log, _kept_to(share), contextlib.suppress(KeyboardInterrupt):
        run_cells(root, cells, where, Console(file=log, width=120))


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    wait([parent.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
