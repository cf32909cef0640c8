"""Published behaviour at small size: robust recipes lower the error under PGD by far, at some cost of clean error."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import nn

from evonas.attacks import PGD
from evonas.data import Augmentation, DevicePart, batches, load_data
from evonas.networks.blocks import seeded
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig, recipe_within, standard, train

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
DIGITS = load_data("digits", train_limit=1000, val_limit=10)
SPACE = PhaseSpace(phases=2, nodes=3, channels=4)


@cache
def errors(name: str, epsilon: float, steps: int | None = None) -> tuple[float, float]:
    """Clean and PGD-20 error on 200 test images after eight epochs on 1,000 training images.

    Args:
        steps: of the training's attack, which reach as far as the recipe's own together.
    """
    network = seeded(lambda: SPACE.build(SPACE.designs()["chain"], normalization=DIGITS.normalization), 0)
    config = TrainingConfig(epochs=8, batch_size=32, lr=0.1, weight_decay=5e-4, precision="fp32")
    recipe: Any = standard if name == "standard" else recipe_within(name, epsilon)
    if steps is not None:
        recipe = replace(recipe, steps=steps, step=recipe.step * recipe.steps / steps)
    part = DevicePart(DIGITS.train, CPU)
    train(network, part, Augmentation(padding=1), config, recipe, torch.Generator().manual_seed(0))
    return measured(network, epsilon)


def measured(network: nn.Module, epsilon: float) -> tuple[float, float]:
    attack = PGD(epsilon=epsilon, step_size=epsilon / 8, steps=20)
    images, labels = next(iter(batches(DevicePart(DIGITS.test, CPU), 200)))
    attacked = attack(network, images, labels)
    with torch.no_grad():
        clean, pgd = (float((network(each).argmax(1) != labels).float().mean()) for each in (images, attacked))
    return clean, pgd


@pytest.mark.parametrize(("name", "epsilon"), [("fast_adversarial", 16 / 255), ("pgd_at", 0.1)])
def test_the_error_under_pgd_falls_by_far_and_the_clean_one_stays_below_chance(name: str, epsilon: float) -> None:
    clean, pgd = errors(name, epsilon)
    before, undefended = errors("standard", epsilon)
    assert undefended > 0.95
    assert pgd < undefended - 0.2
    assert before < clean < 0.7


@pytest.mark.parametrize("name", ["trades", "trades_awp"])
def test_trades_by_few_steps_keeps_most_images_right_under_pgd(name: str) -> None:
    clean, pgd = errors(name, 0.1, steps=3)
    _, undefended = errors("standard", 0.1)
    assert undefended > 0.95
    assert pgd < undefended - 0.3
    assert clean < 0.3


@pytest.mark.parametrize("name", ["pgd_at", "trades", "trades_awp", "trades_yopo", "fast_adversarial"])
def test_a_radius_of_zero_is_no_division(name: str) -> None:
    recipe: Any = recipe_within(name, 0.0)
    assert recipe.epsilon == 0
    assert recipe.step is None or recipe.step > 0
