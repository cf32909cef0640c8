"""The journal: one sealed line for every finished evaluation. It is the checkpoint."""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from evonas.errors import RunMismatchError, StorageError
from evonas.files import seal, storage_errors, take_lock, unseal
from evonas.types import EvaluationResult, arch_id

__all__ = ["Entry", "Journal", "read_journal"]

FORMAT = "evonas-journal-1"


@dataclass(frozen=True)
class Entry:
    """A finished evaluation and its place in the search."""

    result: EvaluationResult
    """Of the canonical genome."""
    generation: int
    """In which the genome first appeared."""
    proposal: int
    """How many genomes the search had proposed before it."""

    @cached_property
    def key(self) -> str:
        return arch_id(self.result.genome)


class Journal:
    """Evaluations on disk, and in memory by the key of their canonical genome.

    Opening takes a lock, so that a second process is refused; reads what is whole; cuts off what is torn or altered
    and keeps a copy of the damaged file beside it. Of several lines with one key the last one counts.

    Args:
        path: the file; None keeps the journal in memory.
        identity: what makes it the same run. A file with another identity is refused with the difference.
        sync: wait for the disk after every line, so that it survives a power cut, too.
    Raises:
        RunInUseError: another process writes it.
        RunMismatchError: it belongs to another configuration.
        StorageError: it cannot be read or written, or is no journal.
    """

    def __init__(
        self, path: Path | str | None = None, identity: Mapping[str, Any] | None = None, sync: bool = True
    ) -> None:
        self.path = None if path is None else Path(path)
        self.damage = ""
        """One line about damage that was found and mended; empty where there was none."""
        self.entries: dict[str, Entry] = {}
        self._sync = sync
        self._lines = 0
        self._file: BinaryIO | None = None
        self._identity = dict(identity or {})
        if self.path is not None:
            try:
                self._open(self.path)
            except BaseException:
                self.close()
                raise

    def __enter__(self) -> "Journal":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        return len(self.entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self.entries.values())

    def get(self, key: str) -> Entry | None:
        return self.entries.get(key)

    def append(self, entry: Entry) -> None:
        """Record a finished evaluation; when this returns, the line is on disk."""
        self._write(_to_record(entry))
        self.entries[entry.key] = entry

    def close(self) -> None:
        """Release the file. What was recorded stays readable in memory."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: Path) -> None:
        with storage_errors(f"open {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        take_lock(self._file, path)
        with storage_errors(f"read {path}"):
            self._file.seek(0)
            content = self._file.read()
        header, entries, good = _parse(content)
        start = b'{"format":"' + FORMAT.encode() + b'"'
        if header is None and content[: len(start)] != start[: len(content)]:
            raise StorageError(
                f"expected a journal of evonas in {path}, got another file; move it or name another folder"
            )
        difference = [] if header is None else list(_differences(header["identity"], self._identity))
        if difference:
            raise RunMismatchError(
                f"{path} belongs to another run: {'; '.join(difference)}; "
                "give the same settings, or name another folder with --out"
            )
        if good < len(content):
            self._mend(path, content, good)
        if header is None:
            self._write({"format": FORMAT, "identity": self._identity})
        else:
            self._lines = 1 + len(entries)
            self.entries = {entry.key: entry for entry in entries}

    def _mend(self, path: Path, content: bytes, good: int) -> None:
        kept, lost = content[:good].count(b"\n"), content[good:].count(b"\n") + (not content.endswith(b"\n"))
        copies = (path.with_name(f"{path.name}.damaged-{n}") for n in itertools.count(1))
        copy = next(candidate for candidate in copies if not candidate.exists())
        with storage_errors(f"mend {path}"):
            copy.write_bytes(content)
            assert self._file is not None
            self._file.truncate(good)
            os.fsync(self._file.fileno())
        self.damage = (
            f"{path} was damaged after line {kept}: {lost} torn or altered line(s) were cut off "
            f"and will be evaluated again; the damaged file is kept as {copy.name}"
        )

    def _write(self, record: Mapping[str, Any]) -> None:
        if self._file is not None:
            line = seal({"line": self._lines, **record}) if self._lines else seal(record)
            with storage_errors(f"write {self.path}"):
                whole = self._file.seek(0, os.SEEK_END)
                try:
                    written = self._file.write(line)  # one call: a line is there or not, whatever signal comes
                    if written != len(line):
                        self._file.write(line[written:])  # raises what stopped the first part
                    if self._sync:
                        os.fsync(self._file.fileno())
                except OSError:
                    with contextlib.suppress(OSError):
                        self._file.truncate(whole)
                    raise
        elif self.path is not None:
            raise StorageError(f"{self.path} is closed; open the journal again to record more")
        self._lines += 1


def read_journal(path: Path) -> tuple[dict[str, Any], list[Entry]]:
    """Identity and entries of a journal, without its lock and without changing it: its good prefix.

    Raises:
        StorageError: there is none, or it is no journal.
    """
    with storage_errors(f"read {path}"):
        content = path.read_bytes()
    header, entries, _ = _parse(content)
    if header is None:
        raise StorageError(f"expected a journal of evonas in {path}, got another file or a damaged first line")
    return header["identity"], list({entry.key: entry for entry in entries}.values())


def _parse(content: bytes) -> tuple[dict[str, Any] | None, list[Entry], int]:
    """Header (None where it is not whole), entries, and the length of the good prefix in bytes."""
    header, entries, good = None, [], 0
    for number, line in enumerate(content.splitlines(keepends=True)):
        record = unseal(line)
        if record is None:
            break
        try:
            if number == 0:
                if record["format"] != FORMAT or not isinstance(record["identity"], dict):
                    break
                header = record
            elif record["line"] == number:
                entries.append(_to_entry(record))
            else:
                break
        except (KeyError, TypeError, ValueError):
            break
        good += len(line)
    return header, entries, good


def _to_record(entry: Entry) -> dict[str, Any]:
    result = entry.result
    return {
        "generation": entry.generation, "proposal": entry.proposal, "key": entry.key, "genome": list(result.genome),
        "objectives": dict(result.objectives), "status": result.status, "reason": result.reason, "seed": result.seed,
        "seconds": result.seconds,
    }  # fmt: skip


def _to_entry(record: Mapping[str, Any]) -> Entry:
    result = EvaluationResult(
        tuple(record["genome"]), record["objectives"], record["status"], record["reason"], record["seed"],
        record["seconds"],
    )  # fmt: skip
    return Entry(result, record["generation"], record["proposal"])


def _differences(recorded: Any, given: Any, name: str = "") -> Iterator[str]:
    """`key: recorded there, given here` for every leaf in which two identities differ."""
    if isinstance(recorded, Mapping) and isinstance(given, Mapping):
        for key in [*recorded, *(key for key in given if key not in recorded)]:
            inner = f"{name}.{key}" if name else str(key)
            yield from _differences(recorded.get(key, "nothing"), given.get(key, "nothing"), inner)
    elif _plain(recorded) != _plain(given):
        yield f"{name} is {_short(recorded)} there, {_short(given)} here"


def _plain(value: Any) -> Any:
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
