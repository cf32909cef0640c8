"""Genotypes: cells in the notation of DARTS, and the published ones."""

import operator
from collections.abc import Iterable
from dataclasses import dataclass

from evonas.errors import ConfigurationError
from evonas.networks.darts_plan import PRIMITIVES

__all__ = ["GENOTYPES", "Genotype", "Pairs"]

Pairs = tuple[tuple[str, int], ...]
"""(operation, input) of every edge, two per node."""


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell (Liu et al., 2019).

    States 0 and 1 are the outputs of the cell before the last one and of the last one; the intermediate nodes are
    2, 3, .... Each node adds two operations on earlier states. Lists and ranges are accepted and stored as tuples.

    Raises:
        ConfigurationError (a ValueError): a cell that cannot be built.
    """

    normal: Pairs
    normal_concat: tuple[int, ...]
    """Intermediate nodes that are concatenated, in this order, to the cell's output."""
    reduce: Pairs
    reduce_concat: tuple[int, ...]

    def __post_init__(self) -> None:
        for kind in ("normal", "reduce"):
            pairs = _pairs(kind, getattr(self, kind))
            object.__setattr__(self, kind, pairs)
            concat = f"{kind}_concat"
            object.__setattr__(self, concat, _concat(concat, getattr(self, concat), len(pairs) // 2))


def _pairs(kind: str, given: Iterable[tuple[str, int]]) -> Pairs:
    try:
        listed = tuple(given)
        pairs = tuple((name, int(state)) for name, state in listed)
        whole = all(state == read for (_, state), (_, read) in zip(pairs, listed, strict=True))
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ConfigurationError(f"expected (operation, input) pairs in the {kind} cell, got {given!r}")
    if not pairs or len(pairs) % 2:
        raise ConfigurationError(f"expected two (operation, input) pairs per node in the {kind} cell, got {len(pairs)}")
    for number, (name, state) in enumerate(pairs):
        node = 2 + number // 2
        if name not in PRIMITIVES[1:]:
            available = ", ".join(PRIMITIVES[1:])
            raise ConfigurationError(
                f"expected an operation of {available} at node {node} of the {kind} cell, got {name!r}"
            )
        if not 0 <= state < node:
            raise ConfigurationError(
                f"expected an input 0 to {node - 1} of node {node} of the {kind} cell, got {state}"
            )
    return pairs


def _concat(name: str, given: Iterable[int], nodes: int) -> tuple[int, ...]:
    try:
        states = tuple(operator.index(state) for state in given)
    except TypeError:  # 2.0 is no node
        states = ()
    if not states or len(set(states)) < len(states) or not set(states) <= set(range(2, nodes + 2)):
        raise ConfigurationError(f"expected {name} to be different nodes of 2 to {nodes + 1}, got {given!r}")
    return states


def _published(normal: Iterable[str], reduce: Iterable[str]) -> Genotype:
    """The genotype of two cells with four nodes, each node written as "operation:input operation:input"."""

    def edges(nodes: Iterable[str]) -> Pairs:
        split = (edge.split(":") for node in nodes for edge in node.split())
        return tuple((name, int(state)) for name, state in split)

    return Genotype(edges(normal), (2, 3, 4, 5), edges(reduce), (2, 3, 4, 5))


GENOTYPES: dict[str, Genotype] = {
    "DARTS_V1": _published(
        normal=(
            "sep_conv_3x3:1 sep_conv_3x3:0",
            "skip_connect:0 sep_conv_3x3:1",
            "skip_connect:0 sep_conv_3x3:1",
            "sep_conv_3x3:0 skip_connect:2",
        ),
        reduce=(
            "max_pool_3x3:0 max_pool_3x3:1",
            "skip_connect:2 max_pool_3x3:0",
            "max_pool_3x3:0 skip_connect:2",
            "skip_connect:2 avg_pool_3x3:0",
        ),
    ),
    "DARTS_V2": _published(
        normal=(
            "sep_conv_3x3:0 sep_conv_3x3:1",
            "sep_conv_3x3:0 sep_conv_3x3:1",
            "sep_conv_3x3:1 skip_connect:0",
            "skip_connect:0 dil_conv_3x3:2",
        ),
        reduce=(
            "max_pool_3x3:0 max_pool_3x3:1",
            "skip_connect:2 max_pool_3x3:1",
            "max_pool_3x3:0 skip_connect:2",
            "skip_connect:2 max_pool_3x3:1",
        ),
    ),
    "PC_DARTS_cifar": _published(
        normal=(
            "sep_conv_3x3:1 skip_connect:0",
            "sep_conv_3x3:0 dil_conv_3x3:1",
            "sep_conv_5x5:0 sep_conv_3x3:1",
            "avg_pool_3x3:0 dil_conv_3x3:1",
        ),
        reduce=(
            "sep_conv_5x5:1 max_pool_3x3:0",
            "sep_conv_5x5:1 sep_conv_5x5:2",
            "sep_conv_3x3:0 sep_conv_3x3:3",
            "sep_conv_3x3:1 sep_conv_3x3:2",
        ),
    ),
    "PC_DARTS_image": _published(
        normal=(
            "skip_connect:1 sep_conv_3x3:0",
            "sep_conv_3x3:0 skip_connect:1",
            "sep_conv_3x3:1 sep_conv_3x3:3",
            "sep_conv_3x3:1 dil_conv_5x5:4",
        ),
        reduce=(
            "sep_conv_3x3:0 skip_connect:1",
            "dil_conv_5x5:2 max_pool_3x3:1",
            "sep_conv_3x3:2 sep_conv_3x3:1",
            "sep_conv_5x5:0 sep_conv_3x3:3",
        ),
    ),
    "PDARTS": _published(
        normal=(
            "skip_connect:0 dil_conv_3x3:1",
            "skip_connect:0 sep_conv_3x3:1",
            "sep_conv_3x3:1 sep_conv_3x3:3",
            "sep_conv_3x3:0 dil_conv_5x5:4",
        ),
        reduce=(
            "avg_pool_3x3:0 sep_conv_5x5:1",
            "sep_conv_3x3:0 dil_conv_5x5:2",
            "max_pool_3x3:0 dil_conv_3x3:1",
            "dil_conv_3x3:1 dil_conv_5x5:3",
        ),
    ),
}
"""Cells found by DARTS (first and second order), PC-DARTS and P-DARTS on CIFAR-10, and by PC-DARTS on ImageNet.

Edges are in the published order.
"""
