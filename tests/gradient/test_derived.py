"""Probabilities and expected costs of derived cells, against all cells one by one and networks that are built."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from evonas.costs import count_macs, count_params
from evonas.errors import ConfigurationError
from evonas.gradient import Architecture, DeliveredCost, SupernetPlan, derive_genotype
from evonas.gradient.architecture import one_hot
from evonas.gradient.derived import derived_probabilities, log_odds
from evonas.networks.darts import GENOTYPES, DartsNetwork, Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.spaces import DartsSpace

SMALL = {"channels": 4, "layers": 5, "n_classes": 7}


def drawn(edges: int, seed: int, scale: float = 1.0) -> Tensor:
    """(2, edges, 8) probabilities."""
    numbers = torch.randn(2, edges, 8, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (scale * numbers).softmax(dim=2)


def of(genotype: Genotype) -> Tensor:
    """(2, edges, 8) probabilities of 0 and 1: a genotype's operations, `none` on all other edges."""
    nodes = len(genotype.normal) // 2
    mixture = one_hot(SupernetPlan(nodes=nodes), genotype)
    weights = torch.stack([mixture.normal, mixture.reduce])
    weights[..., 0] = 1 - weights.sum(dim=2)
    return weights


def cells_one_by_one(probabilities: Tensor, shares: Tensor | None, cell: int, temperature: float) -> dict[tuple, float]:  # type: ignore[type-arg]
    """(operation, input) pairs of a cell -> probability, in plain Python from the rule's words."""
    odds: list[list[float]] = []
    for edge, row in enumerate(probabilities[cell].tolist()):
        weights = [p * (1.0 if shares is None else float(shares[cell, edge])) for p in row]
        odds.append([(weight / (1 - weight)) ** (1 / temperature) for weight in weights])
    nodes, first = [], 0
    for inputs in itertools.count(2):
        if first == len(odds):
            break
        into, first = odds[first : first + inputs], first + inputs
        pairs = {
            pair: math.prod(max(into[edge][1:]) for edge in pair) for pair in itertools.combinations(range(inputs), 2)
        }
        choices = {}
        for pair, weight in pairs.items():
            for names in itertools.product(range(1, 8), repeat=2):
                on = math.prod(into[edge][name] / sum(into[edge][1:]) for edge, name in zip(pair, names, strict=True))
                key = tuple((PRIMITIVES[name], edge) for edge, name in zip(pair, names, strict=True))
                choices[key] = weight / sum(pairs.values()) * on
        nodes.append(choices)
    return {
        sum((key for key, _ in each), ()): math.prod(value for _, value in each)
        for each in itertools.product(*(node.items() for node in nodes))
    }


@pytest.mark.parametrize("kind", ["params", "macs"])
@pytest.mark.parametrize("shared", [False, True], ids=["", "shares"])
def test_the_expectation_is_that_over_all_pairs_of_cells(kind: str, shared: bool) -> None:
    """Of one node: 49 cells of either kind, 2,401 networks."""
    probabilities, temperature = drawn(2, 0), 0.7
    shares = torch.tensor([[0.3, 0.7], [0.9, 0.1]], dtype=torch.float64) if shared else None
    space, cost = DartsSpace(4, 5, nodes=1), DeliveredCost(kind=kind, limit=_middle(kind, 1), nodes=1, **SMALL)  # type: ignore[arg-type]
    normal, reduce = (cells_one_by_one(probabilities, shares, cell, temperature) for cell in (0, 1))
    assert len(normal) == 49
    assert sum(normal.values()) == pytest.approx(1)
    expected = 0.0
    for (left, p), (right, q) in itertools.product(normal.items(), reduce.items()):
        genome = space.from_genotype(Genotype(left, (2,), right, (2,)))
        expected += p * q * getattr(space.cost(genome, 7), kind) / 1e6
    found = float(cost.expected(log_odds(probabilities, shares), temperature))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.lengthy
def test_the_expectation_is_that_over_all_cells_of_two_nodes() -> None:
    """7,203 normal cells beside one reduction cell, whose weights are 0 and 1."""
    reduce = (("sep_conv_3x3", 0), ("skip_connect", 1), ("dil_conv_5x5", 2), ("max_pool_3x3", 0))
    probabilities = drawn(5, 1)
    probabilities[1] = of(Genotype(reduce, (2, 3), reduce, (2, 3)))[1]
    space, cost = DartsSpace(4, 5, nodes=2), DeliveredCost(limit=_middle("params", 2), nodes=2, **SMALL)  # type: ignore[arg-type]
    cells = cells_one_by_one(probabilities, None, 0, 0.5)
    assert len(cells) == 3 * 7**4
    genomes = [(p, space.from_genotype(Genotype(pairs, (2, 3), reduce, (2, 3)))) for pairs, p in cells.items()]
    expected = sum(p * space.cost(genome, 7).params for p, genome in genomes) / 1e6
    assert float(cost.expected(log_odds(probabilities), 0.5)) == pytest.approx(expected, rel=1e-12)


