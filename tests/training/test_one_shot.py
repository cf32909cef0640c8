"""Training a supernet: what is drawn when, what a step changes, and going on."""

import copy
import itertools
from collections import Counter
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


FAIR = replace(SHORT, sampling="fair", block_epochs=0, joint_epochs=60, first_ratios=10, block_window=(5e6, 6e6))
STEPS = 11
"""Batches of an epoch in these tests: 660 networks in all, three times 22 blocks by ten ratios, 11 times 6 by ten."""


def drawn_fairly(config: OneShotConfig = FAIR, seed: int = 0) -> list[tuple[int, ...]]:
    return [
        tuple(draw_architecture(SPACE, config, seed, epoch, step, STEPS).tolist())
        for epoch in range(config.epochs)
        for step in range(STEPS)
    ]


@pytest.mark.lengthy
def test_fair_sampling_draws_every_choice_equally_often() -> None:
    genomes, places = drawn_fairly(), SPACE.n_places
    for place in range(places):
        blocks, ratios = int(SPACE.upper[place]) + 1, 10
        pairs = Counter((genome[place], genome[places + place]) for genome in genomes)
        assert set(pairs.values()) == {660 // (blocks * ratios)}
        assert len(pairs) == blocks * ratios
        for begin in range(0, 660, blocks):
            assert {genome[place] for genome in genomes[begin : begin + blocks]} == set(range(blocks))
    assert drawn_fairly() == genomes
    assert drawn_fairly(seed=1) != genomes
    orders = {tuple(genome[1] for genome in genomes[begin : begin + 22]) for begin in range(0, 660, 22)}
    assert len(orders) == 30  # every round has an order of its own


def test_a_round_of_fair_sampling_is_whole_whatever_the_number_of_batches() -> None:
    """Rounds go on from epoch to epoch, and begin anew where a phase or another number of ratios does."""
    config = replace(FAIR, block_epochs=4, joint_epochs=12, resample_epochs=4, first_ratios=2, first_ratio_epochs=4)
    genomes = drawn_fairly(config)
    assert {genome[6:] for genome in genomes[: 4 * STEPS]} == {(9,) * 6}  # the largest ratio alone
    for begin, ratios in ((4, 2), (8, 3), (12, 4)):
        stage = genomes[begin * STEPS : (begin + 4) * STEPS]
        counts = Counter((genome[1], genome[7]) for genome in stage[: 22 * 2])
        assert set(counts.values()) == {1}
        assert {genome[7] for genome in stage} == set(range(10 - ratios, 10))
    assert all(Counter(genome[1] for genome in genomes[at : at + 22]) == Counter(range(22)) for at in (0, 22, 44, 66))


@pytest.mark.lengthy
def test_fair_sampling_trains_another_network_in_every_batch() -> None:
    training = begin(replace(SHORT, sampling="fair"))
    expected = [genome.tolist() for genome in drawn_architectures(SPACE, training.config, 5, 0, 40)]
    assert len({*map(tuple, expected)}) == 3
    assert training.genome().tolist() == expected[0]
    before = copy.deepcopy(training.supernet.state_dict())
    training.run_epoch()
    for place in range(SPACE.n_places):
        changed = {
            int(name.split(".")[2])
            for name, value in training.supernet.state_dict().items()
            if name.startswith(f"choices.{place}.") and not torch.equal(value, before[name])
        }
        assert changed == {genome[place] for genome in expected}
