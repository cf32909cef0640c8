"""Cells trained again and scored: what weights and scores follow from, and which images are seen."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch.nn import functional

from evonas.attacks import PGD
from evonas.audit import CellRetraining, CellScoring, digest, width_for
from evonas.costs import count_macs, count_params
from evonas.data import Augmentation, Dataset, DevicePart, Part, load_data
from evonas.data.out_of_distribution import load_ood_data
from evonas.errors import ConfigurationError, DataError, DivergedError
from evonas.evaluation import recalibrate
from evonas.executors import ignore
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.seeding import derive_seed
from evonas.spaces import DartsSpace
from evonas.spaces.darts_costs import paper_flops
from evonas.training import CellTraining, TrainingConfig, train
from evonas.types import Genome, Progress, arch_id

SPACE = DartsSpace(channels=4, layers=3)
DATA = load_data("digits", train_limit=40, val_limit=20)
TRAINING = TrainingConfig(epochs=2, batch_size=20, lr=0.1, precision="fp32")
RECIPE = CellTraining(drop_path=0.3)
RETRAINING = CellRetraining(space=SPACE, data=DATA, training=TRAINING, recipe=RECIPE, cutout=8, seed=3)
DARTS = SPACE.canonical(SPACE.from_genotype(GENOTYPES["DARTS_V2"]))
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def weights() -> bytes:
    return RETRAINING.train(DARTS, ignore)[0]


@pytest.fixture(scope="module")
def others() -> Dataset:
    """Another data set whose test images are ten digits upside down."""
    overturned = np.ascontiguousarray(DATA.adversarial.images[:10, :, ::-1])
    return replace(load_ood_data("noise", DATA), test=Part(overturned, np.zeros(10, dtype=np.int64)))


def tensors(weights: bytes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(weights)


@pytest.fixture(scope="module")
def able() -> bytes:
    """Weights that are right about many images: random ones, the classifier by ridge regression on what it reads."""
    network = seeded(lambda: SPACE.build(DARTS, normalization=DATA.normalization), 8)
    part = load_data("digits", train_limit=200).train
    images = torch.from_numpy(part.images).float() / 255
    recalibrate(network, [images])
    classifier, network.classifier = network.classifier, torch.nn.Identity()
    with torch.no_grad():
        read = functional.pad(network.eval()(images), (0, 1), value=1.0)  # (N, features + 1)
        answers = functional.one_hot(torch.from_numpy(part.labels)).float()
        ridge = 3.0 * torch.eye(read.shape[1])
        fitted = 3 * torch.linalg.solve(read.T @ read + ridge, read.T @ answers).T
        classifier.weight.copy_(fitted[:, :-1])
        classifier.bias.copy_(fitted[:, -1])
    network.classifier = classifier
    return safetensors.torch.save(network.state_dict())


def test_it_trains_both_heads_with_cutout_and_keeps_one(weights: bytes) -> None:
    """Everything again, by hand."""
    seed = derive_seed(3, "retrain", arch_id(DARTS))
    network = seeded(
        lambda: DartsNetwork(SPACE.genotype(DARTS), 4, 3, auxiliary=True, normalization=DATA.normalization),
        derive_seed(seed, "weights"),
    )
    torch.set_num_threads(1)
    train(
        network,
        DevicePart(DATA.train, CPU),
        Augmentation(flip=DATA.flip, cutout=8, mean=DATA.mean),
        TRAINING,
        RECIPE,
        torch.Generator().manual_seed(derive_seed(seed, "training")),
    )
    expected = network.state_dict()
    assert sum(name.startswith("auxiliary") for name in expected) == 14
    found = tensors(weights)
    assert found.keys() == {name for name in expected if not name.startswith("auxiliary")}
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


def test_what_is_kept_is_what_the_space_builds(weights: bytes) -> None:
    network = SPACE.build(DARTS, normalization=DATA.normalization)
    network.load_state_dict(tensors(weights))  # strict
    candidate = RETRAINING.candidate(DARTS, weights)
    assert not candidate.network.training
    assert candidate.cost == RETRAINING.cost(DARTS) == SPACE.cost(DARTS)
    assert candidate.cost == (count_params(candidate.network), count_macs(candidate.network))
    header = json.loads(weights[8 : 8 + int.from_bytes(weights[:8], "little")])
    about = json.loads(header["__metadata__"]["evonas"])
    assert (about["genome"], about["n_classes"]) == (DARTS.tolist(), 10)
    assert about["normalization"] == [list(DATA.mean), list(DATA.deviation)]
    assert about["space"] == {
        "name": "darts",
        "channels": 4,
        "layers": 3,
        "nodes": 4,
        "stem": "cifar",
        "image_size": 32,
    }


def test_it_repeats_itself_bit_for_bit(weights: bytes) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    assert RETRAINING.train(DARTS, ignore)[0] == weights
    assert torch.equal(torch.rand(3), expected)  # torch's own generator is left alone


def test_after_every_epoch_it_can_be_continued_bit_for_bit(weights: bytes, tmp_path: Path) -> None:
    def kept(reached: dict[str, Any]) -> None:
        torch.save(reached, tmp_path / f"{reached['epoch']}.pt")

    assert RETRAINING.train(DARTS, ignore, kept)[0] == weights
    for epoch in (1, 2):
        torch.manual_seed(epoch)
        begun = torch.load(tmp_path / f"{epoch}.pt", weights_only=True)
        assert RETRAINING.train(DARTS, ignore, None, begun)[0] == weights


@pytest.mark.parametrize(
    "changed",
    [
        {"seed": 4},
        {"cutout": 0},
        {"recipe": replace(RECIPE, drop_path=0.0)},
        {"recipe": replace(RECIPE, auxiliary_weight=0.0)},
        {"training": replace(TRAINING, lr=0.05)},
    ],
)
def test_every_part_of_the_recipe_is_asked(changed: dict[str, Any], weights: bytes) -> None:
    other = tensors(replace(RETRAINING, **changed).train(DARTS, ignore)[0])
    assert other.keys() == tensors(weights).keys()  # without an auxiliary head, too
    assert not torch.equal(other["classifier.weight"], tensors(weights)["classifier.weight"])


def test_whatever_changes_the_weights_changes_their_digest() -> None:
    changes: list[dict[str, Any]] = [
        {},
        {"seed": 4},
        {"cutout": 0},
        {"threads": 2},
        {"device": "cuda"},
        {"training": replace(TRAINING, epochs=3)},
        {"recipe": replace(RECIPE, drop_path=0.2)},
        {"recipe": replace(RECIPE, auxiliary_weight=0.0)},
        {"recipe": replace(RECIPE, label_smoothing=0.1)},
        {"space": replace(SPACE, channels=5)},
        {"space": replace(SPACE, layers=4)},
        {"data": load_data("digits", train_limit=50, val_limit=20)},
    ]
    assert len({digest(replace(RETRAINING, **each).identity()) for each in changes}) == len(changes)
    searched = replace(SPACE, crossover_kind="cell", crossover_rate=0.5, mutation_rate=0.3)
    assert digest(replace(RETRAINING, space=searched).identity()) == digest(RETRAINING.identity())


def attacked(network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, steps: int) -> torch.Tensor:
    """E2RNAS's PGD by its formula: from delta 0, steps of 5/255, clipped to 2/255 and to the pixel range."""
    delta = torch.zeros_like(images)
    for _ in range(steps):
        shown = (images + delta).requires_grad_()
        (gradient,) = torch.autograd.grad(functional.cross_entropy(network(shown), labels, reduction="sum"), shown)
        delta = (delta + 5 / 255 * gradient.sign()).clamp(-2 / 255, 2 / 255)
        delta = (images + delta).clamp(0, 1) - images
    return images + delta


