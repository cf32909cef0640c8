"""Training a supernet: what is drawn when, what a step changes, and going on."""

import copy
import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from helpers import same

from evonas.data import Augmentation, Part
from evonas.data.batches import DevicePart
from evonas.errors import ConfigurationError, DivergedError
from evonas.spaces import ShuffleSpace
from evonas.training import OneShotConfig, OneShotTraining, TradesYopo, draw_architecture, standard
from evonas.training.one_shot import drawn_architectures

SPACE = ShuffleSpace(width=1 / 3, depth=0.1)
PAPER = OneShotConfig()
SHORT = OneShotConfig(
    block_epochs=2,
    joint_epochs=2,
    resample_epochs=1,
    first_ratio_epochs=1,
    supernet_batch_size=16,
    block_milestones=(1,),
    joint_milestones=(1,),
    supernet_precision="fp32",
)


def part() -> DevicePart:
    rng = np.random.default_rng(0)
    images = rng.integers(256, size=(40, 3, 32, 32), dtype=np.uint8)
    return DevicePart(Part(images, rng.integers(10, size=40)), torch.device("cpu"))


def begin(config: OneShotConfig = SHORT, recipe: Any = standard, seed: int = 5) -> OneShotTraining:
    torch.manual_seed(1)
    supernet = SPACE.supernet()
    return OneShotTraining(SPACE, supernet, SPACE.supernet(), part(), Augmentation(), config, recipe, seed)


@pytest.mark.parametrize(
    ("epoch", "ratios", "rate"),
    [
        (0, 1, 0.1),
        (199, 1, 0.1),
        (200, 1, 0.01),
        (399, 1, 0.01),
        (400, 1, 0.001),
        (450, 1, 0.0001),
        (499, 1, 0.0001),
        (500, 2, 0.1),
        (519, 2, 0.1),
        (539, 2, 0.1),
        (540, 3, 0.1),
        (560, 4, 0.1),
        (600, 6, 0.01),
        (680, 10, 0.01),
        (700, 11, 0.001),
        (800, 16, 0.0001),
        (999, 25, 0.0001),
    ],
)
def test_the_papers_schedule(epoch: int, ratios: int, rate: float) -> None:
    assert PAPER.epochs == 1000
    assert PAPER.ratios(epoch) == ratios
    assert PAPER.rate(epoch) == pytest.approx(rate, rel=1e-12)


@pytest.mark.parametrize("epoch", [0, 140, 499, 500, 545, 590, 685, 999])
def test_what_is_drawn_lies_in_the_papers_windows(epoch: int) -> None:
    space = ShuffleSpace()
    low, high = (1.823e6, 2.375e6) if epoch < 500 else (1.61e6, 2.37e6)
    allowed = min(10, PAPER.ratios(epoch - epoch % 20))
    for seed in range(5):
        genome = draw_architecture(space, PAPER, seed, epoch)
        assert (genome >= 0).all()
        assert (genome <= space.upper).all()
        assert low <= space.cost(genome).params <= high
        assert genome[16:].min() >= 10 - allowed


def test_an_architecture_is_kept_for_its_epochs() -> None:
    def drawn(config: OneShotConfig, seed: int = 0) -> list[tuple[int, ...]]:
        return [tuple(draw_architecture(SPACE, config, seed, epoch).tolist()) for epoch in range(490, 545)]

    kept = drawn(PAPER)
    changes = [epoch for epoch, (a, b) in enumerate(itertools.pairwise(kept), start=491) if a != b]
    assert changes == [500, 520, 540]
    assert drawn(PAPER) == kept
    assert drawn(PAPER, seed=1) != kept
    each = replace(PAPER, sampling="batches")
    assert len({tuple(draw_architecture(SPACE, each, 0, 600, step).tolist()) for step in range(30)}) > 25


@pytest.mark.slow
def test_a_window_that_holds_nothing_is_said_so() -> None:
    nothing = replace(SHORT, joint_window=(5e6, 6e6))
    with pytest.raises(ConfigurationError, match=r"found none of 100000 random ones between .*; widen --joint-window"):
        draw_architecture(SPACE, nothing, 0, 3)


