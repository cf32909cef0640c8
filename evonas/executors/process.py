"""Several jobs at once in processes of this machine: on several cores, or on one GPU."""

import contextlib
import os
import pickle
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

import cloudpickle

from evonas.errors import ConfigurationError, ExecutionError
from evonas.executors import forks
from evonas.executors.attempts import Attempt
from evonas.executors.base import MakeWork, Outcome
from evonas.executors.supervision import SupervisedExecutor
from evonas.executors.worker import Ended, Host, Message, PlainHost, Started, Worker, WorkerSetup
from evonas.types import Activity, Progress

__all__ = ["ProcessExecutor"]

END_SECONDS = 10.0
"""Longest wait for the end of a killed process."""

MESSAGE_BYTES = 4096
"""Progress up to this size is written to a pipe whole or not at all (POSIX's PIPE_BUF on Linux)."""


class ProcessExecutor(SupervisedExecutor):
    """Jobs in `workers` processes of this machine, with the same outcomes as in this one.

    Work, payloads and values travel between processes. What the script itself defines does so by value, as on Ray: the
    script is not run again, so it needs no `if __name__ == "__main__":`.

    Args:
        workers: number of processes.
        timeout: seconds a job may take; None: any.
        host: prepares each worker for its machine.
        share: part of a device that each worker may use.
        gpus: devices that the workers share; for the screen.
        modules: what the workers need, imported once for all of them.
    """

    def __init__(
        self,
        workers: int = 2,
        timeout: float | None = None,
        host: Host | None = None,
        share: float = 1.0,
        gpus: int = 0,
        modules: Sequence[str] = (),
    ) -> None:
        if workers < 1:
            raise ConfigurationError(f"expected workers >= 1, got {workers}")
        if not 0 < share <= 1:
            raise ConfigurationError(f"expected a share of a device in (0, 1], got {share}")
        super().__init__(_ProcessWorkers(workers, host or PlainHost(), share, gpus, modules), timeout)


class _Process:
    """One worker: a process, and the pipes to it."""

    def __init__(self, place: int, setup: bytes, modules: Sequence[str]) -> None:
        self.pipe, theirs = forks.CONTEXT.Pipe()
        self.progress, telling = forks.CONTEXT.Pipe(duplex=False)
        self.attempt: int | None = None
        try:
            self.process: BaseProcess = forks.start(
                _work, (place, setup, theirs, telling), f"evonas-worker-{place}", modules
            )
        except (OSError, EOFError) as error:  # the latter: the server that forks them has ended
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise ExecutionError(f"could not start a worker process: {why}; use fewer --workers") from error
        finally:
            theirs.close()
            telling.close()

    def end(self) -> None:
        self.process.kill()
        self.process.join(END_SECONDS)  # one that hangs in a driver of its device ends when that lets go
        self.pipe.close()
        self.progress.close()


