"""Write the tables and pictures of a run anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from evonas.commands.opened import Folder, opened

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """Write front.csv, population.csv, history.csv and the pictures of a run anew from its journal."""

    example: ClassVar[str] = "evonas export runs/roco-digits-quick-seed0"

    run: Folder
    """Folder of the run."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        found = opened(self.run, self.plugin)
        folder, searched = found.folder, found.searched
        with folder.locked():
            entries = folder.entries()
            folder.export(entries, searched)
        print(f"{len(entries)} evaluations exported to {self.run}")
