"""Other orders of Lego-Net's layers, of as many parameters: does it matter which block stands where?"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from evonas.audit.layers import counts_of_genes, lego_genome
from evonas.seeding import generator
from evonas.spaces import ShuffleSpace
from evonas.types import Genome

__all__ = ["TOLERANCE", "other_orders"]

TOLERANCE = 0.02
"""Largest difference of parameters, relative to Lego-Net's."""
TRIES = 200
"""Random orders that are drawn for one that can be had with as many parameters."""


def other_orders(
    space: ShuffleSpace, genomes: Sequence[Genome], names: Sequence[str], random: int, seed: int
) -> dict[str, Genome | None]:
    """Name -> canonical genome: of each name, with `random` genomes for `random`, called `random 1` and so on.

    reversed: Lego-Net's layers from the last to the first, those of stride 2 among themselves. random: the same in a
    random order. middle: every layer's block and ratio of middle frequency among the genomes, instead of the highest.
    Ratios change by steps of 0.2 until the parameters are Lego-Net's within `TOLERANCE`. None: that cannot be done, or
    it is a network that stands here already.

    Args:
        genomes: that Lego-Net is made of.
    """
    lego, taken = lego_genome(space, genomes), set[bytes]()

    def another(genome: Genome) -> Genome | None:
        found = _with_params(space, genome, space.cost(lego).params)
        if found is None or np.array_equal(found, lego) or found.tobytes() in taken:
            return None
        taken.add(found.tobytes())
        return found

    found: dict[str, Genome | None] = {}
    for name in names:
        if name == "reversed":
            found[name] = another(_ordered(space, lego, [places[::-1] for places in _by_stride(space)]))
        elif name == "middle":
            found[name] = another(_middle(space, genomes))
        else:
            for number in range(1, random + 1):
                rng = generator(seed, "order of layers", number)
                drawn = (_shuffled(space, lego, rng) for _ in range(TRIES))
                found[f"{name} {number}"] = next((each for each in map(another, drawn) if each is not None), None)
    return found


def _by_stride(space: ShuffleSpace) -> list[npt.NDArray[np.int64]]:
    """Places of stride 1, and of stride 2, whose blocks are others."""
    strides = np.array([place.stride for place in space.plan.places])
    return [np.flatnonzero(strides == stride) for stride in (1, 2)]


def _ordered(space: ShuffleSpace, genome: Genome, orders: Sequence[npt.NDArray[np.int64]]) -> Genome:
    """The genome whose places have the blocks and ratios of other places, those of each stride in such an order."""
    moved = genome.copy()
    for places, order in zip(_by_stride(space), orders, strict=True):
        moved[places], moved[space.n_places + places] = genome[order], genome[space.n_places + order]
    return moved


def _shuffled(space: ShuffleSpace, genome: Genome, rng: np.random.Generator) -> Genome:
    return _ordered(space, genome, [rng.permutation(places) for places in _by_stride(space)])


def _middle(space: ShuffleSpace, genomes: Sequence[Genome]) -> Genome:
    """Each gene's value of middle frequency; of an even number of values the rarer one."""
    genome = []
    for counts in counts_of_genes(space, genomes):
        values = sorted((value for value, count in enumerate(counts) if count), key=lambda value: -counts[value])
        genome.append(values[len(values) // 2])
    return np.array(genome, dtype=np.int64)


def _with_params(space: ShuffleSpace, genome: Genome, params: int) -> Genome | None:
    """The canonical genome whose parameters are within the tolerance, by the fewest steps of its ratios; None: no one.

    Each step is the one that comes nearest.
    """
    best, missing = genome.copy(), abs(space.cost(genome).params - params)
    while missing > TOLERANCE * params:
        steps = []
        for gene in range(space.n_places, space.n_genes):
            for value in (best[gene] - 1, best[gene] + 1):
                if 0 <= value <= space.upper[gene]:
                    changed = best.copy()
                    changed[gene] = value
                    steps.append(changed)
        nearest = min(steps, key=lambda each: abs(space.cost(each).params - params))
        if abs(space.cost(nearest).params - params) >= missing:
            return None
        best, missing = nearest, abs(space.cost(nearest).params - params)
    return space.canonical(best)