class _ProcessWorkers:
    """Processes, started when they are needed, and again after one has ended."""

    ahead = 0

    def __init__(self, workers: int, host: Host, share: float, gpus: int, modules: Sequence[str]) -> None:
        self.slots = self.room = workers
        self._host = host
        self._share = share
        self._gpus = gpus
        self._modules = modules
        self._processes: dict[int, _Process] = {}
        self._setup = b""

    def open(self, make_work: MakeWork) -> None:
        try:
            self._setup = cloudpickle.dumps(WorkerSetup(make_work, self._host))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise ExecutionError(
                f"expected work that can travel to another process, got some that cannot ({error}); "
                "use the executor local (--executor local), or give it nothing such as an open file or a lock"
            ) from error

    def begin(self, attempt: Attempt) -> None:
        place = next(i for i in range(self.slots) if i not in self._processes or self._processes[i].attempt is None)
        if place not in self._processes:
            self._processes[place] = _Process(place, self._setup, self._modules)
        process = self._processes[place]
        process.attempt = attempt.number
        with contextlib.suppress(OSError):  # it has ended while idle: `poll` finds that
            growth = min(1.0, self._share * attempt.growth)
            process.pipe.send_bytes(cloudpickle.dumps((attempt.number, attempt.job, growth)))

    def poll(self, seconds: float) -> Sequence[Message]:
        messages: list[Message] = []
        watched = [(place, end) for place, each in self._processes.items() for end in (each.pipe, each.progress)]
        sentinels = [each.process.sentinel for each in self._processes.values()]
        ready = wait([*(end for _, end in watched), *sentinels], seconds)
        for place, end in watched:
            if end in ready:
                messages += self._read(place, end)
        for place in [place for place, each in self._processes.items() if each.process.sentinel in ready]:
            process = self._processes.pop(place)
            for end in (process.pipe, process.progress):  # it may have finished its attempt before it ended
                while (message := _receive(end)) is not None:
                    messages.append(message)
                    process.attempt = None if isinstance(message, Ended) else process.attempt
            process.end()
            if process.attempt is not None:
                died = Outcome.failed(f"its worker process {_ending(process.process)}")
                messages.append(Ended(process.attempt, "died", died))
        return messages

    def _read(self, place: int, end: Connection) -> list[Message]:
        message = _receive(end)
        if isinstance(message, Ended):
            self._processes[place].attempt = None
        return [] if message is None else [message]

    def kill(self, attempt: int) -> None:
        for place, process in list(self._processes.items()):
            if process.attempt == attempt:
                self._processes.pop(place).end()

    def activity(self, running: Sequence[Attempt], waiting: int, retries: int) -> Activity:
        used = min(float(self._gpus), sum(min(1.0, self._share * each.growth) for each in running))
        return Activity(len(running), waiting, self.slots, gpus=used, gpus_total=self._gpus, retries=retries)

    def close(self) -> None:
        for process in self._processes.values():
            process.process.kill()
        for process in self._processes.values():
            process.end()
        self._processes.clear()


def _receive(end: Connection) -> Message | None:
    """The next message of a worker; None if there is none, or it ended in the middle of one."""
    try:
        message: Message | None = end.recv() if end.poll() else None
    except (EOFError, OSError, pickle.UnpicklingError):
        return None
    return message


def _ending(process: BaseProcess) -> str:
    code = process.exitcode or 0
    if code >= 0:
        return f"ended with exit code {code}"
    return f"was killed by signal {-code} ({signal.Signals(-code).name})"


def _work(place: int, setup: bytes, pipe: Connection, telling: Connection) -> None:
    """The life of a worker process: until the pipe is closed, or the process that started it is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the driver ends its workers itself
    os.set_blocking(telling.fileno(), False)

    def post(message: Started | Progress) -> None:
        if isinstance(message, Started):
            pipe.send(message)
        elif len(pickle.dumps(message)) < MESSAGE_BYTES - 64:
            with contextlib.suppress(BlockingIOError):  # nobody reads just now: progress may be lost
                telling.send(message)

    with contextlib.suppress(EOFError, OSError):  # the driver is gone, or has closed its end
        _serve(place, setup, pipe, post)


def _serve(place: int, setup: bytes, pipe: Connection, post: Callable[[Started | Progress], None]) -> None:
    worker: Worker | None = None
    while True:
        number, job, share = pipe.recv()
        if worker is None:
            post(Started(number, ready=False))
            try:
                worker = Worker(pickle.loads(setup), place, post)
            except Exception as error:
                pipe.send(Ended(number, "set_up", Outcome.failed(f"its worker could not load the work: {error}")))
                continue
        ended = worker.run(number, job, share)
        try:
            pipe.send_bytes(cloudpickle.dumps(ended))
        except (pickle.PicklingError, AttributeError, TypeError) as error:  # raised before anything was sent
            pipe.send(Ended(number, "finished", Outcome.failed(f"its value cannot travel to the driver: {error}")))
        if worker.broken:
            return
