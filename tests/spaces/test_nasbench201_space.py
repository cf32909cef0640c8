"""The space of NAS-Bench-201: the benchmark's classes, its form in text, and costs that are published."""

import itertools

import numpy as np
import pytest
import torch
from helpers import randomised
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.networks.nasbench201_plan import OPERATIONS
from evonas.spaces import SPACES, NasBench201Space
from evonas.types import Cost

SPACE = NasBench201Space()
SMALL = NasBench201Space(channels=2, cells=1)
NONE, SKIP, CONV1, CONV3, POOL = range(5)
CELLS = st.lists(st.integers(0, 4), min_size=6, max_size=6)


def canonical(*cell: int) -> list[int]:
    return [*map(int, SPACE.canonical(np.array(cell)))]


def test_the_cells_fall_into_the_benchmarks_classes() -> None:
    cells = np.array(list(itertools.product(range(5), repeat=6)))
    assert len(cells) == 15625
    assert len({tuple(SPACE.canonical(cell)) for cell in cells}) == 6466


def test_equal_cells_by_hand() -> None:
    """Edges: 0-1, 0-2, 1-2, 0-3, 1-3, 2-3."""
    one = canonical(NONE, NONE, NONE, CONV3, NONE, NONE)
    assert canonical(CONV3, NONE, NONE, NONE, SKIP, NONE) == one  # a skip connection is what it reads
    assert canonical(CONV3, NONE, CONV1, NONE, SKIP, NONE) == one  # node 2 is not read
    assert canonical(NONE, NONE, NONE, CONV3, POOL, NONE) == one  # node 1 is zero
    assert canonical(NONE, NONE, NONE, CONV3, NONE, SKIP) != one  # node 2 is two zeros: the benchmark counts it apart
    assert canonical(CONV3, NONE, SKIP, NONE, NONE, SKIP) == canonical(NONE, CONV3, NONE, NONE, NONE, SKIP)
    assert canonical(SKIP, NONE, CONV3, NONE, NONE, POOL) == canonical(NONE, CONV3, NONE, NONE, NONE, POOL)
    assert canonical(CONV3, CONV3, CONV3, CONV3, CONV3, CONV3) == [CONV3] * 6


def test_a_convolution_that_is_read_twice_counts_as_two() -> None:
    """conv(x) + conv(x): by one convolution that nodes 2 and 3 pass on, or by two of node 3."""
    shared = [NONE, CONV1, NONE, NONE, NONE, SKIP]
    twice = [CONV1, NONE, SKIP, NONE, SKIP, SKIP]
    apart = [CONV1, CONV1, NONE, NONE, SKIP, SKIP]
    assert SPACE.cost(twice).params > SPACE.cost(shared).params
    found = {tuple(canonical(*cell)) for cell in (twice, apart)}
    names = [SPACE.operations(np.array(cell)) for cell in found]
    assert all(each.count("nor_conv_1x1") == 2 for each in names)


@given(CELLS)
@settings(deadline=None)
def test_canonical_keeps_cost_and_function(cell: list[int]) -> None:
    genome = np.array(cell)
    same = SMALL.canonical(genome)
    assert np.array_equal(SMALL.canonical(same), same)
    assert SMALL.cost(same) == SMALL.cost(genome)
    assert SMALL.operations(same) == SMALL.operations(genome)
    assert SMALL.describe(same) == SMALL.describe(genome)


@pytest.mark.lengthy
@given(CELLS)
@settings(deadline=None, max_examples=25)
def test_cost_is_counted_on_the_built_network(cell: list[int]) -> None:
    """Ten classes, another width, number of cells, channels of images, and size."""
    space = NasBench201Space(channels=3, cells=2, image_size=16)
    network = space.build(np.array(cell), 7, in_channels=1)
    assert space.cost(cell, 7, in_channels=1) == (count_params(network), count_macs(network, (1, 16, 16)))
    assert space.cost(cell, 7).params <= space.max_cost(7).params


