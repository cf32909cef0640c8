"""The names that other people's scripts use: they exist, and are called as they were."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch

import evonas
from evonas import search
from evonas.attacks import ATTACKS, BIM, FGSM, PGD
from evonas.costs import CostTable, count_macs, count_params
from evonas.executors import EXECUTORS, Job, LocalExecutor, Outcome, ProcessExecutor, RayExecutor, run_jobs
from evonas.objectives import OBJECTIVES
from evonas.search import (
    EvolutionConfig,
    Journal,
    NASProblem,
    SearchState,
    evolve,
    hypervolume,
    non_dominated,
    score,
)
from evonas.spaces import SPACES, PhaseSpace
from evonas.types import EvaluationResult

MODULES = ["evonas", *sorted(module.name for module in pkgutil.walk_packages(evonas.__path__, "evonas."))]
REQUIRED = inspect.Parameter.empty
ALSO_THERE = {("evonas.search", "LocalExecutor")}
"""Names of another room that scripts take from this one, too."""


def order(name: str) -> tuple[int, list[tuple[int, int, str]]]:
    """Constants, then classes, then the others; each with the numbers in them compared as numbers."""
    kind = 0 if len(name) > 1 and name.isupper() else 1 if name[:1].isupper() else 2
    parts = re.findall(r"\d+|\D+", name)
    return kind, [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


def parameters(function: Callable[..., Any]) -> dict[str, Any]:
    """Name -> default, in order; `REQUIRED` where there is none. Without self."""
    found = inspect.signature(function).parameters.items()
    return {name: parameter.default for name, parameter in found if name != "self"}


def first(function: Callable[..., Any], n: int) -> list[tuple[str, Any]]:
    return list(parameters(function).items())[:n]


def test_the_order_of_names() -> None:
    names = ["unseal", "Block10", "as_genome", "PGD", "X", "block", "Block2", "ALGORITHMS", "Block"]
    ordered = ["ALGORITHMS", "PGD", "Block", "Block2", "Block10", "X", "as_genome", "block", "unseal"]
    assert sorted(names, key=order) == ordered


@pytest.mark.parametrize("name", MODULES)
def test_all_is_sorted_and_true(name: str) -> None:
    module = importlib.import_module(name)
    names = module.__all__
    assert list(names) == sorted(set(names), key=order)
    assert [each for each in names if not hasattr(module, each)] == []
    assert [each for each in names if each.startswith("_") and each != "__version__"] == []


@pytest.mark.parametrize("name", [name for name in MODULES if name.count(".") == 1])
def test_a_room_names_what_it_takes_from_its_files(name: str) -> None:
    """A room's own names are those of its files, under the same name."""
    module = importlib.import_module(name)
    for each in module.__all__:
        part = getattr(module, each)
        origin = getattr(part, "__module__", name)
        if (inspect.isclass(part) or inspect.isfunction(part)) and (name, each) not in ALSO_THERE:
            assert origin == name or origin.startswith(f"{name}."), f"{name}.{each} is {origin}'s"


def test_evaluation_result() -> None:
    assert [field.name for field in fields(EvaluationResult)] == [
        "genome",
        "objectives",
        "status",
        "reason",
        "seed",
        "seconds",
        "curve",
    ]
    result = EvaluationResult((1, 0), {"macs": 3.0}, "ok", "", 7, 1.5)
    assert (result.genome, result.objectives, result.status) == ((1, 0), {"macs": 3.0}, "ok")
    assert (result.reason, result.seed, result.seconds) == ("", 7, 1.5)
    assert EvaluationResult((1, 0), {"macs": 3.0}).status == "ok"


def test_phase_space() -> None:
    space = PhaseSpace(phases=3, nodes=6)
    assert SPACES["phase"] is PhaseSpace
    assert (space.n_genes, space.name) == (48, "phase")
    assert space.upper.tolist() == [1] * 48
    assert list(parameters(space.sample)) == ["n", "rng"]
    assert list(parameters(space.crossover)) == ["a", "b", "rng"]
    assert len(parameters(space.mutate)) == 2
    assert len(parameters(space.violation)) == len(parameters(space.canonical)) == len(parameters(space.describe)) == 1
    assert list(parameters(space.build).items())[1:] == [
        ("n_classes", 10),
        ("channels", None),
        ("in_channels", 3),
        ("normalization", None),
    ]
    assert list(parameters(space.cost))[1:] == ["n_classes", "channels", "in_channels", "image_size"]
    genome = space.sample(2, np.random.default_rng(0))[1]
    assert space.cost(genome) == space.cost(genome, n_classes=10, channels=None, in_channels=3, image_size=32)
    assert space.cost(genome)._fields == ("params", "macs")
    assert PhaseSpace.from_lists(space.to_lists(genome)).tolist() == genome.tolist()
    assert isinstance(space.describe(genome), str)
    assert isinstance(space.build(genome), torch.nn.Module)


