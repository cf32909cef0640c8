"""The error after a short robust training: its exact counts, its seeds, its settings, and what it leaves alone."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evonas.attacks import FGSM, PGD
from evonas.cli import main
from evonas.data import Dataset, DeviceData, load_data
from evonas.errors import ConfigurationError, DivergedError
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.executors import ignore
from evonas.methods.tam import TamOptions
from evonas.networks.blocks import seeded
from evonas.objectives import Candidate, CleanError, Macs, PGDError, QuickRobustError, Timed
from evonas.parts import part_identity
from evonas.runs import AttackOptions, make_objectives
from evonas.runs.objectives import untrained_note
from evonas.search import EvolutionConfig
from evonas.seeding import derive_seed
from evonas.spaces import DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace
from evonas.training import FastAdversarial, TrainingConfig, train

SPACE = PhaseSpace(phases=1, nodes=2, channels=4)
TINY = replace(QuickRobustError().training, epochs=2, batch_size=10, lr=0.05)
QUICK = QuickRobustError(training=TINY, images=30, batch_size=20)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", train_limit=50, val_limit=50)


class Refuses(nn.Module):
    """A candidate's own network, of which nothing is asked."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise AssertionError("the candidate's own network was called")


def candidate(data: Dataset, space: Any = SPACE, seed: int = 3, genome: Any = None) -> Candidate:
    genome = space.designs()["chain"] if genome is None else genome
    there = DeviceData(data, torch.device("cpu"))
    drawn = torch.Generator().manual_seed(seed)
    return Candidate(Refuses().eval(), genome, space, there, space.cost(genome), drawn)


@pytest.mark.lengthy
def test_both_errors_are_counts_on_the_first_images_of_a_network_that_is_trained_here_by_hand(digits: Dataset) -> None:
    one = candidate(digits)
    found = QUICK(one)
    seed = derive_seed(3, "quick_robust_error")
    network = seeded(
        lambda: SPACE.build(one.genome, 10, normalization=one.data.normalization), derive_seed(seed, "weights")
    )
    drawn = torch.Generator().manual_seed(derive_seed(seed, "training"))
    train(network, one.data.train, one.data.augmentation, TINY, FastAdversarial(), drawn)
    images = torch.tensor(digits.validation.images[:30]).float() / 255
    labels = torch.tensor(digits.validation.labels[:30])
    for name, attack in (("quick_robust_error", FGSM()), ("quick_robust_pgd_error", PGD(stop_when_fooled=True))):
        with torch.no_grad():
            wrong = int((network(attack(network, images, labels)).argmax(dim=1) != labels).sum())
        assert found[name] == wrong / 30
    assert list(found) == [column.name for column in QUICK.columns(SPACE, 10)]


@pytest.mark.lengthy
def test_it_follows_from_the_seed_alone(digits: Dataset) -> None:
    one = candidate(digits)
    first, before = QUICK(one), torch.get_rng_state()
    torch.rand(1, generator=one.generator)  # another objective
    assert QUICK(one) == first
    assert torch.equal(torch.get_rng_state(), before)
    networks = [QUICK.trained(candidate(digits, seed=seed)).state_dict() for seed in (3, 3, 4)]
    weight = next(iter(SPACE.build(one.genome).state_dict()))
    same = [torch.equal(networks[0][weight], each[weight]) for each in networks]
    assert same == [True, True, False]


@pytest.mark.lengthy
@pytest.mark.parametrize(
    "space",
    [
        NasBench201Space(channels=2, cells=1),
        DartsSpace(channels=2, layers=3),
        ShuffleSpace(width=1 / 3, depth=0.1, window=None),
    ],
    ids=lambda space: space.name,
)
def test_it_takes_networks_of_every_space(space: Any, digits: Dataset) -> None:
    genome = space.canonical(space.sample(1, np.random.default_rng(0))[0])
    one = replace(QUICK, training=replace(TINY, epochs=1, batch_size=25), images=10)
    found = one(candidate(digits, space, genome=genome))
    assert all((10 * value).is_integer() for value in found.values())


