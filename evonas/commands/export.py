"""Write the tables and pictures of a run anew, or one of its networks as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from evonas.commands.opened import Folder, opened, say
from evonas.errors import ConfigurationError
from evonas.files import check_writable, expanded
from evonas.ship.settings import ExportSettings

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """Write a network of a run to a file for other programs, checked on real images, with a card beside it.

    Without ARCH, write front.csv, population.csv, history.csv and the pictures of a run anew from its journal.
    """

    example: ClassVar[str] = "evonas export runs/roco-digits-quick-seed0 best --to net.onnx --int8"

    run: Folder
    """Folder of the run."""
    arch: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="ARCH")] = ""
    """arch_id of a network, or best: the first row of front.csv."""
    to: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """File: .onnx, .pt2 (torch.export) or .pte (ExecuTorch)."""
    weights: str = "search"
    """search: as they were scored; audit: of the longest training to the end."""
    train_again: bool = False
    """Where the search kept no weights of the network, train it again from its seed."""
    settings: Annotated[ExportSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=ExportSettings)
    data: str = ""
    """npz:PATH, where the file of the run's images is now; its content is compared."""
    optuna: Path | None = None
    """File for a journal of Optuna with a trial for each evaluation, in place of tables: optuna-dashboard shows it."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
        if self.optuna is not None:
            if self.arch or self.to is not None:
                raise ConfigurationError("expected --optuna, which is about the whole run, without ARCH and --to")
            self._optuna(expanded(self.optuna))
            return
        if bool(self.arch) != (self.to is not None):
            wanted = "a file after --to" if self.arch else "an arch_id, or best, after the run"
            raise ConfigurationError(
                f"expected {wanted}, such as evonas export {self.run} {self.arch or 'best'} --to net.onnx"
            )
        if self.to is None:
            self._tables()
        else:
            self._network(expanded(self.to))

    def _tables(self) -> None:
        found = opened(self.run, self.plugin)
        folder, searched = found.folder, found.searched
        with folder.locked():
            entries = folder.entries()
            folder.export(entries, searched)
        say(f"{len(entries)} evaluations exported to {self.run}")

    def _optuna(self, path: Path) -> None:
        from evonas.report import require_optuna, write_optuna_journal
        from evonas.runs.folder import stored_space

        require_optuna()
        found = opened(self.run, self.plugin)
        space = stored_space(found.folder.open_stored()["identity"]["space"])
        name, begun = self.run.resolve().name, found.folder.journal.stat().st_mtime
        write_optuna_journal(path, name, found.entries, found.searched, None if space is None else space.upper, begun)
        say(f"{len(found.entries)} trials in {path}; show them with: optuna-dashboard {path}")

    def _network(self, to: Path) -> None:
        from evonas.runs.exporting import NetworkExport, check_target

        check_target(to, self.settings.int8)
        check_writable(to)
        found = opened(self.run, self.plugin, self.data)
        entry = found.entry(self.arch)
        network = found.load(entry.key, self.weights, self.train_again)
        NetworkExport(result=found, entry=entry, network=network, weights=self.weights, to=to, settings=self.settings)(
            say
        )
