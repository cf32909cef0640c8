"""TAM-NAS's space: known whole-network counts, costs against built networks, legality, windows, operators."""

import re
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError
from evonas.networks.shuffle import BLOCKS, ShuffleBlock, Unit
from evonas.spaces import ShuffleSpace
from evonas.spaces.shuffle_costs import unit_cost

Genome = npt.NDArray[np.int64]

FULL = ShuffleSpace()
SMALL = ShuffleSpace(width=1 / 6, depth=0.1)
"""A stem of 4 channels and 6 places."""
PAGE = Path(__file__).parents[2] / "docs" / "papers" / "tam-nas.md"


def everywhere(space: ShuffleSpace, block: int, ratio: int, stride_2: int = 0) -> Genome:
    """The same block and ratio everywhere, but for `stride_2` where the stride is 2."""
    blocks = [stride_2 if place.stride == 2 else block for place in space.plan.places]
    return np.array(blocks + [ratio] * space.n_places, dtype=np.int64)


@pytest.mark.parametrize(
    ("block", "ratio", "stride_2", "params"),
    [
        (0, 0, 0, 1_634_350),
        (0, 9, 0, 1_862_810),
        (11, 9, 5, 2_398_838),
        (18, 4, 0, 1_729_070),
        (19, 4, 0, 1_727_678),
        (20, 4, 0, 1_682_870),
        (21, 4, 0, 1_681_478),
        (6, 4, 0, 1_830_518),
        (12, 4, 0, 1_784_318),
    ],
)
def test_known_whole_networks(block: int, ratio: int, stride_2: int, params: int) -> None:
    genome = everywhere(FULL, block, ratio, stride_2)
    assert FULL.cost(genome).params == params
    assert count_params(FULL.build(genome)) == params


def test_the_space() -> None:
    assert (FULL.n_places, FULL.n_genes) == (16, 32)
    assert FULL.upper.tolist() == [5, 21, 21, 21, 5, *[21] * 7, 5, 21, 21, 21, *[9] * 16]
    assert FULL.plan.stages == ((48, 4), (96, 8), (192, 4))
    assert (FULL.plan.stem, FULL.plan.head) == (24, (920, 1024))


def test_channels_inside_by_hand() -> None:
    """int(half the channels x ratio) in a branch; of a pure robust block int(a quarter x ratio), at least 1."""
    ratios = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0]
    expected = {
        (1, 0): [4, 9, 14, 19, 24, 28, 33, 38, 43, 48],  # half of 48 is 24
        (5, 8): [9, 19, 28, 38, 48, 57, 67, 76, 86, 96],  # half of 96 is 48
        (13, 17): [19, 38, 57, 76, 96, 115, 134, 153, 172, 192],  # half of 192 is 96
        (1, 18): [2, 4, 7, 9, 12, 14, 16, 19, 21, 24],  # half of 24 is 12
        (5, 20): [4, 9, 14, 19, 24, 28, 33, 38, 43, 48],
        (13, 21): [9, 19, 28, 38, 48, 57, 67, 76, 86, 96],
        (0, 3): [4, 9, 14, 19, 24, 28, 33, 38, 43, 48],  # stride 2 counts by what it gives
    }
    for (place, block), mids in expected.items():
        for index, ratio in enumerate(ratios):
            genome = np.zeros(32, dtype=np.int64)
            genome[place], genome[16 + place] = block, index
            assert FULL.units(genome)[place] == Unit(BLOCKS[block], mids[index]), ratio


def test_doubled_channels_inside() -> None:
    double = ShuffleSpace(intermediate=2)
    assert double.plan == FULL.plan
    for ratio in range(5):  # ratio r of the wider supernet is 2 r of the other one
        genome = everywhere(FULL, 9, ratio)
        twice = everywhere(FULL, 9, 2 * ratio + 1)
        assert double.units(genome) == FULL.units(twice)
    assert [unit.mid for unit in double.units(everywhere(FULL, 0, 9))] == [96] * 4 + [192] * 8 + [384] * 4


SPACES = [
    ShuffleSpace(width=1 / 6, depth=0.1),
    ShuffleSpace(width=1 / 3, depth=0.3, intermediate=2),
    ShuffleSpace(width=0.5, depth=0.1, image_size=28),
    ShuffleSpace(width=1 / 6, depth=0.1, image_size=9),
    ShuffleSpace(width=1 / 6, depth=2.0, image_size=17),
    ShuffleSpace(image_size=64),
]