def test_its_training_is_that_of_the_options() -> None:
    assert make_objectives(("quick_robust_error",)) == (QuickRobustError(),)
    options = AttackOptions(
        quick_epochs=2,
        quick_epsilon=0.1,
        quick_schedule="cosine",
        quick_lr=0.3,
        quick_batch_size=64,
        quick_weight_decay=0.01,
        quick_steps=3,
        quick_images=40,
    )
    (found,) = make_objectives(("quick_robust_error",), options, precision="bf16", batch_size=7)
    training = TrainingConfig(epochs=2, batch_size=64, lr=0.3, weight_decay=0.01, precision="bf16")
    assert found == QuickRobustError(
        recipe=FastAdversarial(epsilon=0.1),
        training=training,
        fgsm=FGSM(epsilon=0.1, precision="bf16"),
        pgd=PGD(epsilon=0.1, step_size=0.025, steps=3, stop_when_fooled=True, precision="bf16"),
        images=40,
        batch_size=7,
    )
    default = QuickRobustError()
    assert (default.training.cyclic, default.training.epochs, default.recipe.epsilon) == (True, 5, 8 / 255)


def test_every_setting_is_in_its_identity() -> None:
    changes: list[dict[str, Any]] = [
        *({"quick_epochs": 2}, {"quick_epsilon": 0.1}, {"quick_schedule": "cosine"}, {"quick_lr": 0.3}),
        *({"quick_batch_size": 64}, {"quick_weight_decay": 0.1}, {"quick_steps": 3}, {"quick_images": 40}, {}),
    ]
    made = [make_objectives(("quick_robust_error",), AttackOptions(**change))[0] for change in changes]
    assert len({json.dumps(part_identity(each), allow_nan=False, sort_keys=True) for each in made}) == len(changes)
    assert AttackOptions(quick_epsilon=0).objectives("fp32")  # plain training, and no attack


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected a precision for quick_robust_error, got auto; give"):
        QuickRobustError(training=TrainingConfig())
    with pytest.raises(ConfigurationError, match="expected batch_size and images >= 1, got 250 and 0"):
        QuickRobustError(images=0)
    with pytest.raises(ConfigurationError, match="weights for TAM-NAS, got quick_robust_error, which"):
        TamOptions(search=EvolutionConfig(objectives=("clean_error", "quick_robust_error")))


def test_a_flag_that_nothing_reads_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["roco", "--quick-epochs", "3"]) == 2
    assert "--quick-epochs changes nothing without --objectives quick_robust_error" in capsys.readouterr().err
    assert main(["roco", "--objectives", "quick_robust_error,macs", "--quick-schedule", "linear"]) == 2


@pytest.mark.lengthy
def test_a_training_that_diverges_is_a_failed_evaluation(digits: Dataset) -> None:
    wild = replace(QUICK, training=replace(TINY, lr=1e30))
    with pytest.raises(DivergedError):
        wild(candidate(digits))
    candidates = TrainFromScratch(SPACE, digits, replace(TINY, epochs=1))
    evaluate = Evaluator(candidates, (wild, Macs()), 1).make_evaluate(ignore)
    result = evaluate(SPACE.designs()["chain"], 0)
    assert (result.status, dict(result.objectives)) == ("failed", {})
    assert "diverged" in result.reason


def test_that_ordinary_training_serves_nothing_is_said() -> None:
    assert "--epochs 1 makes that short" in untrained_note(("quick_robust_error", "macs", "params"))
    assert untrained_note(("quick_robust_error", "clean_error", "macs")) == ""
    assert untrained_note(("macs",)) == ""
    assert untrained_note(("quick_robust_error", "macs", "pgd_error")) == ""  # white-box images


def test_seconds_of_an_objective_are_a_column_beside_its_own(digits: Dataset) -> None:
    timed = Timed(Macs())
    one = candidate(digits)
    found = timed(one)
    assert list(found) == ["macs", "macs_seconds"] == [column.name for column in timed.columns(SPACE, 10)]
    assert found["macs"] == one.cost.macs
    assert 0 <= found["macs_seconds"] < 60
    assert timed.name == "macs"
    assert part_identity(Timed(CleanError())) == {**part_identity(CleanError()), "timed": True}
    assert part_identity(Timed(PGDError())) != part_identity(PGDError())
