"""The layers of good networks, counted by hand, and the network of the most frequent ones."""

import numpy as np
import pytest

from evonas.audit import layer_counts, lego_genome
from evonas.errors import ConfigurationError
from evonas.spaces import ShuffleSpace
from evonas.types import Genome

WIDE = ShuffleSpace(depth=0.3)
"""All ratios differ here."""


def genome(blocks: list[int], ratios: list[int]) -> Genome:
    """The first layers' genes; the others are 0."""
    genes = np.zeros(WIDE.n_genes, dtype=np.int64)
    genes[: len(blocks)], genes[WIDE.n_places : WIDE.n_places + len(ratios)] = blocks, ratios
    return genes


FOUR = [genome(*each) for each in (([5, 20], [9, 3]), ([5, 7], [2, 3]), ([1, 20], [9, 3]), ([1, 7], [2, 8]))]


def test_layers_are_counted() -> None:
    found = [tuple(each) for each in layer_counts(WIDE, FOUR)]
    assert found[:8] == [
        (0, "block", 1, 2),
        (0, "block", 5, 2),
        (0, "ratio", 0.6, 2),
        (0, "ratio", 2.0, 2),
        (1, "block", 7, 2),
        (1, "block", 20, 2),
        (1, "ratio", 0.8, 3),
        (1, "ratio", 1.8, 1),
    ]
    assert found[8:10] == [(2, "block", 0, 4), (2, "ratio", 0.2, 4)]
    assert len(found) == 8 + 2 * (WIDE.n_places - 2)
    assert all(
        sum(each.networks for each in layer_counts(WIDE, FOUR) if each[:2] == (layer, kind)) == 4
        for layer in range(WIDE.n_places)
        for kind in ("block", "ratio")
    )


def test_lego_is_what_is_most_frequent_and_of_equals_the_smaller() -> None:
    assert lego_genome(WIDE, FOUR).tolist() == genome([1, 7], [2, 3]).tolist()
    assert lego_genome(WIDE, [*FOUR, FOUR[0]]).tolist() == FOUR[0].tolist()
    assert lego_genome(WIDE, FOUR[:1]).tolist() == FOUR[0].tolist()
    with pytest.raises(ConfigurationError, match="at least one genome"):
        lego_genome(WIDE, [])


def test_lego_is_legal_and_canonical() -> None:
    rng = np.random.default_rng(2)
    for space in (ShuffleSpace(width=1 / 3, depth=0.3), WIDE):
        for n in (1, 2, 5, 10):
            lego = lego_genome(space, list(space.sample(n, rng)))
            assert (lego <= space.upper).all()
            assert np.array_equal(space.canonical(lego), lego)
            assert len(space.units(lego)) == space.n_places
