"""Steps replayed as graphs: what is recorded, what runs as it is, what is announced; on CUDA, equal bits."""

from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from evonas import graphs
from evonas.attacks import PGD
from evonas.data import Augmentation, DevicePart, load_data
from evonas.devices import settle
from evonas.errors import DivergedError, UnknownNameError
from evonas.gradient import AdversarialLoss, GradientSearch, Method, SearchData, Stage, bilevel, darts, halves, pcdarts
from evonas.graphs import Graphed, Step
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.spaces import PhaseSpace, ShuffleSpace
from evonas.training import (
    RECIPES,
    CellTraining,
    CrownIbp,
    OneShotConfig,
    OneShotTraining,
    PgdTraining,
    Recipe,
    Trades,
    TradesAwp,
    TradesYopo,
    Training,
    TrainingConfig,
)

MUST_NOT_RECORD = {"_local_scalar_dense", "nonzero", "equal", "lift_fresh"}
"""Operators that wait for a device; the last one makes a tensor from Python's numbers, which are copied there."""


class Operators(TorchDispatchMode):
    """Operators in the order in which they run, with their arguments and results."""

    def __init__(self, forbidden: set[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.forbidden = forbidden
        self.ran: list[tuple[Any, tuple[Any, ...], dict[str, Any], Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name.removeprefix("aten::")
        if name in self.forbidden:
            raise RuntimeError(f"{name} waits for the device")
        result = func(*args, **(kwargs or {}))
        self.ran.append((func, args, kwargs or {}, result))
        return result


class Rerun:
    """A recording that runs its operators again, on the tensors that they had: numbers of the host stay."""

    def __init__(self, step: Step, inputs: Sequence[Tensor]) -> None:
        self.buffers = [each.clone() for each in inputs]
        with Operators(MUST_NOT_RECORD) as operators:
            self.results = step(*self.buffers)
        self.ran = operators.ran

    @torch.no_grad()
    def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        for buffer, given in zip(self.buffers, inputs, strict=True):
            buffer.copy_(given)
        for func, args, kwargs, result in self.ran:
            again = func(*args, **kwargs)
            for old, new in zip(tensors_of(result), tensors_of(again), strict=True):
                if old.data_ptr() != new.data_ptr():  # else a view, or changed in place
                    old.copy_(new)
        return self.results


def tensors_of(result: Any) -> list[Tensor]:
    if isinstance(result, Tensor):
        return [result]
    return [each for each in result if isinstance(each, Tensor)] if isinstance(result, list | tuple) else []


class Emulator:
    """Records on a CPU what CUDA records on a device, and remembers how often."""

    def __init__(self) -> None:
        self.warm_ups = 0
        self.recordings: list[Any] = []
        self.make: Callable[[Step, Sequence[Tensor]], Any] = Rerun

    @contextmanager
    def aside(self, device: torch.device) -> Iterator[None]:
        self.warm_ups += 1
        yield

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        with Operators(MUST_NOT_RECORD):
            yield

    def record(self, step: Step, inputs: Sequence[Tensor], generators: Sequence[torch.Generator]) -> Any:
        self.recordings.append(self.make(step, inputs))
        return self.recordings[-1]


@pytest.fixture
def emulator(monkeypatch: pytest.MonkeyPatch) -> Emulator:
    made = Emulator()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", made)
    return made


class Counting:
    """A step that adds its input and a random number to a tensor, and counts how often Python ran it."""

    def __init__(self) -> None:
        self.calls = 0
        self.total = torch.zeros(2)
        self.scale = 1.0
        self.generator = torch.Generator().manual_seed(3)

    def __call__(self, images: Tensor) -> tuple[Tensor, ...]:
        self.calls += 1
        self.total += self.scale * images.sum() + torch.rand(2, generator=self.generator)
        return (self.total * 2,)

    def graphed(self) -> Callable[[Tensor], tuple[Tensor, ...]]:
        self.graph = Graphed("counting")
        return lambda images: self.graph(self, images, state=lambda: [self.total], generators=(self.generator,))


def expected_of(inputs: Sequence[Tensor]) -> list[Tensor]:
    plain = Counting()
    return [plain(each)[0] for each in inputs]


def test_a_step_is_replayed_after_warm_up_with_the_same_results(emulator: Emulator) -> None:
    step = Counting()
    graphed = step.graphed()
    inputs = [torch.full((3,), float(i)) for i in range(8)]
    found = [graphed(each)[0] for each in inputs]
    assert emulator.warm_ups == graphs.WARM_UP == 2
    assert len(emulator.recordings) == 1
    assert step.calls == 2 + 1 + 1  # warm-up, the call that is compared, the recording
    assert all(torch.equal(a, b) for a, b in zip(found, expected_of(inputs), strict=True))


def test_results_are_the_callers_own(emulator: Emulator) -> None:
    step = Counting()
    graphed = step.graphed()
    for _ in range(3):
        graphed(torch.ones(3))
    first = graphed(torch.ones(3))[0]
    kept = first.clone()
    graphed(torch.ones(3))
    assert torch.equal(first, kept)


def test_another_shape_runs_as_it_is(emulator: Emulator) -> None:
    step = Counting()
    graphed = step.graphed()
    inputs = [*[torch.ones(3)] * 5, torch.ones(2), torch.ones(3), torch.ones(3, dtype=torch.float64)]
    found = [graphed(each)[0] for each in inputs]
    assert (len(emulator.recordings), step.calls) == (1, 4 + 2)
    assert all(torch.equal(a, b) for a, b in zip(found, expected_of(inputs), strict=True))


def test_numbers_of_the_host_belong_to_a_recording_until_it_is_renewed(emulator: Emulator) -> None:
    step = Counting()
    graphed = step.graphed()
    for _ in range(4):
        graphed(torch.ones(3))
    before = step.total.clone()
    step.scale = 100.0
    graphed(torch.ones(3))
    assert float((step.total - before).max()) < 5
    step.graph.renew()
    graphed(torch.ones(3))
    assert float(step.total.max()) > 300
    assert len(emulator.recordings) == 2


def test_a_step_that_waits_is_announced_and_runs_as_it_is(emulator: Emulator) -> None:
    total = torch.zeros(1)

    def waits(images: Tensor) -> tuple[Tensor, ...]:
        total.add_(images.sum())
        return (total * (2 if float(total) > 3 else 1),)

    graph = Graphed("waiting")

    def graphed(images: Tensor) -> tuple[Tensor, ...]:
        return graph(waits, images, state=lambda: [total])

    found = [float(graphed(torch.ones(2))[0]) for _ in range(2)]
    with pytest.warns(UserWarning, match="waiting runs without a CUDA graph, more slowly: RuntimeError: _local_scalar"):
        found.append(float(graphed(torch.ones(2))[0]))
    found += [float(graphed(torch.ones(2))[0]) for _ in range(2)]
    assert found == [2, 8, 12, 16, 20]
    assert emulator.recordings == []


@pytest.mark.parametrize("off", ["result", "state", "generator"])
def test_a_replay_that_differs_is_announced_and_leaves_no_trace(emulator: Emulator, off: str) -> None:
    step = Counting()

    class Off(Rerun):
        def replay(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
            results = super().replay(inputs)
            if off == "state":
                step.total += 1e-6
            if off == "generator":
                torch.rand(1, generator=step.generator)
            return (results[0] + 1e-6,) if off == "result" else results

    emulator.make = Off
    graphed = step.graphed()
    inputs = [torch.full((3,), float(i)) for i in range(6)]
    found = [graphed(each)[0] for each in inputs[:2]]
    with pytest.warns(UserWarning, match="counting runs without .* a replayed step is not equal to the step itself"):
        found.append(graphed(inputs[2])[0])
    found += [graphed(each)[0] for each in inputs[3:]]
    assert all(torch.equal(a, b) for a, b in zip(found, expected_of(inputs), strict=True))


def test_a_device_without_streams_is_announced_and_runs_as_it_is(
    emulator: Emulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_stream(device: torch.device) -> AbstractContextManager[None]:
        raise RuntimeError("no stream")

    monkeypatch.setattr(emulator, "aside", no_stream)
    graphed = Graphed("test")
    with pytest.warns(UserWarning, match="test runs without a CUDA graph, more slowly: RuntimeError: no stream"):
        assert float(graphed(lambda x: (x + 1,), torch.zeros(()))[0]) == 1
    assert [float(graphed(lambda x: (x + 1,), torch.zeros(()))[0]) for _ in range(4)] == [1] * 4
    assert not emulator.recordings


def test_errors_of_a_step_stay_its_own(emulator: Emulator) -> None:
    def diverges(images: Tensor) -> tuple[Tensor, ...]:
        raise DivergedError("the loss is not finite")

    graphed = Graphed("diverging", warm_up=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(DivergedError, match="not finite"):
            graphed(diverges, torch.ones(2))


def test_the_switch(emulator: Emulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(graphs.SWITCH, "off")
    step = Counting()
    graphed = step.graphed()
    for _ in range(5):
        graphed(torch.ones(3))
    assert (step.calls, emulator.warm_ups, emulator.recordings) == (5, 0, [])
    monkeypatch.setenv(graphs.SWITCH, "of")
    with pytest.raises(UnknownNameError, match="unknown EVONAS_CUDA_GRAPHS 'of'; did you mean off"):
        step.graphed()


def test_a_step_is_given_back_with_its_owner(emulator: Emulator) -> None:
    step = Counting()
    graphed = step.graphed()
    for _ in range(4):
        graphed(torch.ones(3))
    gone, total = weakref.ref(step.graph), weakref.ref(step)
    emulator.recordings.clear()
    gc.disable()  # so that nothing but the last reference frees it
    try:
        graph = step.graph
        del step, graphed
        gc.collect()
        assert total() is None
        del graph
        assert gone() is None
    finally:
        gc.enable()


def test_a_cpu_runs_steps_as_they_are() -> None:
    step = Counting()
    graphed = step.graphed()
    for _ in range(6):
        graphed(torch.ones(3))
    assert step.calls == 6


def trained(recipe: Recipe, device: str = "cpu", precision: str = "fp32") -> list[Tensor]:
    """Averaged weights and statistics, and momentum, after two epochs with a last batch that is smaller."""
    data = load_data("digits", train_limit=90, val_limit=50)
    space = PhaseSpace(phases=2, nodes=3, channels=4)
    torch.manual_seed(0)
    network: nn.Module = space.build(space.designs()["chain"], 10, normalization=data.normalization)
    if isinstance(recipe, CellTraining):
        network = DartsNetwork(GENOTYPES["DARTS_V2"], 4, 3, 10, auxiliary=True, normalization=data.normalization)
    network = network.to(device)
    part = DevicePart(data.train, torch.device(device))
    config = TrainingConfig(epochs=2, batch_size=16, precision=precision, average="ema")
    augmentation = Augmentation(flip=True, cutout=4, mean=data.mean)
    training = Training(network, part, augmentation, config, recipe, torch.Generator(device).manual_seed(1))
    losses = [training.run_epoch() for _ in range(2)]
    return [*network.state_dict().values(), *graphs.moments(training._optimiser), torch.tensor(losses)]


def one_shot(device: str = "cpu") -> list[Tensor]:
    """Weights, momentum and loss of a supernet after an epoch by TRADES-YOPO."""
    data = load_data("digits", train_limit=34, val_limit=50)
    space = ShuffleSpace(width=1 / 6, depth=0.1)
    torch.manual_seed(0)
    supernet, momentum = space.supernet(10).to(device), space.supernet(10).to(device)
    config = OneShotConfig(
        supernet_batch_size=8, supernet_precision="fp32", block_window=(0.0, 1e8), joint_window=(0.0, 1e8)
    )
    part = DevicePart(data.train, torch.device(device))
    training = OneShotTraining(space, supernet, momentum, part, Augmentation(), config, TradesYopo(m=1, n=2), 0)
    loss = training.run_epoch()
    return [*supernet.state_dict().values(), *momentum.state_dict().values(), torch.tensor(loss)]


REPLAYED: dict[str, Recipe] = {
    "standard": RECIPES["standard"],
    "trades": Trades(steps=2),
    "trades_yopo": TradesYopo(m=2, n=2),
    "fast_adversarial": RECIPES["fast_adversarial"],
    "pgd_at": PgdTraining(steps=2),
    "trades_awp": TradesAwp(steps=1),
    "cells": CellTraining(drop_path=0.5),
    "robust cells": CellTraining(drop_path=0.5, robust=TradesAwp(steps=1)),
}


@pytest.mark.lengthy
@pytest.mark.parametrize("name", REPLAYED)
def test_replayed_training_equals_training(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = trained(REPLAYED[name])
    emulator = Emulator()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", emulator)
    found = trained(REPLAYED[name])
    assert len(emulator.recordings) == 2  # one an epoch: the learning rate falls
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.lengthy
def test_training_on_bounds_is_not_replayed_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = CrownIbp(epsilon=0.01, beta=0.5, warmup=0.0)
    expected = trained(recipe)
    monkeypatch.setitem(graphs.RECORDERS, "cpu", Emulator())
    with pytest.warns(UserWarning, match="training runs without a CUDA graph, more slowly: .* waits for the device"):
        found = trained(recipe)
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@pytest.mark.lengthy
def test_a_replayed_supernet_equals_the_supernet(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = one_shot()
    emulator = Emulator()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", emulator)
    found = one_shot()
    assert len(emulator.recordings) == 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def attacked(device: str = "cpu", steps: int = 10) -> list[Tensor]:
    """Images after PGD from two random starts."""
    space = PhaseSpace(phases=1, nodes=3, channels=4)
    torch.manual_seed(0)
    network = space.build(space.designs()["chain"], 10).to(device).eval()
    images, labels = torch.rand(3, 3, 16, 16).to(device), torch.arange(3, device=device)
    attack = PGD(steps=steps, random_start=True, restarts=2)
    return [attack(network, images, labels, torch.Generator(device).manual_seed(2))]


def searched(method: Method, device: str = "cpu") -> list[Tensor]:
    """Weights and architecture of a search after an epoch, and its means."""
    data = load_data("digits", train_limit=22, val_limit=50)
    part = DevicePart(data.train, torch.device(device))
    below, above = halves(part, 0.5)
    found = SearchData(below, above, None, Augmentation(padding=1), 10, data.normalization)
    stage = Stage(epochs=1, channels=4, layers=1)
    method = replace(method, nodes=1, stages=(stage,), config=replace(method.config, search_batch_size=2))
    search = GradientSearch(method, found, 0, torch.device(device))
    if device == "cpu":  # torch's Adam counts its steps on the host there
        search.levels.adams[0] = torch.optim.SGD(search.levels.alphas, 0.1)  # type: ignore[call-overload]
    means = search.run_epoch()
    state = [*search.levels.supernet.state_dict().values(), *search.levels.alphas]
    return [*(each.detach().clone() for each in state), torch.tensor([*means.values()], dtype=torch.float64)]


class Drifting(nn.Module):
    """A model whose logits depend on how often it was called, which a buffer says."""

    calls: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, images: Tensor) -> Tensor:
        self.calls.add_(1)
        logits: Tensor = self.layer((images - 0.1 * torch.sin(self.calls)).flatten(1).square())
        return logits


def test_a_recording_puts_back_what_a_model_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its check calls the model once more than the attack does."""
    torch.manual_seed(0)
    model, images, labels = Drifting().eval(), torch.rand(2, 3, 2, 2), torch.tensor([0, 1])
    found, emulator = [], Emulator()
    for recorders in ({}, {"cpu": emulator}):
        monkeypatch.setattr(graphs, "RECORDERS", recorders)
        model.calls.zero_()
        attacked = PGD(steps=10, epsilon=0.3, step_size=0.05)(model, images, labels)
        found.append((attacked, model.calls.item()))
    assert len(emulator.recordings) == 1
    assert found[0][1] == found[1][1] == 10
    assert torch.equal(found[0][0], found[1][0])


def test_a_replayed_attack_equals_the_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    expected, few = attacked(), attacked(steps=3)
    emulator = Emulator()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", emulator)
    assert torch.equal(attacked()[0], expected[0])
    assert len(emulator.recordings) == 2  # one a start
    assert torch.equal(attacked(steps=3)[0], few[0])
    assert len(emulator.recordings) == 2


SEARCHES: dict[str, Method] = {
    "first order": darts(1),
    "second order": darts(2),
    "exact second order": replace(darts(2), config=replace(darts(2).config, hessian="exact")),
    "pcdarts": pcdarts(),
}


@pytest.mark.lengthy
@pytest.mark.parametrize("name", SEARCHES)
def test_a_replayed_search_equals_the_search(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bilevel, "_norm", on_the_device)
    expected = searched(SEARCHES[name])
    emulator = Emulator()
    monkeypatch.setitem(graphs.RECORDERS, "cpu", emulator)
    found = searched(SEARCHES[name])
    assert len(emulator.recordings) == 1
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def on_the_device(parts: Sequence[Tensor]) -> Tensor:
    norm: Tensor = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]).norm()
    return norm


def test_a_search_that_draws_is_not_replayed(emulator: Emulator) -> None:
    searched(replace(darts(1), upper=(AdversarialLoss(),)))
    assert emulator.warm_ups == 0


on_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


@pytest.fixture
def eager_and_replayed(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], list[Tensor]]], None]:
    """Runs a function with and without graphs; both must agree to the bit, and no graph may be given up."""
    settle("cuda")

    def compare(run: Callable[[], list[Tensor]]) -> None:
        monkeypatch.setenv(graphs.SWITCH, "off")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = run()
        monkeypatch.setenv(graphs.SWITCH, "auto")
        replays: list[int] = []
        replay = torch.cuda.CUDAGraph.replay

        def counted(graph: torch.cuda.CUDAGraph) -> None:
            replays.append(1)
            replay(graph)

        monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's, about operations without a deterministic algorithm
            warnings.filterwarnings("error", message=".* runs without a CUDA graph")
            found = run()
        assert replays, "nothing was recorded"
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))

    return compare


@on_cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", REPLAYED)
def test_training_on_cuda_is_replayed_to_the_bit(name: str, precision: str, eager_and_replayed: Any) -> None:
    eager_and_replayed(lambda: trained(REPLAYED[name], "cuda", precision))


@on_cuda
def test_a_supernet_on_cuda_is_replayed_to_the_bit(eager_and_replayed: Any) -> None:
    eager_and_replayed(lambda: one_shot("cuda"))


@on_cuda
def test_an_attack_on_cuda_is_replayed_to_the_bit(eager_and_replayed: Any) -> None:
    eager_and_replayed(lambda: attacked("cuda"))


@on_cuda
@pytest.mark.parametrize("name", SEARCHES)
def test_a_search_on_cuda_is_replayed_to_the_bit(name: str, eager_and_replayed: Any) -> None:
    eager_and_replayed(lambda: searched(SEARCHES[name], "cuda"))
