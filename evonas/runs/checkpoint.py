"""A checkpoint of what trains epoch by epoch: one file with its identity, replaced whole, read without pickle."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from evonas.errors import StorageError
from evonas.files import replace_file, storage_errors
from evonas.search import refuse_another_run

__all__ = ["load_checkpoint", "save_checkpoint", "stored_identity", "write_rows"]


def save_checkpoint(path: Path, identity: Mapping[str, Any], content: Mapping[str, Any]) -> None:
    """Replace the file by tensors and plain values, and what they follow from."""
    replace_file(path, lambda file: torch.save({"identity": json.dumps(identity), **content}, file))


def load_checkpoint(path: Path, identity: Mapping[str, Any], what: str) -> dict[str, Any] | None:
    """What was saved last, on the CPU; None where there is no file.

    Args:
        what: it is, for messages: `a supernet`.
    Raises:
        RunMismatchError: it has another identity.
        StorageError: the file cannot be read.
    """
    state = _read(path, what)
    if state is not None:
        refuse_another_run(path, json.loads(state["identity"]), identity)
    return state


def stored_identity(path: Path, what: str) -> dict[str, Any]:
    """The identity of a checkpoint; empty where there is no file."""
    state = _read(path, what)
    return {} if state is None else dict(json.loads(state["identity"]))


def write_rows(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Replace a CSV file."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([columns, *rows])
    replace_file(path, lambda file: file.write(text.getvalue().encode()))


def _read(path: Path, what: str) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        with storage_errors(f"read {path}"):
            state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        json.loads(state["identity"])
    except StorageError:
        raise
    except Exception as error:  # torch says many things about a file that is not its own
        raise StorageError(f"expected {what} of evonas in {path}, got another or a damaged file; move it") from error
    return state
