"""What every measurement of the table must do; a new one is tested by its line there."""

import importlib.util
import json
import math
import pickle
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pytest
import safetensors.torch
import torch

from evonas.audit import (
    CLEAN,
    MEASUREMENTS,
    AdversarialSetShare,
    FinalTraining,
    Measurement,
    OodPrecision,
    measurements,
    require_libraries,
)
from evonas.audit.corruptions import KINDS
from evonas.data import Dataset, load_data
from evonas.data.out_of_distribution import load_ood_data
from evonas.errors import ConfigurationError, DivergedError
from evonas.evaluation import recalibrate
from evonas.executors import ignore
from evonas.networks.blocks import seeded
from evonas.objectives import Candidate
from evonas.spaces import DartsSpace
from evonas.training import TrainingConfig
from evonas.types import Progress, arch_id

SPACE = DartsSpace(channels=4, layers=3, nodes=2)
CELLS = SPACE.canonical(SPACE.sample(1, np.random.default_rng(0))[0])
DIGITS = load_data("digits", train_limit=20, val_limit=20)
TRAINING = FinalTraining(
    space=SPACE, data=DIGITS, training=TrainingConfig(epochs=1, batch_size=10, precision="fp32"), seed=3
)

CHOSEN: dict[str, Measurement] = {
    "adversarial set": Measurement("adversarial_set_error", "Adversarial set", CLEAN.measure),
    "ood_aupr": Measurement("ood_aupr", "AUPR", OodPrecision(load_ood_data("noise", DIGITS), seed=0), maximize=True),
}
"""Those that methods make, since they need other images; the set comes from a fixture."""

LARGER_IS_BETTER = ("ood_aupr", "certified_")
"""What such columns begin with; of all others, errors and costs, less is better."""

LARGEST = {"share": 1.0, "pixels": math.inf, "count": math.inf}
"""Unit -> the largest value; none is below 0."""

LIBRARIES = {"foolbox", "pyautoattack"}

DEAR = {
    *("autoattack", "apgd_ce", "apgd_t", "fab_t", "square", "radius_linf", "radius_l2", "certified", "pixel"),
    *("smoothing_025", "certified_error"),
    *("autoattack_1", "threshold", "pgd50", "pgd100", "pgd20x5", "pgd50x5", "pgd100x5", "cw", "cw60", "gradient_check"),
}
"""They are tried on two test images, the others on eight."""

SEVERITIES = dict.fromkeys(KINDS, 5)
"""Name -> numbers that its column is the mean of."""

RIGHT = (1, 4)
"""Test images of which the network below is right, but not sure."""


def table() -> Iterator[Any]:
    """(name, number among those of the name) of every measurement."""
    for name in MEASUREMENTS:
        for number in range(len(MEASUREMENTS[name])):
            yield pytest.param(name, number, id=f"{name}-{number}" if number else name)
    for name in CHOSEN:
        yield pytest.param(name, 0, id=name)


@pytest.fixture
def entry(name: str, number: int, digits_set: Any) -> Measurement:
    """The measurement; a test is skipped where its library is not installed."""
    if name == "adversarial set":
        return replace(CHOSEN[name], measure=AdversarialSetShare(digits_set))
    found = CHOSEN[name] if name in CHOSEN else MEASUREMENTS[name][number]
    if found.library and importlib.util.find_spec(found.library) is None:
        pytest.skip(f"{found.library} is not installed")
    return found


@cache
def weights() -> bytes:
    """Random ones, with batch statistics of the images, so that answers differ and attacks change them."""
    network = seeded(lambda: SPACE.build(CELLS, 10, normalization=DIGITS.normalization), 3)
    recalibrate(network, [torch.from_numpy(DIGITS.train.images).float() / 255])
    return safetensors.torch.save(network.state_dict())


@pytest.fixture
def candidate() -> Candidate:
    """A tiny network that nothing has trained."""
    return TRAINING.candidate(CELLS, weights())


@pytest.fixture
def tested(name: str) -> Dataset:
    """The test images, as an audit shows them to measurements."""
    few = DIGITS.test.take(np.array(RIGHT) if name in DEAR else np.arange(8))
    return replace(DIGITS, train=few, validation=few)


class First(NamedTuple):
    """What a measurement gave when it was first called, and what it told."""

    values: dict[str, float]
    told: list[Progress]


@pytest.fixture(scope="module")
def called() -> dict[tuple[str, int], First]:
    return {}


@pytest.fixture
def first(name: str, number: int, entry: Measurement, tested: Dataset, called: dict[tuple[str, int], First]) -> First:
    """Measured once, where no library is installed but the one that it names."""
    if (name, number) not in called:
        told: list[Progress] = []
        with pytest.MonkeyPatch.context() as patch:
            for library in LIBRARIES - {entry.library}:
                patch.setitem(sys.modules, library, None)  # importing it fails, as where it is not installed
            values = entry.measure(TRAINING.candidate(CELLS, weights()), tested, 5, told.append)
        called[name, number] = First(values, told)
    return called[name, number]


