"""Tiles of a map whose values are bounded together, on patches that are as small as pays."""

import math

import torch
from torch import Tensor

from evonas.certify.graph import Graph, Patch
from evonas.certify.patches import centre, is_map, tiled, union, whole

__all__ = ["chunks_of_tiles", "reached"]

MAX_VALUES = 2**20
"""Limit on the values of one node that one step holds: as much as the caches of a core hold."""
OVERHEAD = 2**16
"""Values whose substitution takes as long as starting the operations of one node."""


def chunks_of_tiles(graph: Graph, number: int, places: Tensor, images: int, most: int) -> list[Tensor]:
    """Flat indices into a map, in groups that are bounded together: those of one square tile depend on much the same.

    Small tiles save work, because less of each earlier map is seen; large ones save starts.

    Args:
        number: of the map's node.
        images: in the batch.
        most: limit on the values of one node that a step holds, over functions and images.
    """
    shape, functions = graph.nodes[number].shape, 2 * images
    room = min(most, MAX_VALUES) // functions
    best, cheapest, side = list[Tensor](), math.inf, 1
    while side < 2 * max(shape[-2:]):
        tiles = tiled(places, shape, side)
        values, widest = _extent(graph, number, centre(shape, side))
        chunks = max(len(tiles), len(places) * widest / room)
        work = len(places) * functions * values + chunks * OVERHEAD * number
        if work < cheapest:
            best, cheapest = [part for tile in tiles for part in tile.split(max(1, room // widest))], work
        side *= 2
    return best


def reached(graph: Graph, number: int, patch: Patch | None) -> list[Patch | None]:
    """For each input of a node the patch that a patch of it depends on; None where values have no positions."""
    node = graph.nodes[number]
    known = None if patch is None or node.operation is None else node.operation.reach(patch)
    if known is not None:
        return list(known)
    shapes = [graph.nodes[each].shape for each in node.inputs]
    return [whole(shape) if is_map(shape) else None for shape in shapes]


def _extent(graph: Graph, number: int, patch: Patch) -> tuple[int, int]:
    """Number of values that a patch of a node depends on: of all nodes together, and of the widest."""
    seen: dict[int, Patch | None] = {number: patch}
    sizes = []
    for each in range(number, -1, -1):
        if each not in seen:
            continue
        node, here = graph.nodes[each], seen[each]
        shape = node.shape if here is None else (*node.shape[:-2], here.positions)
        sizes.append(int(torch.Size(shape).numel()))
        for source, part in zip(node.inputs, reached(graph, each, here), strict=True):
            before = seen.get(source, part)
            seen[source] = None if before is None or part is None else union([before, part])
    return sum(sizes), max(sizes)
