"""The journal: one sealed line for every finished evaluation. It is the checkpoint."""

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple

from evonas.errors import RunInUseError, RunMismatchError, StorageError
from evonas.executors import ignore
from evonas.files import open_regular, read_regular, replace_file, seal, storage_errors, take_lock, unseal
from evonas.parts import as_plain, refuse_another_run
from evonas.types import Curve, EvaluationResult, arch_id

__all__ = ["Entry", "Journal", "Prediction", "lost_lines", "read_journal", "stored_identity"]

FORMAT = "evonas-journal-1"


class Prediction(NamedTuple):
    """Words of a surrogate on a genome, before it is evaluated."""

    predicted: Mapping[str, tuple[float, float]] | None = None
    """Learned objective -> mean and deviation of what is found, in natural values; None: nothing was predicted."""
    assisted: bool = False
    """The surrogate chose it; else it was bred by evolution alone."""


@dataclass(frozen=True)
class Entry:
    """A finished evaluation and its place in the search."""

    result: EvaluationResult
    """Result of the canonical genome."""
    generation: int
    """Generation in which the genome first appeared."""
    proposal: int
    """Number of genomes proposed before it."""
    seen: int | None = None
    """Number of results recorded before it was bred; None in a search by generations."""
    proposed: int | None = None
    """Number of genomes proposed when it was recorded; None in a search by generations."""
    predicted: Mapping[str, tuple[float, float]] | None = None
    """See `Prediction`."""
    assisted: bool = False
    """See `Prediction`."""

    @cached_property
    def key(self) -> str:
        return arch_id(self.result.genome)


