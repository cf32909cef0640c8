"""Inside of Ray's worker processes."""

import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from evonas.executors.base import Job, Outcome
from evonas.executors.carried import Carried, checkpoint_here
from evonas.executors.ray_cluster import first_line
from evonas.executors.worker import Ended, Kept, Started, Worker
from evonas.types import Progress

__all__ = ["Resident", "run_attempt"]


class Resident:
    """An actor: keeps its work until the executor is closed."""

    def __init__(self, given: list[Any]) -> None:
        self._given = given

    def run(self, attempt: int, job: Job, share: float, sent: Carried | None) -> Ended:
        return run_attempt(self._given, attempt, job, share, sent)


def run_attempt(given: list[Any], attempt: int, job: Job, share: float, sent: Carried | None) -> Ended:
    """Run an attempt in a worker process of Ray.

    Args:
        given: references to the WorkerSetup and the board, in a list because Ray fetches bare ones for every task.
        sent: checkpoint of the job; None: it has none.
    """
    setup, board = given
    post = _post(board)
    try:
        if _worker.cache_info().currsize == 0:
            post(Started(attempt, ready=False))
        worker = _worker(setup, board)
    except Exception as error:
        reason = f"its worker could not load the work: {first_line(error)}"
        return Ended(attempt, "set_up", Outcome.failed(reason))
    if sent is None:
        ended = worker.run(attempt, job, share)
    else:
        with checkpoint_here(sent, lambda content: post(Kept(attempt, content))) as path:
            ended = worker.run(attempt, replace(job, checkpoint=path), share)
            if path != sent.path and path.exists():
                ended = replace(ended, checkpoint=path.read_bytes())
    if worker.broken:
        threading.Timer(0.5, os._exit, (1,)).start()  # by then Ray has the outcome
    return ended


@functools.lru_cache(maxsize=1)
def _worker(setup: Any, board: Any) -> Worker:
    """The one worker of this process; that of another executor takes its place."""
    with contextlib.suppress(ValueError):  # not in the main thread
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver ends its workers
    return Worker(_wait_for(setup), 0, _post(board))


def _post(board: Any) -> Callable[[Started | Progress | Kept], None]:
    """Sends messages of this process to the board."""
    import ray

    node = ray.get_runtime_context().get_node_id()

    def post(message: Started | Progress | Kept) -> None:
        if isinstance(message, Started):
            with contextlib.suppress(ray.exceptions.RayError, TimeoutError):  # it has no deadline then
                _wait_for(board.post.remote(replace(message, node=node)), timeout=30)
        else:
            board.post.remote(message)

    return post


def _wait_for(ref: Any, timeout: float | None = None) -> Any:
    """Like `ray.get`, which would meanwhile give the CPUs of this worker to another task."""
    return ref.future().result(timeout)
