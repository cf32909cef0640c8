"""Time of one image through a network that was trained to the end."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch

from evonas.data import Dataset
from evonas.objectives import Candidate
from evonas.ship.latency import set_threads, time_alternately, torch_call
from evonas.types import Report

__all__ = ["ImageLatency"]


@dataclass(frozen=True)
class ImageLatency:
    """Milliseconds of a forward pass of one image: the shortest of many, on a CPU in processor time of one thread."""

    calls: int = 50

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        size = tested.image_size
        image = torch.rand(1, 3, size, size, generator=torch.Generator().manual_seed(0)).to(candidate.device)
        forward = torch_call(candidate.network, image)
        with set_threads(1):
            forward()  # plans and buffers are made at the first call
            if torch.device(candidate.device).type == "cuda":
                seconds = time_alternately([partial(_to_the_end, forward)], self.calls)
            else:
                seconds = time_alternately([forward], self.calls, time.thread_time)
        return {"latency_ms": 1000 * float(seconds.min())}


def _to_the_end(forward: Callable[[], object]) -> None:
    """One call, and all work that it has left on the GPU."""
    forward()
    torch.cuda.synchronize()
