"""What every training recipe of the table must do; a new one is tested by its line there."""

import pickle
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from evonas.data import Augmentation, DevicePart, batches, load_data
from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.parts import part_identity, part_name
from evonas.spaces import PhaseSpace
from evonas.training import RECIPES, CellTraining, Recipe, TrainingConfig, train

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


BUILD: dict[str, Callable[[], nn.Module]] = {"darts": darts_network, "phase": phase_network}
TRAINABLE = [
    pytest.param(name, kind, marks=pytest.mark.slow if kind == "darts" and name.startswith("trades") else ())
    for name in sorted(RECIPES)
    for kind in BUILD
    if (name, kind) != ("cells", "phase")
]
"""The recipe of cells asks for drop-path and an auxiliary head, which networks of phases do not have."""


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
