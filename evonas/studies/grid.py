"""Grids of runs: a cell is one run of a method with options of its own, in a folder of its own; and its state there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from evonas.files import exists, read_json, write_json
from evonas.parts import digest
from evonas.runs.options import as_json, changed

__all__ = ["Cell", "State", "paper_data", "placed", "record", "state"]

RECORD = "study.json"
"""File in a run's folder that says how the run ended in the study."""

PAPER_DATA = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100", "svhn": "SVHN", "mnist": "MNIST", "imagenet": "ImageNet"}


def paper_data(role: str) -> str:
    """A data set as papers write it."""
    return PAPER_DATA.get(role, role)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run of a study."""

    group: str
    """Rows of the tables that it is for, such as `RoCo-NAS`; with role and seed the name of its folder."""
    method: str
    """Name in `evonas.methods.METHODS`."""
    options: Any
    """Options, of the method's own class; its folder and the place of its evaluations are filled in by `placed`."""
    role: str = "cifar10"
    """Data set of the paper that its images stand for."""
    links: tuple[tuple[str, str], ...] = ()
    """(option, path in the study's folder) of files and folders that earlier cells leave."""
    recipe: str = ""
    """Training that the study's networks have in place of their runs' own, see `StudyRecipe`."""
    record: str = RECORD
    """File in its folder that says how it ended: another one where another study has the same run, with less in it."""

    @property
    def seed(self) -> int:
        return int(self.options.seed)

    @property
    def folder(self) -> str:
        words = re.sub(r"[^a-z0-9.]+", "-", f"{self.group}-{self.role}".lower()).strip("-")
        return f"{words}-seed{self.seed}"

    @property
    def needs(self) -> tuple[str, ...]:
        """Folders of the cells that are run before."""
        return tuple(Path(path).parts[0] for _, path in self.links)

    @property
    def digest(self) -> str:
        """Digest of all that is asked for; an option that a later version adds changes nothing at its default."""
        usual = as_json(type(self.options)())
        given = {name: value for name, value in as_json(self.options).items() if value != usual[name]}
        asked = {"method": self.method, "options": given, "links": [*map(list, self.links)]}
        return digest({**asked, **({"recipe": self.recipe} if self.recipe else {})})


class State(NamedTuple):
    """State of a cell so far."""

    status: Literal["waiting", "begun", "failed", "finished"]
    about: str = ""
    """How far it is, or why it failed."""
    seconds: float = 0.0
    """Duration of the process that ended it."""
    ended: float = 0.0
    """When it ended, in seconds since 1970."""


def placed(cell: Cell, root: Path, where: Mapping[str, Any]) -> Any:
    """The options of the cell's run below the study's folder.

    Args:
        where: option -> value, of those that change no result: `data_root`, `device`, `executor`, ...
    """
    out = root / cell.folder
    out = out / "set.safetensors" if cell.method == "build-set" else out
    links = {option: str((root / path).absolute()) for option, path in cell.links}
    return changed(cell.options, {**where, **links, "out": out})


def state(root: Path, cell: Cell) -> State:
    """State of a cell as its folder says; nothing is changed.

    Raises:
        StorageError: it cannot be read.
    """
    folder = root / cell.folder
    for name in dict.fromkeys((cell.record, RECORD)):
        found = read_json(folder / name) if exists(folder / name) else {}
        if found.get("digest") == cell.digest:
            return State(found["status"], found["reason"], found["seconds"], found["ended"])
    if not exists(folder):
        return State("waiting")
    journal = folder / "journal.jsonl"
    lines = journal.read_bytes().count(b"\n") - 1 if exists(journal) else 0
    return State("begun", f"{lines} evaluated" if lines > 0 else "")


def record(
    root: Path, cell: Cell, status: str, seconds: float, ended: float, reason: str = "", traceback: str = ""
) -> None:
    """Write how the cell's run ended.

    Raises:
        StorageError: the folder cannot be written.
    """
    values = {"status": status, "reason": reason, "seconds": round(seconds, 1), "ended": round(ended, 3)}
    write_json(root / cell.folder / cell.record, {"digest": cell.digest, **values, "traceback": traceback})
