"""Search spaces: genome <-> network. Add one with a file and a line in `SPACES`."""

from typing import TYPE_CHECKING, Any

from evonas.lazy import Table, import_lazily

if TYPE_CHECKING:
    from evonas.spaces.darts import DartsSpace
    from evonas.spaces.handmade import HandmadeSpace
    from evonas.spaces.nasbench201 import NasBench201Space
    from evonas.spaces.phase import NSGANET, PhaseSpace
    from evonas.spaces.shuffle import ShuffleSpace

__all__ = ["NSGANET", "SPACES", "DartsSpace", "HandmadeSpace", "NasBench201Space", "PhaseSpace", "ShuffleSpace"]

SPACES: "Table[Any]" = Table(
    {
        "darts": "evonas.spaces.darts:DartsSpace",
        "nasbench201": "evonas.spaces.nasbench201:NasBench201Space",
        "phase": "evonas.spaces.phase:PhaseSpace",
        "shuffle": "evonas.spaces.shuffle:ShuffleSpace",
    }
)
"""Name -> class."""

import_lazily(__name__)
