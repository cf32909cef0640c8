"""Cells of NAS-Bench-201 (Dong and Yang, 2020) as data: edges, operations, and the edges that carry something."""

from collections.abc import Sequence

__all__ = ["EDGES", "OPERATIONS", "STAGES", "live_edges"]

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
"""Choices of an edge, in the benchmark's order."""
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
"""(from, to) of every edge of a cell, in the benchmark's order; node 0 is the input, node 3 the output."""
STAGES = 3
"""Stages of a network; every one but the first begins with a residual block that halves maps and doubles channels."""


def live_edges(operations: Sequence[str]) -> tuple[bool, ...]:
    """Whether each edge is on a path from the input of the cell to its output; an edge with `none` is on no path."""
    there = [(edge, name != "none") for edge, name in zip(EDGES, operations, strict=True)]
    reached, used = {0}, {3}
    for (start, end), passes in there:
        if passes and start in reached:
            reached.add(end)
    for (start, end), passes in reversed(there):
        if passes and end in used:
            used.add(start)
    return tuple(passes and start in reached and end in used for (start, end), passes in there)
