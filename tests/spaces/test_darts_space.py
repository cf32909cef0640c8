"""DARTS's space: published cells, costs against built networks, one genome for all listings of a cell, operators."""

import re
from collections.abc import Iterator
from itertools import permutations, product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError
from evonas.networks.darts import GENOTYPES, Cell, DartsNetwork, Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.search import EvolutionConfig, LocalExecutor, evolve, non_dominated
from evonas.spaces import DartsSpace
from evonas.types import EvaluationResult, arch_id

Genome = npt.NDArray[np.int64]

FULL = DartsSpace()
TINY = DartsSpace(channels=4, layers=3, image_size=16)


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("name", "channels", "n_classes", "params"),
    [
        ("DARTS_V2", 36, 10, 3_349_342),
        ("DARTS_V2", 28, 10, 2_060_502),
        ("DARTS_V2", 20, 10, 1_082_830),
        ("DARTS_V2", 12, 10, 416_326),
        ("PDARTS", 36, 10, 3_433_798),
        ("PC_DARTS_cifar", 36, 10, 3_634_678),
        ("DARTS_V2", 36, 100, 3_401_272),
        ("DARTS_V2", 34, 100, 3_047_010),
        ("DARTS_V2", 27, 100, 1_960_246),
        ("DARTS_V2", 19, 100, 1_009_950),
    ],
)
def test_published_parameters(name: str, channels: int, n_classes: int, params: int) -> None:
    """E2RNAS (first version), Tables 1 and 2."""
    genome = FULL.from_genotype(GENOTYPES[name])
    assert count_params(FULL.build(genome, n_classes, channels)) == params
    assert FULL.cost(genome, n_classes, channels).params == params
    assert FULL.cost(FULL.canonical(genome), n_classes, channels).params == params


def test_the_space() -> None:
    cell = [1, 6, 1, 6, 2, 6, 2, 6, 3, 6, 3, 6, 4, 6, 4, 6]
    assert (FULL.name, FULL.n_genes, FULL.upper.tolist()) == ("darts", 32, cell * 2)
    assert DartsSpace(nodes=3).upper.tolist() == cell[:12] * 2


