"""What a search minimises or maximises, one file each. A new one is a file and a line in `OBJECTIVES`."""

from collections.abc import Callable

from evonas.objectives.clean_error import CleanError
from evonas.objectives.cost import Flops, Macs, Params
from evonas.objectives.objective import Candidate, Column, CostedSpace, Objective

__all__ = ["OBJECTIVES", "Candidate", "CleanError", "Column", "CostedSpace", "Flops", "Macs", "Objective", "Params"]

OBJECTIVES: dict[str, Callable[[], Objective]] = {
    CleanError.name: CleanError,
    Flops.name: Flops,
    Macs.name: Macs,
    Params.name: Params,
}
"""Name -> class; its defaults are the ones a command line uses."""
