"""What every objective of the table must do; a new one is tested by its line there."""

import json
import math
import pickle
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from latency_tables import measured

from evonas.adversarial_sets import AdversarialSet
from evonas.data import DeviceData, load_data
from evonas.objectives import OBJECTIVES, Candidate, Objective, OodImages
from evonas.parts import part_identity
from evonas.spaces import PhaseSpace
from evonas.types import EvaluationResult

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)


@pytest.fixture(scope="module")
def candidate() -> Candidate:
    data = DeviceData(load_data("digits", train_limit=50, val_limit=50), torch.device("cpu"))
    torch.manual_seed(0)
    genome = SPACE.designs()["chain"]
    network = SPACE.build(genome, normalization=data.normalization).eval()
    return Candidate(network, genome, SPACE, data, SPACE.cost(genome), torch.Generator().manual_seed(0))


@pytest.fixture
def objective(name: str, digits_set: AdversarialSet) -> Objective:
    return made(name, digits_set)


def made(name: str, adversarial_set: AdversarialSet) -> Objective:
    """With its defaults."""
    if name == "ood_aupr":
        noise = np.random.default_rng(0).integers(256, size=(12, 3, 32, 32)).astype(np.uint8)
        return OBJECTIVES[name](OodImages("noise", noise))
    if name == "latency_ms":
        return OBJECTIVES[name](measured(SPACE))
    return OBJECTIVES[name](adversarial_set) if name == "adversarial_set_error" else OBJECTIVES[name]()


@pytest.mark.parametrize("name", sorted(OBJECTIVES))
class TestObjective:
    def test_its_name_is_its_first_column(self, name: str, objective: Objective) -> None:
        assert objective.name == name == objective.columns(SPACE, 10)[0].name

    @pytest.mark.lengthy
    def test_it_gives_exactly_its_columns_with_finite_plain_numbers(
        self, objective: Objective, candidate: Candidate
    ) -> None:
        values = objective(candidate)
        assert list(values) == [column.name for column in objective.columns(SPACE, 10)]
        assert all(type(value) in (int, float) and math.isfinite(value) for value in values.values())

    @pytest.mark.lengthy
    def test_its_reference_is_no_better_than_what_it_gives(self, objective: Objective, candidate: Candidate) -> None:
        values = objective(candidate)
        for column in objective.columns(SPACE, 10):
            sign = -1 if column.maximize else 1
            assert sign * values[column.name] <= sign * column.reference

    @pytest.mark.lengthy
    def test_it_repeats_itself_and_leaves_the_network_as_it_was(
        self, objective: Objective, candidate: Candidate
    ) -> None:
        before = {key: value.clone() for key, value in candidate.network.state_dict().items()}
        first = objective(candidate)
        candidate.generator.manual_seed(0)
        assert objective(candidate) == first
        assert not candidate.network.training
        assert all(torch.equal(before[key], value) for key, value in candidate.network.state_dict().items())
        assert all(p.grad is None for p in candidate.network.parameters())

    def test_it_is_a_value_that_travels(self, name: str, objective: Objective, digits_set: AdversarialSet) -> None:
        assert pickle.loads(pickle.dumps(objective)) == objective == made(name, digits_set)
        assert hash(objective) == hash(made(name, digits_set))

    def test_its_identity_is_plain_and_tells_it_from_another(
        self, name: str, objective: Objective, digits_set: AdversarialSet
    ) -> None:
        """It goes into config.json and the journal: a run is not continued with another objective."""
        identity = part_identity(objective)
        assert identity == part_identity(made(name, digits_set))
        assert json.loads(json.dumps(identity, allow_nan=False)).keys() == identity.keys()
        other: Any = objective
        if hasattr(objective, "batch_size"):
            assert part_identity(replace(other, batch_size=other.batch_size + 1)) != identity

    def test_what_it_says_of_its_columns_is_plain(self, objective: Objective) -> None:
        """It goes into config.json and under a picture's axis."""
        for column in objective.columns(SPACE, 10):
            assert json.loads(json.dumps(column.metadata, allow_nan=False)) == column.metadata
            assert "\n" not in column.about
            assert len(column.about) <= 60

    @pytest.mark.lengthy
    def test_it_draws_from_its_own_generator_alone(self, objective: Objective, candidate: Candidate) -> None:
        before = torch.get_rng_state()
        objective(candidate)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.lengthy
    def test_its_values_fit_a_result(self, objective: Objective, candidate: Candidate) -> None:
        values = objective(candidate)
        assert EvaluationResult(tuple(np.array(candidate.genome)), values).objectives == values
