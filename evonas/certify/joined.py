"""Graph simplification: a per-channel scaling behind a convolution is merged into it."""

from collections import Counter
from dataclasses import replace

from torch import Tensor

from evonas.certify.affine import Scale
from evonas.certify.graph import Graph, GraphNode
from evonas.certify.windows import Conv

__all__ = ["joined"]


def joined(graph: Graph) -> Graph:
    """The graph with each convolution merged with its only reader where that scales channels, such as normalisation."""
    readers = Counter(source for node in graph.nodes for source in node.inputs)
    number: dict[int, int] = {}
    nodes: list[GraphNode] = []
    for old, node in enumerate(graph.nodes):
        before = nodes[number[node.inputs[0]]] if node.inputs else None
        merged = _merged(before, node) if before is not None and readers[node.inputs[0]] == 1 else None
        if merged is not None and number[node.inputs[0]] == len(nodes) - 1:
            nodes[-1] = merged
        else:
            nodes.append(replace(node, inputs=tuple(number[each] for each in node.inputs)))
        number[old] = len(nodes) - 1
    return Graph(tuple(nodes), graph.precision)


def _merged(before: GraphNode, node: GraphNode) -> GraphNode | None:
    """Both nodes as one convolution; None where that is impossible."""
    scale = node.operation
    if not isinstance(before.operation, Conv) or not isinstance(scale, Scale) or before.shape != node.shape:
        return None
    channels = (before.shape[0], 1, 1)
    if scale.factor is None or not all(_fits(each, channels) for each in (scale.factor, scale.shift)):
        return None
    return replace(before, operation=before.operation.scaled(scale))


def _fits(constant: Tensor | None, channels: tuple[int, int, int]) -> bool:
    return constant is None or constant.numel() == 1 or tuple(constant.shape) == channels
