"""DARTS, PC-DARTS and P-DARTS: cells found by descent of the validation loss."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from evonas.errors import check_name
from evonas.gradient import METHODS
from evonas.methods.cells import PAPER, QUICK, TRAINED, CellOptions, compose, to_the_end
from evonas.methods.cells import run as run_cells

if TYPE_CHECKING:
    from rich.console import Console

    from evonas.gradient import Method
    from evonas.runs.result import Result

__all__ = ["OPTIONS", "PRESETS", "TRAINED", "DartsOptions", "compose", "run", "to_the_end"]


@dataclass(frozen=True, kw_only=True)
class DartsOptions(CellOptions):
    """DARTS, PC-DARTS or P-DARTS finds cells by descent of the validation loss."""

    method: str = "darts"
    """Supernet and schedule: darts, pcdarts, pdarts, or another of `evonas.gradient.METHODS`."""

    example: ClassVar[str] = "evonas darts --data digits --method pcdarts --out runs/pcdarts"
    short: ClassVar[tuple[str, ...]] = ("method", *CellOptions.common)

    def __post_init__(self) -> None:
        check_name(METHODS, self.method, "gradient method")
        super().__post_init__()

    def methods(self, image_size: int, n_classes: int = 10) -> dict[str, Method]:
        from evonas.gradient import METHODS

        return {"": self.several(self.levels.applied(METHODS[self.method]()), image_size, n_classes)}


OPTIONS = DartsOptions
PRESETS = {"quick": DartsOptions(**QUICK), "paper": DartsOptions(**PAPER)}
"""`paper`: the methods' schedules, and rows of 25 epochs at the width and depth of their evaluation."""


def run(options: DartsOptions, console: Console | None = None) -> Result:
    """Search cells and score them; see `evonas.methods.cells.run`."""
    return run_cells(options, console)
