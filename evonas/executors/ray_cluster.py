"""The Ray cluster as the driver sees it: joining or starting one, its nodes, and the board workers write on."""

import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from evonas.errors import ExecutionError
from evonas.executors.worker import Kept, Started
from evonas.types import Progress

__all__ = ["Board", "Node", "RayConnection", "first_line", "gpu_slots", "make_board"]

Answer = TypeVar("Answer")

MESSAGES_AT_MOST = 10_000
"""Messages on the board beyond which progress is dropped."""


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive."""

    id: str
    cpus: float
    gpus: float

    def slots(self, cpus: float, gpus: float) -> int:
        """Jobs it can run at once, each with `cpus` CPUs and `gpus` GPUs; none uses parts of two GPUs."""
        by_cpus = int(self.cpus // cpus)
        return min(by_cpus, gpu_slots(self.gpus, gpus)) if gpus else by_cpus


class RayConnection:
    """Connection of this process to a Ray cluster, made when it is needed.

    Args:
        address: address of a cluster, `auto` for the one on this machine; None: RAY_ADDRESS, else Ray is started here
            and ends with `close`.
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = address
        self._mine = False

    def open(self) -> None:
        """Join or start a cluster, once. ExecutionError if Ray is not installed, or there is no cluster."""
        with _signals_kept():
            try:
                import ray
            except ImportError as error:
                raise ExecutionError(
                    f"expected Ray for the executor ray, got {error}; pip install 'ray[default]', or use "
                    "--executor process"
                ) from error
            if ray.is_initialized():
                return
            where = self.address or os.environ.get("RAY_ADDRESS") or "local"
            _knock(where)
            try:
                ray.init(where, log_to_driver=False, logging_level=logging.ERROR)
            except (ConnectionError, RuntimeError, ValueError, TimeoutError, OSError) as error:
                ray.shutdown()
                raise ExecutionError(
                    f"expected a Ray cluster at {where}, got {' '.join(str(error).split())[:300]}; start one with "
                    "`ray start --head`, set RAY_AUTH_MODE as it has it, or leave --ray-address away to use this "
                    "machine alone"
                ) from error
            self._mine = True

    def close(self) -> None:
        """Leave the cluster; one that `open` started ends with all its processes. May be called twice."""
        if self._mine:
            import ray

            with _signals_kept():
                ray.shutdown()
        self._mine = False

    def nodes(self) -> list[Node]:
        """Living machines, in Ray's order."""
        self.open()
        import ray

        every: list[dict[str, Any]] = ray.nodes()
        found = [(node["NodeID"], node["Resources"]) for node in every if node["Alive"]]
        return [Node(name, has.get("CPU", 0.0), has.get("GPU", 0.0)) for name, has in found]

    def ask(self, function: Callable[[], Answer], cpus: int, gpus: float) -> Answer:
        """Result of `function` in a worker with `cpus` CPUs and `gpus` GPUs; waits until there is one."""
        self.open()
        import ray

        asking: Any = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1)(_call)
        try:
            answer: Answer = ray.get(asking.remote(function))
        except ray.exceptions.RayError as error:
            raise ExecutionError(f"a worker could not answer: {first_line(error)}") from error
        return answer


class Board:
    """Messages from workers, fetched by the driver. Runs as a Ray actor."""

    def __init__(self) -> None:
        self._messages: list[Started | Progress | Kept] = []

    def post(self, message: Started | Progress | Kept) -> None:
        if not isinstance(message, Progress) or len(self._messages) < MESSAGES_AT_MOST:
            self._messages.append(message)

    def fetch(self) -> list[Started | Progress | Kept]:
        """Messages since the last call."""
        messages, self._messages = self._messages, []
        return messages


def make_board() -> Any:
    """A board on this machine: it must not leave with that of a worker. Restarted, empty, if its process ends."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=True)
    lasting = {"max_restarts": -1, "max_task_retries": -1}
    return ray.remote(Board).options(num_cpus=0, scheduling_strategy=here, **lasting).remote()


def gpu_slots(there: float, needed: float) -> int:
    """Jobs that `there` GPUs have room for, each with `needed` of them: a part of one, or whole ones."""
    return int(there) * int(1 / needed + 1e-6) if needed < 1 else int(there // needed)


def first_line(error: BaseException) -> str:
    """First line of an error of Ray, which has many more."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]


def _knock(address: str) -> None:
    """ExecutionError at once if nothing listens at HOST:PORT: Ray itself tries for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ExecutionError(
            f"expected a Ray cluster at {address}, nothing answers there ({error}); see its head's `ray status`, or "
            "leave --ray-address away to use this machine alone"
        ) from error


def _call(function: Callable[[], Answer]) -> Answer:
    return function()


@contextlib.contextmanager
def _signals_kept() -> Iterator[None]:
    """Put earlier signal handlers back: Ray sets its own."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {name: signal.getsignal(name) for name in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for name, handler in before.items():
            if handler is not None:  # one that was not set from Python cannot be set again
                signal.signal(name, handler)