@pytest.mark.slow
@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.plan.stem}x{space.n_places}@{space.image_size}")
def test_looked_up_costs_are_those_of_built_networks(space: ShuffleSpace) -> None:
    size = space.image_size
    for genome in space.sample(4, np.random.default_rng(0)):
        network = space.build(genome)
        assert space.cost(genome) == (count_params(network), count_macs(network, (3, size, size)))
    grey = space.build(genome, n_classes=7, in_channels=1)
    assert space.cost(genome, 7, in_channels=1, image_size=40) == (count_params(grey), count_macs(grey, (1, 40, 40)))


def test_costs_at_another_width() -> None:
    for genome in SMALL.sample(3, np.random.default_rng(0)):
        network = SMALL.build(genome, channels=12)
        assert network.stem[0].out_channels == 12
        assert SMALL.cost(genome, channels=12) == (count_params(network), count_macs(network))
        assert SMALL.cost(genome, channels=4) == SMALL.cost(genome)
    with pytest.raises(ValueError, match="expected a multiple of 4 as channels of the stem, got 6"):
        SMALL.build(genome, channels=6)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(6))
def test_every_block_and_ratio_at_every_place(number: int) -> None:
    place, last = SMALL.plan.places[number], SMALL.upper[number]
    before = 32 // place.reduction * place.stride
    base = SMALL.cost(np.zeros(12, dtype=np.int64))
    first = unit_cost(place, SMALL.units(np.zeros(12, dtype=np.int64))[number], 32)
    for block, ratio in product(range(last + 1), range(10)):
        genome = np.zeros(12, dtype=np.int64)
        genome[number], genome[6 + number] = block, ratio
        module = ShuffleBlock(place, SMALL.units(genome)[number])
        params, macs = count_params(module), count_macs(module, (place.in_channels, before, before))
        assert SMALL.cost(genome) == (base.params - first.params + params, base.macs - first.macs + macs)


@pytest.mark.lengthy
@pytest.mark.parametrize("space", [FULL, SMALL, ShuffleSpace(width=0.5, intermediate=2)], ids=repr)
def test_the_range_of_parameters_is_met_by_genomes_and_left_by_none(space: ShuffleSpace) -> None:
    smallest = []
    largest = []
    for number, last in enumerate(space.upper[: space.n_places]):
        costs = {}
        for block, ratio in product(range(last + 1), range(10)):
            genome = np.zeros(space.n_genes, dtype=np.int64)
            genome[number], genome[space.n_places + number] = block, ratio
            costs[block, ratio] = space.cost(genome).params
        smallest.append(min(costs, key=lambda key: costs[key]))
        largest.append(max(costs, key=lambda key: costs[key]))
    ends = [np.array([*zip(*choice, strict=True)]).reshape(-1) for choice in (smallest, largest)]
    assert space.params_range == tuple(space.cost(genome).params for genome in ends)
    assert space.max_cost().params == space.params_range[1]
    for genome in space.sample(200, np.random.default_rng(0)):
        assert space.params_range[0] <= space.cost(genome).params <= space.params_range[1]


def test_only_blocks_0_to_5_halve_maps() -> None:
    for number in (0, 4, 12):
        genome = np.zeros(32, dtype=np.int64)
        genome[number] = 5
        FULL.build(genome)
        genome[number] = 6
        with pytest.raises(ValueError, match=r"^expected genes of 0 to \[5, 21.* in space 'shuffle', got \[") as raised:
            FULL.build(genome)
        assert "\n" not in str(raised.value)


def test_each_network_of_the_full_plan_has_one_genome() -> None:
    for space in (FULL, ShuffleSpace(intermediate=2)):
        for genome in space.sample(100, np.random.default_rng(0)):
            assert np.array_equal(space.canonical(genome), genome)


