"""Print the front of a run."""

from __future__ import annotations

from dataclasses import dataclass

from evonas.commands.opened import Folder, opened, print_table

__all__ = ["Show"]


@dataclass(frozen=True)
class Show:
    """Print the front of a run."""

    run: Folder
    """Folder of the run."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        from evonas.report import front, front_text, population_table

        found = opened(self.run, self.plugin)
        table = front(population_table(found.entries, found.searched))
        print_table(front_text(table, found.searched, len(table), ("generation",)), kept=1)
