"""Blocks and ratios that good networks have in each layer, and the network of the most frequent (TAM-NAS, IV-E)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from evonas.errors import ConfigurationError
from evonas.spaces import ShuffleSpace
from evonas.types import Genome

__all__ = ["LayerCount", "counts_of_genes", "layer_counts", "lego_genome"]


class LayerCount(NamedTuple):
    """A choice in a layer, and how many networks have it."""

    layer: int
    kind: Literal["block", "ratio"]
    choice: float
    """A block, 0 to 21, or a ratio, 0.2 to 2.0."""
    networks: int
    """Number of networks that have it."""


def layer_counts(space: ShuffleSpace, genomes: Sequence[Genome]) -> list[LayerCount]:
    """Choices that appear in some genome, by layer and kind, the most frequent first; equal ones in their order."""
    counts = counts_of_genes(space, genomes)
    found = []
    for layer in range(space.n_places):
        blocks = [LayerCount(layer, "block", choice, n) for choice, n in enumerate(counts[layer])]
        ratios = [
            LayerCount(layer, "ratio", (gene + 1) / 5, n) for gene, n in enumerate(counts[space.n_places + layer])
        ]
        for kind in (blocks, ratios):
            found += sorted((each for each in kind if each.networks), key=lambda each: -each.networks)
    return found


def lego_genome(space: ShuffleSpace, genomes: Sequence[Genome]) -> Genome:
    """The canonical genome of every layer's most frequent block and ratio (IV-E3: Lego-Net); of equal ones the smaller.

    It is legal, for each of its genes is another's in the same place; whether it lies in the window is not asked.
    """
    return space.canonical(np.array([np.argmax(each) for each in counts_of_genes(space, genomes)], dtype=np.int64))


def counts_of_genes(space: ShuffleSpace, genomes: Sequence[Genome]) -> list[list[int]]:
    """[gene][value] how many genomes have it. ConfigurationError where there is no genome."""
    if not len(genomes):
        raise ConfigurationError("expected at least one genome to count the choices of, got none")
    genes = np.stack([space.canonical(genome) for genome in genomes])
    return [np.bincount(genes[:, gene]).tolist() for gene in range(space.n_genes)]
