"""Losses of both levels by hand; expected costs at the published scale."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.gradient.losses import AdversarialLoss, Batch, CrossEntropy, ExpectedCost, OodLoss, Sum
from evonas.networks.darts_operations import PRIMITIVES

LOGITS = torch.tensor([[2.0, 0.0, 1.0], [0.0, 3.0, 0.0]])
BATCH = Batch(torch.rand(2, 3, 4, 4), torch.tensor([0, 2]), torch.rand(2, 3, 4, 4))
UNIFORM = torch.full((2, 14, 8), 1 / 8)


def answers(images: Tensor) -> Tensor:
    return LOGITS


def one(name: str, edges: int = 14) -> Tensor:
    probabilities = torch.zeros(2, edges, 8)
    probabilities[..., PRIMITIVES.index(name)] = 1
    return probabilities


def test_cross_entropy() -> None:
    expected = functional.cross_entropy(LOGITS, BATCH.labels)
    assert torch.equal(CrossEntropy()(answers, UNIFORM, BATCH), expected)


def test_ood_loss_is_the_divergence_of_the_answer_from_the_uniform_one() -> None:
    """KL(U || S) = sum 1/K log((1/K) / s), by the definition."""
    shares = LOGITS.double().softmax(dim=1)
    expected = (torch.log(1 / 3 / shares) / 3).sum(dim=1).mean()
    assert float(OodLoss()(answers, UNIFORM, BATCH)) == pytest.approx(float(expected), abs=1e-6)
    uniform = OodLoss()(lambda images: torch.full((2, 3), 7.0), UNIFORM, BATCH)
    assert float(uniform) == pytest.approx(0, abs=1e-6)


def test_ood_loss_without_images_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected images of none of the classes"):
        OodLoss()(answers, UNIFORM, Batch(BATCH.images, BATCH.labels))


def test_the_sum_is_the_sum_and_attacks_once() -> None:
    both = Sum((CrossEntropy(), OodLoss()))
    expected = CrossEntropy()(answers, UNIFORM, BATCH) + OodLoss()(answers, UNIFORM, BATCH)
    assert float(both(answers, UNIFORM, BATCH)) == pytest.approx(float(expected))
    assert both.needs_ood
    assert both.name == "loss+ood_loss"


def test_the_adversarial_loss_climbs_within_its_ball() -> None:
    """Of a linear answer, where the loss rises along known signs; a step of 1.25 epsilon nearly always ends on them."""
    images = torch.full((64, 3, 4, 4), 0.5)
    labels = torch.zeros(64, dtype=torch.int64)

    def linear(pixels: Tensor) -> Tensor:
        return torch.stack([-pixels.sum(dim=(1, 2, 3)), pixels.sum(dim=(1, 2, 3))], dim=1)

    batch = Batch(images, labels)
    loss = AdversarialLoss(epsilon=0.1)
    attacked = loss.prepare(linear, batch, torch.Generator().manual_seed(0))
    change = attacked.images - images
    assert float(change.min()) >= 0.025 - 1e-6  # the start is at least -0.1, the step 0.125
    assert float(change.max()) <= 0.1 + 1e-6
    assert float((change > 0.1 - 1e-6).double().mean()) > 0.5  # P(start > -0.025) = 0.625
    assert loss(linear, UNIFORM, attacked) > loss(linear, UNIFORM, batch)
    again = loss.prepare(linear, batch, torch.Generator().manual_seed(0))
    assert torch.equal(again.images, attacked.images)


@pytest.mark.parametrize(
    ("probabilities", "millions"),
    [(UNIFORM, 2.358), (one("sep_conv_5x5"), 6.604), (one("skip_connect"), 0.211), (one("none"), 0.0)],
    ids=["uniform", "all sep_conv_5x5", "all skip_connect", "all none"],
)
def test_expected_parameters_of_the_network_that_is_evaluated(probabilities: Tensor, millions: float) -> None:
    """36 channels, 20 cells, all 14 edges."""
    assert float(ExpectedCost().expected(probabilities.double())) == pytest.approx(millions, abs=5e-4)


def test_max_is_flat_below_its_limit() -> None:
    alpha = torch.zeros(2, 14, 8, dtype=torch.float64, requires_grad=True)
    for limit, slope in ((2.0, True), (3.0, False)):
        value = ExpectedCost(limit=limit)(answers, alpha.softmax(dim=2), BATCH)
        (gradient,) = torch.autograd.grad(value, alpha)
        assert float(value.detach()) == pytest.approx(max(limit, 2.358), abs=5e-4)
        assert bool(gradient.any()) is slope


def test_near_pulls_from_both_sides() -> None:
    alpha = torch.zeros(2, 14, 8, dtype=torch.float64, requires_grad=True)
    gradients = []
    for limit in (2.0, 3.0):
        value = ExpectedCost(limit=limit, bound="near")(answers, alpha.softmax(dim=2), BATCH)
        assert float(value.detach()) == pytest.approx(abs(limit - 2.358), abs=5e-4)
        gradients.append(torch.autograd.grad(value, alpha)[0])
    assert torch.equal(gradients[0], -gradients[1])


def test_expected_flops_are_those_of_the_formula() -> None:
    """An average pooling costs C H W: by hand for 3 cells (reductions at 1 and 2), 1 channel, images of 8 pixels.

    Cell 0: 1 channel, 64 positions. Cell 1: 2 channels, 16 positions. Cell 2: 4 channels, 4 positions. Of 14 edges.
    """
    cost = ExpectedCost(kind="flops", channels=1, layers=3, image_size=8)
    assert float(cost.expected(one("avg_pool_3x3").double())) * 1e6 == pytest.approx(14 * (64 + 2 * 16 + 4 * 4))
    assert math.isclose(float(cost.expected(one("max_pool_3x3").double())), 0)


@pytest.mark.parametrize("given", [{"limit": -1.0}, {"kind": "seconds"}, {"bound": "below"}, {"limit": math.inf}])
def test_senseless_costs_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        ExpectedCost(**given)  # type: ignore[arg-type]
