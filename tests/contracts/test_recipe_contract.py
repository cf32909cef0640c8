"""What every training recipe of the table must do; a new one is tested by its line there."""

import pickle
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.data import Augmentation, DevicePart, batches, load_data
from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.parts import part_identity, part_name
from evonas.spaces import NasBench201Space, PhaseSpace, ShuffleSpace
from evonas.training import (
    RECIPES,
    AdversarialRecipe,
    CellTraining,
    CrownIbp,
    Ibp,
    Recipe,
    Trades,
    TrainingConfig,
    standard,
    train,
)

CPU = torch.device("cpu")
CONFIG = TrainingConfig(epochs=1, batch_size=32, precision="fp32")
DIGITS = load_data("digits", train_limit=64, val_limit=10)
AUGMENTATION = Augmentation(padding=2)
PHASES = PhaseSpace(phases=2, nodes=3, channels=4)


def phase_network() -> nn.Module:
    return PHASES.build(PHASES.designs()["chain"], DIGITS.n_classes, normalization=DIGITS.normalization)


def darts_network() -> nn.Module:
    """With an auxiliary head, which most recipes leave alone."""
    return DartsNetwork(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=True, normalization=DIGITS.normalization)


def shuffle_network() -> nn.Module:
    space = ShuffleSpace(width=1 / 3, depth=0.1, window=None)
    return space.build(space.upper * 0, DIGITS.n_classes, normalization=DIGITS.normalization)


def nasbench201_network() -> nn.Module:
    space = NasBench201Space(channels=4, cells=1)
    return space.build(space.upper * 0 + 3, DIGITS.n_classes, normalization=DIGITS.normalization)


BUILD: dict[str, Callable[[], nn.Module]] = {
    "darts": darts_network,
    "nasbench201": nasbench201_network,
    "phase": phase_network,
    "shuffle": shuffle_network,
}
SLOW = ("trades", "pgd", "crown_ibp", "ibp")
TRAINABLE = [
    pytest.param(name, kind, marks=pytest.mark.slow if kind != "phase" and name.startswith(SLOW) else ())
    for name in sorted(RECIPES)
    for kind in BUILD
    if name != "cells" or kind == "darts"
]
"""The recipe of cells asks for drop-path and an auxiliary head, which other networks do not have."""
ROBUST = [name for name in sorted(RECIPES) if hasattr(RECIPES[name], "epsilon")]
ATTACKING = [name for name in ROBUST if isinstance(RECIPES[name], AdversarialRecipe)]


def built(kind: str) -> nn.Module:
    return seeded(BUILD[kind], 0)


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


def trained(kind: str, recipe: Recipe, seed: int = 0) -> nn.Module:
    network = built(kind)
    generator = torch.Generator().manual_seed(seed)
    train(network, DevicePart(DIGITS.train, CPU), AUGMENTATION, CONFIG, recipe, generator)
    return network


@cache
def once(name: str, kind: str) -> nn.Module:
    """A trained network that tests only look at."""
    return trained(kind, RECIPES[name])


def batch() -> tuple[Tensor, Tensor]:
    images, labels = next(iter(batches(DevicePart(DIGITS.train, CPU), 16)))
    return images.clone(), labels.clone()


@pytest.mark.lengthy
@pytest.mark.parametrize(("name", "kind"), TRAINABLE)
class TestTraining:
    def test_an_epoch_gives_finite_weights_that_follow_from_the_seed(self, name: str, kind: str) -> None:
        before = torch.get_rng_state()
        first = once(name, kind)
        assert all(bool(value.isfinite().all()) for value in first.state_dict().values())
        assert not equal(state(first), state(built(kind)))
        assert equal(state(first), state(trained(kind, RECIPES[name])))
        assert not equal(state(first), state(trained(kind, RECIPES[name], seed=1)))
        assert torch.equal(torch.get_rng_state(), before)  # chance comes from the generator alone

    def test_the_network_ends_in_eval_mode_as_it_was_built(self, name: str, kind: str) -> None:
        network, fresh = once(name, kind), built(kind)
        assert not any(part.training for part in network.modules())
        assert [parameter.requires_grad for parameter in network.parameters()] == [
            parameter.requires_grad for parameter in fresh.parameters()
        ]
        replaced = [part for part in network.modules() if "forward" in vars(part)]
        assert replaced == []  # attacks replace and put back the forward pass of layers


