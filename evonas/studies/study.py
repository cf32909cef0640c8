"""A study: its cells, the rows that they give, and the tables and figures of its paper."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.files import exists, storage_errors
from evonas.studies.grid import Cell, State, state, trained_on
from evonas.types import TrainOn

if TYPE_CHECKING:
    from evonas.report import TextTable

__all__ = ["PRESETS", "SEEDS", "Item", "Row", "Studied", "Study", "drawing", "read_rows"]

PRESETS = ("quick", "small", "paper")
"""Settings of a study: minutes on two cores; hours on two cores, on real images; the paper's own."""

SEEDS = {"quick": 2, "small": 3, "paper": 5}
"""Preset -> number of seeds unless another one is asked for."""

Row = dict[str, Any]
"""One network, as an audit left it, or one figure of a run: column -> natural value. With group, label, role, seed."""


def read_rows(path: Path) -> list[Row]:
    """The rows of a table on disk, numbers as floats, empty cells left out; none where there is no such file.

    Raises:
        StorageError: it cannot be read.
    """
    with storage_errors(f"read {path}"):
        if not exists(path):
            return []
        with open(path, newline="") as file:
            return [{name: _value(name, text) for name, text in row.items() if text} for row in csv.DictReader(file)]


def _value(name: str, text: str) -> Any:
    if name in ("arch_id", "genome"):
        return text
    try:
        number = float(text)
    except ValueError:
        return text
    return number if math.isfinite(number) else text


@dataclass(frozen=True)
class Studied:
    """A study's folder as it is now."""

    study: Study
    preset: str
    seeds: int
    root: Path
    train_on: TrainOn = "train"
    """Images of trainings to the end: the train part, or all but the test part."""

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(trained_on(cell, self.train_on) for cell in self.study.cells(self.preset, self.seeds))

    @cached_property
    def states(self) -> dict[str, State]:
        """Folder of a cell -> its state."""
        return {cell.folder: state(self.root, cell) for cell in self.cells}

    @property
    def finished(self) -> list[Cell]:
        return [cell for cell in self.cells if self.states[cell.folder].status == "finished"]

    @cached_property
    def rows(self) -> list[Row]:
        """Measured values of finished runs; failed networks are left out."""
        return [row for cell in self.finished for row in self._rows(cell) if row.get("status", "ok") == "ok"]

    def _rows(self, cell: Cell) -> Iterator[Row]:
        for row in self.study.read(self.root / cell.folder, cell):
            yield {"group": cell.group, "label": cell.group, **row, "role": cell.role, "seed": cell.seed}

    def labelled(self, label: str, role: str = "cifar10") -> list[Row]:
        """The rows that a line of a table is made from."""
        return [row for row in self.rows if row["label"] == label and row["role"] == role]

    def data(self, role: str) -> str:
        """Data set that stands for one of the paper's; the paper's own where no cell does."""
        of = next((cell for cell in self.cells if cell.role == role), None)
        asked = getattr(of.options, "data", role) if of else role
        return str(getattr(asked, "data", asked))


@dataclass(frozen=True)
class Item:
    """A table or figure of a paper."""

    name: str
    """As the paper numbers it: `Table III`, `Fig. 5`."""
    about: str
    """Content in a few words."""
    differs: str
    """Differences from the paper's, and why."""
    tables: Callable[[Studied], Sequence[TextTable]] | None = None
    """Makes its tables; a cell without a run is a dash."""
    draw: Callable[[Studied, Path], bool] | None = None
    """Draws it into a PNG file; false where nothing is there to be drawn."""

    @property
    def stem(self) -> str:
        return self.name.lower().replace("fig. ", "figure-").replace(" ", "-").replace(".", "")


def drawing(name: str, about: str = "a drawing of the method") -> Item:
    """A figure without a result."""
    return Item(name, about, "it holds no result, so it is not made")


@dataclass(frozen=True)
class Study:
    """A grid of runs, and what is made of it."""

    name: str
    paper: str
    """Whose tables and figures they are."""
    cells: Callable[[str, int], Iterable[Cell]]
    """(preset, number of seeds) -> its runs, in an order in which none comes before what it needs."""
    read: Callable[[Path, Cell], Iterable[Row]]
    """(folder of a finished run, its cell) -> rows."""
    items: tuple[Item, ...]
    check: Callable[[], None] = lambda: None
    """Raises, before anything begins, what would stop every run: a missing library."""
    notes: tuple[str, ...] = ()
    """Lines above the tables."""
