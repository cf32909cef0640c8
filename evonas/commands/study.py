"""Make a paper's tables and figures: all of their runs, and what is made of those that are finished."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from evonas.commands.opened import print_table
from evonas.errors import SearchFailedError, choose
from evonas.ranges import Range, check_ranges
from evonas.types import TrainOn

if TYPE_CHECKING:
    from evonas.studies.study import Studied

__all__ = ["StudyCommand"]

MOST_SEEDS = 1000


@dataclass(frozen=True)
class StudyCommand:
    """Run a paper's whole grid of searches, with seeds, and write its tables and figures; the same command continues.

    Meanwhile, --status says how far it is.
    """

    example: ClassVar[str] = "evonas study roco --preset quick --seeds 3"

    name: Annotated[str, tyro.conf.Positional]
    """Name of the study: roco, darts, e2rnas-v1, e2rnas-v2, dsrna, tam, joint."""
    preset: Literal["quick", "small", "paper"] = "quick"
    """quick: minutes on two cores, on digits. small: hours, on a part of the papers' images. paper: their settings."""
    seeds: Annotated[int | None, Range(least=1, most=MOST_SEEDS)] = None
    """Number of seeds, 0, 1, ...; 2 of quick, 3 of small, 5 of paper by default."""
    train_on: TrainOn = "train"
    """Images of the final trainings: the train part, or all but the test images, those that searches held out, too."""
    status: bool = False
    """Say what is finished, begun, failed and waiting; nothing is run or written."""
    tables: bool = False
    """Write tables and figures from what is finished; nothing is run."""
    out: Path | None = None
    """Folder of the study; studies/NAME-PRESET by default, and with --train-on all studies/NAME-PRESET-all."""
    data_root: Path | None = None
    """Folder of the data sets; else the variable EVONAS_DATA, else ./data."""
    device: str = "auto"
    """auto (CUDA where there is one), cpu, cuda or cuda:N."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def __call__(self) -> None:
        from evonas.files import storage_errors
        from evonas.studies.page import status_table, write_study
        from evonas.studies.running import run_cells

        studied = self._studied()
        if self.status:
            print_table(status_table(studied), kept=2)
            return
        if not self.tables:
            studied.study.check()
            with storage_errors(f"make {studied.root}"):
                studied.root.mkdir(parents=True, exist_ok=True)
            run_cells(studied.root, studied.cells, self._where())
            studied = self._studied()
        page = write_study(studied)
        print(f"study: {len(studied.finished)} of {len(studied.cells)} runs are finished; tables and figures: {page}")
        _report_failures(studied)

    def _studied(self) -> Studied:
        from evonas.studies import STUDIES
        from evonas.studies.study import SEEDS, Studied

        study = choose(STUDIES, self.name, "study")
        seeds = SEEDS[self.preset] if self.seeds is None else self.seeds
        ending = "" if self.train_on == "train" else f"-{self.train_on}"
        root = (self.out or Path("studies") / f"{self.name}-{self.preset}{ending}").expanduser()
        return Studied(study, self.preset, seeds, root, self.train_on)

    def _where(self) -> dict[str, Any]:
        """Options of every run that change no result."""
        where: dict[str, Any] = {"device": self.device}
        return where if self.data_root is None else {**where, "data_root": self.data_root}


def _report_failures(studied: Studied) -> None:
    failed = [name for name, found in studied.states.items() if found.status == "failed"]
    if failed:
        raise SearchFailedError(
            f"{len(failed)} of {len(studied.cells)} runs failed: {', '.join(failed)}; the reasons stand in "
            f"{studied.root / 'study.md'}, and the same command tries them again"
        )
