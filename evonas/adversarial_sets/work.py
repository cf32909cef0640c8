"""An unfinished set on disk: finished parts are kept, so that an interrupted building continues from them."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from safetensors.numpy import load, save

from evonas.errors import RunMismatchError
from evonas.files import replace_file, seal, storage_errors, take_lock, unseal

__all__ = ["BuildWork"]

LEDGER = "ledger.jsonl"
"""File in the folder of finished parts that says which ones there are."""

Arrays = Mapping[str, npt.NDArray[Any]]


class BuildWork:
    """Finished parts by name: the arrays of each in a file, its facts in one sealed line of a ledger.

    A context manager; inside it no other process can build the same set. A part with a damaged line or file counts as
    missing and is made again.

    Raises:
        RunMismatchError: the folder was begun with another identity.
        RunInUseError: another process is writing to the folder.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any]) -> None:
        self.folder = folder
        self.identity = json.loads(json.dumps(identity))
        self._facts: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        ledger = self.folder / LEDGER
        with storage_errors(f"open {ledger}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = open(ledger, "a+b")
        try:
            take_lock(self._file, ledger)
            self._file.seek(0)
            lines = [unseal(line) for line in self._file.read().splitlines(keepends=True)]
            records = [line for line in lines if line is not None]
            header = next((record["identity"] for record in records if "identity" in record), None)
            if header is not None and header != self.identity:
                names = [name for name in self.identity if header.get(name) != self.identity[name]]
                raise RunMismatchError(
                    f"{self.folder} was begun with another {', '.join(names)}; name another file with --out, "
                    "or remove that folder"
                )
            if header is None:  # new, or the first line is damaged: the identity of the parts is unknown
                self._file.truncate(0)
                self._append({"identity": self.identity})
            else:
                self._facts = {record["part"]: record for record in records if "part" in record}
                if lines[-1] is None:  # cut short by a crash
                    self._file.write(b"\n")
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def get(self, part: str) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]] | None:
        """(facts, arrays) of a finished part; None if it is missing."""
        facts = self._facts.get(part)
        try:
            content = (self.folder / f"{part}.safetensors").read_bytes()
        except OSError:
            return None
        if facts is None or hashlib.sha256(content).hexdigest() != facts["sha256"]:
            return None
        return facts["facts"], load(content)

    def put(self, part: str, facts: Mapping[str, Any], arrays: Arrays) -> None:
        """Store a finished part: first its file, then its line."""
        content = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
        replace_file(self.folder / f"{part}.safetensors", lambda file: file.write(content))
        self._append({"part": part, "sha256": hashlib.sha256(content).hexdigest(), "facts": dict(facts)})

    def remove(self) -> None:
        """Remove the folder, once the set is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _append(self, record: Mapping[str, Any]) -> None:
        with storage_errors(f"write {self.folder}"):
            self._file.write(seal(record))
            self._file.flush()
        if "part" in record:
            self._facts[record["part"]] = json.loads(json.dumps(record))
