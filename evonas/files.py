"""Crash-safe files: atomic replacement, checksummed lines, one writer at a time."""

import contextlib
import errno
import fcntl
import hashlib
import json
import math
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from evonas.errors import DataError, EvonasError, RunInUseError, StorageError

__all__ = [
    "check_writable",
    "decoding",
    "exists",
    "expanded",
    "holder",
    "open_regular",
    "read_json",
    "read_regular",
    "replace_file",
    "seal",
    "storage_errors",
    "sweep",
    "take_lock",
    "unseal",
    "waited_lock",
    "write_json",
]

_LARGEST_JSON = 2**26
"""Limit in bytes on a file of JSON; fits every configuration and genotype."""


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
            errno.EACCES: "allow it or choose another folder",
            errno.EFBIG: "raise the limit on file sizes",
            errno.ENAMETOOLONG: "choose a shorter name",
            errno.EISDIR: "choose the name of a file",
            errno.ENOTDIR: "choose another folder",
        }.get(error.errno or 0, "fix the cause")
        raise StorageError(
            f"could not {doing}: {error.strerror or error}; {remedy} and run the same command again "
            "(everything recorded so far is kept)"
        ) from error


@contextlib.contextmanager
def decoding(expected: str, remedy: str, kind: type[EvonasError] = DataError) -> Iterator[None]:
    """Context that turns whatever is raised over a damaged or foreign file into an error of one printable line.

    Decoders raise nearly everything: zlib.error, RuntimeError, NotImplementedError, TokenError, MemoryError, ...

    Args:
        expected: and where, such as `expected an adversarial set in PATH`.
        kind: error that is raised.
    """
    try:
        yield
    except Exception as error:
        cause = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        line = " ".join(f"{expected}: {cause[:500]}; {remedy}".split())
        raise kind("".join(letter if letter.isprintable() else "?" for letter in line)) from error


def exists(path: Path) -> bool:
    """Whether there is such a file or folder. OSError where that cannot be known: no permission, too long a name."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def open_regular(path: Path, limit: float = math.inf) -> IO[bytes]:
    """A file open for reading. OSError for a folder, a pipe, a device, and for more than `limit` bytes."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")
    if status.st_size > limit:
        raise OSError(errno.EINVAL, f"it has {status.st_size} bytes, the limit is {limit}")
    return open(path, "rb")


def read_regular(path: Path, limit: float = math.inf) -> bytes:
    """The bytes of a file; see `open_regular`."""
    with open_regular(path, limit) as file:
        return file.read()


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


def check_writable(path: Path) -> None:
    """Find out, before anything long begins, whether a file can be written; nothing of it stays.

    Raises:
        StorageError: the disk is full, the folder, or the nearest one above that is there, cannot be written or is a
            file, or the path is a folder.
    """
    with storage_errors(f"write {path}"):
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        folder = next(each for each in path.absolute().parents if each.exists())
        probe = folder / f".{path.name}.{os.getpid()}.tmp"
        try:
            with open(probe, "wb") as file:
                file.write(b"1")
                file.flush()
                os.fsync(file.fileno())
        finally:
            with contextlib.suppress(OSError):
                probe.unlink()


def sweep(folder: Path) -> None:
    """Remove the temporary files of killed processes, see `replace_file`, from a folder and all folders inside it.

    Those of a process that is alive stay: another command may be writing, such as an audit.
    """
    for leftover in folder.rglob(".*.[0-9]*.tmp"):
        process = leftover.name.split(".")[-2]
        if not (process.isdecimal() and Path(f"/proc/{process}").exists()):
            with contextlib.suppress(OSError):
                leftover.unlink()


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` as indented JSON, whole or not at all. ValueError for NaN and infinities: JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    replace_file(path, lambda file: file.write(text.encode()))


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. StorageError if the file cannot be read or holds something else."""
    with storage_errors(f"read {path}"):
        text = read_regular(path, _LARGEST_JSON)
    with decoding(f"expected JSON in {path}, got something else", "restore or remove it", StorageError):
        value = json.loads(text)
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


def holder(path: Path) -> int | None:
    """Process of this machine that holds the lock of a file; 0: none does; None: unknown here. No lock is taken.

    Read from /proc/locks, which names the file by its inode; what the process has open decides where it can be seen.
    """
    try:
        status, locks = path.stat(), Path("/proc/locks").read_text().splitlines()
    except FileNotFoundError:
        return 0 if Path("/proc/locks").exists() else None
    except OSError:
        return None
    for line in locks:
        words = line.split()
        if len(words) < 6 or "FLOCK" not in words or words[1] == "->":
            continue
        pid, (major, minor, inode) = int(words[4]), words[5].split(":")
        if int(inode) == status.st_ino:
            device = (int(major, 16), int(minor, 16)) == (os.major(status.st_dev), os.minor(status.st_dev))
            if device or _has_open(pid, status):
                return pid
    return 0


def _has_open(pid: int, status: os.stat_result) -> bool:
    try:
        return any(os.path.samestat(each.stat(), status) for each in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False


@contextlib.contextmanager
def waited_lock(path: Path, waits: Callable[[], object]) -> Iterator[None]:
    """Within, this process alone holds the lock of a file, which is there only meanwhile.

    Args:
        waits: called once where another process holds it, before this one waits.
    Raises:
        StorageError: the folder cannot be written, or its file system does not support locks.
    """
    with storage_errors(f"lock {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with storage_errors(f"lock {path}"):
            lock = open(path, "ab")  # noqa: SIM115
        with lock:
            try:
                take_lock(lock, path)
            except RunInUseError:
                waits()
                waits = _nothing
                with storage_errors(f"lock {path}"):
                    fcntl.flock(lock, fcntl.LOCK_EX)
            if os.fstat(lock.fileno()).st_nlink:  # else who held it has removed it, and another one may be new
                try:
                    yield
                finally:
                    with contextlib.suppress(OSError):
                        path.unlink()
                return


def _nothing() -> None: ...


def _compact(record: Mapping[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"), allow_nan=False)


def _checksum(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:16]
