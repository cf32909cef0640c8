"""PhaseSpace: anchors, hand-derived costs, feasibility, NSGA-Net's list form, designs."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError, UnknownNameError
from evonas.spaces import NSGANET, PhaseSpace
from evonas.spaces.phase_graph import decode, n_bits, node_counts
from evonas.types import Cost

Genome = npt.NDArray[np.int64]

PUBLISHED = [
    [[1], [0, 0], [0, 1, 0], [0, 1, 1, 1], [1, 0, 0, 1, 1], [0]],
    [[0], [0, 0], [0, 1, 0], [0, 1, 0, 1], [1, 1, 1, 1, 1], [0]],
    [[0], [0, 1], [1, 0, 1], [1, 0, 1, 1], [1, 0, 0, 1, 1], [0]],
]
SPACE = PhaseSpace()


def phases(*bits: str) -> Genome:
    """A genome from one string of bits a phase; spaces between the nodes are ignored."""
    return np.array([int(bit) for text in bits for bit in text.replace(" ", "")], dtype=np.int64)


ONLY_EDGE = "1 00 000 0000 00000 0"  # 1 -> 2; nodes 3 to 6 are isolated
NOTHING = "0 00 000 0000 00000 0"
ONLY_RESIDUAL = "0 00 000 0000 00000 1"
FULL = "1 11 111 1111 11111 1"


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("channels", "cost"),
    [(16, Cost(336_986, 40_927_040)), (32, Cost(1_342_634, 162_929_280))],
)
def test_published_genome(channels: int, cost: Cost) -> None:
    genome = PhaseSpace.from_lists(PUBLISHED)
    network = SPACE.build(genome, channels=channels)
    assert SPACE.cost(genome, channels=channels) == cost
    assert (count_params(network), count_macs(network)) == cost


def test_channels_of_the_space_are_the_default() -> None:
    genome = PhaseSpace.from_lists(PUBLISHED)
    assert PhaseSpace(channels=32).cost(genome) == Cost(1_342_634, 162_929_280)
    assert count_params(PhaseSpace(channels=32).build(genome)) == 1_342_634


def test_fully_connected_at_32() -> None:
    # Six nodes: 6 x 9 C^2, merges of 2 + 3 + 4 + 5 at the nodes and 2 at the output 16 C^2: 70 C^2 a phase.
    # BN 7 x 2 C. First convolutions 9 x 3 x 32, 32 x 64, 64 x 128. C = 32, 64, 128; maps 30, 15, 7.
    params = 70 * (32**2 + 64**2 + 128**2) + 14 * (32 + 64 + 128) + 864 + 2048 + 8192 + 1290
    macs = 900 * (70 * 32**2 + 864) + 225 * (70 * 64**2 + 2048) + 49 * (70 * 128**2 + 8192) + 1280
    assert (params, macs) == (1_520_810, 186_862_208)
    assert SPACE.cost(SPACE.upper, channels=32) == (params, macs)
    network = SPACE.build(SPACE.upper, channels=32)
    assert (count_params(network), count_macs(network)) == (params, macs)


def test_isolated_nodes_cost_nothing() -> None:
    # As two nodes in a chain: 432 + 2 x (2304 + 32) + 32 + 170 parameters at 16 channels, all maps 30 x 30.
    expected = Cost(5306, 900 * (432 + 2 * 2304) + 160)
    assert SPACE.cost(phases(ONLY_EDGE, NOTHING, NOTHING)) == expected
    assert PhaseSpace(phases=1, nodes=2).cost(phases("1 0")) == expected


@pytest.mark.parametrize("position", range(3))
@pytest.mark.parametrize("dropped", [NOTHING, ONLY_RESIDUAL])
def test_the_only_active_phase_takes_the_first_width_wherever_it_stands(position: int, dropped: str) -> None:
    bits = [dropped] * 3
    bits[position] = ONLY_EDGE
    genome = phases(*bits)
    assert SPACE.cost(genome) == Cost(5306, 4_536_160)
    network = SPACE.build(genome)
    assert (count_params(network), count_macs(network)) == (5306, 4_536_160)


def test_an_inactive_phase_in_the_middle_leaves_no_pooling_behind() -> None:
    # Second active phase: 1x1 convolution 16 x 32, nodes 2 x 9 x 32^2 with BN 64, output BN 64; maps 15 x 15.
    params = 432 + 2 * 2336 + 32 + 512 + 2 * (9216 + 64) + 64 + 330
    macs = 900 * (432 + 4608) + 225 * (512 + 18432) + 320
    genome = phases(ONLY_EDGE, ONLY_RESIDUAL, ONLY_EDGE)
    assert SPACE.cost(genome) == (params, macs)
    network = SPACE.build(genome)
    assert (count_params(network), count_macs(network)) == (params, macs)


@pytest.mark.parametrize("bits", [NOTHING, ONLY_RESIDUAL])
def test_the_residual_bit_alone_activates_nothing(bits: str) -> None:
    genome = phases(bits, bits, bits)
    assert SPACE.violation(genome) > 0
    assert SPACE.cost(genome) == Cost(40, 30)
    assert count_params(SPACE.build(genome)) == 40
    assert SPACE.describe(genome) == "no active phase"


def test_the_residual_bit_of_an_active_phase_is_one_merge() -> None:
    without, with_it = phases(ONLY_EDGE, NOTHING, NOTHING), phases(ONLY_EDGE[:-1] + "1", NOTHING, NOTHING)
    assert SPACE.cost(with_it).params - SPACE.cost(without).params == 2 * 16 * 16
    assert SPACE.cost(with_it).macs - SPACE.cost(without).macs == 900 * 2 * 16 * 16


def test_other_classes_channels_and_image_sizes() -> None:
    genome = phases(ONLY_EDGE, NOTHING, NOTHING)
    assert SPACE.cost(genome, n_classes=100).params == 5306 + 90 * 17
    assert SPACE.cost(genome, in_channels=1) == Cost(5306 - 288, 4_536_160 - 900 * 288)
    assert SPACE.cost(genome, image_size=28).macs == 26 * 26 * (432 + 4608) + 160
    small = PhaseSpace(image_size=28)
    assert small.cost(genome).macs == count_macs(small.build(genome), (3, 28, 28)) == 26 * 26 * 5040 + 160


def test_description_says_what_each_node_reads() -> None:
    genome = phases("1 00 000 0000 00000 1", NOTHING, "1 11 000 0000 00000 0")
    assert SPACE.describe(genome) == (
        "phase 1 (16 channels): 1<-in 2<-1 out<-in,2 | phase 2 (32 channels): 1<-in 2<-1 3<-1,2 out<-3"
    )


def test_sizes_of_the_default_space() -> None:
    assert (SPACE.bits_per_phase, SPACE.n_genes, SPACE.name) == (16, 48, "phase")
    assert SPACE.n_genomes == 2**48
    assert SPACE.paper_size == 3 * 2**16  # RoCo-NAS, Eq. 3
    assert [PhaseSpace(phases=1, nodes=n).n_genes for n in range(2, 9)] == [2, 4, 7, 11, 16, 22, 29]


def test_a_single_node_is_a_clear_error() -> None:
    with pytest.raises(ConfigurationError, match=r"expected 2 to 8 nodes a phase, got 1 .*no connection"):
        PhaseSpace(nodes=1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nodes": 9}, "2 to 8 nodes a phase, got 9"),
        ({"nodes": 0}, "2 to 8 nodes a phase, got 0"),
        ({"phases": 0}, "phases >= 1, got 0"),
        ({"channels": 0}, "channels >= 1, got 0"),
        ({"image_size": 0}, "image_size >= 1, got 0"),
        ({"mutation_rate": 0.2}, "only 'nsganet' has one"),
        ({"operators": "nsganet", "mutation_rate": -0.1}, "mutation rate >= 0, got -0.1"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        PhaseSpace(**settings)


def test_unknown_operators_list_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match="unknown operators 'uniform'; known: nsganet, roco"):
        PhaseSpace(operators="uniform")


def test_five_active_phases_fit_32_pixels_and_six_do_not() -> None:
    space = PhaseSpace(phases=7, nodes=2, channels=2)
    for active in range(8):
        genome = np.array([1, 0] * active + [0, 1] * (7 - active))
        feasible = 1 <= active <= 5
        assert (space.violation(genome) <= 0) == feasible
        if active > 5:
            with pytest.raises(ValueError, match=f"at most 5 active phases for 32x32 images, got {active}"):
                space.build(genome)
            with pytest.raises(ValueError, match=f"at most 5 active phases for 32x32 images, got {active}"):
                space.cost(genome)
    violations = [space.violation(np.array([1, 0] * n + [0, 0] * (7 - n))) for n in (6, 7)]
    assert violations == sorted(violations)
    assert violations[1] > violations[0]


@pytest.mark.parametrize("channels", [3, 16])
def test_feasible_is_exactly_what_can_be_built(channels: int) -> None:
    # With three channels from the first phase on there is no first convolution: maps of 32, 16, 8, 4, 2, 1.
    space = PhaseSpace(phases=7, nodes=2, channels=channels)
    for active in range(1, 8):
        genome = np.array([1, 0] * active + [0, 0] * (7 - active))
        try:
            space.cost(genome)
        except ValueError:
            assert space.violation(genome) > 0
        else:
            assert space.violation(genome) <= 0


def test_more_active_phases_are_costlier_up_to_the_maximum() -> None:
    space = PhaseSpace(phases=7, nodes=3, channels=4)
    everything_that_fits = np.array([1] * 4 * 5 + [0] * 4 * 2)
    assert space.max_cost() == space.cost(everything_that_fits)


@pytest.mark.parametrize(("n_phases", "nodes"), [(1, 2), (2, 2), (3, 2), (2, 3), (1, 4), (1, 5)])
def test_max_cost_is_the_largest_of_all_genomes(n_phases: int, nodes: int) -> None:
    space = PhaseSpace(phases=n_phases, nodes=nodes, channels=4)
    genomes = (np.arange(space.n_genomes)[:, None] >> np.arange(space.n_genes)) & 1
    params, macs = np.array([space.cost(genome) for genome in genomes]).max(axis=0)
    assert space.max_cost() == (params, macs)


@pytest.mark.lengthy
def test_max_cost_is_the_largest_of_all_phases_of_six_nodes() -> None:
    space = PhaseSpace(phases=1)
    genomes = (np.arange(1 << 16)[:, None] >> np.arange(16)) & 1
    params, macs = np.array([space.cost(genome) for genome in genomes]).max(axis=0)
    assert space.max_cost() == (params, macs)


def test_list_form_of_the_published_genome() -> None:
    genome = PhaseSpace.from_lists(PUBLISHED)
    first = [1, 0, 0, 0, 1, 0, 0, 1, 1, 1, 1, 0, 0, 1, 1, 0]
    assert genome.dtype == np.int64
    assert genome[:16].tolist() == first
    assert SPACE.to_lists(genome) == PUBLISHED


@pytest.mark.parametrize("nodes", range(2, 9))
def test_list_form_round_trip(nodes: int) -> None:
    space = PhaseSpace(phases=2, nodes=nodes)
    for genome in space.sample(20, np.random.default_rng(nodes)):
        nested = space.to_lists(genome)
        assert [len(part) for part in nested[0]] == [*range(1, nodes), 1]
        assert np.array_equal(space.from_lists(nested), genome)


@pytest.mark.parametrize(
    "nested",
    [
        [],
        [[[0]]],  # a single node has no connection
        [[[1], [0, 1]]],  # no residual bit
        [[[1], [0], [0]]],  # node 3 has two predecessors
        [[[1], [0]], [[1], [0, 1], [0]]],  # phases of different length
        [[[2], [0]]],
    ],
)
def test_malformed_lists_are_errors(nested: list[list[list[int]]]) -> None:
    with pytest.raises(ValueError, match=r"^expected"):
        PhaseSpace.from_lists(nested)


def test_designs_by_hand() -> None:
    space = PhaseSpace(phases=1, nodes=4)
    descriptions = {name: space.describe(genome) for name, genome in space.designs().items()}
    assert descriptions == {
        "chain": "phase 1 (16 channels): 1<-in 2<-1 3<-2 4<-3 out<-4",
        "residual": "phase 1 (16 channels): 1<-in 2<-1 3<-2 4<-3 out<-in,4",
        "dense": "phase 1 (16 channels): 1<-in 2<-1 3<-1,2 4<-1,2,3 out<-in,4",
        "pair": "phase 1 (16 channels): 1<-in 2<-1 out<-2",
    }


@pytest.mark.parametrize("space", [SPACE, PhaseSpace(phases=2, nodes=3), PhaseSpace(phases=7, nodes=3)])
def test_designs_are_feasible_and_differ(space: PhaseSpace) -> None:
    designs = space.designs()
    assert all(space.violation(genome) <= 0 for genome in designs.values())
    assert len({space.canonical(genome).tobytes() for genome in designs.values()}) == len(designs)
    assert space.cost(designs["dense"]) == space.max_cost()


def test_pair_is_the_smallest_network() -> None:
    space = PhaseSpace(phases=2, nodes=3, channels=4)
    genomes = (np.arange(space.n_genomes)[:, None] >> np.arange(space.n_genes)) & 1
    costs = np.array([space.cost(genome) for genome in genomes if space.violation(genome) <= 0])
    assert space.cost(space.designs()["pair"]) == tuple(costs.min(axis=0))


def test_each_bit_is_sampled_with_chance_one_half() -> None:
    share = SPACE.sample(4000, np.random.default_rng(0)).mean(axis=0)
    assert share.shape == (48,)
    # Deviation of a share of 4,000 fair bits is 0.5 / sqrt(4000); 4.5 of them are passed by chance in 1 run of 3,000.
    assert np.abs(share - 0.5).max() < 4.5 * 0.5 / 4000**0.5


@pytest.mark.parametrize(("channels", "millions"), [(16, 41.47), (32, 164.02)])
def test_flops_of_the_published_genome_are_the_reference_counters(channels: int, millions: float) -> None:
    flops = SPACE.flops(PhaseSpace.from_lists(PUBLISHED), channels=channels)
    assert round(flops / 1e6, 2) == millions


def test_flops_are_macs_and_what_other_layers_touch() -> None:
    """Counted with hooks: 2 x input of BN, output of ReLU, input of pooling (the maps before each, and at the end)."""
    touched: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        touched.append(2 * inputs[0].numel() if isinstance(module, nn.BatchNorm2d) else output.numel())

    for genome in SPACE.sample(5, np.random.default_rng(0)):
        network = SPACE.build(genome, channels=4).eval()
        touched.clear()
        counted = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d | nn.ReLU)]
        for part in (*counted, *network.phases):  # a phase's output is what the pooling behind it reads
            part.register_forward_hook(count)
        with torch.no_grad():
            network(torch.zeros(1, 3, 32, 32))
        assert SPACE.flops(genome, channels=4) == SPACE.cost(genome, channels=4).macs + sum(touched)


def test_flops_of_no_phase_are_a_pooling_and_the_classifier() -> None:
    assert SPACE.flops(np.zeros(48, dtype=np.int64)) == 3 * 32 * 32 + 30


@pytest.mark.parametrize("nodes", range(2, 9))
def test_counts_for_costs_are_those_of_the_graph(nodes: int) -> None:
    """Every phase of up to five nodes, 2,000 random ones of more."""
    length = n_bits(nodes)
    every = range(2**length) if nodes < 6 else np.random.default_rng(nodes).integers(2**length, size=2000).tolist()
    for packed in every:
        graph = decode(tuple(packed >> place & 1 for place in range(length)), nodes)
        merged = 0 if graph is None else sum(count for _, count in graph.merges)
        assert node_counts(packed, nodes) == (0 if graph is None else graph.n_active, merged)


@pytest.mark.parametrize("wrong", [{"phases": 3.0}, {"nodes": 2.5}, {"channels": 16.0}, {"image_size": 2}])
def test_a_space_is_made_of_whole_numbers_and_images_that_a_phase_fits_into(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        PhaseSpace(**wrong)


def test_a_width_that_is_no_whole_number_is_refused_and_changes_nothing() -> None:
    genome = PhaseSpace.from_lists(PUBLISHED)
    for wrong in (16.0, 0, -1):
        with pytest.raises(ValueError, match="whole number of channels"):
            SPACE.cost(genome, channels=wrong)  # type: ignore[arg-type]
    assert all(type(value) is int for value in SPACE.cost(genome, channels=16))


def test_random_genomes_have_no_more_phases_than_the_image_has_room_for() -> None:
    space = PhaseSpace(phases=9, nodes=4)
    genomes = space.sample(200, np.random.default_rng(0))
    assert all(space.violation(genome) <= 0 for genome in genomes)
    assert len({tuple(np.flatnonzero(g.reshape(9, -1)[:, :-1].any(axis=1))) for g in genomes}) > 50  # any of them


def test_normalisation_needs_a_mean_for_each_channel() -> None:
    with pytest.raises(ValueError, match="a mean for each of 3 channels, got 1"):
        SPACE.build(SPACE.designs()["chain"], normalization=((0.5,), (0.2,)))
    arrays: Any = (np.full(3, 0.5), np.full(3, 0.2))
    network = SPACE.build(SPACE.designs()["chain"], normalization=arrays)
    assert network(torch.zeros(2, 3, 32, 32)).dtype == torch.float32


def test_the_published_genome_is_at_hand() -> None:
    assert NSGANET == PUBLISHED