class Journal:
    """Evaluations on disk, and in memory by the key of their canonical genome.

    Opening takes a lock, so that a second process is refused, and keeps every whole line of this run, wherever it
    stands. Where others are torn or altered, or lines were moved, doubled or given other ends, the file is written
    again and a copy of the damaged one stays beside it. Every line carries a digest of the identity, so that a damaged
    first line can be written again. Of several lines with one key the last one counts.

    Args:
        path: file of the journal; None keeps it in memory.
        identity: identity of the run. A file with another one is refused with the difference.
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
        """One line about damage that was found and mended; empty without damage."""
        self.entries: dict[str, Entry] = {}
        self.lines: list[Entry] = []
        """Every recorded entry, in this order, including those that a later line of the same key replaced."""
        self.spare: dict[str, Entry] = {}
        """Whole entries behind a lost line of an asynchronous search: their moment is unknown, their results are not.
        They are out of the file, and recorded again when their genome is proposed."""
        self.before_line: Callable[[Entry], object] = ignore
        """Called with an entry before its line is written."""
        self._sync = sync
        self._file: BinaryIO | None = None
        self._identity = as_plain(identity or {})  # as it comes back from the file
        self._run = _run_of(self._identity)
        self._head = b""  # the file's first line
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
        """Record a finished evaluation. The line is on disk when this returns."""
        self.before_line(entry)
        if self._file is not None:
            with storage_errors(f"write {self.path}"):
                self._put(self._line(len(self.lines) + 1, entry))
        elif self.path is not None:
            raise StorageError(f"{self.path} is closed; open the journal again to record more")
        self.entries[entry.key] = entry
        self.lines.append(entry)

    def sort(self) -> None:
        """Put the lines of a finished search in the order of its proposals, in which one slot writes them.

        The file is replaced as a whole, so that nothing is lost whenever the process ends. One with failures that were
        tried again stays as it is: of several lines with one key the last one counts.
        """
        ordered = sorted(self.lines, key=lambda entry: (entry.generation, entry.proposal))
        twice = len(self.entries) < len(self.lines)
        if twice or ordered == self.lines or self._file is None or self.path is None:
            return
        lines = [self._line(number, entry) for number, entry in enumerate(ordered, 1)]
        content = b"".join([self._head, *lines])
        temporary = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with storage_errors(f"write {self.path}"), contextlib.ExitStack() as unfinished:
            unfinished.callback(temporary.unlink, missing_ok=True)
            file = unfinished.enter_context(open(temporary, "w+b", buffering=0))
            take_lock(file, temporary)  # before it has the name under which others look for it
            while content:  # a nearly full disk takes a part, and then raises
                content = content[file.write(content) :]
            os.fsync(file.fileno())
            os.replace(temporary, self.path)
            unfinished.pop_all()
        self._file.close()
        self._file, self.lines = file, ordered

    def close(self) -> None:
        """Release the file. The entries stay readable in memory."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _open(self, path: Path) -> None:
        with storage_errors(f"open {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = open(path, "a+b", buffering=0)  # noqa: SIM115
        take_lock(self._file, path)
        with storage_errors(f"read {path}"):
            if not os.path.samestat(os.fstat(self._file.fileno()), path.stat()):  # it was being sorted
                raise RunInUseError(f"{path} is being written by another process; wait for it, or stop it")
            self._file.seek(0)
            content = self._file.read()
        contents = _parse(content, self._run)
        if contents.identity is None and not contents.runs and not _begins_as_journal(content):
            raise StorageError(
                f"expected a journal of evonas in {path}, got another file; move it or name another folder"
            )
        if contents.identity is not None:
            refuse_another_run(path, contents.identity, self._identity)
        elif contents.runs and self._run not in contents.runs:
            raise RunMismatchError(
                f"{path} belongs to another run: its first line is damaged, and its other lines are of another "
                "configuration; give the same settings, or name another folder"
            )
        self._head = seal({"format": FORMAT, "identity": contents.identity or self._identity})
        whole = self._head + contents.content
        if whole != content:
            self._mend(path, content, whole, contents)
        self.lines, self.spare = contents.entries, contents.spare
        self.entries = {entry.key: entry for entry in contents.entries}
        with storage_errors(f"read what was damaged in {path}"):
            for copy in sorted(path.parent.glob(f"{path.name}.damaged-*")):  # not all used yet?
                kept = _parse(read_regular(copy), self._run)
                before = {entry.key: entry for entry in kept.entries} | kept.spare
                self.spare = {key: entry for key, entry in before.items() if key not in self.entries} | self.spare

    def _mend(self, path: Path, content: bytes, whole: bytes, contents: "_Contents") -> None:
        """Keep a copy of the damaged file, and write the whole lines; those before the first damage stay untouched."""
        assert self._file is not None
        shorter = min(len(content), len(whole))
        alike = next((at for at in range(shorter) if content[at] != whole[at]), shorter)
        line = whole[:alike].count(b"\n") + 1
        if content:
            copies = (path.with_name(f"{path.name}.damaged-{n}") for n in itertools.count(1))
            copy = next(candidate for candidate in copies if not candidate.exists())
            replace_file(copy, lambda file: file.write(content))
            kept = len({entry.key for entry in contents.entries} | contents.spare.keys())
            self.damage = (
                f"{path} was damaged at line {line}: {contents.lost} torn or altered line(s) "
                f"left out, {kept} evaluations kept; the damaged file is kept as {copy.name}"
            )
        with storage_errors(f"write {path}"):
            self._file.truncate(alike)
            self._put(whole[alike:])

    def _line(self, number: int, entry: Entry) -> bytes:
        return seal({"line": number, "run": self._run, **_to_record(entry)})

    def _put(self, content: bytes) -> None:
        """Append, or leave the file as it was."""
        assert self._file is not None
        before = self._file.seek(0, os.SEEK_END)
        try:
            written = self._file.write(content)  # one call: a line is there or not, whatever signal comes
            if written != len(content):
                self._file.write(content[written:])  # raises what stopped the first part
            if self._sync:
                os.fsync(self._file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(before)
            raise


def read_journal(path: Path, own: Mapping[str, Any] | None = None) -> tuple[dict[str, Any], list[Entry]]:
    """Identity and entries of a journal, without its lock and without changing it: its whole lines.

    Args:
        own: the identity it should have; its lines are then known where the first one is damaged, too.
    Raises:
        StorageError: there is none, or it is no journal.
    """
    with storage_errors(f"read {path}"):
        content = read_regular(path)
    run = _run_of(own) if own else ""
    contents = _parse(content, run)
    identity = contents.identity
    if identity is None and own and (run in contents.runs or (not contents.runs and _begins_as_journal(content))):
        identity = dict(own)
    if identity is None:
        raise StorageError(
            f"expected a journal of evonas in {path}, got another file or a damaged first line; "
            "the command that began the run mends its own journal"
        )
    return identity, list({**{entry.key: entry for entry in contents.entries}, **contents.spare}.values())


def _begins_as_journal(content: bytes) -> bool:
    """Whether a file starts as journals do, as far as it goes."""
    start = b'{"format":"' + FORMAT.encode() + b'"'
    return content[: len(start)] == start[: len(content)]


def lost_lines(path: Path) -> int:
    """Number of torn or altered lines; 0 where there is no journal. StorageError if it cannot be read."""
    with storage_errors(f"read {path}"):
        return _parse(read_regular(path)).lost if path.exists() else 0


def stored_identity(path: Path) -> dict[str, Any]:
    """The identity in a journal's first line; empty where that is damaged. StorageError if it cannot be read."""
    with storage_errors(f"read {path}"), open_regular(path) as file:
        line = file.readline(2**26)
    return _identity_of(unseal(line.rstrip(b"\r\n") + b"\n")) or {}


class _Contents(NamedTuple):
    """The whole lines of a journal."""

    identity: dict[str, Any] | None
    """None if the first line is not whole."""
    runs: set[str]
    """Digests of the identities of all whole lines."""
    entries: list[Entry]
    """Entries of this run, in the order in which they were recorded."""
    spare: dict[str, Entry]
    """See `Journal.spare`."""
    content: bytes
    """The entries as lines, numbered anew."""
    lost: int
    """Lines that are not whole, blank ones apart."""


def _parse(content: bytes, run: str = "") -> _Contents:
    """The whole lines of a journal in their order, whatever ends them.

    Args:
        run: digest of the identity, for a file that has lost its own.
    """
    lines = content.splitlines()
    records = [unseal(line + b"\n") for line in lines]
    identity = next((found for found in map(_identity_of, records) if found is not None), None)
    run = run if identity is None else _run_of(identity)
    runs: set[str] = set()
    found: dict[tuple[int, str], tuple[Entry, dict[str, Any]]] = {}
    for record in filter(None, records):
        try:
            entry = _to_entry(record)
            runs.add(str(record["run"]))
            if record["run"] == run:
                found[int(record["line"]), entry.key] = entry, record
        except (KeyError, TypeError, ValueError):
            continue
    entries: list[Entry] = []
    spare: dict[str, Entry] = {}
    whole: list[bytes] = []
    for (number, key), (entry, record) in sorted(found.items(), key=lambda item: item[0][0]):
        if entry.proposed is not None and (spare or number != len(entries) + 1):
            spare[key] = entry
        else:
            entries.append(entry)
            whole.append(seal({**record, "line": len(entries)}))
    lost = sum(record is None and bool(line.strip()) for line, record in zip(lines, records, strict=True))
    return _Contents(identity, runs, entries, spare, b"".join(whole), lost)


def _run_of(identity: Mapping[str, Any]) -> str:
    """Digest of an identity, carried by all lines."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]


def _identity_of(record: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if record is None or record.get("format") != FORMAT or not isinstance(record.get("identity"), dict):
        return None
    return dict(record["identity"])


def _to_record(entry: Entry) -> dict[str, Any]:
    result = entry.result
    moment = {} if entry.proposed is None else {"seen": entry.seen, "proposed": entry.proposed}
    predicted = {} if entry.predicted is None else {"predicted": entry.predicted, "assisted": entry.assisted}
    return {
        "generation": entry.generation,
        "proposal": entry.proposal,
        **moment,
        **predicted,
        "key": entry.key,
        "genome": list(result.genome),
        "objectives": dict(result.objectives),
        "status": result.status,
        "reason": result.reason,
        "seed": result.seed,
        "seconds": result.seconds,
        **({} if result.curve is None else {"curve": asdict(result.curve)}),
    }


def _to_entry(record: Mapping[str, Any]) -> Entry:
    result = EvaluationResult(
        tuple(record["genome"]),
        record["objectives"],
        record["status"],
        record["reason"],
        record["seed"],
        record["seconds"],
        _to_curve(record.get("curve")),
    )
    return Entry(
        result,
        record["generation"],
        record["proposal"],
        record.get("seen"),
        record.get("proposed"),
        _to_predicted(record.get("predicted")),
        bool(record.get("assisted", False)),
    )


def _to_curve(record: Any) -> Curve | None:
    """KeyError, TypeError or ValueError for anything but a curve."""
    if record is None:
        return None
    rungs = tuple(
        (int(epoch), {str(name): float(value) for name, value in dict(values).items()})
        for epoch, values in record["rungs"]
    )
    stopped, entered = record["stopped"], record["entered"]
    return Curve(
        int(record["epochs"]),
        rungs,
        None if stopped is None else int(stopped),
        None if entered is None else bool(entered),
    )


def _to_predicted(record: Any) -> dict[str, tuple[float, float]] | None:
    """ValueError or TypeError for anything but pairs of numbers."""
    if record is None:
        return None
    return {str(name): (float(mean), float(deviation)) for name, (mean, deviation) in dict(record).items()}
