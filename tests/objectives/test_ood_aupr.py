"""Average precision of telling images of another data set from one's own: exact values, counts, refusals."""

import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.data import Dataset, DeviceData, Part, load_data
from evonas.errors import ConfigurationError, DataError, DivergedError
from evonas.objectives import Candidate, OodAupr, OodImages
from evonas.objectives.ood_aupr import average_precision
from evonas.spaces import PhaseSpace

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
GENOME = SPACE.designs()["chain"]


class Confident(nn.Module):
    """Two logits (a, 0): the confidence is sigmoid(a), with a from the first pixel by a list."""

    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        values = (images[:, 0, 0, 0] * 255).round().long()
        self.seen += values.tolist()
        chosen = self.logits[values]
        return torch.stack([chosen, torch.zeros_like(chosen)], dim=1)


def images(*values: int, size: int = 4) -> Any:
    """One (3, size, size) image for each value of its pixels."""
    return np.tile(np.array(values, dtype=np.uint8)[:, None, None, None], (1, 3, size, size))


def dataset(validation: Any, name: str = "own") -> Dataset:
    part, empty = (Part(each, np.zeros(len(each), dtype=np.int64)) for each in (validation, validation[:0]))
    return Dataset(name, 2, empty, part, empty, empty, (0.5,) * 3, (0.5,) * 3, flip=False)


def candidate(network: nn.Module, *validation: int) -> Candidate:
    data = DeviceData(dataset(images(*validation)), torch.device("cpu"))
    return Candidate(network, GENOME, SPACE, data, SPACE.cost(GENOME), torch.Generator())


def test_average_precision_with_ties_by_hand() -> None:
    """Four of each. At 0: 2 OoD, 1 own: precision 2/3, recall 2/4. At 1: 3 and 3. At 2: 4 and 4.

    2/4 * 2/3 + 1/4 * 3/6 + 1/4 * 4/8 = 7/12; by trapezoids it would be 29/48 or more, in any order of ties another.
    """
    network = Confident(0.0, 1.0, 2.0)
    ood = OodImages("noise", images(0, 0, 1, 2))
    for batch_size in (1, 3, 500):
        objective = OodAupr(ood, ratio=(1, 1), batch_size=batch_size)
        assert objective(candidate(network, 0, 1, 1, 2)) == {"ood_aupr": pytest.approx(7 / 12, abs=1e-15)}


@pytest.mark.parametrize(
    ("ood", "own", "expected"),
    [
        ((0, 0), (2,) * 10, 1.0),  # less sure of every OoD image than of any own one
        ((1, 1), (1,) * 10, 1 / 6),  # a network that is always as sure: the share of OoD images
        ((2, 2), (0,) * 10, 1 / 6),  # all own images come before: precision 2/12 where recall is gained
        ((0, 2), (1,) * 10, 0.5 + 0.5 * 2 / 12),
    ],
)
def test_one_to_five_unless_told_otherwise(ood: tuple[int, ...], own: tuple[int, ...], expected: float) -> None:
    found = OodAupr(OodImages("noise", images(*ood)))(candidate(Confident(0.0, 1.0, 2.0), *own))
    assert found == {"ood_aupr": pytest.approx(expected, abs=1e-15)}


def test_only_the_largest_probability_counts() -> None:
    """Logits (-3, 0) are as sure as (3, 0), and surer than (1, 0)."""
    found = OodAupr(OodImages("noise", images(0)), ratio=(1, 2))(candidate(Confident(-3.0, 3.0, 1.0), 1, 2))
    assert found["ood_aupr"] == pytest.approx(1 / 3)


def test_confidence_that_float32_calls_one_is_a_tie() -> None:
    """Sigmoid of 30 and of 40 are both 1 in float32, as the papers' code has them."""
    found = OodAupr(OodImages("noise", images(0)), ratio=(1, 1))(candidate(Confident(30.0, 40.0), 1))
    assert found == {"ood_aupr": 0.5}


@pytest.mark.parametrize(
    ("available", "validation", "limit", "ratio", "counts"),
    [
        (26032, 10000, None, (1, 5), (2000, 10000)),  # Outlier Exposure: a fifth as many
        (5000, 253, None, (1, 5), (50, 250)),
        (3, 253, None, (1, 5), (3, 15)),  # too few OoD images: fewer of both
        (5000, 10000, 100, (1, 5), (20, 100)),
        (5000, 7, 100, (1, 5), (1, 5)),
        (30, 10, None, (5, 2), (25, 10)),
        (24, 10, None, (5, 2), (20, 8)),
    ],
)
def test_counts_keep_the_ratio(
    available: int, validation: int, limit: int | None, ratio: tuple[int, int], counts: tuple[int, int]
) -> None:
    objective = OodAupr(OodImages("noise", np.zeros((available, 3, 1, 1), dtype=np.uint8)), ratio, limit)
    assert objective.counts(validation) == counts


