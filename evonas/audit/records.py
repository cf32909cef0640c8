"""Finished trainings and measurements of an audit, on disk: sealed lines, and the weights that they name."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from evonas.errors import StorageError
from evonas.files import replace_file, seal, storage_errors, take_lock, unseal

__all__ = ["AuditRecords"]


@dataclass
class AuditRecords:
    """Finished trainings and measurements of a folder, by architecture and a digest of all that they follow from.

    Opened by `opened`, which lets one process write at a time. A line that is torn or altered counts as
    not written. Of several lines with one key the last one counts.
    """

    folder: Path
    _file: BinaryIO
    _lines: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    damaged: int = 0
    """Lines that are not whole."""

    @classmethod
    @contextlib.contextmanager
    def opened(cls, folder: Path) -> Iterator["AuditRecords"]:
        """The records of a folder, which is made where there is none.

        Raises:
            RunInUseError: another process writes them.
            StorageError: they cannot be read or written.
        """
        path = folder / "rows.jsonl"
        with storage_errors(f"open {path}"):
            folder.mkdir(parents=True, exist_ok=True)
            file = open(path, "a+b", buffering=0)  # noqa: SIM115
        with file:
            take_lock(file, path)
            records = cls(folder, file)
            records._read()
            yield records

    def _read(self) -> None:
        with storage_errors(f"read {self.path}"):
            self._file.seek(0)
            content = self._file.read()
            if content and not content.endswith(b"\n"):
                self._file.write(b"\n")  # what follows a torn line starts on its own
        for line in content.splitlines(keepends=True):
            record = unseal(line)
            if record is None or not {"kind", "arch_id", "digest"} <= record.keys():
                self.damaged += 1
            else:
                self._lines[str(record["kind"]), str(record["arch_id"]), str(record["digest"])] = record

    @property
    def path(self) -> Path:
        return self.folder / "rows.jsonl"

    def find(self, kind: str, arch: str, digest: str) -> dict[str, Any] | None:
        """The record `kind` (trained, measured) of an architecture; None where there is none."""
        return self._lines.get((kind, arch, digest))

    def add(self, kind: str, arch: str, digest: str, **values: Any) -> dict[str, Any]:
        """Append a line; when this returns, it is on disk."""
        record = {"kind": kind, "arch_id": arch, "digest": digest, **values}
        line = seal(record)
        with storage_errors(f"write {self.path}"):
            before = self._file.seek(0, os.SEEK_END)
            try:
                if self._file.write(line) != len(line):
                    raise OSError("the line was written in part")
                os.fsync(self._file.fileno())
            except OSError:
                with contextlib.suppress(OSError):
                    self._file.truncate(before)
                raise
        self._lines[kind, arch, digest] = record
        return record

    def weights_path(self, arch: str, digest: str) -> Path:
        return self.folder / f"{arch}-{digest[:8]}.safetensors"

    def keep_weights(self, arch: str, digest: str, weights: bytes) -> str:
        """Write the weights whole or not at all; gives the SHA-256 that `weights` asks for."""
        replace_file(self.weights_path(arch, digest), lambda file: file.write(weights))
        return hashlib.sha256(weights).hexdigest()

    def weights(self, arch: str, digest: str, sha256: str) -> bytes | None:
        """Weights that were kept; None where they are gone or not what was written."""
        try:
            content = self.weights_path(arch, digest).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            path = self.weights_path(arch, digest)
            raise StorageError(f"could not read {path}: {error.strerror}; make it readable, or remove it") from error
        return content if hashlib.sha256(content).hexdigest() == sha256 else None