@pytest.mark.parametrize(("name", "number"), list(table()))
class TestMeasurement:
    @pytest.mark.lengthy
    def test_it_gives_finite_values_in_the_range_of_its_unit(
        self, name: str, entry: Measurement, tested: Dataset, first: First
    ) -> None:
        values = first.values
        assert next(iter(values)) == entry.column
        assert all(column.startswith(entry.column) for column in values)
        assert all(type(value) in (int, float) and math.isfinite(value) for value in values.values())
        assert all(0 <= value <= LARGEST[entry.unit] for value in values.values())
        assert entry.unit != "count" or all(value == int(value) for value in values.values())
        if entry.column.endswith("_error") and entry.column != "adversarial_set_error":
            part = tested.test if name == "clean_on_all" else tested.validation
            images = len(part) * SEVERITIES.get(name, 1)
            assert values[entry.column] * images == pytest.approx(round(values[entry.column] * images), abs=1e-9)

    @pytest.mark.lengthy
    def test_it_repeats_itself_and_leaves_the_network_as_it_was(
        self, entry: Measurement, candidate: Candidate, tested: Dataset, first: First
    ) -> None:
        before = {key: value.clone() for key, value in candidate.network.state_dict().items()}
        drawn = torch.get_rng_state()
        assert entry.measure(candidate, tested, 5, ignore) == first.values
        assert torch.equal(torch.get_rng_state(), drawn)  # chance comes from the candidate's generator alone
        assert not any(part.training for part in candidate.network.modules())
        assert all(torch.equal(before[key], value) for key, value in candidate.network.state_dict().items())
        assert all(p.grad is None and p.requires_grad for p in candidate.network.parameters())
        assert not [part for part in candidate.network.modules() if "forward" in vars(part)]

    @pytest.mark.lengthy
    def test_a_network_whose_logits_are_not_finite_has_no_value(
        self, entry: Measurement, candidate: Candidate, tested: Dataset
    ) -> None:
        if entry.unit == "count":
            pytest.skip("a cost does not depend on weights")
        with torch.no_grad():
            for parameter in candidate.network.parameters():
                parameter.fill_(float("nan"))
        with pytest.raises(DivergedError, match="not finite"):
            entry.measure(candidate, tested, 5, ignore)

    def test_its_identity_is_plain_and_of_this_measurement(self, entry: Measurement) -> None:
        identity = entry.identity()
        assert json.loads(json.dumps(identity, allow_nan=False)).keys() == identity.keys() == {"column", "measure"}
        assert replace(entry, label="another", note="another").identity() == identity
        assert replace(entry, column="another").identity() != identity

    def test_it_is_a_value_that_travels(self, entry: Measurement) -> None:
        assert pickle.loads(pickle.dumps(entry)) == entry

    def test_its_label_is_a_line_and_its_column_a_word(self, entry: Measurement) -> None:
        assert entry.label.strip() == entry.label != ""
        assert len(entry.label.splitlines()) == 1
        assert re.fullmatch(r"[a-z0-9_.]+", entry.column)
        assert len(entry.note.splitlines()) <= 1

    def test_its_direction_is_that_of_what_it_measures(self, entry: Measurement) -> None:
        assert entry.maximize == (entry.column.startswith(LARGER_IS_BETTER) and not entry.column.endswith("_error"))
        units = {"certified_radius": "pixels", "paper_flops": "count"}
        assert entry.unit == next((unit for kind, unit in units.items() if entry.column.startswith(kind)), "share")

    @pytest.mark.lengthy
    def test_what_is_told_is_how_far_it_is(self, entry: Measurement, first: First) -> None:
        assert all(0 <= each.done <= each.total and each.unit == "image" for each in first.told)
        assert all(each.key == arch_id(CELLS) and "scoring " in each.note for each in first.told)
        assert bool(first.told) == (entry.unit != "count")

    @pytest.mark.lengthy
    def test_a_library_that_it_needs_is_named(
        self, entry: Measurement, candidate: Candidate, tested: Dataset, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for library in LIBRARIES:
            monkeypatch.setitem(sys.modules, library, None)
        if not entry.library:
            require_libraries((entry,))
            return
        with pytest.raises(ConfigurationError, match=f"expected {entry.library} for .* is not installed"):
            require_libraries((entry,))
        with pytest.raises(ConfigurationError, match=entry.library):
            entry.measure(candidate, tested, 5, ignore)


def test_identities_differ_where_something_else_is_measured() -> None:
    """cw and cw60 are one attack under one name; nothing else is twice in the table."""
    entries = [entry for found in MEASUREMENTS.values() for entry in found] + [CHOSEN["ood_aupr"]]
    equal = [(a, b) for a, b in combinations(entries, 2) if a.identity() == b.identity()]
    assert [(a.column, b.column) for a, b in equal] == [("cw_error", "cw_error")]
    assert all(a.measure == b.measure for a, b in equal)
    assert len({entry.column for entry in entries}) == len(entries) - 1


def test_names_of_the_table_give_their_measurements_in_order() -> None:
    assert measurements(tuple(MEASUREMENTS)) == tuple(entry for found in MEASUREMENTS.values() for entry in found)
    assert all(found and re.fullmatch(r"[a-z0-9_]+", name) for name, found in MEASUREMENTS.items())
