"""Adversarial training by PGD: its attack step by step, its loss by hand, and what is left alone."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.training import FastAdversarial, PgdTraining, TradesAwp, standard
from evonas.training.published import PUBLISHED


def network() -> nn.Module:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 14 * 14, 5))
    return nn.Sequential(*layers).train()


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return (1.6 * torch.rand(5, 3, 16, 16) - 0.3).clamp(0, 1), torch.arange(5)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def step_by_step(model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, step: float, steps: int) -> Tensor:
    """From a uniform point of the ball, up the sign of the loss's gradient, with the statistics of the batch."""
    noise = torch.empty_like(images).uniform_(-epsilon, epsilon, generator=rng())
    attacked = (images + noise).clamp(0, 1)
    for _ in range(steps):
        attacked = attacked.detach().requires_grad_()
        functional.cross_entropy(model(attacked), labels).backward()
        assert attacked.grad is not None
        attacked = attacked.detach() + step * attacked.grad.sign()
        attacked = torch.minimum(torch.maximum(attacked, images - epsilon), images + epsilon).clamp(0, 1)
    return attacked.detach()


@pytest.mark.parametrize(("epsilon", "step", "steps"), [(8 / 255, 2 / 255, 7), (0.1, 0.03, 2)])
def test_loss_and_gradients_step_by_step_in_train_mode(epsilon: float, step: float, steps: int) -> None:
    images, labels = batch()
    ours = network()
    attacked = step_by_step(copy.deepcopy(ours), images, labels, epsilon, step, steps)
    recipe = PgdTraining(epsilon=epsilon, step=step, steps=steps)
    assert torch.equal(recipe.attack(ours, images, labels, rng()), attacked)
    reference = copy.deepcopy(ours)
    assert int(reference[1].num_batches_tracked) == 0  # type: ignore[index] # the attack leaves statistics alone
    expected = functional.cross_entropy(reference(attacked), labels)
    loss = recipe(ours, images, labels, rng())
    assert torch.equal(loss, expected)
    expected.backward()
    loss.backward()
    for found, wanted in zip(ours.parameters(), reference.parameters(), strict=True):
        assert found.grad is not None
        assert wanted.grad is not None
        assert torch.equal(found.grad, wanted.grad)
    assert torch.equal(ours[1].running_mean, reference[1].running_mean)  # type: ignore[index]


def test_the_attack_stays_in_the_ball_and_raises_the_loss() -> None:
    images, labels = batch()
    ours = network()
    attacked = PgdTraining().attack(ours, images, labels, rng())
    assert float((attacked - images).abs().max()) <= 8 / 255 + 1e-6
    assert float(attacked.min()) >= 0
    assert float(attacked.max()) <= 1
    with torch.no_grad():
        assert standard(ours, attacked, labels, rng()) > 1.05 * standard(ours, images, labels, rng())


def test_one_step_of_five_quarters_is_fast_adversarial_training() -> None:
    images, labels = batch()
    fast, one = FastAdversarial(epsilon=0.1), PgdTraining(epsilon=0.1, step=0.125, steps=1)
    assert torch.equal(fast(network(), images, labels, rng()), one(network(), images, labels, rng()))


@pytest.mark.parametrize("training", [True, False])
def test_a_network_comes_back_in_its_mode(training: bool) -> None:
    ours = network().train(training)
    for recipe in (PgdTraining(steps=1), FastAdversarial(), TradesAwp(steps=1)):
        recipe(ours, *batch(), rng())
        assert all(part.training == training for part in ours.modules())


def test_the_defaults_are_the_published_ones() -> None:
    assert PgdTraining() == PgdTraining(epsilon=8 / 255, step=2 / 255, steps=7)
    assert TradesAwp() == TradesAwp(epsilon=8 / 255, step=2 / 255, steps=10, beta=6.0, gamma=0.005)
    found = {name: (each.epochs, each.lr, each.weight_decay, each.milestones) for name, each in PUBLISHED.items()}
    assert found == {
        "pgd_at": (205, 0.1, 2e-4, (102, 154)),
        "fast_adversarial": (15, 0.2, 5e-4, ()),
        "trades": (76, 0.1, 2e-4, (74,)),
        "trades_awp": (200, 0.1, 5e-4, (99, 149)),
        "gaussian": (90, 0.1, 1e-4, (30, 60)),
        "ibp": (3200, 0.05, 0.0, (1920, 2880)),
        "crown_ibp": (3200, 0.05, 0.0, (2600, 3040)),
    }
    assert {name: each.batch_size for name, each in PUBLISHED.items() if each.batch_size != 128} == {
        "gaussian": 400,
        "ibp": 1600,
        "crown_ibp": 1024,
    }
    assert {each.momentum for each in PUBLISHED.values()} == {0.9}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 8.0}, "expected epsilon in [0, 1], got 8.0: it is on the [0, 1] scale; 8/255?"),
        ({"step": 0.0}, "expected step > 0 and steps >= 1, got 0.0 and 7"),
        ({"steps": 0}, f"expected step > 0 and steps >= 1, got {2 / 255} and 0"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        PgdTraining(**wrong)  # type: ignore[arg-type]
    assert str(raised.value) == message
