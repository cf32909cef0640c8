"""Objectives measured at rungs: the same values as without, and nothing after the end."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from evonas.attacks import PGD
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, StoppedEarly
from evonas.evaluation import Evaluator, TableError, TrainFromScratch, check_early_stop, rungs
from evonas.executors import ignore
from evonas.objectives import OBJECTIVES, CleanError, Macs, PGDError, Timed
from evonas.objectives.objective import Candidate
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
CHAIN = SPACE.designs()["chain"]
RANDOM = PGDError(attack=PGD(steps=1, random_start=True), images=20)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return load_data("digits", train_limit=60, val_limit=50)


@dataclass
class Told:
    """Remembers what it is told; ends the training at one rung."""

    end: int | None = None

    def __post_init__(self) -> None:
        self.rungs: dict[int, Mapping[str, float]] = {}

    def __call__(self, epoch: int, epochs: int, values: Mapping[str, float]) -> None:
        assert epochs == 4
        self.rungs[epoch] = dict(values)
        if epoch == self.end:
            raise StoppedEarly("enough")


def evaluate(data: Dataset, *objectives: Any, **given: Any) -> Any:
    config = TrainingConfig(epochs=4, batch_size=30, precision="fp32", **given)
    return Evaluator(TrainFromScratch(SPACE, data, config), objectives, threads=1).make_evaluate(ignore)


def test_rungs() -> None:
    assert [rungs(epochs) for epochs in (0, 1, 2, 3, 4, 25)] == [
        (),
        (),
        (1,),
        (1, 2),
        (1, 2, 3),
        (4, 7, 10, 13, 16, 19, 22),
    ]


@pytest.mark.lengthy
@pytest.mark.parametrize("average", ["none", "ema", "swa"])
def test_a_finished_training_is_that_without_rungs(data: Dataset, average: str) -> None:
    """Bit for bit, random attacks too; the values stand in the same order."""
    both = evaluate(data, RANDOM, CleanError(), Macs(), average=average, average_from=0.5)
    told = Told()
    plain, staged = both(CHAIN, 3), both(CHAIN, 3, told)
    assert [*staged.objectives.items()] == [*plain.objectives.items()]
    assert [*told.rungs] == [1, 2, 3, 4]
    cost = {"macs": plain.objectives["macs"], "params": plain.objectives["params"]}
    assert all(values == {**cost, "clean_error": values["clean_error"]} for values in told.rungs.values())
    assert told.rungs[4]["clean_error"] == plain.objectives["clean_error"]


@pytest.mark.lengthy
def test_what_is_stopped_keeps_what_is_final(data: Dataset) -> None:
    measured: list[str] = []

    @dataclass(frozen=True, kw_only=True)
    class Counted(PGDError):
        def __call__(self, candidate: Candidate) -> dict[str, float]:
            measured.append("attack")
            return super().__call__(candidate)

    attacked = evaluate(data, CleanError(), Counted(attack=RANDOM.attack, images=20))
    cost = dict(zip(("params", "macs"), SPACE.cost(CHAIN), strict=True))
    found = attacked(CHAIN, 3, Told(end=2))
    assert (found.status, found.reason, found.objectives, found.seed) == ("stopped", "enough", cost, 3)
    assert found.seconds > 0
    end = Told(end=4)
    found = attacked(CHAIN, 3, end)
    assert found.objectives == {**cost, "clean_error": end.rungs[4]["clean_error"]}
    assert measured == []
    assert attacked(CHAIN, 3, Told()).ok
    assert measured == ["attack"]


@pytest.mark.lengthy
def test_the_clean_error_stands_in_where_only_attacks_are_searched(data: Dataset) -> None:
    told = Told()
    found = evaluate(data, RANDOM)(CHAIN, 3, told)
    assert "clean_error" not in found.objectives
    assert all("clean_error" in values and "pgd_error" not in values for values in told.rungs.values())


@pytest.mark.lengthy
def test_a_failure_between_rungs_is_a_failure(data: Dataset) -> None:
    told = Told()
    found = evaluate(data, CleanError(), lr=1e30, grad_clip=1e30)(CHAIN, 3, told)
    assert found.status == "failed"
    assert "diverged" in found.reason


def test_without_anything_to_stop_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="at least 2 epochs with early_stop"):
        check_early_stop(1, (CleanError(), Macs()))
    with pytest.raises(ConfigurationError, match="got no training and clean_error"):
        check_early_stop(None, (CleanError(),))
    check_early_stop(2, (CleanError(),))
    check_early_stop(None, (CleanError(), PGDError()))  # inherited weights: before the attacks
    looked_up: list[Any] = [TableError("clean_error", Any)]  # type: ignore[arg-type]
    timed: list[Any] = [Timed(CleanError()), Timed(PGDError())]
    with pytest.raises(ConfigurationError, match="got 1 epoch and clean_error"):
        check_early_stop(1, timed[:1])
    check_early_stop(1, timed)
    with pytest.raises(ConfigurationError, match="got no training and clean_error"):
        check_early_stop(None, looked_up)
    stages = {name: getattr(kind, "stage", "end") for name, kind in OBJECTIVES.items()}
    assert {name for name, stage in stages.items() if stage == "before"} == {"params", "macs", "flops", "latency_ms"}
    assert {name for name, stage in stages.items() if stage == "rungs"} == {"clean_error", "adversarial_set_error"}
