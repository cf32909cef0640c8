"""What every search space must do. A new space is tested by its line in `SPACES`."""

import pickle
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from evonas.costs import count_macs, count_params
from evonas.spaces import SPACES
from evonas.types import Cost, Space

Genome = npt.NDArray[np.int64]


@pytest.fixture(params=sorted(SPACES))
def space(request: pytest.FixtureRequest) -> Any:
    return SPACES[request.param]()


def feasible(space: Any, n: int, seed: int = 0) -> list[Genome]:
    rng = np.random.default_rng(seed)
    found: list[Genome] = []
    for _ in range(100):
        found += [genome for genome in space.sample(10, rng) if space.violation(genome) <= 0]
        if len(found) >= n:
            return found[:n]
    raise AssertionError(f"fewer than {n} of 1,000 sampled genomes are feasible")


def frozen(genomes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The same array, which now raises an error when it is written."""
    genomes.setflags(write=False)
    return genomes


def check_genome(space: Any, genome: Genome) -> None:
    assert isinstance(genome, np.ndarray)
    assert genome.dtype == np.int64
    assert genome.shape == (space.n_genes,)
    assert (genome >= 0).all()
    assert (genome <= space.upper).all()


def test_name_and_bounds(space: Any) -> None:
    assert isinstance(space, Space)
    assert SPACES[space.name] is type(space)
    assert space.n_genes >= 1
    assert space.upper.dtype == np.int64
    assert space.upper.shape == (space.n_genes,)
    assert (space.upper >= 1).all()  # a gene without choice is none


def test_the_bounds_cannot_be_changed_from_outside(space: Any) -> None:
    space.upper[:] = 99
    assert (space.upper < 99).any()


def test_samples(space: Any) -> None:
    genomes = space.sample(50, np.random.default_rng(0))
    assert genomes.shape == (50, space.n_genes)
    for genome in genomes:
        check_genome(space, genome)
    assert len(np.unique(genomes, axis=0)) > 1
    assert space.sample(0, np.random.default_rng(0)).shape == (0, space.n_genes)
    # Every value of every gene occurs: 40 times the largest number of values leaves none out but by a chance of
    # about n_genes * values * exp(-40).
    many = space.sample(40 * int(space.upper.max() + 1), np.random.default_rng(1))
    assert all(set(column) == set(range(top + 1)) for column, top in zip(many.T.tolist(), space.upper, strict=True))


def test_operators_give_genomes(space: Any) -> None:
    rng = np.random.default_rng(0)
    for a, b in space.sample(40, rng).reshape(20, 2, -1):
        for child in (*space.crossover(a, b, rng), space.mutate(a, rng), space.canonical(a)):
            check_genome(space, child)
        assert isinstance(space.violation(a), float)


def test_crossover_invents_nothing_and_mutation_something(space: Any) -> None:
    rng = np.random.default_rng(0)
    mutated = []
    for a, b in space.sample(60, rng).reshape(30, 2, -1):
        for child in space.crossover(a, b, rng):
            assert ((child == a) | (child == b)).all()
        same = space.crossover(a, a, rng)
        assert np.array_equal(same, [a, a])
        mutated.append((space.mutate(a, rng) != a).any())
    assert any(mutated)


def test_randomness_comes_from_the_generator_alone(space: Any) -> None:
    def draw(seed: int) -> list[list[int]]:
        rng = np.random.default_rng(seed)
        a, b = space.sample(2, rng)
        return [genome.tolist() for genome in (a, b, *space.crossover(a, b, rng), space.mutate(a, rng))]

    # the global state must not matter
    np.random.seed(0)  # noqa: NPY002
    first = draw(1)
    np.random.seed(1)  # noqa: NPY002
    assert draw(1) == first
    assert draw(2) != first


def test_arguments_are_never_changed_nor_given_back(space: Any) -> None:
    rng = np.random.default_rng(0)
    for _ in range(5):
        a, b = frozen(space.sample(2, rng))
        if space.violation(a) > 0:
            continue
        results = [*space.crossover(a, b, rng), space.mutate(a, rng), space.canonical(a)]
        space.cost(a)
        space.describe(a)
        for result in results:  # a result may be written without reaching an argument
            assert not np.shares_memory(result, a)
            assert not np.shares_memory(result, b)
            result[:] = 0


def test_lists_and_tuples_of_integers_are_genomes_too(space: Any) -> None:
    genome = feasible(space, 1)[0]
    assert np.array_equal(space.canonical(genome.tolist()), space.canonical(genome))
    assert space.cost(tuple(genome.tolist())) == space.cost(genome)
    assert np.array_equal(space.canonical(genome.astype(float)), space.canonical(genome))


def test_canonical_is_idempotent_and_costs_the_same(space: Any) -> None:
    for genome in feasible(space, 40):
        canonical = space.canonical(genome)
        assert np.array_equal(space.canonical(canonical), canonical)
        assert space.violation(canonical) == space.violation(genome)
        assert space.cost(canonical) == space.cost(genome)


@pytest.mark.lengthy
def test_cost_is_that_of_the_built_network(space: Any) -> None:
    for genome in feasible(space, 3):
        for candidate in (genome, space.canonical(genome)):
            network = space.build(candidate)
            cost = space.cost(candidate)
            assert isinstance(cost, Cost)
            assert (type(cost.params), type(cost.macs)) == (int, int)
            assert cost == (count_params(network), count_macs(network, (3, 32, 32)))


@pytest.mark.lengthy
def test_cost_follows_the_number_of_classes(space: Any) -> None:
    genome = feasible(space, 1)[0]
    network = space.build(genome, n_classes=100)
    assert space.cost(genome, n_classes=100) == (count_params(network), count_macs(network, (3, 32, 32)))
    assert space.cost(genome, n_classes=100).params > space.cost(genome).params


def test_max_cost_bounds_every_cost(space: Any) -> None:
    most = space.max_cost()
    for genome in feasible(space, 200):
        cost = space.cost(genome)
        assert cost.params <= most.params
        assert cost.macs <= most.macs


@pytest.mark.lengthy
def test_networks_map_images_to_logits(space: Any) -> None:
    torch.manual_seed(0)
    for genome in feasible(space, 2):
        network = space.build(genome, n_classes=7).eval()
        with torch.no_grad():
            logits = network(torch.rand(2, 3, 32, 32))
        assert logits.shape == (2, 7)
        assert logits.dtype == torch.float32
        assert torch.isfinite(logits).all()


@pytest.mark.lengthy
def test_a_batch_is_scored_image_by_image(space: Any) -> None:
    torch.manual_seed(0)
    network = space.build(feasible(space, 1)[0]).double().eval()
    images = torch.rand(3, 3, 32, 32, dtype=torch.float64)
    with torch.no_grad():
        alone = torch.cat([network(image[None]) for image in images])
        # double precision: kernels may sum in another order for another batch size
        torch.testing.assert_close(network(images), alone, rtol=1e-11, atol=1e-11)


@pytest.mark.lengthy
def test_normalization_is_the_first_layer(space: Any) -> None:
    mean, deviation = (0.25, 0.5, 0.125), (0.5, 0.25, 2.0)
    genome = feasible(space, 1)[0]
    bare, normalizing = space.build(genome), space.build(genome, normalization=(mean, deviation))
    weights = list(bare.parameters())
    assert [p.shape for p in weights] == [p.shape for p in normalizing.parameters()]  # it has none to train
    with torch.no_grad():
        for own, other in zip(normalizing.parameters(), weights, strict=True):
            own.copy_(other)
        images = torch.rand(2, 3, 32, 32)
        outside = (images - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(deviation).view(3, 1, 1)
        assert torch.equal(normalizing.eval()(images), bare.eval()(outside))
        assert not torch.equal(normalizing(images), bare(images))


@pytest.mark.lengthy
def test_every_weight_is_used(space: Any) -> None:
    """No dead weights: each parameter of a training pass has a gradient."""
    network = space.build(feasible(space, 1)[0])
    network.train()(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert [name for name, parameter in network.named_parameters() if parameter.grad is None] == []


@pytest.mark.parametrize("method", ["canonical", "violation", "build", "cost", "describe"])
def test_a_genome_of_another_space_is_a_clear_error(space: Any, method: str) -> None:
    for shape in ((space.n_genes + 1,), (space.n_genes - 1,), (1, space.n_genes), ()):
        with pytest.raises(ValueError, match=r"expected a genome of shape .* got .*another space"):
            getattr(space, method)(np.zeros(shape, dtype=np.int64))


@pytest.mark.parametrize("method", ["canonical", "violation", "build", "cost", "describe"])
@pytest.mark.parametrize("wrong", ["above", "below", "half", "nan"])
def test_values_outside_the_space_are_a_clear_error(space: Any, method: str, wrong: str) -> None:
    genome = feasible(space, 1)[0].astype(float)
    genome[-1] = {"above": space.upper[-1] + 1, "below": -1, "half": 0.5, "nan": np.nan}[wrong]
    with pytest.raises(ValueError, match=r"^expected .*space"):
        getattr(space, method)(genome)


def test_operators_check_their_arguments(space: Any) -> None:
    rng = np.random.default_rng(0)
    good, bad = feasible(space, 1)[0], space.upper + 1
    for operator, parents in (
        (space.crossover, (good, bad)),
        (space.crossover, (bad, good)),
        (space.mutate, (bad,)),
        (space.mutate, (good[:-1],)),
    ):
        with pytest.raises(ValueError, match=r"^expected"):
            operator(*parents, rng)


def test_description_tells_networks_apart(space: Any) -> None:
    by_network = {space.canonical(genome).tobytes(): space.describe(genome) for genome in feasible(space, 30)}
    assert all(isinstance(text, str) and text for text in by_network.values())
    assert len(set(by_network.values())) == len(by_network)


def test_a_space_travels_to_a_worker(space: Any) -> None:
    genome = feasible(space, 1)[0]
    space.mutate(genome, np.random.default_rng(0))  # whatever it caches must travel too
    copy = pickle.loads(pickle.dumps(space))
    assert copy == space
    assert repr(copy) == repr(space)
    assert np.array_equal(copy.sample(3, np.random.default_rng(5)), space.sample(3, np.random.default_rng(5)))
    assert np.array_equal(copy.canonical(genome), space.canonical(genome))
    assert copy.cost(genome) == space.cost(genome)
