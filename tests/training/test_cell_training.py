"""Training networks of cells: both heads' losses by hand, and drop-path that grows from epoch to epoch."""

import copy
import math

import numpy as np
import pytest
import torch
from helpers import rng
from torch import Tensor, nn

from evonas.data import Augmentation, DevicePart, Part
from evonas.errors import ConfigurationError
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork, DropPath
from evonas.training import IMAGENET_CELLS, CellTraining, EpochRecipe, PgdTraining, TrainingConfig, standard, train
from evonas.training.cells import EpochDropPath

CPU = torch.device("cpu")


class TwoHeads(nn.Module):
    """Answers 0 and log 3 in the one head, equal ones in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.drop_path: EpochDropPath | None = None

    def forward(self, images: Tensor) -> Tensor:
        return torch.tensor([[0.0, math.log(3.0)]]).expand(len(images), 2)

    def forward_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self(images), torch.zeros(len(images), 2)


def cells(auxiliary: bool = True) -> DartsNetwork:
    made = seeded(lambda: DartsNetwork(GENOTYPES["DARTS_V2"], 4, 3, auxiliary=auxiliary), 0)
    assert isinstance(made, DartsNetwork)
    return made


def batch(n: int = 4) -> tuple[Tensor, Tensor]:
    return torch.rand(n, 3, 32, 32, generator=rng(1)), torch.arange(n) % 10


@pytest.mark.parametrize(
    ("recipe", "expected"),
    [
        # class 1 has probability 3/4 in the one head and 1/2 in the other
        (CellTraining(), math.log(4 / 3) + 0.4 * math.log(2)),
        (CellTraining(auxiliary_weight=1.0), math.log(4 / 3) + math.log(2)),
        (CellTraining(auxiliary_weight=0.0), math.log(4 / 3)),
        # labels (0.05, 0.95)
        (CellTraining(label_smoothing=0.1), 0.95 * math.log(4 / 3) + 0.05 * math.log(4) + 0.4 * math.log(2)),
    ],
)
def test_the_loss_by_hand(recipe: CellTraining, expected: float) -> None:
    loss = recipe(TwoHeads(), torch.zeros(2, 3, 4, 4), torch.tensor([1, 1]), rng())
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_without_anything_it_is_plain_training() -> None:
    images, labels = batch()
    recipe = CellTraining(auxiliary_weight=0.0, drop_path=0.0)
    assert torch.equal(
        recipe(cells(False), images, labels, rng()),
        standard(cells(False), images, labels, rng()),
    )


def test_drop_path_grows_linearly_from_zero() -> None:
    network, recipe = TwoHeads(), CellTraining(drop_path=0.2)
    assert isinstance(recipe, EpochRecipe)
    assert not isinstance(standard, EpochRecipe)
    found = []
    for epoch in range(5):
        recipe.begin_epoch(network, epoch, 5)
        assert network.drop_path is not None
        found.append(network.drop_path.probability)
    assert found == pytest.approx([0, 0.04, 0.08, 0.12, 0.16])


def test_drop_path_leaves_out_images_and_keeps_the_mean() -> None:
    maps = torch.ones(20_000, 1, 1, 2)
    dropped = EpochDropPath(0.2, rng())(maps)
    assert set(dropped.unique().tolist()) == {0.0, 1.25}
    assert torch.equal(dropped[..., 0], dropped[..., 1])  # an image is left out as a whole
    share = float((dropped[:, 0, 0, 0] == 0).float().mean())
    assert abs(share - 0.2) < 5 * (0.2 * 0.8 / 20_000) ** 0.5


def test_drop_path_is_the_networks_own_with_the_calls_generator() -> None:
    images, labels = batch(8)
    ours, reference, recipe = cells().train(), cells().train(), CellTraining(drop_path=0.8)
    recipe.begin_epoch(ours, 1, 2)
    loss = recipe(ours, images, labels, rng(3))
    reference.drop_path = DropPath(0.4, rng(3))
    assert torch.equal(loss, CellTraining(drop_path=0.0)(reference, images, labels, rng()))
    assert not torch.equal(loss, CellTraining(drop_path=0.0)(cells().train(), images, labels, rng()))


def test_nothing_is_dropped_outside_of_the_recipe() -> None:
    images, labels = batch()
    network, recipe = cells().train(), CellTraining(drop_path=0.5)
    recipe.begin_epoch(network, 9, 10)
    expected = cells().train()(images)
    assert torch.equal(network(images), expected)
    with pytest.raises(IndexError):
        recipe(network, images, labels + 100, rng())
    assert torch.equal(network(images), expected)  # also after a call that failed
    copy.deepcopy(network)  # a generator could not be copied everywhere


def test_the_first_epoch_draws_nothing() -> None:
    images, labels = batch()
    network, recipe, generator = cells().train(), CellTraining(), rng(1)
    recipe.begin_epoch(network, 0, 10)
    before = generator.get_state()
    recipe(network, images, labels, generator)
    assert torch.equal(generator.get_state(), before)


def trained(seed: int, drop_path: float = 0.6) -> dict[str, Tensor]:
    numbers = np.random.default_rng(0)
    part = DevicePart(Part(numbers.integers(256, size=(12, 3, 32, 32), dtype=np.uint8), np.arange(12) % 10), CPU)
    network = cells()
    config = TrainingConfig(epochs=2, batch_size=6, precision="fp32")
    augmentation = Augmentation(cutout=8, mean=(0.5, 0.5, 0.5))
    train(network, part, augmentation, config, CellTraining(drop_path=drop_path), rng(seed))
    assert not network.training
    images, _ = batch()
    with torch.no_grad():
        assert torch.equal(network(images), network(images))
    return {name: value.clone() for name, value in network.state_dict().items()}


@pytest.mark.lengthy
def test_a_network_of_cells_trains_the_same_way_twice() -> None:
    state = torch.default_generator.get_state()
    first, again, other, without = trained(0), trained(0), trained(1), trained(0, drop_path=0.0)
    assert torch.equal(torch.default_generator.get_state(), state)
    initial = cells().state_dict()
    assert all(torch.equal(first[name], again[name]) for name in first)
    for different in (other, without, initial):
        assert any(not torch.equal(first[name], different[name]) for name in first)
    head = [name for name in first if name.startswith("auxiliary.") and name.endswith("weight")]
    assert head
    assert all(not torch.equal(first[name], initial[name]) for name in head)  # it is trained, too


def test_the_loss_is_in_float32_under_autocast() -> None:
    images, labels = batch()
    recipe, network = CellTraining(), cells().train()
    recipe.begin_epoch(network, 1, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert recipe(network, images, labels, rng()).dtype == torch.float32


def test_another_network_is_refused() -> None:
    network, (images, labels) = nn.Flatten(), batch()
    with pytest.raises(ConfigurationError) as raised:
        CellTraining()(network, images, labels, rng())
    assert str(raised.value) == (
        "expected a network of cells for recipe 'cells', got Flatten, which has no forward_auxiliary"
    )
    with pytest.raises(ConfigurationError, match="which has no drop_path"):
        CellTraining().begin_epoch(network, 0, 1)
    CellTraining(drop_path=0.0).begin_epoch(network, 0, 1)


def test_the_preset_of_imagenet_is_darts() -> None:
    training, recipe = IMAGENET_CELLS.training, IMAGENET_CELLS.recipe
    assert (IMAGENET_CELLS.channels, IMAGENET_CELLS.layers) == (48, 14)
    assert (training.epochs, training.batch_size, training.lr, training.lr_decay) == (250, 128, 0.1, 0.97)
    assert (training.momentum, training.weight_decay, training.grad_clip) == (0.9, 3e-5, 5.0)
    assert recipe == CellTraining(auxiliary_weight=0.4, drop_path=0.0, label_smoothing=0.1)


def test_defaults_are_darts_on_cifar() -> None:
    assert CellTraining() == CellTraining(auxiliary_weight=0.4, drop_path=0.2, label_smoothing=0.0)


def smoothed(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """A recipe of one head."""
    return torch.nn.functional.cross_entropy(network(images).float(), labels, label_smoothing=0.1)


def test_the_identity_names_another_loss_and_is_as_before_without_one() -> None:
    plain = {"auxiliary_weight": 0.4, "drop_path": 0.2, "label_smoothing": 0.0}
    assert CellTraining().identity() == plain
    robust = {"name": "pgd_at", "epsilon": 8 / 255, "step": 2 / 255, "steps": 7}
    assert CellTraining(robust=PgdTraining()).identity() == {**plain, "robust": robust}


def test_a_recipe_of_one_head_needs_a_network_without_the_other() -> None:
    with pytest.raises(ConfigurationError, match="expected an auxiliary weight of 0 with recipe 'smoothed'"):
        CellTraining(robust=smoothed)
    network = cells(auxiliary=False).train()
    images, labels = batch()
    found = CellTraining(auxiliary_weight=0.0, drop_path=0.0, robust=smoothed)(
        network, images, labels, torch.Generator()
    )
    assert torch.equal(found, smoothed(cells(auxiliary=False).train(), images, labels, torch.Generator()))
    with pytest.raises(ConfigurationError, match="expected label_smoothing 0 with recipe 'pgd_at'"):
        CellTraining(label_smoothing=0.1, robust=PgdTraining())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"auxiliary_weight": -1.0}, "expected auxiliary_weight >= 0, got -1.0"),
        ({"drop_path": 1.0}, "expected drop_path in [0, 1), got 1.0"),
        ({"label_smoothing": -0.1}, "expected label_smoothing in [0, 1), got -0.1"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        CellTraining(**wrong)  # type: ignore[arg-type]
    assert str(raised.value) == message
