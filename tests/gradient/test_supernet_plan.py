"""Plans of supernets, and the architecture that mixes their operations."""

import math
from typing import Any

import pytest
import torch

from evonas.gradient.bilevel import derive_genotype
from evonas.gradient.supernet import Architecture, DartsSupernet, Mixture, SupernetPlan

KEPT = tuple(tuple((edge % 3, 3 + edge % 4, 7) for edge in range(14)) for _ in range(2))
"""Three operations an edge."""


def drawn(plan: SupernetPlan, seed: int = 0) -> Architecture:
    return Architecture(plan, torch.Generator().manual_seed(seed))


def test_edges_are_in_darts_order() -> None:
    assert SupernetPlan().sources == (0, 1, 0, 1, 2, 0, 1, 2, 3, 0, 1, 2, 3, 4)
    assert SupernetPlan(nodes=1).sources == (0, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"channels": 0}, "expected a whole number of channels >= 1, got 0"),
        ({"layers": 1.5}, "expected a whole number of layers >= 1"),
        ({"nodes": True}, "expected a whole number of nodes >= 1"),
        ({"channels": 6, "partial": 4}, "expected channels that partial divides, got 6 and 4"),
        ({"operations": KEPT[:1]}, "expected operations at 14 edges of two cells"),
        ({"nodes": 3, "operations": KEPT}, "expected operations at 9 edges of two cells"),
        ({"operations": ((*KEPT[0][1:], (1,)),) * 2}, "expected the same number of operations at every edge, >= 1"),
        ({"operations": (((),) * 14,) * 2}, r"operations at every edge, >= 1, got \[0\]"),
        ({"operations": (((2, 1),) * 14,) * 2}, "expected ascending indices of operations below 8"),
        ({"operations": (((1, 1),) * 14,) * 2}, "expected ascending indices of operations below 8"),
        ({"operations": (((1, 8),) * 14,) * 2}, "expected ascending indices of operations below 8"),
    ],
)
def test_impossible_plans_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SupernetPlan(**settings)


def test_plans_that_were_lists_are_equal() -> None:
    """As they come back from a file."""
    plan = SupernetPlan(operations=KEPT)
    assert SupernetPlan(operations=[[list(edge) for edge in cell] for cell in KEPT]) == plan  # type: ignore[arg-type]
    assert hash(plan) == hash(SupernetPlan(operations=KEPT))


def test_an_architecture_is_drawn_from_its_generator() -> None:
    first, same, other = drawn(SupernetPlan()), drawn(SupernetPlan()), drawn(SupernetPlan(), seed=1)
    assert torch.equal(first.alpha_normal, same.alpha_normal)
    assert not torch.equal(first.alpha_normal, other.alpha_normal)
    assert not torch.equal(first.alpha_normal, first.alpha_reduce)
    values = torch.cat([parameter.detach().flatten() for parameter in first.parameters()])
    assert values.numel() == 2 * 14 * 8
    # 224 normal numbers: their deviation's own is 1 / sqrt(448) of it
    assert abs(float(values.std()) - 1e-3) < 4e-3 / math.sqrt(448)
    names = [name for name, _ in drawn(SupernetPlan(edge_normalisation=True)).named_parameters()]
    assert names == ["alpha_normal", "alpha_reduce", "beta_normal", "beta_reduce"]


def test_a_mixture_is_a_softmax_over_operations_and_over_the_edges_into_a_node() -> None:
    architecture = drawn(SupernetPlan(edge_normalisation=True, partial=4))
    with torch.no_grad():
        architecture.alpha_normal.zero_()
        architecture.alpha_normal[0, 4] = math.log(8)  # e to it is 8, with seven ones beside it
        assert architecture.beta_reduce is not None
        architecture.beta_reduce.zero_()
        architecture.beta_reduce[4] = math.log(2)
    mixture = architecture()
    assert isinstance(mixture, Mixture)
    torch.testing.assert_close(mixture.normal[0], torch.tensor([1, 1, 1, 1, 8, 1, 1, 1]) / 15)
    torch.testing.assert_close(mixture.normal[1:], torch.full((13, 8), 1 / 8))
    expected = [1 / 2] * 2 + [1 / 4, 1 / 4, 2 / 4] + [1 / 4] * 4 + [1 / 5] * 5
    torch.testing.assert_close(mixture.reduce_edges, torch.tensor(expected))
    assert drawn(SupernetPlan())().normal_edges is None


def test_probabilities_and_scores_are_over_all_operations() -> None:
    architecture = drawn(SupernetPlan(operations=KEPT))
    assert architecture.alpha_normal.shape == (14, 3)
    mixture, probabilities, scores = architecture(), architecture.probabilities(), architecture.scores()
    assert probabilities.shape == (2, 14, 8)
    torch.testing.assert_close(probabilities.sum(2), torch.ones(2, 14))
    for edge, held in enumerate(KEPT[0]):
        assert torch.equal(probabilities[0, edge, list(held)], mixture.normal[edge])
        assert torch.equal(probabilities[1, edge, list(held)], mixture.reduce[edge])
        assert torch.equal(scores.alpha_reduce[edge, list(held)], architecture.alpha_reduce[edge])
        others = [index for index in range(8) if index not in held]
        assert not probabilities[:, edge, others].any()
        assert (scores.alpha_normal[edge, others] == -torch.inf).all()
    torch.testing.assert_close(scores.alpha_normal.softmax(1), probabilities[0])
    assert not scores.alpha_normal.requires_grad
    assert probabilities.requires_grad
    derive_genotype(*scores)  # as they are


def test_dropout_is_drawn_in_train_mode_at_identities_alone() -> None:
    plan = SupernetPlan(channels=2, layers=3, nodes=2)
    supernet, images = DartsSupernet(plan), torch.rand(4, 3, 8, 8)
    skip, other = torch.zeros(5, 8), torch.zeros(5, 8)
    skip[:, 3], other[:, 1] = 1, 1
    generator = torch.Generator().manual_seed(0)
    before = generator.get_state()
    supernet.generator = generator
    with torch.no_grad():
        plain = supernet(images, Mixture(skip, skip))
        assert torch.equal(generator.get_state(), before)  # a rate of 0 draws nothing
        supernet.skip_dropout = 0.5
        dropped = supernet(images, Mixture(skip, skip))
        generator.set_state(before)
        assert torch.equal(supernet(images, Mixture(skip, skip)), dropped)
        assert not torch.allclose(dropped, plain)
        dropped = supernet(images, Mixture(other, other))
        supernet.skip_dropout = 0.0
        assert torch.equal(supernet(images, Mixture(other, other)), dropped)
        supernet.skip_dropout = 0.5
        supernet.eval()
        before = generator.get_state()
        supernet(images, Mixture(skip, skip))
        assert torch.equal(generator.get_state(), before)
        supernet.train().generator = None
        with pytest.raises(ValueError, match="expected a generator for dropout on skip_connect"):
            supernet(images, Mixture(skip, skip))
