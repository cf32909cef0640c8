"""Canonical order of the nodes of a cell."""

__all__ = ["CellNodes", "canonical_nodes"]

CellNodes = tuple[tuple[tuple[int, int], tuple[int, int]], ...]
"""Two (input, operation) pairs for each of the nodes 2, 3, ...."""


def canonical_nodes(nodes: CellNodes) -> CellNodes:
    """The lexicographically smallest listing of the same cell.

    The pairs of a node may swap, because it adds them; nodes may swap, because the next cells read all of them through
    convolutions, whose weights can be permuted to match. Places one node after another: always the smallest of those
    whose inputs are placed. Of equally small nodes it tries each, since later nodes may distinguish them.
    """
    return _placed(dict(enumerate(nodes, start=2)), {0: 0, 1: 1})


def _placed(remaining: dict[int, tuple[tuple[int, int], tuple[int, int]]], places: dict[int, int]) -> CellNodes:
    """Smallest listing of the remaining nodes, given the places of inputs and earlier nodes."""
    if not remaining:
        return ()
    ready = {
        node: tuple(sorted((places[state], name) for state, name in pairs))
        for node, pairs in remaining.items()
        if all(state in places for state, _ in pairs)
    }
    smallest = min(ready.values())
    listings = []
    for node, pairs in ready.items():
        if pairs == smallest:
            rest = {other: inputs for other, inputs in remaining.items() if other != node}
            listings.append(_placed(rest, {**places, node: len(places)}))
    first, second = smallest
    return ((first, second), *min(listings))
