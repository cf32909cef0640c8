"""Bits of one phase: decoding with the reference's repair, and the canonical form up to isomorphism."""

from collections.abc import Sequence
from functools import lru_cache

from evonas.networks.phase import PhaseGraph

__all__ = ["canonical_bits", "connections", "decode", "n_bits"]

Bits = tuple[int, ...]


def n_bits(nodes: int) -> int:
    """Bits of a phase: one for each pair of nodes, and the residual bit."""
    return nodes * (nodes - 1) // 2 + 1


def connections(bits: Sequence[int], nodes: int) -> list[tuple[int, int]]:
    """(predecessor, node) pairs of the 1-bits, nodes counted from 1. For node i = 2..n come the bits of 1..i-1."""
    pairs = [(before, node) for node in range(2, nodes + 1) for before in range(1, node)]
    return [pair for pair, bit in zip(pairs, bits, strict=False) if bit]


@lru_cache(maxsize=1 << 17)
def decode(bits: Bits, nodes: int) -> PhaseGraph | None:
    """The repaired graph of a phase, or None where no connection bit is set: such a phase is dropped.

    Repair, computed once on the unrepaired graph: a node that reads but feeds nobody feeds the output; one that feeds
    but reads nothing takes the phase's input; one that does neither is inactive. The residual bit lets the output read
    the phase's input.
    """
    pairs = connections(bits, nodes)
    if not pairs:
        return None
    reads = {node: tuple(a for a, b in pairs if b == node) for node in range(1, nodes + 1)}
    feeds = {before for before, _ in pairs}
    return PhaseGraph(
        node_inputs=tuple(reads[node] or ((0,) if node in feeds else ()) for node in reads),
        output_inputs=((0,) if bits[-1] else ()) + tuple(node for node in reads if reads[node] and node not in feeds),
    )


@lru_cache(maxsize=1 << 17)
def canonical_bits(bits: Bits, nodes: int) -> Bits:
    """The same bits for every phase of the same graph up to the names of its nodes; all 0 for an inactive phase.

    Colour refinement ranks the nodes, by depth first so that every ranking is a topological order; where nodes stay
    equal, each is tried in turn, and the largest bit string wins. Idempotent.
    """
    pairs = connections(bits, nodes)
    if not pairs:
        return (0,) * len(bits)
    before = [{a - 1 for a, b in pairs if b == node} for node in range(1, nodes + 1)]
    after = [{b - 1 for a, b in pairs if a == node} for node in range(1, nodes + 1)]
    depth: list[int] = []
    for node in range(nodes):
        depth.append(1 + max((depth[a] for a in before[node]), default=-1))
    colours = [depth[node] if before[node] or after[node] else nodes for node in range(nodes)]  # isolated ones last
    return (*max(_orderings(colours, before, after)), bits[-1])


def _orderings(colours: list[int], before: list[set[int]], after: list[set[int]]) -> list[Bits]:
    """Connection bits of every ranking of the nodes that refinement cannot tell from another."""
    colours = _refine(colours, before, after)
    tied = [node for node, colour in enumerate(colours) if colours.count(colour) > 1]
    if not tied:
        order = sorted(range(len(colours)), key=colours.__getitem__)
        return [tuple(int(a in before[b]) for i, b in enumerate(order) for a in order[:i])]
    first = min(colours[node] for node in tied)
    found: list[Bits] = []
    tried: set[tuple[frozenset[int], frozenset[int]]] = set()
    for node in (node for node in tied if colours[node] == first):
        twin = frozenset(before[node]), frozenset(after[node])
        if twin not in tried:  # nodes with the same neighbours are interchangeable: one of them is enough
            tried.add(twin)
            split = [2 * colour + (colour == first and other != node) for other, colour in enumerate(colours)]
            found += _orderings(split, before, after)
    return found


def _refine(colours: list[int], before: list[set[int]], after: list[set[int]]) -> list[int]:
    """Split colours by the colours of predecessors and successors until nothing splits any more; order is kept."""
    while True:
        signatures = [
            (colour, tuple(sorted(colours[a] for a in before[node])), tuple(sorted(colours[b] for b in after[node])))
            for node, colour in enumerate(colours)
        ]
        ranks = {signature: rank for rank, signature in enumerate(sorted(set(signatures)))}
        refined = [ranks[signature] for signature in signatures]
        if len(ranks) == len(set(colours)):
            return refined
        colours = refined