def test_the_same_images_for_every_candidate_and_others_for_another_seed() -> None:
    ood, own = images(*range(40)), tuple(range(40, 140))
    logits = [float(value) for value in range(140)]

    def looked_at(objective: OodAupr) -> list[int]:
        network = Confident(*logits)
        one = candidate(network, *own)
        objective(one)
        return network.seen

    objective = OodAupr(OodImages("noise", ood), images=50)
    first = looked_at(objective)
    assert first == looked_at(objective) == looked_at(pickle.loads(pickle.dumps(objective)))
    assert len(set(first)) == len(first) == 60
    assert (sum(value < 40 for value in first), sum(value >= 40 for value in first)) == (10, 50)
    other = looked_at(replace(objective, seed=1))
    assert len(other) == 60
    assert sorted(other) != sorted(first)


def test_of_takes_the_validation_parts_and_holds_no_more_than_it_uses() -> None:
    data, ood = dataset(images(*range(100))), dataset(images(*range(100, 180)), "noise")
    objective = OodAupr.of(ood, data)
    assert objective.images == 100
    assert len(objective.ood) == 20
    assert set(objective.ood.images[:, 0, 0, 0].tolist()) <= set(range(100, 180))
    assert objective == OodAupr.of(ood, data)
    assert objective != OodAupr.of(ood, data, seed=1)
    (column,) = objective.columns(SPACE, 10)
    assert column.maximize
    assert column.reference == 0.0
    assert column.about == "average precision, noise to own 20:100"
    assert column.metadata == {
        "ood": "noise",
        "fingerprint": objective.ood.fingerprint,
        "score": "-max softmax",
        "ratio": [1, 5],
        "ood_images": 20,
        "images": 100,
        "seed": 0,
        "maximize": True,
    }
    network = Confident(*map(float, range(180)))
    device_data = DeviceData(data, torch.device("cpu"))
    objective(Candidate(network, GENOME, SPACE, device_data, SPACE.cost(GENOME), torch.Generator()))
    assert sorted(network.seen) == sorted([*range(100), *objective.ood.images[:, 0, 0, 0].tolist()])


def test_a_column_that_was_not_told_how_many_says_the_ratio() -> None:
    (column,) = OodAupr(OodImages("noise", images(1))).columns(SPACE, 10)
    assert column.about == "average precision, noise to own 1:5"
    assert (column.metadata["ood_images"], column.metadata["images"]) == (None, None)


def test_images_compare_by_what_they_show() -> None:
    one = OodImages("noise", images(1, 2))
    assert one == OodImages("noise", images(1, 2))
    assert hash(one) == hash(OodImages("noise", images(1, 2)))
    assert one != OodImages("noise", images(2, 1))
    assert one != OodImages("other", images(1, 2))
    assert one != OodImages("noise", images(1, 2, size=8))
    assert one != "noise"


@pytest.mark.parametrize("logit", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_no_score(logit: float) -> None:
    objective = OodAupr(OodImages("noise", images(0)), ratio=(1, 1))
    for network in (Confident(logit, 0.0), Confident(0.0, logit)):
        with pytest.raises(DivergedError, match="not finite"):
            objective(candidate(network, 1))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"ratio": (0, 5)}, "expected a ratio of two numbers >= 1"),
        ({"ratio": (1, 2, 3)}, "expected a ratio of two numbers >= 1"),
        ({"batch_size": 0}, "expected batch_size and images >= 1"),
        ({"images": 0}, "expected batch_size and images >= 1"),
    ],
)
def test_senseless_settings_are_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        OodAupr(OodImages("noise", images(1)), **arguments)


def test_too_few_images_of_either_are_refused() -> None:
    with pytest.raises(DataError, match="expected at least 1 OoD and 5 validation images for ood_aupr, got 0 of noise"):
        OodAupr(OodImages("noise", images()))
    with pytest.raises(DataError, match="got 3 of noise and 4"):
        OodAupr(OodImages("noise", images(1, 2, 3)), images=4)
    with pytest.raises(DataError, match="got 1 of noise and 4"):
        OodAupr(OodImages("noise", images(0)))(candidate(Confident(0.0), 0, 0, 0, 0))


def test_what_is_no_other_data_set_is_refused() -> None:
    data = load_data("digits", val_limit=50)
    with pytest.raises(DataError, match="another data set than digits, got its own"):
        OodAupr.of(data, data)
    small = dataset(images(*range(20)), "small")
    with pytest.raises(DataError, match=r"expected OoD images of the shape of the data's own, \(3, 32, 32\), got"):
        OodAupr.of(small, data)
    with pytest.raises(DataError, match="expected OoD images of the shape"):
        OodAupr(OodImages("noise", images(0, size=8)))(candidate(Confident(0.0), *[0] * 5))
    for wrong in (images(1).astype(np.float32), images(1)[0]):
        with pytest.raises(DataError, match="uint8 images"):
            OodImages("noise", wrong)


def test_it_is_the_area_of_steps_over_random_scores() -> None:
    """Literally: sort, walk down the thresholds, add what recall gained times the precision there."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        positive, negative = rng.integers(6, size=rng.integers(1, 9)), rng.integers(6, size=rng.integers(1, 9))
        expected, before = 0.0, 0.0
        for threshold in range(5, -1, -1):
            true, false = (positive >= threshold).sum(), (negative >= threshold).sum()
            if true + false:
                expected += (true / len(positive) - before) * true / (true + false)
                before = true / len(positive)
        found = average_precision(torch.tensor(positive).float(), torch.tensor(negative).float())
        assert found == pytest.approx(expected, abs=1e-12)
