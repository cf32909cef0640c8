"""Latency tables of runs: kept in the run's folder, found in the cache, or measured."""

from pathlib import Path
from typing import Any

import torch

from evonas.errors import ConfigurationError
from evonas.files import exists, storage_errors, waited_lock
from evonas.parts import digest
from evonas.report import duration
from evonas.runs.screen import Pace, Screen
from evonas.runs.sets import cache_folder
from evonas.ship import LatencyTable, load_table, measure_table, processor, save_table
from evonas.ship.latency_measuring import subject_of

__all__ = ["FILE", "begun_table", "find_or_measure"]

FILE = "latency.json"
"""Table of a run, in its folder."""


def begun_table(folder: Path, fingerprint: str | None) -> tuple[LatencyTable, str]:
    """The table that a run was begun with, from its folder, and a line where another machine has measured it.

    Args:
        fingerprint: of the table; None where the run was stopped before it recorded that.
    Raises:
        ConfigurationError: another table is there.
        DataError: it is missing or damaged.
    """
    table = load_table(folder / FILE)
    if fingerprint is not None and table.fingerprint != fingerprint:
        raise ConfigurationError(
            f"expected the latency table {fingerprint}, with which this run was begun, in {folder / FILE}, "
            f"got {table.fingerprint}; put that back, or begin another run with --out"
        )
    if (table.processor, table.torch) == (processor(), torch.__version__):
        return table, ""
    return table, (
        f"latency table: the one of this run, measured on {table.processor}, torch {table.torch}; "
        f"this is {processor()}, torch {torch.__version__}"
    )


def find_or_measure(
    space: Any, n_classes: int, image_size: int, folder: Path, screen: Screen
) -> tuple[LatencyTable, str]:
    """The table of a space on this machine, from the cache or a new one there, and a line on it; copied into a folder.

    One process measures, others wait.

    Raises:
        ConfigurationError: the cache holds one of another machine, torch or space; see `measure_table`.
        DataError: the one in the cache is damaged.
    """
    subject = subject_of(space, n_classes, image_size)
    name = digest({**subject, "processor": processor(), "torch": torch.__version__})
    path = cache_folder() / "latency" / f"{space.name}-{name}.json"

    def waits() -> None:
        screen.say(f"latency: another process is measuring {path}; waiting for it")

    with storage_errors(f"read {path}"):
        there = exists(path)
    where = f"found at {path}"
    if not there:
        with waited_lock(path.with_suffix(".lock"), waits):
            if not path.exists():
                where = f"measured in {_measure(path, space, n_classes, image_size, screen)}, at {path}"
    table = load_table(path)
    _check(table, subject, path)
    save_table(folder / FILE, table)
    return table, f"latency table: {len(table.layers)} layers on {table.processor}, one thread; {table.error}; {where}"


def _measure(path: Path, space: Any, n_classes: int, image_size: int, screen: Screen) -> str:
    """Measure a table and write it; returns how long that took."""
    screen.say(f"latency: no table of {space.name} networks on this machine yet, measuring it")
    pace = Pace(1.0)
    with screen:
        table = measure_table(
            space, n_classes, image_size, report=lambda text: screen.show(f"latency: {text}; {pace.words(0)}")
        )
    save_table(path, table)
    return duration(pace.elapsed)


def _check(table: LatencyTable, subject: dict[str, Any], path: Path) -> None:
    """ConfigurationError for a table of another machine, torch or space."""
    expected = {"processor": processor(), "torch": torch.__version__, "subject": subject}
    for name, value in expected.items():
        if getattr(table, name) != value:
            raise ConfigurationError(
                f"expected a latency table of {name} {value} in {path}, got one of {getattr(table, name)}; "
                "remove it and the next search measures another"
            )
