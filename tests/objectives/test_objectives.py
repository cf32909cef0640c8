"""Exact values of the objectives."""

from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.data import DeviceData, load_data
from evonas.errors import ConfigurationError, DivergedError
from evonas.objectives import Candidate, CleanError, Macs, Params
from evonas.spaces import PhaseSpace

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)


class Constant(nn.Module):
    """Always the same class, or not a number."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        assert float(images.min()) >= 0
        assert float(images.max()) <= 1
        return self.logits.expand(len(images), -1)


def candidate(network: nn.Module) -> Candidate:
    data = DeviceData(load_data("digits", val_limit=100), torch.device("cpu"))
    genome = SPACE.designs()["dense"]
    return Candidate(network, genome, SPACE, data, SPACE.cost(genome), torch.Generator())


@pytest.mark.parametrize("batch_size", [1, 7, 100, 500])
def test_clean_error_counts_every_validation_image_once(batch_size: int) -> None:
    """100 digits, 10 of each class: always answering 3 is wrong 90 times."""
    always_three = Constant([0, 0, 0, 1, 0, 0, 0, 0, 0, 0])
    assert CleanError(batch_size=batch_size)(candidate(always_three)) == {"clean_error": 0.9}


def test_clean_error_of_the_true_labels_is_zero() -> None:
    one = candidate(Constant([0.0]))
    labels = iter(one.data.validation.labels.split(30))

    class Oracle(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return nn.functional.one_hot(next(labels), 10).float()

    found = CleanError(batch_size=30)(Candidate(Oracle(), one.genome, SPACE, one.data, one.cost, one.generator))
    assert found == {"clean_error": 0.0}


def test_logits_that_are_not_finite_are_no_score() -> None:
    with pytest.raises(DivergedError, match="not finite"):
        CleanError()(candidate(Constant([float("nan")] * 10)))


def test_costs_are_the_spaces_own() -> None:
    one = candidate(Constant([0.0]))
    assert Macs()(one) == {"macs": one.cost.macs}
    assert Params()(one) == {"params": one.cost.params}
    network = SPACE.build(one.genome)
    assert one.cost.params == sum(p.numel() for p in network.parameters())


def test_references_are_the_worst_of_the_space() -> None:
    worst = SPACE.max_cost(10)
    assert Macs().columns(SPACE, 10)[0].reference == worst.macs
    assert Params().columns(SPACE, 10)[0].reference == worst.params
    assert CleanError().columns(SPACE, 10)[0].reference == 1.0
    assert not any(part.columns(SPACE, 10)[0].maximize for part in (CleanError(), Macs(), Params()))


def test_a_batch_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="batch_size"):
        CleanError(batch_size=cast(Any, np.int64(0)))
