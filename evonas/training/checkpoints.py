"""Training that survives its process: a checkpoint an epoch, checksummed, replaced whole, read without pickle."""

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch

from evonas.errors import StorageError
from evonas.files import decoding, read_regular, replace_file, storage_errors
from evonas.parts import as_plain, refuse_another_run
from evonas.training.loop import OnStep, whole
from evonas.types import Progress, Report

__all__ = [
    "EpochTraining",
    "Row",
    "load_checkpoint",
    "save_checkpoint",
    "stored_identity",
    "train_epochs",
    "train_reporting",
]

FORMAT = b"evonas-checkpoint-1 "
"""First bytes of a file; the SHA-256 of what torch wrote follows, 64 hexadecimal digits and a line end, then that."""

Row = dict[str, Any]
"""Plain values of a finished epoch, `seconds` among them."""


class EpochTraining(Protocol):
    """Something that trains epoch by epoch and can go on from its state: `Training`, `OneShotTraining`, ..."""

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        ...

    @property
    def epochs(self) -> int:
        """All epochs."""
        ...

    def run_epoch(self, on_step: OnStep | None = None) -> Any:
        """Train for one epoch; returns what its row is made from."""
        ...

    def state(self) -> dict[str, Any]:
        """Tensors and plain values."""
        ...

    def restore(self, state: dict[str, Any]) -> None: ...


def train_epochs(
    training: EpochTraining,
    path: Path | None,
    identity: Mapping[str, Any],
    what: str,
    row: Callable[[Any], Row] = lambda loss: {"loss": loss},
    on_step: OnStep | None = None,
    on_epoch: Callable[[list[Row]], None] | None = None,
    on_begin: Callable[[list[Row]], None] | None = None,
) -> list[Row]:
    """Train to the last epoch, or continue with the first one that the checkpoint does not hold.

    On the CPU the result is the same bit for bit, wherever and however often it was stopped.

    Args:
        path: the checkpoint; None: none is kept.
        identity: what the result follows from.
        what: it is, for messages: `a supernet`.
        row: from what `run_epoch` returned, right after it; `seconds` is added.
        on_step: gets (steps done, steps of the epoch, message).
        on_epoch: called with all rows once an epoch is in the checkpoint; may raise to stop.
        on_begin: called with the rows of the checkpoint before anything is trained.
    Returns:
        The rows of all epochs, those of earlier processes first.
    Raises:
        RunMismatchError, StorageError: see `load_checkpoint`.
        DivergedError: training left the finite numbers.
    """
    content = None if path is None else load_checkpoint(path, identity, what)
    rows: list[Row] = []
    if content is not None:
        training.restore(content["state"])
        rows = list(content["rows"])
    if on_begin is not None:
        on_begin(rows)
    while training.epoch < training.epochs:
        started = time.monotonic()
        found = row(training.run_epoch(on_step))
        rows.append({**found, "seconds": round(time.monotonic() - started, 3)})
        if path is not None:
            save_checkpoint(path, identity, {"state": training.state(), "rows": rows})
        if on_epoch is not None:
            on_epoch(rows)
    return rows


def train_reporting(
    training: EpochTraining,
    path: Path | None,
    identity: Mapping[str, Any],
    what: str,
    row: Callable[[Any], Row],
    key: str,
    report: Report,
    described: Callable[[Row], str] = lambda row: f", loss {row['loss']:.3f}",
) -> list[Row]:
    """`train_epochs` as a job does it, which reports its place under a key.

    The first report and those after every epoch have the unit `epoch`; the latter come once the epoch is kept.

    Args:
        described: of a finished epoch's row, more words behind its number.
    """
    epochs = training.epochs

    def on_begin(rows: list[Row]) -> None:
        note = f"continued after epoch {training.epoch}/{epochs}" if rows else ""
        report(Progress(key, training.epoch, epochs, "epoch", note))

    def told(done: int, total: int, message: str) -> None:
        report(Progress(key, done, total, "step", message))

    def on_step(done: int, steps: int, message: str) -> None:
        whole(told, training.epoch, epochs)(done, steps, message)

    def on_epoch(rows: list[Row]) -> None:
        note = f"epoch {training.epoch}/{epochs}{described(rows[-1])}"
        report(Progress(key, training.epoch, epochs, "epoch", note))  # may end it: the epoch is kept

    return train_epochs(training, path, identity, what, row, on_step, on_epoch, on_begin)


def save_checkpoint(path: Path, identity: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Replace the file by tensors and plain values, and what they follow from."""
    kept = io.BytesIO()  # torch, writing a file, hides that the disk is full
    torch.save({"identity": json.dumps(identity), **content}, kept)
    head = FORMAT + hashlib.sha256(kept.getbuffer()).hexdigest().encode() + b"\n"
    replace_file(path, lambda file: file.writelines([head, kept.getbuffer()]))


def load_checkpoint(path: Path, identity: Mapping[str, Any], what: str) -> dict[str, Any] | None:
    """The last saved state, on the CPU; None where there is no file.

    Raises:
        RunMismatchError: it has another identity.
        StorageError: the file cannot be read.
    """
    content = _read(path, what)
    if content is not None:
        refuse_another_run(path, json.loads(content["identity"]), as_plain(identity))
    return content


def stored_identity(path: Path, what: str) -> dict[str, Any]:
    """The identity of a checkpoint; empty where there is no file."""
    content = _read(path, what)
    return {} if content is None else dict(json.loads(content["identity"]))


def _read(path: Path, what: str) -> dict[str, Any] | None:
    with storage_errors(f"read {path}"):
        try:
            data = read_regular(path)
        except FileNotFoundError:
            return None
    remedy = f"copy it there again, or move it away: {what} is then begun again"
    with decoding(f"expected {what} of evonas in {path}", remedy, StorageError):
        content: dict[str, Any] = torch.load(_checked(data), map_location="cpu", weights_only=True)
        json.loads(content["identity"])
        return _renamed(content)


def _checked(data: bytes) -> io.BytesIO:
    """Bytes that torch wrote; an error where a bit has changed. Version 0.1.0 has the checksums of a zip file alone."""
    if data.startswith(FORMAT):
        end = len(FORMAT) + 65
        if hashlib.sha256(memoryview(data)[end:]).hexdigest().encode() + b"\n" != data[len(FORMAT) : end]:
            raise ValueError("it is damaged: the SHA-256 of its contents is not the one stored in it")
        return io.BytesIO(data[end:])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(record.compress_type != zipfile.ZIP_STORED for record in archive.infolist()):
            raise ValueError("its records are compressed, which evonas never does")
        damaged = archive.testzip()
        if damaged is not None:
            raise ValueError(f"it is damaged: the checksum of {damaged} is not the one stored in it")
    return io.BytesIO(data)


def _renamed(content: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint of version 0.1.0 in today's form: state, rows, and what else stands beside them."""
    if "history" in content:  # a supernet
        columns = ("epoch", "phase", "learning_rate", "arch_id", "params", "loss", "seconds", "genome")
        rows = [dict(zip(columns, values, strict=True)) for values in content.pop("history")]
        return {"identity": content.pop("identity"), "state": content, "rows": rows}
    if "search" in content:  # a search by gradient
        content["state"] = content.pop("search")
    elif "training" in content:  # a network of cells, on small images or on ImageNet
        state = content["state"] = content.pop("training")
        rows = [dict(zip(("epoch", "loss", "seconds"), values, strict=True)) for values in content.get("rows", [])]
        if "seconds" in content:
            rows = [{"epoch": state["epoch"], "loss": state["loss"], "seconds": content.pop("seconds")}]
        content["rows"] = rows
    return content
