"""Search spaces: genome <-> network. Add one with a file and a line in `SPACES`."""

from typing import Any

from evonas.spaces.darts import DartsSpace
from evonas.spaces.handmade import HandmadeSpace
from evonas.spaces.phase import NSGANET, PhaseSpace
from evonas.spaces.shuffle import ShuffleSpace

__all__ = ["NSGANET", "SPACES", "DartsSpace", "HandmadeSpace", "PhaseSpace", "ShuffleSpace"]

SPACES: dict[str, Any] = {space.name: space for space in (PhaseSpace, ShuffleSpace, DartsSpace)}
"""Name -> class."""