def test_a_genome_by_hand() -> None:
    space = DartsSpace(nodes=2)
    genome = np.array([0, 3, 1, 2, 2, 6, 0, 0, 1, 1, 0, 4, 0, 5, 1, 2])
    genotype = space.genotype(genome)
    assert genotype == Genotype(
        normal=(("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 0)),
        normal_concat=(2, 3),
        reduce=(("avg_pool_3x3", 1), ("sep_conv_5x5", 0), ("dil_conv_3x3", 0), ("skip_connect", 1)),
        reduce_concat=(2, 3),
    )
    assert space.from_genotype(genotype).tolist() == genome.tolist()
    assert space.describe(genome) == (
        "normal: 2 = sep_conv_3x3(0) + skip_connect(1), 3 = dil_conv_5x5(2) + max_pool_3x3(0) | "
        "reduce: 2 = avg_pool_3x3(1) + sep_conv_5x5(0), 3 = dil_conv_3x3(0) + skip_connect(1)"
    )


def test_genotypes_and_genomes_name_each_other() -> None:
    for nodes in (1, 3, 4):
        space = DartsSpace(nodes=nodes)
        for genome in space.sample(20, np.random.default_rng(0)):
            assert np.array_equal(space.from_genotype(space.genotype(genome)), genome)
    for genotype in GENOTYPES.values():
        assert FULL.genotype(FULL.from_genotype(genotype)) == genotype
        assert FULL.violation(FULL.from_genotype(genotype)) == 0


def test_a_genotype_of_another_space_is_refused() -> None:
    v2 = GENOTYPES["DARTS_V2"]
    with pytest.raises(ConfigurationError, match=r"^expected a normal cell of 3 nodes, .*'darts', got 4 nodes, and \["):
        DartsSpace(nodes=3).from_genotype(v2)
    for concat in ((2, 3, 4), (5, 4, 3, 2)):
        partial = Genotype(v2.normal, v2.normal_concat, v2.reduce, concat)
        message = f"expected a reduction cell of 4 nodes, .* got 4 nodes, and {re.escape(str(list(concat)))} in"
        with pytest.raises(ConfigurationError, match=message):
            FULL.from_genotype(partial)


# (space, classes, channels of the image)
BUILT = [
    (DartsSpace(channels=4, layers=3, image_size=8), 10, 3),
    (DartsSpace(channels=5, layers=8, image_size=16), 3, 1),
    (DartsSpace(channels=12, layers=4, nodes=3), 10, 3),
    (DartsSpace(channels=3, layers=7, nodes=1), 2, 3),
    pytest.param(DartsSpace(channels=2, layers=20, nodes=5, image_size=12), 100, 3, marks=pytest.mark.slow),
    (DartsSpace(channels=16, layers=5), 10, 3),
    pytest.param(DartsSpace(channels=4, layers=14, stem="imagenet", image_size=64), 1000, 3, marks=pytest.mark.slow),
    (DartsSpace(channels=6, layers=3, nodes=2, stem="imagenet", image_size=32), 5, 1),
]


@pytest.mark.slow
@pytest.mark.parametrize(("space", "n_classes", "in_channels"), BUILT)
def test_looked_up_costs_are_those_of_built_networks(space: DartsSpace, n_classes: int, in_channels: int) -> None:
    size = space.image_size
    for genome in space.sample(6, np.random.default_rng(0)):
        network = space.build(genome, n_classes, in_channels=in_channels)
        built = (count_params(network), count_macs(network, (in_channels, size, size)))
        assert space.cost(genome, n_classes, in_channels=in_channels) == built
        most = space.max_cost(n_classes, in_channels=in_channels)
        assert (built[0] <= most.params, built[1] <= most.macs) == (True, True)


def test_costs_at_another_width_and_size() -> None:
    for genome in TINY.sample(3, np.random.default_rng(0)):
        network = TINY.build(genome, channels=7)
        assert TINY.cost(genome, channels=7, image_size=20) == (count_params(network), count_macs(network, (3, 20, 20)))
        assert TINY.cost(genome, channels=4, image_size=16) == TINY.cost(genome)
    with pytest.raises(ValueError, match="expected image_size to be a multiple of 4, got 18"):
        TINY.cost(genome, image_size=18)


def test_the_most_expensive_cells_meet_the_bound() -> None:
    """Separable 5x5 everywhere has most of both; of the stride-2 edges none is cheaper."""
    for space in (FULL, TINY, DartsSpace(nodes=1)):
        genome = space.sample(1, np.random.default_rng(0))[0]
        genome[1::2] = PRIMITIVES.index("sep_conv_5x5") - 1
        assert space.cost(genome) == space.max_cost()


def listings(cell: list[tuple[tuple[int, int], ...]]) -> Iterator[list[int]]:
    """The genes of every listing of the same cell: nodes in any order that inputs allow, pairs either way round."""
    nodes = range(2, len(cell) + 2)
    for order in permutations(nodes):
        place = {0: 0, 1: 1, **{node: number for number, node in enumerate(order, start=2)}}
        moved = [[(place[state], name) for state, name in cell[node - 2]] for node in order]
        if all(state < number for number, pairs in enumerate(moved, start=2) for state, _ in pairs):
            for ways in product((1, -1), repeat=len(cell)):
                yield [gene for pairs, way in zip(moved, ways, strict=True) for pair in pairs[::way] for gene in pair]


def cells_of(space: DartsSpace, genome: Genome) -> list[list[tuple[tuple[int, int], ...]]]:
    shaped = genome.reshape(2, space.nodes, 2, 2).tolist()
    return [[tuple((state, name) for state, name in node) for node in cell] for cell in shaped]


@pytest.mark.parametrize("nodes", [1, 2, 3, 4])
def test_canonical_is_the_smallest_of_all_listings(nodes: int) -> None:
    """So exactly the listings of the same cells share it."""
    space, rng = DartsSpace(nodes=nodes), np.random.default_rng(0)
    genomes = space.sample(60, rng)
    genomes[:, 1::2] %= rng.integers(1, 8, size=(60, 1))  # some with few operations, so that nodes are alike
    genomes[40:] = np.minimum(genomes[40:], 1)  # some whose nodes read inputs only, or one input twice
    moved = 0
    for genome in genomes:
        every = [list(listings(cell)) for cell in cells_of(space, genome)]
        canonical = space.canonical(genome)
        assert canonical.tolist() == [gene for cell in every for gene in min(cell)]
        moved += not np.array_equal(canonical, genome)
        for normal, reduce in zip(*(rng.permutation(cell)[:3] for cell in every), strict=False):
            assert np.array_equal(space.canonical(np.array([*normal, *reduce])), canonical)
    assert moved > 20


def test_swapped_pairs_change_no_bit() -> None:
    for genome in TINY.sample(3, np.random.default_rng(1)):
        swapped = genome.reshape(2, 4, 2, 2)[:, :, ::-1].reshape(-1)
        first, second = TINY.build(genome).train(), TINY.build(swapped).train()
        for one, other in zip(cells(first), cells(second), strict=True):
            other.preprocess0.load_state_dict(one.preprocess0.state_dict())
            other.preprocess1.load_state_dict(one.preprocess1.state_dict())
            for number, part in enumerate(one.operations):
                other.operations[number ^ 1].load_state_dict(part.state_dict())
        for name in ("stem", "classifier"):
            getattr(second, name).load_state_dict(getattr(first, name).state_dict())
        images = torch.rand(2, 3, 16, 16)
        assert torch.equal(first(images), second(images))


def cells(network: DartsNetwork) -> list[Cell]:
    return [cell for cell in network.cells if isinstance(cell, Cell)]


def test_moved_nodes_give_the_same_network_with_weights_moved() -> None:
    """In double precision: sums run in another order."""
    genome = TINY.from_genotype(GENOTYPES["DARTS_V2"])
    order = [3, 2, 5, 4]  # of the nodes; 5 reads 2, nothing else reads a node
    place = {0: 0, 1: 1, 3: 2, 2: 3, 5: 4, 4: 5}
    pairs = genome.reshape(2, 4, 2, 2).copy()
    normal = pairs[0][[node - 2 for node in order]]
    normal[:, :, 0] = np.vectorize(place.get)(normal[:, :, 0])
    pairs[0] = normal
    moved = pairs.reshape(-1)
    assert not np.array_equal(moved, genome)
    assert np.array_equal(TINY.canonical(moved), TINY.canonical(genome))

    first, second = (TINY.build(listed).double().train() for listed in (genome, moved))
    second.stem.load_state_dict(first.stem.state_dict())
    for one, other in zip(cells(first), cells(second), strict=True):
        normal_cell = one is first.cells[0]
        for number, part in enumerate(other.operations):
            source = 2 * (order[number // 2] - 2) + number % 2 if normal_cell else number
            part.load_state_dict(one.operations[source].state_dict())
        for name in ("preprocess0", "preprocess1"):
            getattr(other, name).load_state_dict(getattr(one, name).state_dict())
    # The normal cell 0 is read by cells 1 and 2, both of them reduction cells, through their inputs 1 and 0.
    channels = torch.cat([torch.arange(4) + 4 * (node - 2) for node in order])
    for reader in (cells(second)[1].preprocess1, cells(second)[2].preprocess0):
        for layer in reader.modules():
            if isinstance(layer, nn.Conv2d):
                layer.weight.data = layer.weight.data[:, channels]
    second.classifier.load_state_dict(first.classifier.state_dict())
    images = torch.rand(2, 3, 16, 16, dtype=torch.float64)
    torch.testing.assert_close(first(images), second(images), rtol=1e-9, atol=1e-10)


def test_reading_the_same_input_twice_is_infeasible() -> None:
    genome = FULL.from_genotype(GENOTYPES["PDARTS"])
    assert FULL.violation(genome) == 0
    for twice, nodes in enumerate([(0, 5), (1, 7)], start=1):
        cell, node = nodes[0], nodes[1] % 4
        shaped = genome.reshape(2, 4, 2, 2)
        shaped[cell, node, 0, 0] = shaped[cell, node, 1, 0]
        assert FULL.violation(genome) == twice
        assert FULL.violation(FULL.canonical(genome)) == twice


@pytest.mark.parametrize("kind", ["node", "cell"])
def test_children_of_feasible_parents_are_feasible(kind: str) -> None:
    rng = np.random.default_rng(0)
    space = DartsSpace(crossover_kind=kind, mutation_rate=0.5)
    for a, b in space.sample(400, rng).reshape(200, 2, -1):
        for genome in (a, b, *space.crossover(a, b, rng), space.mutate(a, rng)):
            assert space.violation(genome) == 0


def test_crossover_takes_whole_nodes_or_whole_cells() -> None:
    a, b = np.zeros(32, dtype=np.int64), FULL.upper
    for kind, genes, ways in (("node", 4, 8), ("cell", 16, 2)):
        space = DartsSpace(crossover_kind=kind, crossover_rate=1.0)
        taken = np.zeros(ways)
        for seed in range(400):
            first, second = space.crossover(a, b, np.random.default_rng(seed))
            assert np.array_equal(first + second, b)  # complementary
            swapped = (first == b).reshape(ways, genes)
            assert (swapped.all(axis=1) == swapped.any(axis=1)).all()
            taken += swapped.all(axis=1)
            if kind == "cell":
                assert swapped.all(axis=1).sum() == 1  # neither parent again
        assert (abs(taken - 200) < 50).all()  # five deviations of a binomial of 400 halves


@pytest.mark.parametrize("rate", [0.0, 0.3, 1.0])
def test_crossover_happens_at_its_rate(rate: float) -> None:
    space, rng = DartsSpace(crossover_kind="cell", crossover_rate=rate), np.random.default_rng(0)
    a, b = np.zeros(32, dtype=np.int64), FULL.upper
    crossed = sum(not np.array_equal(space.crossover(a, b, rng)[0], a) for _ in range(1000))
    assert abs(crossed - 1000 * rate) <= 5 * (1000 * rate * (1 - rate)) ** 0.5


def test_mutation_of_operations_is_uniform_at_its_rate() -> None:
    """A gene of 7 values changes with chance rate x 6/7."""
    space, rng = DartsSpace(mutation_rate=0.3), np.random.default_rng(0)
    genome = space.sample(1, rng)[0]
    children = np.array([space.mutate(genome, rng) for _ in range(4000)])
    for gene in range(1, 32, 2):
        counts = np.bincount(children[:, gene], minlength=7)
        for value in range(7):
            chance = 0.3 / 7 + 0.7 * (value == genome[gene])
            assert abs(counts[value] - 4000 * chance) <= 5 * (4000 * chance * (1 - chance)) ** 0.5
    still = DartsSpace(mutation_rate=0.0)
    assert np.array_equal(still.mutate(genome, rng), genome)


def test_mutation_of_inputs_reaches_all_pairs_of_different_ones() -> None:
    """With rate 1 the first input is drawn from all but the second, and then the second from all but the new first."""
    space, rng = DartsSpace(nodes=3, mutation_rate=1.0), np.random.default_rng(0)
    genome = space.sample(1, rng)[0]
    genome[[8, 10]] = (3, 1)  # node 4 of the normal cell
    children = np.array([space.mutate(genome, rng)[[8, 10]] for _ in range(4500)])
    for first, second in product(range(4), repeat=2):
        found = int((children == (first, second)).all(axis=1).sum())
        chance = 0.0 if first in (second, 1) else 1 / 9
        assert abs(found - 4500 * chance) <= 5 * (4500 * chance * (1 - chance)) ** 0.5


def test_samples_are_uniform_over_feasible_nodes() -> None:
    genomes = FULL.sample(6000, np.random.default_rng(0)).reshape(6000, 2, 4, 2, 2)
    for cell, node in product(range(2), range(4)):
        pairs = genomes[:, cell, node, :, 0]
        expected = 6000 / ((node + 2) * (node + 1))
        for first, second in permutations(range(node + 2), 2):
            found = int((pairs == (first, second)).all(axis=1).sum())
            assert abs(found - expected) <= 5 * expected**0.5
        for slot in range(2):
            counts = np.bincount(genomes[:, cell, node, slot, 1], minlength=7)
            assert (abs(counts - 6000 / 7) <= 5 * (6000 / 7) ** 0.5).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "expected a whole number of channels >= 1, got 0"),
        ({"layers": 2}, "expected at least 3 layers, so that both kinds of cell occur, got 2"),
        ({"nodes": 0}, "expected 1 to 6 nodes of a cell, got 0"),
        ({"nodes": 7}, "expected 1 to 6 nodes of a cell, got 7"),
        ({"crossover_rate": 1.1}, "expected crossover_rate in [0, 1], got 1.1"),
        ({"mutation_rate": -0.1}, "expected mutation_rate in [0, 1], got -0.1"),
        ({"image_size": 30}, "expected image_size to be a multiple of 4, got 30"),
        ({"image_size": 32.0}, "expected image_size to be a multiple of 4, got 32.0"),
        ({"stem": "imagenet", "image_size": 40}, "expected image_size to be a multiple of 32, got 40"),
    ],
)
def test_a_senseless_setting_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{re.escape(message)}$"):
        DartsSpace(**settings)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(KeyError, match="unknown crossover 'uniform'; known: cell, node"):
        DartsSpace(crossover_kind="uniform")
    with pytest.raises(KeyError, match="unknown stem 'tiny'; known: cifar, imagenet"):
        DartsSpace(stem="tiny")


def score(genome: Genome, seed: int) -> EvaluationResult:
    """How large the logits of a fresh network are, and its MACs: no meaning, but every genome builds."""
    torch.manual_seed(seed % 2**31)
    with torch.no_grad():
        logits = TINY.build(genome).eval()(torch.rand(2, 3, 16, 16))
    values = {"clean_error": float(logits.square().mean()), "macs": TINY.cost(genome).macs}
    return EvaluationResult(tuple(genome.tolist()), values, seed=seed)


@pytest.mark.lengthy
@pytest.mark.parametrize("kind", ["node", "cell"])
def test_evolution_over_cells(kind: str) -> None:
    space = DartsSpace(channels=4, layers=3, image_size=16, crossover_kind=kind)
    config = EvolutionConfig(population=6, generations=3, objectives=("clean_error", "macs"), seed=0)
    states = list(evolve(space, score, config, executor=LocalExecutor()))
    assert len(states) == 4
    last = states[-1]
    assert len({arch_id(space.canonical(genome)) for genome in last.genomes}) == 6
    assert all(space.violation(genome) == 0 for genome in last.genomes)
    assert set(non_dominated(last.objectives)) == set(np.flatnonzero(last.rank == 0))
    assert last.objectives[:, 1].min() <= states[0].objectives[:, 1].min()
