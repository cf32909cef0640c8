"""Time of a forward pass on this CPU."""

import contextlib
import platform
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from evonas.errors import ExecutionError
from evonas.ship.format import Sent

__all__ = ["Runtime", "onnx_call", "processor", "set_threads", "time_alternately", "torch_call"]

Runtime = Literal["torch", "onnx"]


def processor() -> str:
    """Model of this machine's CPU, and the vector instructions that torch uses."""
    facts = dict[str, str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            facts.setdefault(key.strip(), value.strip())
    model = facts.get("model name") or platform.processor() or platform.machine()
    return f"{model}, {torch.backends.cpu.get_cpu_capability()}"


@contextlib.contextmanager
def set_threads(count: int) -> Iterator[None]:
    """Context in which torch computes with `count` threads. ExecutionError where torch takes another number."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        if torch.get_num_threads() != count:
            raise ExecutionError(f"expected torch to take {count} threads, it takes {torch.get_num_threads()}")
        yield
    finally:
        torch.set_num_threads(before)


def torch_call(network: nn.Module, images: torch.Tensor) -> Callable[[], object]:
    """A forward pass of a network in eval mode, without gradients."""
    network.eval()

    def call() -> object:
        with torch.inference_mode():
            return network(images)

    return call


def onnx_call(network: nn.Module, images: torch.Tensor, threads: int) -> Callable[[], object]:
    """A run of onnxruntime on the exported network, with these threads inside an operator and one operator at a time.

    Raises:
        ExecutionError: onnxruntime takes another number of threads.
    """
    import onnxruntime

    from evonas.ship.onnx_format import INPUT, ONNX

    about = {"input_layout": "NCHW", "value_range": "[0, 1]"}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    exported = ONNX.write(Sent(network, images.shape[-1], about))
    session = onnxruntime.InferenceSession(exported, options, providers=["CPUExecutionProvider"])
    given = session.get_session_options()
    if (given.intra_op_num_threads, given.inter_op_num_threads) != (threads, 1):
        raise ExecutionError(f"expected onnxruntime to take {threads} threads, it takes {given.intra_op_num_threads}")
    feed: dict[str, Any] = {INPUT: images.numpy()}
    return lambda: session.run(None, feed)


def time_alternately(
    calls: Sequence[Callable[[], object]],
    runs: int,
    clock: Callable[[], float] = time.perf_counter,
    done: Callable[[int], object] = lambda rounds: None,
) -> npt.NDArray[np.float64]:
    """(calls, runs) seconds of each run, in rounds over all of them, so that a slow minute hits all alike.

    Args:
        clock: in seconds; `time.thread_time` leaves out what other processes take from a single thread.
        done: called with the number of finished rounds.
    """
    seconds = np.empty((len(calls), runs))
    for number in range(runs):
        for row, call in enumerate(calls):
            begun = clock()
            call()
            seconds[row, number] = clock() - begun
        done(number + 1)
    return seconds