@pytest.mark.parametrize(("name", "kind"), TRAINABLE)
class TestLoss:
    @pytest.mark.lengthy
    def test_it_is_one_finite_number_in_float32_with_a_gradient(self, name: str, kind: str) -> None:
        network = built(kind).train()
        loss = RECIPES[name](network, *batch(), torch.Generator().manual_seed(0))
        assert (loss.shape, loss.dtype, bool(loss.isfinite())) == ((), torch.float32, True)
        loss.backward()
        found = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
        assert found
        assert all(bool(gradient.isfinite().all()) for gradient in found)

    @pytest.mark.lengthy
    def test_the_network_stays_in_train_mode_without_gradients(self, name: str, kind: str) -> None:
        network = built(kind).train()
        RECIPES[name](network, *batch(), torch.Generator().manual_seed(0))
        assert all(part.training for part in network.modules())
        assert all(parameter.requires_grad and parameter.grad is None for parameter in network.parameters())

    @pytest.mark.lengthy
    def test_images_and_labels_are_left_alone(self, name: str, kind: str) -> None:
        images, labels = batch()
        RECIPES[name](built(kind).train(), images, labels, torch.Generator().manual_seed(0))
        expected = batch()
        assert torch.equal(images, expected[0])
        assert torch.equal(labels, expected[1])
        assert not images.requires_grad


@pytest.mark.parametrize("name", ROBUST)
class TestRadius:
    @pytest.mark.lengthy
    def test_without_a_radius_a_training_is_the_clean_one_bit_for_bit(self, name: str) -> None:
        recipe = without_radius(name)
        assert equal(state(trained("phase", recipe)), state(trained("phase", standard)))

    @pytest.mark.parametrize("training", [True, False])
    def test_the_network_comes_back_in_its_mode(self, name: str, training: bool) -> None:
        network = built("phase").train(training)
        RECIPES[name](network, *batch(), torch.Generator().manual_seed(0))
        assert all(part.training == training for part in network.modules())