def test_scores_are_those_of_test_images_alone(able: bytes, others: Dataset) -> None:
    """Counted again by hand: errors, the papers' PGD, sklearn's average precision over all the images."""
    from sklearn.metrics import average_precision_score

    told: list[Progress] = []
    attack = replace(CellScoring().attack, steps=3)
    scoring = CellScoring(attack=attack, others=others, test_limit=50, batch_size=50)
    found = scoring.score(RETRAINING, DARTS, able, told.append)
    network = RETRAINING.candidate(DARTS, able).network
    part = scoring.test_part(DATA, 3)
    images = (torch.from_numpy(part.images).float() / 255).to(memory_format=torch.channels_last)
    labels = torch.from_numpy(part.labels)
    perturbed = attacked(network, images, labels, 3)
    with torch.no_grad():
        clean, adversarial = network(images), network(perturbed)
        outside = network(torch.from_numpy(others.test.images).float() / 255)
    assert list(found) == ["clean_error", "pgd_error", "ood_aupr", "paper_flops"]
    assert found["clean_error"] == pytest.approx(float((clean.argmax(1) != labels).double().mean()), abs=1e-12)
    wrong = float((adversarial.argmax(1) != labels).double().mean())
    assert found["pgd_error"] == pytest.approx(wrong, abs=1e-12)
    assert 0.1 < found["clean_error"] < found["pgd_error"] < 1
    assert 0.11 < found["ood_aupr"] < 0.9  # neither last nor first all of them
    short = replace(attack, step_size=0.5 / 255)
    assert replace(scoring, attack=short).score(RETRAINING, DARTS, able, ignore)["pgd_error"] != found["pgd_error"]
    scores = -torch.cat([outside, clean]).softmax(1).amax(1)
    truth = [1] * 10 + [0] * 50
    assert found["ood_aupr"] == pytest.approx(average_precision_score(truth, scores.numpy()), abs=1e-9)
    assert found["paper_flops"] == paper_flops(SPACE.build(DARTS))
    assert (told[0].done, told[-1].done, told[-1].note) == (0, 50, "scoring ood_aupr")


