"""Write the tables and pictures of a run anew, or one of its networks as a file for other programs."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from evonas.commands.opened import Folder, opened
from evonas.errors import ConfigurationError
from evonas.files import expanded
from evonas.ship.settings import ExportSettings

__all__ = ["Export"]


@dataclass(frozen=True)
class Export:
    """Write a network of a run to a file for other programs, checked on real images, with a card beside it:

    evonas export runs/roco-digits-quick-seed0 best --to net.onnx --int8

    Without ARCH, write front.csv, population.csv, history.csv and the pictures of a run anew from its journal.
    """

    run: Folder
    """Folder of the run."""
    arch: Annotated[str, tyro.conf.Positional] = ""
    """arch_id of the network; `best` is the first row of front.csv."""
    to: Path | None = None
    """File: .onnx, .pt2 (torch.export) or .pte (ExecuTorch)."""
    weights: str = "search"
    """search: as they were scored; audit: of a training to the end."""
    settings: Annotated[ExportSettings, tyro.conf.OmitArgPrefixes] = field(default_factory=ExportSettings)
    data: str = ""
    """npz:PATH, where the file of the run's images is now; its content is compared."""
    plugin: tuple[str, ...] = ()
    """Python files that the run was begun with."""

    def __call__(self) -> None:
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
        print(f"{len(entries)} evaluations exported to {self.run}")

    def _network(self, to: Path) -> None:
        from evonas.runs.exporting import Export as Exporting
        from evonas.runs.exporting import check_target

        check_target(to, self.settings.int8)
        found = opened(self.run, self.plugin, self.data)
        entry = found.entry(self.arch)
        network = found.load(entry.key)
        Exporting(result=found, entry=entry, network=network, weights=self.weights, to=to, settings=self.settings)()
