"""Float32 means IEEE's wherever something is compared, certified or scored, whatever the process has chosen."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evonas.certify import (
    certified_accuracy,
    certified_radius,
    interval_bounds,
    jacobian_norm_bound,
    linear_bounds,
    margin_bounds,
    piecewise_jacobian,
    squared_jacobian_norm,
)
from evonas.data import load_data
from evonas.devices import float32, images_at_once, seconds, settle
from evonas.errors import ConfigurationError
from evonas.evaluation import Evaluator, TorchHost, TrainFromScratch
from evonas.objectives import CleanError, JacobianNorm
from evonas.spaces import PhaseSpace
from evonas.training import TrainingConfig, resolve_precision


@pytest.fixture
def rough() -> Iterator[None]:
    """A process that rounds the inputs of matrix products; skips where this CPU does not."""
    torch.set_float32_matmul_precision("medium")
    try:
        if product_error() < 1e-3:
            pytest.skip("this CPU has no rougher arithmetic for float32")
        yield
    finally:
        torch.set_float32_matmul_precision("highest")


def product_error() -> float:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(200, 200, generator=generator), torch.randn(200, 200, generator=generator)
    return float((a @ b - a.double() @ b.double()).abs().max())


def settings() -> list[Any]:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    return [cudnn.allow_tf32, matmul.allow_tf32, torch.get_float32_matmul_precision(), cudnn.benchmark]


def test_inside_it_is_exact_and_outside_as_it_was(rough: None) -> None:
    before, error = settings(), product_error()
    with float32():
        assert product_error() < 1e-4
        assert settings()[:2] == [False, False]
    assert (settings(), product_error()) == (before, error)
    with pytest.raises(ZeroDivisionError), float32():
        raise ZeroDivisionError
    assert settings() == before


def test_tf32_is_of_cuda_alone(rough: None) -> None:
    with float32(tf32=True):
        assert settings()[:2] == [True, True]
        assert product_error() < 1e-4


NETWORK = nn.Sequential(nn.Flatten(), nn.Linear(192, 64), nn.ReLU(), nn.Linear(64, 5)).eval()
IMAGES = torch.rand(3, 3, 8, 8, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2])
CERTIFIED: dict[str, Callable[[], Any]] = {
    "intervals": lambda: interval_bounds(NETWORK, IMAGES, 0.01),
    "linear": lambda: linear_bounds(NETWORK, IMAGES, 0.01),
    "margins": lambda: margin_bounds(NETWORK, IMAGES, LABELS, 0.01),
    "radius": lambda: certified_radius(NETWORK, IMAGES, NETWORK(IMAGES).argmax(1)),
    "accuracy": lambda: certified_accuracy(NETWORK, IMAGES, LABELS, 0.01),
    "jacobian bound": lambda: jacobian_norm_bound(NETWORK, IMAGES, 1.0),
    "jacobian": lambda: squared_jacobian_norm(NETWORK, IMAGES, 2, torch.Generator().manual_seed(0)),
    "piecewise": lambda: piecewise_jacobian(NETWORK, IMAGES),
}


def flat(found: Any) -> list[float]:
    if isinstance(found, Tensor):
        return found.double().flatten().tolist()
    return [float(found)] if isinstance(found, int | float) else [value for part in found for value in flat(part)]


@pytest.mark.parametrize("name", CERTIFIED)
def test_certificates_do_not_depend_on_the_process(name: str, rough: None) -> None:
    torch.set_float32_matmul_precision("highest")
    expected = flat(CERTIFIED[name]())
    torch.set_float32_matmul_precision("medium")
    assert flat(CERTIFIED[name]()) == expected


@pytest.mark.lengthy
def test_scores_and_training_do_not_depend_on_the_process(rough: None) -> None:
    data = load_data("digits", train_limit=100, val_limit=50)
    space = PhaseSpace(phases=1, nodes=3, channels=4)
    prepare = TrainFromScratch(space, data, TrainingConfig(epochs=1, batch_size=20, precision="fp32"))
    evaluator = Evaluator(prepare, (CleanError(), JacobianNorm(images=4, batch_size=4)), threads=1)
    found = []
    for precision in ("highest", "medium"):
        torch.set_float32_matmul_precision(precision)
        result = evaluator.make_evaluate(lambda progress: None)(space.designs()["chain"], 0)
        assert result.ok, result.reason
        found.append(dict(result.objectives))
    assert found[0] == found[1]


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[torch.device]]:
    """The devices made current, of which this machine may have none."""
    current: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(torch.device(device)))
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    with float32():
        yield current
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def test_settling_a_cuda_device(settled: list[torch.device]) -> None:
    torch.backends.cudnn.allow_tf32 = True
    settle("cuda:3")
    assert settled == [torch.device("cuda", 3)]
    assert settings()[:2] == [False, False]
    assert not torch.backends.cudnn.benchmark
    assert torch.are_deterministic_algorithms_enabled()
    assert torch.is_deterministic_algorithms_warn_only_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


def test_a_cpu_is_left_as_it_is(settled: list[torch.device]) -> None:
    settle("cpu")
    assert settled == []
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize(("device", "place", "expected"), [("cuda", 0, 0), ("cuda", 5, 1), ("cuda:1", 0, 1)])
def test_a_worker_settles_its_own_device(
    device: str, place: int, expected: int, settled: list[torch.device], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    shares: list[float] = []
    monkeypatch.setattr(torch.cuda, "set_per_process_memory_fraction", shares.append)
    TorchHost(device).prepare(place, 0.5)
    assert (settled, shares) == ([torch.device("cuda", expected)], [0.5])


def test_the_clock_waits_for_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[Any] = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    assert seconds("cpu") <= seconds("cuda:1")
    assert waited == ["cuda:1"]


def test_tf32_needs_cuda() -> None:
    with pytest.raises(ConfigurationError, match="tf32 on a CUDA device, got device cpu; take fp32"):
        resolve_precision("tf32", torch.device("cpu"))
    assert resolve_precision("tf32", torch.device("cuda"))[0] == "tf32"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.filterwarnings("ignore:.*deterministic:UserWarning")  # torch has no such algorithm of some operations
def test_two_trainings_on_cuda_are_equal() -> None:
    settle("cuda")
    data = load_data("digits", train_limit=100, val_limit=50)
    space = PhaseSpace(phases=2, nodes=3, channels=8)
    prepare = TrainFromScratch(space, data, TrainingConfig(epochs=2, batch_size=20, precision="fp32"), "cuda").start()
    once, again = (prepare(space.designs()["chain"], 0, lambda progress: None)[0].network for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(once.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize(
    ("gibibytes", "size", "images"),
    [(139, 32, 512), (139, 64, None), (139, 16, 512), (80, 32, 512), (64, 32, 512), (63, 32, None), (24, 16, 512)],
)
def test_images_at_once_follow_the_memory(
    gibibytes: int, size: int, images: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """128 MiB an image of 32x32: 64 GiB have room for 512."""
    memory = SimpleNamespace(total_memory=gibibytes * 2**30)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: memory)
    assert images_at_once("cuda:0", size) == images
    assert images_at_once("cpu", size) is None