def test_nothing_but_test_images_counts(able: bytes, others: Dataset) -> None:
    scoring = CellScoring(attack=PGD(steps=1), others=others, test_limit=30)
    blank = Part(np.zeros_like(DATA.validation.images), DATA.validation.labels)
    elsewhere = replace(RETRAINING, data=replace(DATA, validation=blank, adversarial=blank))
    more = replace(scoring, others=replace(others, train=blank, validation=blank))
    assert scoring.score(RETRAINING, DARTS, able, ignore) == more.score(elsewhere, DARTS, able, ignore)
    assert "ood_aupr" not in replace(scoring, others=None).score(RETRAINING, DARTS, able, ignore)


def test_the_last_iterate_counts_from_the_clean_image() -> None:
    attack = CellScoring().attack
    assert attack == PGD(epsilon=2 / 255, step_size=5 / 255, steps=10, random_start=False, stop_when_fooled=False)


def test_whatever_changes_the_scores_changes_their_digest(others: Dataset) -> None:
    scoring = CellScoring(others=others)
    fewer = replace(others, test=others.test.take(np.arange(9)))
    all_of_them = [
        scoring,
        replace(scoring, others=None),
        replace(scoring, others=fewer),
        replace(scoring, ratio=(1, 2)),
        replace(scoring, test_limit=30),
        replace(scoring, batch_size=10),
        replace(scoring, attack=PGD()),
    ]
    assert len({digest(each.identity()) for each in all_of_them}) == len(all_of_them)
    untested = replace(others, train=others.test)
    assert digest(replace(scoring, others=untested).identity()) == digest(scoring.identity())


def test_images_that_do_not_do_are_refused(others: Dataset) -> None:
    scoring = CellScoring(others=others)
    with pytest.raises(DataError, match="at least one image a class"):
        replace(scoring, test_limit=9).test_part(DATA, 3)
    with pytest.raises(DataError, match="got its own"):
        replace(scoring, others=DATA).ood_aupr(DATA, 3)
    with pytest.raises(DataError, match="expected at least 1 OoD and 5 validation images"):
        replace(scoring, others=replace(others, test=others.test.take(np.arange(0)))).ood_aupr(DATA, 3)
    small = Part(others.test.images[:, :, ::2, ::2], others.test.labels)
    with pytest.raises(DataError, match="of the shape of the data's own"):
        replace(scoring, others=replace(others, test=small)).ood_aupr(DATA, 3)


def test_a_network_that_is_broken_has_no_score(weights: bytes) -> None:
    broken = safetensors.torch.save({name: value * float("nan") for name, value in tensors(weights).items()})
    with pytest.raises(DivergedError, match="not finite"):
        CellScoring(test_limit=10).score(RETRAINING, DARTS, broken, ignore)


EVALUATED = DartsSpace()
"""DARTS's evaluation: 20 cells."""


def genome(name: str) -> Genome:
    return EVALUATED.from_genotype(GENOTYPES[name])


@pytest.mark.parametrize(
    ("params", "n_classes", "channels"),
    [
        (3.349e6, 10, 36),
        (2.061e6, 10, 28),
        (1.083e6, 10, 20),
        (0.416e6, 10, 12),
        (3.401e6, 100, 36),
        (3.047e6, 100, 34),
        (1.960e6, 100, 27),
        (1.010e6, 100, 19),
    ],
)
def test_widths_of_e2rnas_tables_follow_from_their_parameters(params: float, n_classes: int, channels: int) -> None:
    """Tables 1 and 2 of the first version."""
    assert width_for(EVALUATED, genome("DARTS_V2"), n_classes, params) == channels


def test_the_nearest_width_is_taken_and_of_two_the_smaller() -> None:
    counts = {channels: SPACE.cost(DARTS, 10, channels).params for channels in range(1, 9)}
    for channels in range(1, 8):
        narrow, wide = counts[channels], counts[channels + 1]
        assert width_for(SPACE, DARTS, 10, narrow) == channels
        assert width_for(SPACE, DARTS, 10, (narrow + wide) / 2) == channels  # as near
        assert width_for(SPACE, DARTS, 10, (narrow + wide) / 2 + 0.5) == channels + 1
        assert width_for(SPACE, DARTS, 10, (narrow + wide) / 2 - 0.5) == channels
    assert width_for(SPACE, DARTS, 10, 1) == 1
    assert count_params(SPACE.build(DARTS, channels=width_for(SPACE, DARTS, 10, 1e5))) == pytest.approx(1e5, rel=0.1)


def test_the_stem_of_imagenet_has_even_widths() -> None:
    large = DartsSpace(channels=48, layers=14, stem="imagenet", image_size=224)
    cells = large.from_genotype(GENOTYPES["DARTS_V2"])
    assert width_for(large, cells, 1000, large.cost(cells, 1000, 48).params) == 48
    assert width_for(large, cells, 1000, 1) == 2


@pytest.mark.parametrize("params", [0, -1, float("nan"), float("inf"), 1e13])
def test_what_is_no_number_of_parameters_is_refused(params: float) -> None:
    with pytest.raises(ConfigurationError, match="expected a number of parameters > 0"):
        width_for(SPACE, DARTS, 10, params)
