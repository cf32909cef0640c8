"""Fair sampling: every choice of a supernet's layer is drawn equally often (FairNAS; Chu et al., 2021)."""

import functools

import numpy as np
import numpy.typing as npt

from evonas.seeding import generator
from evonas.types import Genome

__all__ = ["fair_genome"]


def fair_genome(upper: Genome, n_places: int, ratios: int, number: int, seed: int, phase: str) -> Genome:
    """The genome of blocks, then ratios, that is drawn as number `number` of a phase with so many ratios.

    A layer draws every one of its blocks once, in a random order, before it draws one again: a round. From round to
    round a block has another ratio, so that after as many rounds as there are ratios each (layer, block, ratio) has
    been drawn once.

    Args:
        upper: (n_genes,) largest genes.
        ratios: number of ratios in use, from the largest.
        number: of the drawing, from 0.
    """
    genome = np.array(upper, dtype=np.int64)
    for place in range(n_places):
        blocks = int(upper[place]) + 1
        turn, at = divmod(number, blocks)
        cycle, shift = divmod(turn, ratios)
        block = _order(blocks, seed, "fair blocks", phase, ratios, place, turn)[at]
        first = _order(blocks, seed, "fair ratios", phase, ratios, place, cycle)[block]
        step = _order(ratios, seed, "fair shifts", phase, ratios, place, cycle)[shift]
        genome[place] = block
        genome[n_places + place] = upper[n_places + place] - (first + step) % ratios
    return genome


@functools.lru_cache(maxsize=1024)
def _order(size: int, seed: int, *purpose: int | str) -> npt.NDArray[np.int64]:
    """A random order of 0 to size - 1."""
    return generator(seed, *purpose).permutation(size)