def test_published_costs() -> None:
    assert SPACE.cost([CONV3] * 6) == Cost(1_531_546, 220_119_680)
    assert SPACE.cost([SKIP] * 6) == SPACE.cost([POOL] * 6) == SPACE.cost([NONE] * 6) == Cost(73_306, 7_783_040)
    best = "|nor_conv_3x3~0|+|nor_conv_3x3~0|nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_1x1~2|"
    squares, widths = 16**2 + 32**2 + 64**2, 16 + 32 + 64  # four convolutions of 3x3 and one of 1x1, in 5 cells a stage
    convolutions = 5 * ((4 * 9 + 1) * squares + 5 * 2 * widths)
    assert SPACE.cost(SPACE.from_string(best)).params == 73_306 + convolutions == 1_073_466
    assert SPACE.max_cost() == SPACE.cost([CONV3] * 6)


@given(CELLS)
def test_text_and_genome_are_one(cell: list[int]) -> None:
    text = SPACE.to_string(np.array(cell))
    assert SPACE.from_string(text).tolist() == cell
    assert text.count("|+|") == 2


def test_the_benchmarks_form() -> None:
    text = "|nor_conv_3x3~0|+|none~0|skip_connect~1|+|avg_pool_3x3~0|nor_conv_1x1~1|none~2|"
    assert SPACE.from_string(text).tolist() == [CONV3, NONE, SKIP, POOL, CONV1, NONE]
    assert SPACE.from_string(f" {text}\n").tolist() == [CONV3, NONE, SKIP, POOL, CONV1, NONE]
    for wrong in (
        "",
        text[:-1],
        text.replace("~2", "~1"),
        text.replace("none", "zero"),
        text.replace("|none~0|skip_connect~1|", "|skip_connect~1|none~0|"),
        text + "+|none~0|",
        f"{text} and more",
    ):
        with pytest.raises(ConfigurationError, match=r"expected a cell such as \|nor_conv_3x3~0\|\+\|"):
            SPACE.from_string(wrong)


def test_settings_that_no_network_has_are_refused() -> None:
    for wrong in (
        {"channels": 0},
        {"channels": 1.5},
        {"cells": 0},
        {"cells": 2.0},
        {"image_size": 30},
        {"mutation_rate": -0.1},
        {"crossover_rate": 1.1},
    ):
        with pytest.raises(ConfigurationError, match=r"^expected"):
            NasBench201Space(**wrong)


def test_mutation_gives_another_operation_at_its_rate() -> None:
    rng = np.random.default_rng(0)
    zero = np.zeros(6, dtype=np.int64)
    assert np.array_equal(NasBench201Space(mutation_rate=0).mutate(zero, rng), zero)
    children = np.array([NasBench201Space(mutation_rate=1).mutate(zero, rng) for _ in range(200)])
    assert set(children.ravel().tolist()) == {1, 2, 3, 4}
    usual = np.array([SPACE.mutate(zero, rng) for _ in range(2000)])
    # 12,000 draws of probability 1/6: four standard deviations are 0.0136
    assert abs(float((usual != 0).mean()) - 1 / 6) < 0.0136


def test_the_networks_that_cover_the_space_have_every_operation() -> None:
    names = {name for genome in SPACE.cover() for name in SPACE.operations(genome)}
    assert names == {*OPERATIONS}


def test_a_cell_without_a_path_gives_the_same_logits_for_all_images() -> None:
    network = randomised(seeded(lambda: SMALL.build(np.zeros(6, dtype=np.int64), 3), 0))
    logits = network(torch.rand(4, 3, 32, 32))
    assert torch.equal(logits, logits[:1].expand(4, -1))
    assert torch.isfinite(logits).all()


def test_it_is_in_the_table() -> None:
    assert SPACES["nasbench201"] is NasBench201Space
