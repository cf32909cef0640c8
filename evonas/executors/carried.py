"""Checkpoints of jobs on machines that do not see the driver's files: sent there with a job, and back now and then."""

import contextlib
import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from evonas.files import read_regular, storage_errors

__all__ = ["Carried", "carried", "checkpoint_here"]

CARRY_SECONDS = 300.0
"""Interval at which a changed checkpoint is sent to the driver: with a machine no more than this is lost."""


@dataclass(frozen=True)
class Carried:
    """A checkpoint as the driver sends it with a job."""

    path: Path
    """Its file, where the driver has it."""
    mark: Path
    """Empty file beside it, of a name that is nowhere else: a worker that sees it shares the folder."""
    content: bytes | None
    """None where there is none yet."""
    seconds: float


def carried(path: Path) -> Carried:
    """The checkpoint in a file of the driver, to be sent with a job; its mark is to be removed when the job ends.

    Raises:
        StorageError: the folder cannot be read or written.
    """
    mark = path.with_name(f".{path.name}.{os.getpid()}.{uuid4().hex}.tmp")
    with storage_errors(f"write {mark}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        mark.touch()
    with storage_errors(f"read {path}"):
        try:
            content = read_regular(path)
        except FileNotFoundError:
            content = None
    return Carried(path, mark, content, CARRY_SECONDS)


@contextlib.contextmanager
def checkpoint_here(sent: Carried, send: Callable[[bytes], object]) -> Iterator[Path]:
    """Path of the checkpoint in a worker: the driver's own, or of a copy which `send` gets now and then."""
    shared = False
    with contextlib.suppress(OSError):  # a folder that this user may not enter is one that is not shared
        shared = sent.mark.exists()
    if shared:
        yield sent.path
        return
    with tempfile.TemporaryDirectory(prefix="evonas-") as folder:
        path, ended = Path(folder) / sent.path.name, threading.Event()
        if sent.content is not None:
            path.write_bytes(sent.content)
        watching = threading.Thread(target=_watch, args=(path, sent, send, ended), daemon=True)
        watching.start()
        try:
            yield path
        finally:
            ended.set()
            watching.join()


def _watch(path: Path, sent: Carried, send: Callable[[bytes], object], ended: threading.Event) -> None:
    """Send the file whenever it has changed since the last look."""
    last = sent.content
    while not ended.wait(sent.seconds):
        content = path.read_bytes() if path.exists() else None
        if content is not None and content != last:
            send(content)
            last = content
