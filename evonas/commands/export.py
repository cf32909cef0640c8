"""Write the tables and pictures of a run anew."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from evonas.commands.opened import Folder, opened
from evonas.files import expanded

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """Write front.csv, population.csv, history.csv and the pictures of a run anew from its journal."""

    run: Folder
    """Folder of the run."""
    optuna: Path | None = None
    """File for a journal of Optuna with a trial for each evaluation, in place of tables: optuna-dashboard shows it."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        if self.optuna is not None:
            self._optuna(expanded(self.optuna))
            return
        found = opened(self.run, self.plugin)
        folder, searched = found.folder, found.searched
        with folder.locked():
            entries = folder.entries()
            folder.export(entries, searched)
        print(f"{len(entries)} evaluations exported to {self.run}")

    def _optuna(self, path: Path) -> None:
        from evonas.report import require_optuna, write_optuna_journal
        from evonas.runs.folder import stored_space

        require_optuna()
        found = opened(self.run, self.plugin)
        space = stored_space(found.folder.open_stored()["identity"]["space"])
        name, begun = self.run.resolve().name, found.folder.journal.stat().st_mtime
        write_optuna_journal(path, name, found.entries, found.searched, None if space is None else space.upper, begun)
        print(f"{len(found.entries)} trials in {path}; show them with: optuna-dashboard {path}")
