"""Latency of a trained network: the shortest of many passes of one image, by one thread."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from evonas.audit import ImageLatency, latency
from evonas.methods.cell_retraining import CellRetrainOptions


class Counting(nn.Module):
    """A network that remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.threads: set[int] = set()

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shapes.append(tuple(images.shape))
        self.threads.add(torch.get_num_threads())
        return images.mean((2, 3))


def test_the_shortest_of_many_passes_of_one_image_by_one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Counting()
    candidate: Any = SimpleNamespace(network=network, device=torch.device("cpu"))
    tested: Any = SimpleNamespace(image_size=16)
    found = ImageLatency(calls=4)(candidate, tested, 8, lambda progress: None)
    assert found["latency_ms"] > 0
    assert network.shapes == [(1, 3, 16, 16)] * 5
    assert network.threads == {1}
    assert not network.training
    asked: list[Any] = []

    def timed(calls: Any, runs: int, clock: Any) -> Any:
        asked.append((len(calls), runs, clock))
        return np.array([[0.004, 0.0025, 0.003]])

    monkeypatch.setattr(latency, "time_alternately", timed)
    assert ImageLatency(calls=3)(candidate, tested, 8, lambda progress: None) == {"latency_ms": 2.5}
    assert asked == [(1, 3, time.thread_time)]


def test_it_is_measured_where_it_is_asked_for_and_changes_no_other_run() -> None:
    columns = {
        asked: [each.column for each in CellRetrainOptions(retrain_latency=asked).measured(None).measurements]
        for asked in (False, True)
    }
    assert columns[False] == ["clean_error", "pgd_error", "paper_flops"]
    assert columns[True] == ["clean_error", "pgd_error", "latency_ms", "paper_flops"]
