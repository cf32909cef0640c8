"""Other orders of Lego-Net's layers: the same blocks, as many parameters."""

from collections import Counter

import numpy as np
import pytest

from evonas.audit import lego_genome, other_orders
from evonas.spaces import ShuffleSpace
from evonas.types import Genome

SPACE = ShuffleSpace()
NAMES = ("reversed", "middle", "random")


def genomes(space: ShuffleSpace = SPACE, n: int = 7, seed: int = 0) -> list[Genome]:
    return list(space.sample(n, np.random.default_rng(seed)))


def blocks(space: ShuffleSpace, genome: Genome, stride: int) -> list[int]:
    return [int(genome[at]) for at, place in enumerate(space.plan.places) if place.stride == stride]


@pytest.mark.parametrize("seed", range(5))
def test_orders_have_as_many_parameters_and_the_same_blocks(seed: int) -> None:
    of = genomes(seed=seed)
    lego = lego_genome(SPACE, of)
    found = other_orders(SPACE, of, NAMES, 3, seed)
    assert list(found) == ["reversed", "middle", "random 1", "random 2", "random 3"]
    assert len({genome.tobytes() for genome in found.values() if genome is not None} | {lego.tobytes()}) == 6
    for name, genome in found.items():
        assert genome is not None
        assert abs(SPACE.cost(genome).params / SPACE.cost(lego).params - 1) <= 0.02
        assert (SPACE.canonical(genome) == genome).all()
        if name != "middle":
            for stride in (1, 2):
                assert Counter(blocks(SPACE, genome, stride)) == Counter(blocks(SPACE, lego, stride))


def test_reversed_is_from_the_last_layer_to_the_first() -> None:
    of = genomes()
    lego, found = lego_genome(SPACE, of), other_orders(SPACE, of, ("reversed",), 1, 0)["reversed"]
    assert found is not None
    for stride in (1, 2):
        assert blocks(SPACE, found, stride) == blocks(SPACE, lego, stride)[::-1]


def test_the_middle_one_of_a_layer_s_choices() -> None:
    """Block 2 in three networks, 4 in two and 7 in one: 4 is in the middle; ratios do not move, they are one."""
    base = np.array([0, 0] * 3 + [9] * 6, dtype=np.int64)
    space, of = ShuffleSpace(width=1 / 3, depth=0.1), []
    for block in (2, 2, 2, 4, 4, 7):
        genome = base.copy()
        genome[1] = block
        of.append(genome)
    found = other_orders(space, of, ("middle",), 1, 0)["middle"]
    assert found is not None
    assert found[1] == 4
    assert lego_genome(space, of)[1] == 2


def test_what_cannot_be_another_order_is_none() -> None:
    same = np.zeros(32, dtype=np.int64)
    assert other_orders(SPACE, [same], NAMES, 2, 0) == dict.fromkeys(
        ["reversed", "middle", "random 1", "random 2"]
    )  # every layer has block 0 at the smallest ratio, however they are ordered


def test_random_orders_follow_from_the_seed() -> None:
    def drawn(seed: int) -> list[bytes]:
        found = other_orders(SPACE, genomes(), ("random",), 2, seed)
        return [genome.tobytes() for genome in found.values() if genome is not None]

    assert drawn(1) == drawn(1)
    assert drawn(1) != drawn(2)