@pytest.mark.lengthy
def test_costs() -> None:
    assert first(count_params, 1)[0][1] is REQUIRED
    layer = torch.nn.Linear(3, 2)
    assert count_params(layer) == 8
    convolution = torch.nn.Conv2d(3, 4, 1)
    assert count_macs(convolution, (3, 32, 32)) == 3 * 4 * 32 * 32
    table = CostTable([[1, 2], [10, 20]])
    assert table.of([1, 0]) == 12
    expected = table.expected(torch.tensor([[0.5, 0.5], [1.0, 0.0]]))
    assert expected.shape == ()
    assert float(expected) == 11.5


def test_tables() -> None:
    assert {"adversarial_set_error", "clean_error", "fgsm_error", "macs", "params", "pgd_error"} <= OBJECTIVES.keys()
    assert all(OBJECTIVES[name].name == name for name in OBJECTIVES)  # type: ignore[attr-defined]
    assert {"autoattack", "bim", "cw", "deepfool", "fgsm", "pgd", "pixel", "threshold"} <= ATTACKS.keys()
    assert all(ATTACKS[name].name == ATTACKS[name]().name == name for name in ATTACKS)  # type: ignore[attr-defined]
    assert all(SPACES[name].name == name for name in SPACES)
    assert EXECUTORS["local"] is LocalExecutor


def test_attacks() -> None:
    assert (ATTACKS["fgsm"], ATTACKS["bim"], ATTACKS["pgd"]) == (FGSM, BIM, PGD)
    assert PGD() == PGD(epsilon=8 / 255, step_size=2 / 255, steps=10, random_start=False)
    assert FGSM().epsilon == BIM().epsilon == 8 / 255
    for attack in ATTACKS.values():
        assert list(parameters(attack().__call__).items()) == [
            ("model", REQUIRED),
            ("images", REQUIRED),
            ("labels", REQUIRED),
            ("generator", None),
        ]
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 3))
    images, labels = torch.rand(2, 3, 4, 4, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 2])
    for found in (FGSM(), BIM(), PGD()):
        assert found(model, images, labels).shape == images.shape
    attacked = PGD(random_start=True)(model, images, labels, generator=torch.Generator().manual_seed(0))
    assert attacked.shape == images.shape
    with pytest.raises(ValueError, match=r"expected a torch\.Generator"):
        PGD(random_start=True)(model, images, labels)


def test_nas_problem() -> None:
    assert first(NASProblem, 4) == [
        ("space", REQUIRED),
        ("evaluate", REQUIRED),
        ("objectives", ("clean_error", "macs")),
        ("seed", 0),
    ]


def test_evolve() -> None:
    assert first(evolve, 5) == [
        ("space", REQUIRED),
        ("evaluate", REQUIRED),
        ("config", REQUIRED),
        ("executor", None),
        ("journal", None),
    ]
    assert all(default is not REQUIRED for default in list(parameters(evolve).values())[3:])
    config = parameters(EvolutionConfig)
    assert {name: config[name] for name in ("population", "generations", "objectives", "seed")} == {
        "population": 40,
        "generations": 20,
        "objectives": ("clean_error", "macs"),
        "seed": 0,
    }
    assert [field.name for field in fields(SearchState)] == ["generation", "genomes", "objectives", "rank"]


def test_score() -> None:
    assert list(parameters(score)) == [
        "genomes",
        "evaluate",
        "objectives",
        "seed",
        "executor",
        "journal",
        "retry_failed",
        "report",
        "predict",
    ]
    assert all(default is not REQUIRED for default in list(parameters(score).values())[3:])


def test_executors() -> None:
    assert search.LocalExecutor is LocalExecutor
    assert parameters(LocalExecutor) == {}
    for kind in (LocalExecutor, ProcessExecutor, RayExecutor):
        assert {"start", "submit", "next_finished", "count", "close"} <= set(dir(kind))
    assert first(run_jobs, 3) == [("executor", REQUIRED), ("make_work", REQUIRED), ("jobs", REQUIRED)]
    assert [field.name for field in fields(Job)] == ["key", "payload", "predicted", "checkpoint"]
    assert Outcome(3).ok
    assert not Outcome(failure="boom").ok


def test_journal() -> None:
    assert first(Journal, 2) == [("path", None), ("identity", None)]


def test_fronts() -> None:
    assert list(parameters(non_dominated)) == ["F"]
    assert list(parameters(hypervolume)) == ["F", "reference"]
    F = np.array([[2.0, 1.0], [1.0, 2.0], [3.0, 3.0]])
    assert non_dominated(F).tolist() == [0, 1]
    assert isinstance(hypervolume(F, (4.0, 4.0)), float)