@pytest.mark.lengthy
def test_an_epoch_is_plain_sgd_on_the_drawn_network() -> None:
    """Against torch's own optimiser on a stand-alone copy: the same weights, to the last bit."""
    config = replace(SHORT, supernet_batch_size=40, supernet_weight_decay=1e-2)
    training = begin(config)
    genome = training.genome()
    network = SPACE.build(genome)
    network.load_state_dict(training.supernet.network(SPACE.units(genome)).state_dict())
    before = copy.deepcopy(training.supernet.state_dict())
    training.run_epoch()

    drawn = torch.Generator().manual_seed(0)
    from evonas.data import training_batches
    from evonas.seeding import derive_seed

    drawn.manual_seed(derive_seed(5, "supernet epoch", 0))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-2)
    network.train()
    for images, labels in training_batches(part(), 40, Augmentation(), drawn):
        optimiser.zero_grad()
        standard(network, images, labels, drawn).backward()
        optimiser.step()
    inherited = training.supernet.network(SPACE.units(genome)).state_dict()
    for name, value in network.state_dict().items():
        assert torch.equal(inherited[name], value), name
    used = {place: genome[place] for place in range(SPACE.n_places)}
    for name, value in training.supernet.state_dict().items():
        if name.startswith("choices."):
            _, place, choice, *_ = name.split(".")
            if used[int(place)] != int(choice):
                assert torch.equal(value, before[name]), name


@pytest.mark.lengthy
def test_momentum_of_shared_weights_is_kept_from_one_network_to_the_next() -> None:
    training = begin(replace(SHORT, supernet_batch_size=40))
    training.run_epoch()
    stem = training.momentum.state_dict()["stem.0.weight"].clone()
    assert stem.abs().sum() > 0
    weights = training.supernet.state_dict()["stem.0.weight"].clone()
    training.part = DevicePart.of(training.part.images * 0, training.part.labels)
    training.run_epoch()  # black images: the stem's own gradient is weight decay alone
    moved = weights - training.supernet.state_dict()["stem.0.weight"]
    expected = SHORT.rate(1) * (0.9 * stem + SHORT.supernet_weight_decay * weights)
    torch.testing.assert_close(moved, expected, rtol=1e-4, atol=1e-7)  # a difference of near numbers in float32


@pytest.mark.lengthy
@pytest.mark.slow
def test_going_on_is_the_same_to_the_last_bit() -> None:
    """With a network a batch; with a network an epoch, the tests of checkpoints say so."""
    config = replace(SHORT, sampling="batches")
    recipe = TradesYopo(m=1, n=1)
    whole = begin(config, recipe)
    losses = [whole.run_epoch() for _ in range(2)]
    first = begin(config, recipe)
    again = [first.run_epoch()]
    state = copy.deepcopy(first.state())
    second = begin(config, recipe)
    second.restore(state)
    assert second.epoch == 1
    assert [*again, second.run_epoch()] == losses
    assert same(second.supernet.state_dict(), whole.supernet.state_dict())


@pytest.mark.lengthy
def test_a_loss_that_is_not_finite_ends_the_training() -> None:
    with pytest.raises(DivergedError, match="the loss of epoch 1 is nan; try a lower --supernet-lr"):
        begin(recipe=lambda network, images, labels, drawn: network(images).sum() * float("nan")).run_epoch()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"resample_epochs": 0}, "expected resample_epochs >= 1, got 0"),
        ({"supernet_lr": 0.0}, "expected supernet_lr > 0"),
        ({"block_epochs": 0, "joint_epochs": 0}, "one of them > 0, got 0 and 0"),
        ({"block_window": (2.0, 1.0)}, r"expected a block_window of \(smallest, largest\) number of parameters"),
        ({"joint_milestones": (3, 2)}, "expected ascending joint_milestones > 0"),
        ({"supernet_precision": "fp8"}, "expected a precision of auto, bf16, fp32, tf32, got 'fp8'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        OneShotConfig(**given)


@pytest.mark.parametrize(("images", "batches"), [(60, 2), (61, 2), (62, 3), (1, 1)])
def test_an_epoch_draws_a_network_a_batch_or_one(images: int, batches: int) -> None:
    """A last batch of one image is dropped; with `epochs` every epoch of a turn has the same network."""
    space = ShuffleSpace(width=1 / 6, depth=0.1)
    wide = {"block_window": (0.0, 1e9), "supernet_batch_size": 30}
    each = OneShotConfig(sampling="batches", **wide)  # type: ignore[arg-type]
    assert len(list(drawn_architectures(space, each, 0, 3, images))) == batches
    (first,) = drawn_architectures(space, OneShotConfig(**wide), 0, 3, images)  # type: ignore[arg-type]
    (later,) = drawn_architectures(space, OneShotConfig(**wide), 0, 19, images)  # type: ignore[arg-type]
    assert first.tolist() == later.tolist()
    assert space.choices(first) <= space.choices()
    assert len(space.choices(first)) == space.n_places
