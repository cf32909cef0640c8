"""Processes forked from a server that has imported what they need: each starts within milliseconds."""

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from multiprocessing import forkserver, resource_tracker
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any

__all__ = ["CONTEXT", "start", "warm_up"]

CONTEXT: ForkServerContext = multiprocessing.get_context("forkserver")

_alone = threading.Lock()
"""Held while this process differs from what its caller knows: in its environment, or in its main module."""


def warm_up(modules: Iterable[str] = ()) -> None:
    """Start the server, which imports modules while this process goes on; one that runs already stays as it is.

    It looks for modules where this process does, and has one thread, so that it can be forked.
    """
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    changes = {"PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "OPENBLAS_NUM_THREADS": "1"}
    CONTEXT.set_forkserver_preload(["evonas.executors.process", *modules])
    resource_tracker.ensure_running()  # the server needs it, and its start would unblock the signal
    with _alone, _environment(changes):
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Ctrl-C reaches the server, too
        try:
            forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def start(target: Callable[..., None], arguments: tuple[Any, ...], name: str, modules: Iterable[str]) -> BaseProcess:
    """A process that calls `target(*arguments)` in the environment of this one, and ends with this one.

    Args:
        target: of a module; the main script of this process is not run again there.
        modules: see `warm_up`.
    """
    warm_up(modules)
    process = CONTEXT.Process(target=_run, args=(dict(os.environ), target, arguments), name=name, daemon=True)
    with _alone, _without_main():
        process.start()
    return process


def _run(environment: dict[str, str], target: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.clear()
    os.environ.update(environment)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    target(*arguments)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextlib.contextmanager
def _environment(changes: dict[str, str]) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in changes}
    os.environ.update(changes)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Hide the main module: multiprocessing would run its file again in every process."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
