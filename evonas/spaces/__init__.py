"""Search spaces: genome <-> network. A new one is a file here and a line in `SPACES`."""

from typing import Any

from evonas.spaces.phase import NSGANET, PhaseSpace
from evonas.spaces.shuffle import ShuffleSpace

__all__ = ["NSGANET", "SPACES", "PhaseSpace", "ShuffleSpace"]

SPACES: dict[str, Any] = {PhaseSpace.name: PhaseSpace, ShuffleSpace.name: ShuffleSpace}
"""Name -> class."""