def _middle(kind: str, nodes: int) -> float:
    """A limit that is in range: the cost of some network."""
    space = DartsSpace(4, 5, nodes=nodes)
    return float(getattr(space.max_cost(7), kind)) / 1e6


@pytest.mark.lengthy
def test_weights_of_0_and_1_have_the_cost_of_the_built_network() -> None:
    space = DartsSpace(4, 5)
    for genome in space.sample(1, np.random.default_rng(0)):
        genotype = space.genotype(genome)
        network = DartsNetwork(genotype, 4, 5, 7, auxiliary=True)
        network.auxiliary = None  # it is not counted
        for kind, counted in (("params", count_params(network)), ("macs", count_macs(network))):
            cost = DeliveredCost(kind=kind, limit=_middle(kind, 4), **SMALL)  # type: ignore[arg-type]
            for temperature in (1.0, 0.02):
                expected = cost.expected(log_odds(of(genotype)), temperature)
                assert float(expected) * 1e6 == pytest.approx(counted, abs=1e-3)
            assert cost.of(genotype) * 1e6 == pytest.approx(counted, abs=1e-3)


def test_DARTS_V2_has_its_published_size() -> None:
    odds = log_odds(of(GENOTYPES["DARTS_V2"]))
    assert float(DeliveredCost(limit=2.1).expected(odds)) == pytest.approx(3.349342, abs=1e-9)
    assert float(DeliveredCost(limit=2.1, n_classes=100).expected(odds)) == pytest.approx(3.401272, abs=1e-9)


@pytest.mark.parametrize("shared", [False, True], ids=["", "shares"])
def test_towards_temperature_0_it_is_the_derived_network(shared: bool) -> None:
    """Also where the weights of all edges are nearly 1, and only their odds differ."""
    cost = DeliveredCost(limit=2.1)
    for seed, scale in ((0, 0.1), (1, 1.0), (2, 20.0)):
        plan, generator = SupernetPlan(edge_normalisation=shared), torch.Generator().manual_seed(seed)
        architecture = Architecture(plan, generator).double()
        with torch.no_grad():
            for parameter in architecture.parameters():
                parameter.mul_(1000 * scale)
            odds = log_odds(architecture.probabilities(), architecture().edge_shares)
        genotype = derive_genotype(*architecture.scores())
        assert float(cost.expected(odds, 1e-6)) == pytest.approx(cost.of(genotype), abs=1e-9)


def test_two_edges_of_every_node_are_kept_and_the_gradient_is_right() -> None:
    alpha = torch.randn(2, 9, 8, generator=torch.Generator().manual_seed(3), dtype=torch.float64, requires_grad=True)
    chosen = derived_probabilities(log_odds(alpha.softmax(dim=2)), 0.4)
    for into in torch.split(chosen.detach(), [2, 3, 4], dim=1):
        assert torch.allclose(into.sum(dim=(1, 2)), torch.full((2,), 2.0, dtype=torch.float64))
    assert chosen[..., 0].abs().max() == 0
    assert torch.autograd.gradcheck(lambda a: derived_probabilities(log_odds(a.softmax(dim=2)), 0.4), alpha)


def test_the_gradient_of_expected_multiply_adds_is_right() -> None:
    cost = DeliveredCost(kind="macs", limit=400.0)
    alpha = torch.randn(2, 14, 8, generator=torch.Generator().manual_seed(4), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: cost.expected(log_odds(a.softmax(dim=2)), 0.5), alpha)


def test_the_gradient_of_weights_of_0_and_1_is_finite() -> None:
    probabilities = of(GENOTYPES["DARTS_V2"]).double().requires_grad_()
    (slope,) = torch.autograd.grad(DeliveredCost(limit=2.1).expected(log_odds(probabilities), 0.02), probabilities)
    assert bool(slope.isfinite().all())


def test_senseless_sizes_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"in \[1.370134, 5.144086\]M parameters, .* got 1$"):
        DeliveredCost(limit=1.0)
    with pytest.raises(ConfigurationError, match="expected temperatures start >= end > 0"):
        DeliveredCost(limit=2.1, end=0.0)
    with pytest.raises(ConfigurationError, match="expected kind params or macs"):
        DeliveredCost(limit=2.1, kind="flops")  # type: ignore[arg-type]