@pytest.mark.parametrize("name", ATTACKING)
class TestAttack:
    def test_attacked_images_are_in_the_ball_and_statistics_modes_and_flags_stay(self, name: str) -> None:
        recipe: Any = RECIPES[name]
        network, (images, labels) = built("phase").train(), batch()
        before = state(network)
        attacked = recipe.attack(network, images, labels, torch.Generator().manual_seed(0))
        assert not attacked.requires_grad
        assert 0 < float((attacked - images).abs().max()) <= recipe.epsilon + 1e-6
        assert float(attacked.min()) >= 0
        assert float(attacked.max()) <= 1
        assert equal(state(network), before)
        assert all(part.training for part in network.modules())
        assert all(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.lengthy
@pytest.mark.parametrize("name", ROBUST)
class TestCells:
    """Recipes for both heads of a network of cells, with drop-path."""

    def test_both_heads_are_trained_and_drop_path_is_put_back(self, name: str) -> None:
        network: Any = built("darts").train()
        recipe = CellTraining(robust=RECIPES[name]).begin_epoch(network, 3, 4)
        loss = recipe(network, *batch(), torch.Generator().manual_seed(0))
        loss.backward()
        assert network.auxiliary[-1].weight.grad.abs().max() > 0
        assert network.classifier.weight.grad.abs().max() > 0
        assert network.drop_path.generator is None
        assert all(part.training for part in network.modules())

    def test_without_a_radius_it_is_the_clean_recipe_bit_for_bit(self, name: str) -> None:
        networks: list[Any] = [built("darts").train() for _ in range(2)]
        losses = []
        for network, robust in zip(networks, (None, without_radius(name)), strict=True):
            recipe = CellTraining(robust=robust).begin_epoch(network, 3, 4)
            losses.append(recipe(network, *batch(), torch.Generator().manual_seed(0)))
            losses[-1].backward()
        assert torch.equal(*losses)
        pairs = zip(networks[0].parameters(), networks[1].parameters(), strict=True)
        assert all(torch.equal(first.grad, second.grad) for first, second in pairs)

    def test_the_auxiliary_head_has_the_recipe_s_own_loss_on_the_same_images(self, name: str) -> None:
        robust: Any = RECIPES[name]
        if name not in ATTACKING:
            pytest.skip("bounds are of the network's own head")
        if hasattr(robust, "gamma"):
            robust = replace(robust, gamma=0.0)  # whose perturbation is of both heads' loss
        found, expected = built("darts").train(), built("darts").train()
        loss = CellTraining(auxiliary_weight=0.3, drop_path=0.0, robust=robust)(
            found, *batch(), torch.Generator().manual_seed(0)
        )
        images, labels = batch()
        attacked = robust.attack(expected, images, labels, torch.Generator().manual_seed(0))
        assert isinstance(expected, DartsNetwork)
        clean = expected.forward_auxiliary(images) if robust.reads_clean else (None, None)
        answers = expected.forward_auxiliary(attacked)
        own, auxiliary = (robust.loss(answers[head], clean[head], labels) for head in (0, 1))
        torch.testing.assert_close(loss, own + 0.3 * auxiliary, rtol=1e-5, atol=1e-6)


CERTIFIED = [Ibp(epsilon=1 / 255, kappa=0.0), CrownIbp(epsilon=1 / 255, kappa=0.0)]


@pytest.mark.lengthy
@pytest.mark.parametrize("robust", CERTIFIED, ids=part_name)
def test_bounds_train_the_own_head_and_the_auxiliary_one_has_its_clean_loss(robust: Ibp) -> None:
    found, expected = built("darts").train(), built("darts").train()
    assert isinstance(expected, DartsNetwork)
    images, labels = batch()
    loss = CellTraining(auxiliary_weight=0.4, drop_path=0.0, robust=robust)(found, images, labels, torch.Generator())
    _, auxiliary = expected.forward_auxiliary(images)
    own = robust(expected, images, labels, torch.Generator())
    torch.testing.assert_close(loss, own + 0.4 * functional.cross_entropy(auxiliary, labels), rtol=1e-5, atol=1e-6)


@pytest.mark.lengthy
def test_bounds_under_drop_path_are_of_the_network_without_it() -> None:
    """At kappa 0 and the smallest radius the loss is the clean one of the network as it is in train mode."""
    robust = Ibp(epsilon=1e-12, kappa=0.0)
    network, plain = built("darts").train(), built("darts").train()
    images, labels = batch()
    cells = CellTraining(auxiliary_weight=0.0, drop_path=0.5, robust=robust)
    recipe = replace(cells.begin_epoch(network, 3, 4), robust=robust)
    loss = recipe(network, images, labels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, functional.cross_entropy(plain(images), labels), rtol=1e-4, atol=1e-5)
    dropped = replace(cells, robust=None).begin_epoch(plain, 3, 4)
    plain.load_state_dict(built("darts").state_dict())
    clean = dropped(plain, images, labels, torch.Generator().manual_seed(0))
    assert not torch.allclose(loss, clean, rtol=1e-3)
    assert equal(state(network), state(plain))  # running statistics are those of the pass with drop-path, once


def without_radius(name: str) -> Recipe:
    recipe: Any = RECIPES[name]
    still = {"epsilon": 0.0, **({"gamma": 0.0} if hasattr(recipe, "gamma") else {})}
    found: Recipe = replace(recipe, **still)
    return found


@pytest.mark.lengthy
def test_trades_without_beta_is_the_clean_recipe_bit_for_bit() -> None:
    assert equal(state(trained("phase", Trades(beta=0.0))), state(trained("phase", standard)))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_its_name_is_that_of_the_table_and_it_is_a_value_that_travels(name: str) -> None:
    recipe = RECIPES[name]
    assert part_name(recipe) == name
    assert pickle.loads(pickle.dumps(recipe)) == recipe
    assert all(value is None or isinstance(value, bool | int | float | str) for value in part_identity(recipe).values())


def test_cells_refuse_a_network_of_phases_before_they_change_it() -> None:
    network = built("phase")
    generator = torch.Generator().manual_seed(0)
    with pytest.raises(ConfigurationError, match="expected a network of cells for recipe 'cells', got PhaseNetwork"):
        train(network, DevicePart(DIGITS.train, CPU), AUGMENTATION, CONFIG, CellTraining(), generator)
    assert equal(state(network), state(built("phase")))
