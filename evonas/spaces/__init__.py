"""Search spaces: genome <-> network. A new one is a file here and a line in `SPACES`."""

from evonas.spaces.phase import NSGANET, PhaseSpace

__all__ = ["NSGANET", "SPACES", "PhaseSpace"]

SPACES = {PhaseSpace.name: PhaseSpace}
"""Name -> class."""
