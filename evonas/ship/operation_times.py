"""Times of the operations of cells, from a latency table."""

import functools
from collections import Counter

import numpy as np

from evonas.networks.darts_operations import operation
from evonas.networks.darts_plan import PRIMITIVES, cell_places
from evonas.ship.latency_measuring import network_of
from evonas.ship.latency_table import LatencyTable
from evonas.ship.layers import layers_of
from evonas.spaces import DartsSpace
from evonas.spaces.darts_costs import OperationTimes, edges

__all__ = ["operation_times"]


@functools.cache
def _layers_of_operation(name: str, channels: int, stride: int, size: int) -> Counter[str]:
    """Layers of an operation on maps of `size`."""
    return layers_of(operation(name, channels, stride).eval(), size, channels=channels)


@functools.lru_cache(maxsize=8)
def operation_times(table: LatencyTable, space: DartsSpace, n_classes: int) -> OperationTimes:
    """Predicted times of operations, whose sum over a network's edges, with the rest, is `LatencyTable.predict`.

    A network has the layers of its operations besides those that all networks have, and a prediction is linear in the
    number of each layer.

    Args:
        table: of the space.
    Raises:
        ConfigurationError: the table is of other networks.
    """
    into = edges(space.nodes)
    counts = {
        (cell, edge, name): Counter[str]()
        for cell in range(2)
        for edge in range(len(into))
        for name in range(len(PRIMITIVES))
    }
    for place in cell_places(space.channels, space.layers, space.nodes, space.nodes, space.stem):
        for edge, (_, state) in enumerate(into):
            stride = 2 if place.reduction and state < 2 else 1
            size = stride * (space.image_size // place.size)
            for number, name in enumerate(PRIMITIVES[1:], start=1):
                layers = _layers_of_operation(name, place.channels, stride, size)
                counts[int(place.reduction), edge, number].update(layers)
    genome = next(space.cover())
    rest = layers_of(network_of(space, genome, n_classes), space.image_size)
    for cell, nodes in enumerate(genome.reshape(2, space.nodes, 2, 2).tolist()):
        for node, pairs in enumerate(nodes, start=2):
            for state, name in pairs:
                rest.subtract(counts[cell, into.index((node, state)), name + 1])
    times = np.zeros((2, len(into), len(PRIMITIVES)))
    for at, layers in counts.items():
        times[at] = table.predict(layers)
    operations = tuple(tuple(map(tuple, cell)) for cell in times.tolist())
    return OperationTimes(table.fingerprint, table.predict(rest), operations)