def test_ratios_that_give_the_same_channels_are_one_network() -> None:
    """A branch of 4 channels: int(4 x ratio) is 0, at least 1, then 1, 2, 3, 4, 4, 5, 6, 7, 8; a pure robust block has
    int(2 x ratio): 0, 0, 1, 1, 2, 2, 2, 3, 3, 4, at least 1."""
    for block, canonical in ((7, [0, 0, 2, 3, 4, 4, 6, 7, 8, 9]), (19, [0, 0, 0, 0, 4, 4, 4, 7, 7, 9])):
        for ratio in range(10):
            genome = np.zeros(12, dtype=np.int64)
            genome[1], genome[7] = block, ratio
            expected = genome.copy()
            expected[7] = canonical[ratio]
            assert np.array_equal(SMALL.canonical(genome), expected)
            assert SMALL.units(SMALL.canonical(genome)) == SMALL.units(genome)


def test_networks_differ_where_canonical_genomes_do() -> None:
    seen: dict[tuple[Unit, ...], bytes] = {}
    for genome in SMALL.sample(500, np.random.default_rng(0)):
        genome[[0, 2, 3, 4, 5, 6, 8, 9, 10, 11]] = 0  # so that some are the same
        canonical = SMALL.canonical(genome)
        units = tuple(SMALL.units(genome))
        assert seen.setdefault(units, canonical.tobytes()) == canonical.tobytes()
    assert len(set(seen.values())) == len(seen) < 500


def test_violation_is_the_distance_from_the_window() -> None:
    genome = everywhere(FULL, 0, 9)  # 1,862,810 parameters
    for window, expected in (
        ((1.8e6, 2.0e6), 0.0),
        ((1_862_810, 2.0e6), 0.0),
        ((1.5e6, 1_862_810), 0.0),
        ((1.9e6, 2.0e6), 37_190 / 2.0e6),
        ((1.5e6, 1.6e6), 262_810 / 1.6e6),
    ):
        violation = ShuffleSpace(window=window).violation(genome)
        assert violation == pytest.approx(expected, abs=1e-12)
        assert (violation <= 0) == (window[0] <= 1_862_810 <= window[1])
    assert FULL.violation(genome) == 0.0


def test_the_window_scales_along_edges_to_edges() -> None:
    edges = FULL.params_range
    window = (1.61e6, 2.37e6)
    assert FULL.scaled(window) == pytest.approx(window)
    for space in (SMALL, ShuffleSpace(intermediate=2), ShuffleSpace(width=2.0, depth=0.5)):
        assert space.scaled(edges) == pytest.approx(space.params_range)
        low, high = space.params_range
        assert space.scaled((sum(edges) / 2, edges[1])) == pytest.approx(((low + high) / 2, high))


def test_a_scaled_window_parts_the_genomes_of_a_small_space() -> None:
    window = (1.823e6, 2.375e6)
    space = ShuffleSpace(width=1 / 6, depth=0.1, window=window)
    low, high = SMALL.scaled(window)
    inside = []
    for genome in space.sample(200, np.random.default_rng(0)):
        params = space.cost(genome).params
        inside.append(space.violation(genome) <= 0)
        assert inside[-1] == (low <= params <= high)
    assert 0 < sum(inside) < 200


def test_one_point_crossover_swaps_tails() -> None:
    space = ShuffleSpace(width=1 / 6, depth=0.1, crossover_kind="one_point", crossover_rate=1.0)
    a, b = np.zeros(12, dtype=np.int64), np.minimum(space.upper, 5)
    cuts = set()
    for seed in range(200):
        first, second = space.crossover(a, b, np.random.default_rng(seed))
        cut = int(np.flatnonzero(first)[0])
        assert np.array_equal(first, np.concatenate([a[:cut], b[cut:]]))
        assert np.array_equal(second, np.concatenate([b[:cut], a[cut:]]))
        cuts.add(cut)
    assert cuts == set(range(1, 12))  # 11 cuts: one is missed with a chance below 11 (10/11)^200 = 6e-8


