"""One listing for all listings of the same cell."""

__all__ = ["CellNodes", "canonical_nodes"]

CellNodes = tuple[tuple[tuple[int, int], tuple[int, int]], ...]
"""For each of the nodes 2, 3, ... its two (input, operation) pairs."""


def canonical_nodes(nodes: CellNodes) -> CellNodes:
    """The smallest listing, in lexicographic order, of all that give the same cell.

    A node's pairs may be swapped, because it adds them; nodes may change places, because the cells behind read all of
    them through convolutions whose weights can change places, too. Nodes are placed one after another: each time the
    smallest of those whose inputs are placed. Where two are equal, each is tried, for others may tell them apart.
    """
    return _placed(dict(enumerate(nodes, start=2)), {0: 0, 1: 1})


def _placed(left: dict[int, tuple[tuple[int, int], tuple[int, int]]], places: dict[int, int]) -> CellNodes:
    """Of the nodes that are left, given the places of those before."""
    if not left:
        return ()
    ready = {
        node: tuple(sorted((places[state], name) for state, name in pairs))
        for node, pairs in left.items()
        if all(state in places for state, _ in pairs)
    }
    smallest = min(ready.values())
    listings = []
    for node, pairs in ready.items():
        if pairs == smallest:
            others = {other: read for other, read in left.items() if other != node}
            listings.append(_placed(others, {**places, node: len(places)}))
    first, second = smallest
    return ((first, second), *min(listings))
