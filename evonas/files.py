"""Crash-safe files: atomic replacement, checksummed lines, one writer at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from evonas.errors import RunInUseError, StorageError

__all__ = [
    "expanded",
    "read_json",
    "replace_file",
    "seal",
    "storage_errors",
    "sweep",
    "take_lock",
    "unseal",
    "write_json",
]


@contextlib.contextmanager
def storage_errors(doing: str) -> Iterator[None]:
    """Context that turns an OSError into a StorageError of one line: what failed and what to do."""
    try:
        yield
    except OSError as error:
        remedy = {
            errno.ENOSPC: "free some space",
            errno.EDQUOT: "free some of your quota",
            errno.EROFS: "choose a folder that can be written",
            errno.EACCES: "choose a folder that can be written",
            errno.EFBIG: "raise the limit on file sizes",
        }.get(error.errno or 0, "fix the cause")
        raise StorageError(
            f"could not {doing}: {error.strerror or error}; {remedy} and run the same command again "
            "(everything recorded so far is kept)"
        ) from error


def expanded(path: Path | str) -> Path:
    """A path as a user gives it, `~` and `~user` replaced by their home; StorageError where there is none."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        name = Path(path).parts[0]
        raise StorageError(f"expected a path, got {path}: {name} has no home; write the folder out") from error


def replace_file(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file whole or not at all: temporary name, flush, fsync, rename.

    Args:
        write: called with the temporary file, open for binary writing.
    Raises:
        StorageError: the disk is full, or the folder cannot be written; an older file of that name is kept.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with storage_errors(f"write {path}"):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(temporary, "wb") as file:
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            with contextlib.suppress(OSError):
                temporary.unlink()


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes, see `replace_file`, from a folder and all folders inside it."""
    for leftover in folder.rglob(".*.[0-9]*.tmp"):
        with contextlib.suppress(OSError):
            leftover.unlink()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, whole or not at all. ValueError for NaN and infinities: JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. StorageError if the file cannot be read or holds something else."""
    with storage_errors(f"read {path}"):
        text = path.read_bytes()
    try:
        value = json.loads(text)
    except ValueError as error:
        raise StorageError(f"expected JSON in {path}, got something else ({error}); restore or remove it") from error
    if not isinstance(value, dict):
        raise StorageError(f"expected a JSON object in {path}, got {type(value).__name__}; restore or remove it")
    return value


def seal(record: Mapping[str, Any]) -> bytes:
    """One line of JSON, with a checksum over all fields as an additional last field `checksum`."""
    body = _compact(record)
    return f'{body[:-1]}{"," if record else ""}"checksum":"{_checksum(body)}"}}\n'.encode()


def unseal(line: bytes) -> dict[str, Any] | None:
    """The record of a sealed line; None if the line is cut short or altered."""
    try:
        record: dict[str, Any] = json.loads(line)
        del record["checksum"]
        return record if line == seal(record) else None
    except (ValueError, KeyError, AttributeError, TypeError, RecursionError):
        return None


def take_lock(file: IO[Any], path: Path) -> None:
    """Make this process the only writer of an open file until the file is closed or the process ends in any way.

    Raises:
        RunInUseError: another process holds the lock.
        StorageError: the file system does not support locks.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise RunInUseError(
            f"{path} is being written by another process; wait for it, stop it, or choose another folder"
        ) from error
    except OSError as error:
        raise StorageError(
            f"could not lock {path}: {error.strerror or error}; choose a folder on a file system that has locks"
        ) from error


def _compact(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
