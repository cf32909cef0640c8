"""Bits of one phase: decoding with the repair of the reference, and the canonical form up to isomorphism."""

import itertools
from collections.abc import Sequence
from functools import lru_cache

from evonas.networks.phase_plan import PhaseGraph

__all__ = ["canonical_bits", "connections", "decode", "n_bits", "node_counts"]

Bits = tuple[int, ...]


def n_bits(nodes: int) -> int:
    """Number of bits of a phase: one for each pair of nodes, and the residual bit."""
    return nodes * (nodes - 1) // 2 + 1


def connections(bits: Sequence[int], nodes: int) -> list[tuple[int, int]]:
    """(predecessor, node) pairs of the 1-bits, nodes counted from 1; bits of predecessors 1..i-1 for node i = 2..n."""
    return list(itertools.compress(_pairs(nodes), bits))


@lru_cache
def _pairs(nodes: int) -> tuple[tuple[int, int], ...]:
    return tuple((before, node) for node in range(2, nodes + 1) for before in range(1, node))


@lru_cache(maxsize=1 << 17)
def decode(bits: Bits, nodes: int) -> PhaseGraph | None:
    """Repaired graph of a phase; None without any connection bit, for a phase that is dropped.

    Repair in one pass over the original graph: a node with inputs but no reader feeds the output; a node with readers
    but no input reads the input of the phase; a node with neither is inactive. With the residual bit the output also
    reads the input of the phase.
    """
    pairs = connections(bits, nodes)
    if not pairs:
        return None
    reads: dict[int, list[int]] = {node: [] for node in range(1, nodes + 1)}
    feeds = set()
    for before, node in pairs:
        reads[node].append(before)
        feeds.add(before)
    return PhaseGraph(
        node_inputs=tuple(tuple(read) or ((0,) if node in feeds else ()) for node, read in reads.items()),
        output_inputs=(0,) * bits[-1] + tuple(node for node, read in reads.items() if read and node not in feeds),
    )


def pack(bits: Sequence[int]) -> int:
    """Bits of a phase as one integer, the first bit lowest."""
    return sum(bit << place for place, bit in enumerate(bits))


@lru_cache(maxsize=1 << 17)
def node_counts(packed: int, nodes: int) -> tuple[int, int]:
    """(active nodes, maps read by merges) of the repaired graph of packed bits; (0, 0) for a dropped phase.

    Enough for costs, and several times as fast as `decode`.
    """
    active = merged = sinks = 0
    for reads, feeds in _masks(nodes):
        n_reads = (packed & reads).bit_count()
        active += bool(packed & (reads | feeds))
        merged += n_reads if n_reads > 1 else 0
        sinks += bool(n_reads) and not packed & feeds
    if not active:
        return 0, 0
    outputs = sinks + (packed >> n_bits(nodes) - 1)
    return active, merged + (outputs if outputs > 1 else 0)


@lru_cache
def _masks(nodes: int) -> tuple[tuple[int, int], ...]:
    """For every node the packed bits of its inputs and of its readers."""
    pairs = _pairs(nodes)
    return tuple(
        (pack([b == node for _, b in pairs]), pack([a == node for a, _ in pairs])) for node in range(1, nodes + 1)
    )


@lru_cache(maxsize=1 << 17)
def canonical_bits(bits: Bits, nodes: int) -> Bits:
    """The same bits for all phases with isomorphic graphs; all 0 for an inactive phase.

    Colour refinement ranks the nodes, starting from depth so that every ranking is a topological order; nodes of equal
    rank are tried in turn, and the largest bit string wins. Idempotent.
    """
    pairs = connections(bits, nodes)
    if not pairs:
        return (0,) * len(bits)
    before = [{a - 1 for a, b in pairs if b == node} for node in range(1, nodes + 1)]
    after = [{b - 1 for a, b in pairs if a == node} for node in range(1, nodes + 1)]
    depth: list[int] = []
    for node in range(nodes):
        depth.append(1 + max((depth[a] for a in before[node]), default=-1))
    colours = [depth[node] if before[node] or after[node] else nodes for node in range(nodes)]  # isolated nodes last
    return (*max(_orderings(colours, before, after)), bits[-1])


def _orderings(colours: list[int], before: list[set[int]], after: list[set[int]]) -> list[Bits]:
    """Connection bits of every ranking of the nodes that refinement leaves open."""
    colours = _refine(colours, before, after)
    tied = [node for node, colour in enumerate(colours) if colours.count(colour) > 1]
    if not tied:
        order = sorted(range(len(colours)), key=colours.__getitem__)
        return [tuple(int(a in before[b]) for i, b in enumerate(order) for a in order[:i])]
    first = min(colours[node] for node in tied)
    orderings: list[Bits] = []
    tried: set[tuple[frozenset[int], frozenset[int]]] = set()
    for node in (node for node in tied if colours[node] == first):
        twin = frozenset(before[node]), frozenset(after[node])
        if twin not in tried:  # nodes with the same neighbours are interchangeable: one is enough
            tried.add(twin)
            split = [2 * colour + (colour == first and other != node) for other, colour in enumerate(colours)]
            orderings += _orderings(split, before, after)
    return orderings


def _refine(colours: list[int], before: list[set[int]], after: list[set[int]]) -> list[int]:
    """Split colours by the colours of predecessors and successors until they are stable, without reordering them."""
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
