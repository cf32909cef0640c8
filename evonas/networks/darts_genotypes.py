"""Cells as DARTS writes them, and the published ones."""

from collections.abc import Iterable
from dataclasses import dataclass

from evonas.errors import ConfigurationError
from evonas.networks.darts_operations import PRIMITIVES

__all__ = ["GENOTYPES", "Genotype", "Pairs"]

Pairs = tuple[tuple[str, int], ...]
"""(operation, input) of every edge, two a node."""


@dataclass(frozen=True)
class Genotype:
    """A normal and a reduction cell (Liu et al., 2019).

    Inputs 0 and 1 are the outputs of the cell before the last one and of the last one; the intermediate nodes are
    2, 3, .... Each node adds two operations on earlier states. Lists and ranges are taken, and kept as tuples.

    Raises:
        ConfigurationError (a ValueError): a cell that cannot be built.
    """

    normal: Pairs
    normal_concat: tuple[int, ...]
    """Intermediate nodes whose maps, one after another, are the cell's output."""
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
        raise ConfigurationError(f"expected two (operation, input) pairs a node in the {kind} cell, got {len(pairs)}")
    for number, (name, state) in enumerate(pairs):
        node = 2 + number // 2
        if name not in PRIMITIVES[1:]:
            known = ", ".join(PRIMITIVES[1:])
            raise ConfigurationError(
                f"expected an operation of {known} at node {node} of the {kind} cell, got {name!r}"
            )
        if not 0 <= state < node:
            raise ConfigurationError(
                f"expected an input 0 to {node - 1} of node {node} of the {kind} cell, got {state}"
            )
    return pairs


def _concat(name: str, given: Iterable[int], nodes: int) -> tuple[int, ...]:
    try:
        states = tuple(given)
    except TypeError:
        states = ()
    if not states or len(set(states)) < len(states) or not set(states) <= set(range(2, nodes + 2)):
        raise ConfigurationError(f"expected {name} to be different nodes of 2 to {nodes + 1}, got {given!r}")
    return states


ALL_FOUR = (2, 3, 4, 5)

GENOTYPES: dict[str, Genotype] = {
    "DARTS_V1": Genotype(
        normal=(
            ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 0), ("sep_conv_3x3", 1),
            ("skip_connect", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("skip_connect", 2),
        ),
        normal_concat=ALL_FOUR,
        reduce=(
            ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 0),
            ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("avg_pool_3x3", 0),
        ),
        reduce_concat=ALL_FOUR,
    ),
    "DARTS_V2": Genotype(
        normal=(
            ("sep_conv_3x3", 0), ("sep_conv_3x3", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1), ("skip_connect", 0), ("skip_connect", 0), ("dil_conv_3x3", 2),
        ),
        normal_concat=ALL_FOUR,
        reduce=(
            ("max_pool_3x3", 0), ("max_pool_3x3", 1), ("skip_connect", 2), ("max_pool_3x3", 1),
            ("max_pool_3x3", 0), ("skip_connect", 2), ("skip_connect", 2), ("max_pool_3x3", 1),
        ),
        reduce_concat=ALL_FOUR,
    ),
    "PC_DARTS_cifar": Genotype(
        normal=(
            ("sep_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 0), ("dil_conv_3x3", 1),
            ("sep_conv_5x5", 0), ("sep_conv_3x3", 1), ("avg_pool_3x3", 0), ("dil_conv_3x3", 1),
        ),
        normal_concat=ALL_FOUR,
        reduce=(
            ("sep_conv_5x5", 1), ("max_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_5x5", 2),
            ("sep_conv_3x3", 0), ("sep_conv_3x3", 3), ("sep_conv_3x3", 1), ("sep_conv_3x3", 2),
        ),
        reduce_concat=ALL_FOUR,
    ),
    "PC_DARTS_image": Genotype(
        normal=(
            ("skip_connect", 1), ("sep_conv_3x3", 0), ("sep_conv_3x3", 0), ("skip_connect", 1),
            ("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 1), ("dil_conv_5x5", 4),
        ),
        normal_concat=ALL_FOUR,
        reduce=(
            ("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 1),
            ("sep_conv_3x3", 2), ("sep_conv_3x3", 1), ("sep_conv_5x5", 0), ("sep_conv_3x3", 3),
        ),
        reduce_concat=ALL_FOUR,
    ),
    "PDARTS": Genotype(
        normal=(
            ("skip_connect", 0), ("dil_conv_3x3", 1), ("skip_connect", 0), ("sep_conv_3x3", 1),
            ("sep_conv_3x3", 1), ("sep_conv_3x3", 3), ("sep_conv_3x3", 0), ("dil_conv_5x5", 4),
        ),
        normal_concat=ALL_FOUR,
        reduce=(
            ("avg_pool_3x3", 0), ("sep_conv_5x5", 1), ("sep_conv_3x3", 0), ("dil_conv_5x5", 2),
            ("max_pool_3x3", 0), ("dil_conv_3x3", 1), ("dil_conv_3x3", 1), ("dil_conv_5x5", 3),
        ),
        reduce_concat=ALL_FOUR,
    ),
}  # fmt: skip
"""Cells that DARTS (first and second order), PC-DARTS and P-DARTS found on CIFAR-10, and PC-DARTS on ImageNet; pairs in
the order in which they were published."""
