"""Training again at another width, and scoring on the test part: what depends on what."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from evonas.audit import AtWidth, Retraining, Scoring, digest
from evonas.costs import count_macs, count_params
from evonas.data import Part, load_data
from evonas.errors import DataError, DivergedError
from evonas.evaluation import TrainFromScratch
from evonas.executors import ignore
from evonas.seeding import derive_seed
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig
from evonas.types import Progress, arch_id

SPACE = PhaseSpace(phases=2, nodes=3, channels=2)
CHAIN = SPACE.canonical(SPACE.designs()["chain"])
DATA = load_data("digits", train_limit=60, val_limit=50)
TRAINING = TrainingConfig(epochs=1, batch_size=30, lr=0.1, precision="fp32")
RETRAINING = Retraining(space=AtWidth(SPACE, 4), data=DATA, training=TRAINING, seed=3)


@pytest.fixture(scope="module")
def weights() -> bytes:
    return RETRAINING.train(CHAIN, ignore)[0]


def test_it_trains_the_network_of_the_given_width_from_the_derived_seed(weights: bytes) -> None:
    wide = replace(SPACE, channels=4)
    seed = derive_seed(3, "retrain", arch_id(CHAIN))
    candidate, _ = TrainFromScratch(wide, DATA, TRAINING).start()(CHAIN, seed, ignore)
    expected = candidate.network.state_dict()
    found = safetensors.torch.load(weights)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_it_repeats_itself_bit_for_bit(weights: bytes) -> None:
    assert RETRAINING.train(CHAIN, ignore)[0] == weights


def test_another_seed_or_architecture_gives_other_weights(weights: bytes) -> None:
    assert replace(RETRAINING, seed=4).train(CHAIN, ignore)[0] != weights


def test_costs_are_those_of_the_network_that_is_scored(weights: bytes) -> None:
    candidate = RETRAINING.candidate(CHAIN, weights)
    assert candidate.cost == RETRAINING.cost(CHAIN) != SPACE.cost(CHAIN)
    assert candidate.cost == (count_params(candidate.network), count_macs(candidate.network))
    assert not candidate.network.training


def test_torch_own_generator_is_left_alone(weights: bytes) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RETRAINING.train(CHAIN, ignore)
    Scoring(suite=("fgsm",), test_limit=20).score(RETRAINING, CHAIN, weights, ignore)
    assert torch.equal(torch.rand(3), expected)


def test_the_test_part_is_scored_and_no_other(weights: bytes) -> None:
    network = RETRAINING.candidate(CHAIN, weights).network
    with torch.no_grad():
        found = network(torch.from_numpy(DATA.test.images).float() / 255).argmax(dim=1).numpy()
    expected = float((found != DATA.test.labels).mean())
    scores = Scoring(suite=())
    assert scores.score(RETRAINING, CHAIN, weights, ignore) == {"clean_error": pytest.approx(expected, abs=1e-12)}
    perfect = replace(RETRAINING, data=replace(DATA, test=Part(DATA.test.images, found)))
    assert scores.score(perfect, CHAIN, weights, ignore) == {"clean_error": 0.0}


def test_a_limit_takes_as_many_images_of_each_class() -> None:
    part = Scoring(test_limit=40).test_part(DATA, seed=3)
    assert np.bincount(part.labels).tolist() == [4] * 10
    assert part.images.tobytes() == Scoring(test_limit=40).test_part(DATA, seed=3).images.tobytes()
    assert len(Scoring().test_part(DATA, seed=3)) == 300
    with pytest.raises(DataError, match="at least one image a class"):
        Scoring(test_limit=9).test_part(DATA, seed=3)


def test_columns_come_in_their_order_and_attacks_do_not_help(weights: bytes) -> None:
    told: list[Progress] = []
    values = Scoring(suite=("fgsm", "pgd"), test_limit=40).score(RETRAINING, CHAIN, weights, told.append)
    assert list(values) == ["clean_error", "fgsm_0.1_error", "fgsm_0.2_error", "fgsm_0.3_error", "pgd_error"]
    assert all(value in [n / 40 for n in range(41)] for value in values.values())
    steps = (0, 40, 40, 80, 80, 120, 120, 160, 160, 200)
    assert [(each.done, each.total) for each in told] == [(n, 200) for n in steps]


def test_a_network_that_is_broken_has_no_score(weights: bytes) -> None:
    broken = {name: value * float("nan") for name, value in safetensors.torch.load(weights).items()}
    with pytest.raises(DivergedError, match="not finite"):
        Scoring(suite=()).score(RETRAINING, CHAIN, safetensors.torch.save(broken), ignore)


CHANGED: dict[str, Retraining] = {
    "channels": replace(RETRAINING, space=AtWidth(SPACE, 8)),
    "nodes": replace(RETRAINING, space=AtWidth(PhaseSpace(phases=2, nodes=4, channels=2), 4)),
    "data": replace(RETRAINING, data=load_data("digits", train_limit=70, val_limit=50)),
    "training": replace(RETRAINING, training=replace(TRAINING, epochs=2)),
    "seed": replace(RETRAINING, seed=4),
    "threads": replace(RETRAINING, threads=2),
    "device": replace(RETRAINING, device="cuda"),
}


@pytest.mark.parametrize("name", CHANGED)
def test_whatever_changes_the_weights_changes_their_digest(name: str) -> None:
    assert digest(CHANGED[name].identity()) != digest(RETRAINING.identity())


@pytest.mark.parametrize("change", [{"channels": 7}, {"operators": "nsganet"}])
def test_how_the_network_was_found_does_not_matter(change: dict[str, Any]) -> None:
    other = replace(RETRAINING, space=AtWidth(replace(SPACE, **change), 4))
    assert digest(other.identity()) == digest(RETRAINING.identity())


def test_whatever_changes_the_scores_changes_their_digest() -> None:
    scorings = [
        Scoring(),
        Scoring(suite=("pgd",)),
        Scoring(suite=("fgsm",)),
        Scoring(test_limit=40),
        Scoring(batch_size=10),
    ]
    assert len({digest(each.identity()) for each in scorings}) == len(scorings)


def test_the_adapted_attacks_only_add_errors(weights: bytes) -> None:
    pytest.importorskip("foolbox")
    values = Scoring(suite=("cw", "deepfool"), test_limit=20, batch_size=8).score(RETRAINING, CHAIN, weights, ignore)
    assert list(values) == ["clean_error", "cw_error", "deepfool_error"]
    assert values["clean_error"] <= min(values["cw_error"], values["deepfool_error"])
    other = Scoring(suite=("cw", "deepfool"), test_limit=20, batch_size=20).score(RETRAINING, CHAIN, weights, ignore)
    assert other == values  # what an image's result is does not depend on its batch
