"""A study: its cells, the rows that they give, and the tables and figures of its paper."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.errors import ConfigurationError
from evonas.files import exists, read_json, storage_errors
from evonas.runs.needs import options_of
from evonas.studies.grid import Cell, State, state
from evonas.studies.recipes import OWN, StudyRecipe

if TYPE_CHECKING:
    from evonas.report import Chance, TextTable

__all__ = ["PRESETS", "SEEDS", "Item", "Row", "Studied", "Study", "drawing", "failed", "read_rows", "shared"]

PRESETS = ("quick", "small", "paper")
"""Settings of a study: minutes on two cores; hours on two cores, on real images; the paper's own."""

MOST = 100
"""Largest number of seeds that another study's folder is searched for."""

SEEDS = {"quick": 2, "small": 3, "paper": 5}
"""Preset -> number of seeds unless another one is asked for."""

TEST_IMAGES = 10_000
"""Test images of the papers' data sets, at least, where a preset does not limit them."""

SET = "_set_error"
"""Part of the columns of adversarial sets, which have their own number of images."""

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


def failed(row: Row) -> bool:
    """Whether a network could not be trained or measured."""
    return bool(row.get("status", "ok") != "ok")


@dataclass(frozen=True)
class Studied:
    """A study's folder as it is now."""

    study: Study
    preset: str
    seeds: int
    root: Path
    """Folder of the page, the tables and the pictures."""
    source: Path | None = None
    """Folder of another study, whose runs this one shares; None: they are in `root`."""
    recipe: StudyRecipe = OWN
    """Training of its networks."""

    @property
    def name(self) -> str:
        """Usual name of its folder: `roco-small`, `roco-small-trades`."""
        return f"{self.study.name}-{self.preset}{self.recipe.suffix}"

    @property
    def runs(self) -> Path:
        """Folder of the runs."""
        return self.source or self.root

    @cached_property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(map(self.recipe.given_to, self.study.cells(self.preset, self.seeds)))

    @cached_property
    def states(self) -> dict[str, State]:
        """Folder of a cell -> its state."""
        return {cell.folder: state(self.runs, cell) for cell in self.cells}

    @property
    def finished(self) -> list[Cell]:
        return [cell for cell in self.cells if self.states[cell.folder].status == "finished"]

    @cached_property
    def read(self) -> dict[str, list[Row]]:
        """Folder of a finished run -> its rows, those of failed networks, too."""
        return {cell.folder: list(self._rows(cell)) for cell in self.finished}

    @cached_property
    def rows(self) -> list[Row]:
        """Measured values of finished runs; failed networks are left out."""
        return [row for rows in self.read.values() for row in rows if not failed(row)]

    def _rows(self, cell: Cell) -> Iterator[Row]:
        for row in self.study.read(self.runs / cell.folder, cell):
            yield {"group": cell.group, "label": cell.group, **row, "role": cell.role, "seed": cell.seed}

    def labelled(self, label: str, role: str = "cifar10") -> list[Row]:
        """The rows that a line of a table is made from."""
        return [row for row in self.rows if row["label"] == label and row["role"] == role]

    def chance(self, role: str = "cifar10") -> Chance | None:
        """Level of guessing on the images that one network was scored on; None where no run of them is finished."""
        from evonas.report import Chance

        paths = {cell.folder: self.runs / cell.folder / "config.json" for cell in self.finished if cell.role == role}
        configs = {folder: read_json(path) for folder, path in paths.items() if exists(path)}
        searched = {folder: config for folder, config in configs.items() if "measured" in config}
        if not searched:
            return None
        sets = {name: about for each in searched.values() for name, about in each["measured"].items() if SET in name}
        cells = [cell for cell in self.cells if cell.folder in searched]
        limits = [each.value for cell in cells for each in options_of(cell.options) if each.name == "test_limit"]
        images = min((limit for limit in limits if limit), default=TEST_IMAGES)  # a run that is not scored has none
        n_classes = searched[cells[0].folder]["identity"]["data"]["n_classes"]
        return Chance.of(n_classes, images, sets)

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


def shared(study: Study, source: Path, recipe: StudyRecipe = OWN) -> tuple[str, int]:
    """Preset and number of seeds of a study's runs in a folder, those whose networks have this training.

    Raises:
        ConfigurationError: there is none of them.
        StorageError: the folder cannot be read.
    """
    for preset in PRESETS:
        begun = [cell.seed for cell in study.cells(preset, MOST) if _ended(source, cell, recipe)]
        if begun:
            return preset, max(begun) + 1
    asked = f" with --recipe {recipe.words}" if recipe.name else ""
    raise ConfigurationError(
        f"expected a folder with finished runs of the study {study.name}{asked}, got none in {source}; give the "
        "--recipe that they were made with, or none"
    )


def _ended(source: Path, cell: Cell, recipe: StudyRecipe) -> bool:
    return exists(source / cell.folder) and state(source, recipe.given_to(cell)).status == "finished"


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
    findings: Callable[[Studied], Iterable[str]] | None = None
    """Conclusions in sentences made from the numbers."""
    fixed: str = ""
    """Why its networks can have no other training, in words that follow the study's name; empty: they can."""
    shares: str = ""
    """Study whose runs it can take, with more measured in them."""
