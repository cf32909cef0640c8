"""evonas searches neural networks that are accurate, small and hard to fool, and gives the whole trade-off front."""

import os
from importlib import metadata

__all__ = ["__version__"]

# Threads that wait for each other by spinning for long make training many times slower as soon as another process
# wants a processor, too. Read when torch loads its OpenMP runtime; results do not depend on it.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

__version__ = metadata.version("evonas")
