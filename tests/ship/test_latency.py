import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from latency_tables import QUICK, measured
from torch import nn

import evonas
from evonas.cli import main
from evonas.errors import ConfigurationError, ExecutionError
from evonas.seeding import generator
from evonas.ship import (
    Effort,
    layers_of,
    measure_table,
    onnx_call,
    processor,
    set_threads,
    time_alternately,
    torch_call,
)
from evonas.ship.latency_measuring import network_of, subject_of
from evonas.spaces import DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace

SPACES: dict[str, Any] = {
    "phase": PhaseSpace(phases=2, nodes=4, channels=4),
    "shuffle": ShuffleSpace(width=1 / 6, depth=0.1, image_size=16),
    "darts": DartsSpace(channels=4, layers=3, nodes=2, image_size=16),
    "nasbench201": NasBench201Space(channels=4, cells=1, image_size=16),
}


EACH = [
    pytest.param("phase", marks=pytest.mark.lengthy),
    *(pytest.param(name, marks=pytest.mark.slow) for name in SPACES if name != "phase"),
]


class Clock:
    """Seconds that a test decides on."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_rounds_alternate_and_each_call_is_timed_by_itself() -> None:
    clock, order, told = Clock(), list[str](), list[int]()

    def taking(name: str, seconds: float) -> Any:
        def call() -> None:
            order.append(name)
            clock.now += seconds

        return call

    found = time_alternately([taking("a", 1.0), taking("b", 3.0)], 3, clock, told.append)
    assert found.tolist() == [[1.0, 1.0, 1.0], [3.0, 3.0, 3.0]]
    assert (order, told) == (["a", "b"] * 3, [1, 2, 3])


@pytest.mark.lengthy
def test_a_network_of_several_names_is_timed_once(roco_run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = evonas.open_run(roco_run).entry("best").key
    capsys.readouterr()
    assert main(["latency", str(roco_run), "best", key[:8], key, "--runs=1", "--warm-up=1", "--json"]) == 0
    assert [row["arch_id"] for row in json.loads(capsys.readouterr().out)["networks"]] == [key]


def test_threads_are_set_checked_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    with set_threads(2):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == before
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    with pytest.raises(ExecutionError, match="expected torch to take 3 threads, it takes 7"), set_threads(3):
        pass
    monkeypatch.undo()
    torch.set_num_threads(before)


@pytest.mark.lengthy
def test_layers_of_a_network_by_hand() -> None:
    """Views are no layers; equal work has equal text; the mode of the network stays."""
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(12, 2)).train()
    counts = layers_of(network, 2)
    conv = "aten.conv2d.default(1x3x2x2, 3x3x1x1, 3)"
    assert dict(counts) == {conv: 2, "aten.relu.default(1x3x2x2)": 1, "aten.linear.default(1x12, 2x12, 2)": 1}
    assert network.training


@pytest.mark.parametrize("name", EACH)
def test_the_cover_of_a_space_has_the_layers_of_all_its_networks(name: str) -> None:
    space = SPACES[name]
    known = set[str]()
    for genome in space.cover():
        known |= layers_of(network_of(space, genome, 10), space.image_size).keys()
    for genome in space.sample(40, generator(0, "cover")):
        if space.violation(genome) <= 0:
            assert layers_of(network_of(space, genome, 10), space.image_size).keys() <= known


@pytest.mark.parametrize("name", EACH)
def test_a_table_predicts_networks_that_it_was_not_fitted_on(name: str) -> None:
    """Roughly measured on a busy machine; a table that swaps small and large networks fails."""
    space, effort = SPACES[name], Effort(networks=6, passes=2, calls=5, runs=8)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    table = measure_table(space, 10, space.image_size, effort)
    assert (table.calibrated_on, table.tested_on) == (6, 6)
    assert table.subject == subject_of(space, 10, space.image_size)
    assert (table.processor, table.torch) == (processor(), torch.__version__)
    assert 0 <= table.median_error <= table.p95_error
    assert table.median_error < 0.5
    assert all(value > 0 for value in table.layers.values())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads


@pytest.mark.lengthy
def test_the_slowest_network_is_no_faster_than_any_other() -> None:
    space = SPACES["phase"]
    table = measured(space)
    for genome in space.sample(20, generator(1, "slowest")):
        if space.violation(genome) <= 0:
            assert table.predict(layers_of(network_of(space, genome, 10), 32)) <= table.slowest


def test_operators_and_windows_of_a_space_do_not_change_its_table() -> None:
    subjects = [subject_of(PhaseSpace(operators=each), 10, 32) for each in ("roco", "nsganet")]
    assert subjects[0] == subjects[1]
    assert subject_of(PhaseSpace(channels=8), 10, 32) != subjects[0]
    assert subject_of(ShuffleSpace(window=(1e6, 2e6)), 10, 32) == subject_of(ShuffleSpace(), 10, 32)


def test_a_space_without_cover_and_one_of_too_few_networks_are_refused() -> None:
    class Uncovered:
        name = "mine"

    with pytest.raises(ConfigurationError, match=r"method cover\(\) names networks with all of its layers, 'mine'"):
        measure_table(Uncovered(), 10, 32)
    with pytest.raises(ConfigurationError, match="at least four networks for latency_ms, 'phase' has 2"):
        measure_table(PhaseSpace(phases=1, nodes=2, channels=2), 10, 32, QUICK)


@pytest.mark.lengthy
def test_both_runtimes_compute_the_same_logits() -> None:
    space = SPACES["phase"]
    network = network_of(space, space.designs()["residual"], 10)
    images = torch.rand(2, 3, 32, 32)
    found: Any = onnx_call(network, images, 1)()
    expected: Any = torch_call(network, images)()
    assert np.abs(found[0] - expected.numpy()).max() < 1e-5


def test_processor_time_leaves_out_waiting() -> None:
    """Time of a layer without the time that this thread slept or waited for a processor."""
    found = time_alternately([lambda: threading.Event().wait(0.05)], 1, time.thread_time)
    assert found[0, 0] < 0.04
