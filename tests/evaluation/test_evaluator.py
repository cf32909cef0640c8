"""From genome and seed to a result: what it depends on, and what happens when something breaks."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from evonas.data import Dataset, load_data
from evonas.evaluation import Evaluator, TrainFromScratch
from evonas.executors import ignore
from evonas.objectives import Candidate, CleanError, Column, CostedSpace, Macs
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig
from evonas.types import Progress, arch_id

pytestmark = pytest.mark.lengthy

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
CHAIN = SPACE.designs()["chain"]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", train_limit=60, val_limit=50)


def evaluator(data: Dataset, *objectives: Any, **training: Any) -> Evaluator:
    config = TrainingConfig(**{"epochs": 1, "batch_size": 30, "precision": "fp32", **training})
    return Evaluator(TrainFromScratch(SPACE, data, config), objectives or (CleanError(), Macs()), threads=1)


def test_a_result_holds_all_that_was_measured(data: Dataset) -> None:
    result = evaluator(data, CleanError()).make_evaluate(ignore)(CHAIN, 7)
    assert result.ok
    assert result.genome == tuple(CHAIN)
    assert result.seed == 7
    assert result.seconds > 0
    assert list(result.objectives) == ["clean_error", "params", "macs"]
    assert (result.objectives["params"], result.objectives["macs"]) == SPACE.cost(CHAIN)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_seed_alone_decides_whatever_was_evaluated_before(data: Dataset, precision: str) -> None:
    evaluate = evaluator(data, lr=0.1, precision=precision).make_evaluate(ignore)
    first = evaluate(CHAIN, 1)
    torch.manual_seed(12345)  # torch's own generator plays no part
    evaluate(SPACE.designs()["dense"], 2)
    assert evaluate(CHAIN, 1).objectives == first.objectives
    again = evaluator(data, lr=0.1, precision=precision).make_evaluate(ignore)
    assert again(CHAIN, 1).objectives == first.objectives


def test_torch_own_generator_is_left_alone(data: Dataset) -> None:
    evaluate = evaluator(data).make_evaluate(ignore)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    evaluate(CHAIN, 1)
    assert torch.equal(torch.rand(3), expected)


def test_threads_are_set_in_the_worker(data: Dataset) -> None:
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        evaluator(data).make_evaluate(ignore)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)


@dataclass(frozen=True)
class Broken:
    """An objective that gives this value, or raises it."""

    value: float | Exception
    name: ClassVar[str] = "broken"

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column("broken", 1.0),)

    def __call__(self, candidate: Candidate) -> Mapping[str, float]:
        if isinstance(self.value, Exception):
            raise self.value
        return {"broken": self.value}


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (float("nan"), "broken is nan"),
        (float("inf"), "broken is inf"),
        (RuntimeError("out of\nmemory"), "RuntimeError: out of memory"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_whatever_breaks_is_a_failed_result_with_one_line(data: Dataset, value: float, reason: str) -> None:
    result = evaluator(data, Broken(value)).make_evaluate(ignore)(CHAIN, 3)
    assert (result.status, result.reason, result.objectives, result.seed) == ("failed", reason, {}, 3)


def test_training_that_diverges_is_a_failed_result(data: Dataset) -> None:
    result = evaluator(data, lr=1e30, grad_clip=1e30).make_evaluate(ignore)(CHAIN, 3)
    assert result.status == "failed"
    assert "diverged" in result.reason
    assert "\n" not in result.reason


def test_a_genome_of_another_space_is_a_failed_result(data: Dataset) -> None:
    result = evaluator(data).make_evaluate(ignore)(np.ones(5, dtype=np.int64), 3)
    assert result.status == "failed"
    assert "expected a genome of shape" in result.reason


def test_an_interrupt_is_never_a_result(data: Dataset) -> None:
    @dataclass(frozen=True)
    class Interrupts(Broken):
        value: float = 0.0

        def __call__(self, candidate: Candidate) -> Mapping[str, float]:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluator(data, Interrupts()).make_evaluate(ignore)(CHAIN, 3)


def test_progress_is_reported_in_steps(data: Dataset) -> None:
    told: list[Progress] = []
    config = TrainingConfig(epochs=40, batch_size=6, precision="fp32")
    Evaluator(TrainFromScratch(SPACE, data, config), (CleanError(),), 1).make_evaluate(told.append)(CHAIN, 1)
    assert told
    assert all(p.key == arch_id(CHAIN) and 0 < p.done <= p.total == 400 and p.note for p in told)


def test_candidates_never_see_the_test_part(data: Dataset) -> None:
    seen: list[Candidate] = []

    @dataclass(frozen=True)
    class Spy(Broken):
        value: float = 0.5

        def __call__(self, candidate: Candidate) -> Mapping[str, float]:
            seen.append(candidate)
            return {"broken": 0.5}

    evaluator(data, Spy()).make_evaluate(ignore)(CHAIN, 1)
    assert not hasattr(seen[0].data, "test")
    assert len(seen[0].data.validation) == 50
    assert seen[0].device == torch.device("cpu")
