"""DARTS, PC-DARTS and P-DARTS: cells found by descent of the validation loss."""

from dataclasses import dataclass
from typing import ClassVar

from rich.console import Console

from evonas.errors import choose
from evonas.gradient import METHODS, Method
from evonas.methods.cells import PAPER, QUICK, CellOptions, compose
from evonas.methods.cells import run as run_cells
from evonas.runs import Result

__all__ = ["OPTIONS", "PRESETS", "DartsOptions", "compose", "run"]


@dataclass(frozen=True, kw_only=True)
class DartsOptions(CellOptions):
    """DARTS, PC-DARTS or P-DARTS finds cells by descent of the validation loss."""

    method: str = "darts"
    """Supernet and schedule: darts, pcdarts, pdarts, or another of `evonas.gradient.METHODS`."""

    short: ClassVar[tuple[str, ...]] = ("method", *CellOptions.common)

    def methods(self, image_size: int) -> dict[str, Method]:
        return {"": self.levels.applied(choose(METHODS, self.method, "gradient method")())}


OPTIONS = DartsOptions
PRESETS = {"quick": DartsOptions(**QUICK), "paper": DartsOptions(**PAPER)}
"""`paper`: the methods' schedules, and rows of 25 epochs at the width and depth of their evaluation."""


def run(options: DartsOptions, console: Console | None = None) -> Result:
    """Search cells and score them; see `evonas.methods.cells.run`."""
    return run_cells(options, console)