def test_uniform_crossover_takes_each_gene_from_either_parent() -> None:
    space = ShuffleSpace(crossover_rate=1.0)
    a, b = np.zeros(32, dtype=np.int64), space.upper
    swapped = np.zeros(32)
    for seed in range(400):
        first, second = space.crossover(a, b, np.random.default_rng(seed))
        assert np.array_equal(first + second, b)  # complementary
        swapped += first == b
    assert (abs(swapped - 200) < 50).all()  # five deviations of a binomial of 400 halves


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.9])
def test_crossover_happens_at_its_rate(rate: float) -> None:
    space = ShuffleSpace(crossover_rate=rate)
    rng = np.random.default_rng(0)
    a, b = np.zeros(32, dtype=np.int64), space.upper
    crossed = sum(not np.array_equal(space.crossover(a, b, rng)[0], a) for _ in range(1000))
    assert abs(crossed - 1000 * rate) <= 5 * (1000 * rate * (1 - rate)) ** 0.5


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_mutation_draws_genes_anew_at_its_rate(rate: float) -> None:
    """A gene of k values changes with chance rate x (1 - 1/k), and every value is as likely."""
    space = ShuffleSpace(mutation_rate=rate)
    rng = np.random.default_rng(0)
    genome = np.minimum(space.upper, 3)
    children = np.array([space.mutate(genome, rng) for _ in range(4000)])
    changed = (children != genome).sum(axis=0)
    chance = rate * (1 - 1 / (space.upper + 1))
    assert (abs(changed - 4000 * chance) <= 5 * (4000 * chance * (1 - chance)) ** 0.5).all()
    if rate == 1.0:
        for gene, last in enumerate(space.upper):
            counts = np.bincount(children[:, gene], minlength=last + 1)
            expected = 4000 / (last + 1)
            assert (abs(counts - expected) <= 5 * expected**0.5).all()


def test_samples_are_uniform() -> None:
    genomes = FULL.sample(4000, np.random.default_rng(0))
    for gene, last in enumerate(FULL.upper):
        counts = np.bincount(genomes[:, gene], minlength=last + 1)
        expected = 4000 / (last + 1)
        assert len(counts) == last + 1
        assert (abs(counts - expected) <= 5 * expected**0.5).all()


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("width", 0.0, "expected width in (0, 8], got 0.0"),
        ("width", float("nan"), "expected width in (0, 8], got nan"),
        ("depth", 9.0, "expected depth in (0, 8], got 9.0"),
        ("intermediate", 3, "expected intermediate 1 or 2, got 3"),
        ("crossover_rate", 1.1, "expected crossover_rate in [0, 1], got 1.1"),
        ("mutation_rate", -0.1, "expected mutation_rate in [0, 1], got -0.1"),
        ("image_size", 0, "expected a whole image_size >= 1, got 0"),
        ("image_size", 32.0, "expected a whole image_size >= 1, got 32.0"),
        ("window", (2.0, 1.0), "expected a window of parameters (fewest, most), got (2.0, 1.0)"),
    ],
)
def test_a_senseless_setting_is_refused(setting: str, value: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        ShuffleSpace(**{setting: value})  # type: ignore[arg-type]


def test_an_unknown_crossover_is_refused() -> None:
    with pytest.raises(
        KeyError, match=r"unknown crossover 'two_point'; did you mean one_point\? known: one_point, uniform"
    ):
        ShuffleSpace(crossover_kind="two_point")


def test_a_description_names_block_ratio_and_channels() -> None:
    genome = np.array([3, 7, 0, 21, 5, 18, 0, 9, 1, 4, 2, 6])
    assert SMALL.describe(genome) == (
        "0: SX+SE k3 x0.2 (1) /2 | 1: S+NE+SE k5 x2.0 (8) | 2: S+SE k3 x0.4 (3) /2 | 3: NG+SE x1.0 (4) | "
        "4: SX+SE k7 x0.6 (9) /2 | 5: NE+BN+SE x1.4 (11)"
    )


@pytest.mark.lengthy
def test_the_table_of_blocks_on_the_papers_page() -> None:
    """Every number there is that of the space: 22 blocks in three stages, and 6 where each stage begins."""
    rows = re.findall(r"^\| (\d+) `([^`]+)` \|((?: [\d,]+ \|){10})$", PAGE.read_text(), re.MULTILINE)
    assert len(rows) == 3 * 22 + 3 * 6
    places = [(number, 22) for number in (1, 5, 13)] + [(number, 6) for number in (0, 4, 12)]
    wanted = []
    for number, blocks in places:
        for block in range(blocks):
            costs = []
            for ratio in range(10):
                genome = np.zeros(32, dtype=np.int64)
                genome[number], genome[16 + number] = block, ratio
                costs.append(count_params(ShuffleBlock(FULL.plan.places[number], FULL.units(genome)[number])))
            wanted.append((str(block), BLOCKS[block].name, costs))
    found = [
        (block, name, [int(n.replace(",", "")) for n in re.findall(r"[\d,]+", cells)]) for block, name, cells in rows
    ]
    assert found == wanted
