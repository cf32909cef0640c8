"""Small latency tables for tests."""

from functools import cache
from typing import Any

from evonas.ship import Effort, LatencyTable, measure_table

QUICK = Effort(networks=4, passes=1, calls=2, runs=2)


@cache
def measured(space: Any, n_classes: int = 10, image_size: int = 32) -> LatencyTable:
    """A table of a space, measured roughly; the same one whenever it is asked for."""
    return measure_table(space, n_classes, image_size, QUICK)
