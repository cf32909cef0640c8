"""The state of a run, finished or not, by reading alone: no lock is taken, and nothing is written."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from evonas.errors import ConfigurationError, StorageError
from evonas.files import decoding, exists, holder, read_json, read_regular, storage_errors, unseal
from evonas.runs.folder import LOCK, RunFolder, stored_searched

if TYPE_CHECKING:
    import pandas as pd

    from evonas.report import Searched
    from evonas.types import EvaluationResult

__all__ = ["Stage", "Status", "read_status"]


@dataclass(frozen=True)
class Stage:
    """A part of a run as its files show it."""

    name: str
    unit: str
    """Kind of what is counted: evaluations, epochs, measurements, parts."""
    done: int
    total: int | None = None
    """None: unknown."""
    failed: int = 0
    """Failed ones among those done."""
    seconds: float | None = None
    """Mean time of one; of an evaluation, its training alone."""
    unfinished: bool = False
    """It was begun, and the table that ends it is not there."""
    workers: int = 1
    """Processes that do it at the same time."""
    stopped: int = 0
    """Evaluations that early stopping ended, among those done."""

    @property
    def left(self) -> float | None:
        """Estimated seconds, with all workers busy; None where nothing to estimate from is known."""
        if self.total is None or self.seconds is None:
            return None
        left = max(0, self.total - self.done)
        return left * self.seconds / min(self.workers, max(left, 1))

    @property
    def complete(self) -> bool:
        return self.total is not None and self.done >= self.total


@dataclass(frozen=True, eq=False)
class Status:
    """State of a run."""

    path: Path
    method: str
    """Empty where no file says."""
    data: str
    process: int | None
    """Number of the process of this machine that writes it; 0: there is none; None: unknown."""
    idle: float
    """Seconds since a file of it was written."""
    stages: tuple[Stage, ...]
    """In their order."""
    generation: int | None = None
    """Latest generation with a finished evaluation."""
    front: pd.DataFrame | None = None
    """The front so far."""
    searched: Searched | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    """`options` and `settings` that it was begun with, where a file says; perhaps all of config.json."""
    notes: tuple[str, ...] = ()

    @property
    def complete(self) -> bool:
        """Whether all that has begun is done, and a search is among it."""
        search = [stage for stage in self.stages if stage.name == "search"]
        return bool(search) and all(stage.complete for stage in search) and not any(s.unfinished for s in self.stages)


def read_status(path: Path, cache: Path | None = None) -> Status:
    """The state of the run in a folder.

    Args:
        cache: folder in which adversarial sets are built.
    Raises:
        ConfigurationError: there is no run.
        StorageError: its files are no run's, or cannot be read.
    """
    folder = RunFolder(path)
    with storage_errors(f"read {path}"):
        if not exists(path) or not path.is_dir():
            raise ConfigurationError(f"expected the folder of a run, got {path}")
        names = {each.name for each in path.iterdir()}
        written = max((each.stat().st_mtime for each in path.rglob("*")), default=0.0)
    config, kept = folder.stored(), folder.kept_options()
    if not kept and not config and folder.config.name in names:
        kept = read_json(folder.config)  # of a method without a journal
    stages = [*_trainings(path, finished=bool(config))]
    if not config and not stages and not kept and LOCK not in names:
        raise ConfigurationError(f"expected the folder of a run, {path} holds nothing of one")
    process = holder(path / LOCK)
    begun = Status(path, "", "", process, max(0.0, time.time() - written), (), config=config or kept)
    if config:
        return _searched(begun, folder, config, stages)
    if process and cache is not None:
        stages = [*_sets(cache, process), *stages]
    settings = kept.get("settings", {})
    data = settings.get("data", "")
    return replace(begun, stages=tuple(stages), data="" if data == "auto" else str(data))


def _searched(begun: Status, folder: RunFolder, config: Mapping[str, Any], before: Sequence[Stage]) -> Status:
    """Status of a run that has a journal."""
    from evonas.report import front, population_table

    folder.open_stored()
    entries = folder.entries()
    searched = stored_searched(config)
    trained = [entry.result.seconds for entry in entries if entry.result.status != "failed"]
    search = Stage(
        "search",
        "evaluations",
        len(entries),
        config.get("evaluations"),
        len(entries) - len(trained),
        sum(trained) / len(trained) if trained else None,
        workers=_workers(config),
        stopped=sum(entry.result.status == "stopped" for entry in entries),
    )
    damage = "" if begun.process else folder.damage  # the last line of a run that is being written may be half there
    return replace(
        begun,
        method=searched.method,
        data=searched.data,
        stages=(*before, search, *_replicates(folder, config, searched, search), *_after(begun.path)),
        generation=max((entry.generation for entry in entries), default=None),
        front=front(population_table(entries, searched)),
        searched=searched,
        notes=(damage,) if damage else (),
    )


def _replicates(folder: RunFolder, config: Mapping[str, Any], searched: Searched, search: Stage) -> Iterator[Stage]:
    """The front evaluated again, once the search is over."""
    from evonas.runs.replicating import plan

    asked = config.get("replicates", {})
    if not (search.complete or exists(folder.replicate_journal(2))):
        return
    planned = plan(folder.front(searched), asked.get("replicates", 1), asked.get("budget", 0))
    total = sum(map(len, planned.values()))
    done: list[EvaluationResult] = []
    for number, networks in planned.items():
        keys = {entry.key for entry in networks}
        done += [entry.result for entry in folder.replicated(number) if entry.key in keys]
    trained = [result.seconds for result in done if result.ok]
    if total:
        yield Stage(
            "replicates",
            "evaluations",
            len(done),
            total,
            len(done) - len(trained),
            sum(trained) / len(trained) if trained else None,
            unfinished=len(done) < total,
            workers=_workers(config),
        )


def _workers(config: Mapping[str, Any]) -> int:
    """Processes of the executor; 1 for a run that was begun before config.json said so."""
    workers = config.get("workers", 1)
    return workers if type(workers) is int and workers > 0 else 1


def _trainings(path: Path, finished: bool) -> Iterator[Stage]:
    """Trainings before a search: a table of epochs beside each checkpoint.

    Args:
        finished: what came after it has begun.
    """
    for checkpoint in sorted(path.glob("*.pt")):
        table = checkpoint.with_suffix(".csv")
        seconds = _epochs(table)
        yield Stage(
            checkpoint.stem,
            "epochs",
            len(seconds),
            len(seconds) if finished else _total(checkpoint),
            seconds=sum(seconds) / len(seconds) if seconds else None,
        )


def _epochs(table: Path) -> list[float]:
    """Seconds of every epoch in a table, which may have several rows each; empty where it is not there yet."""
    with storage_errors(f"read {table}"):
        try:
            content = read_regular(table, 2**28)
        except FileNotFoundError:
            return []
    with decoding(f"expected a table of epochs in {table}", "restore or remove it", StorageError):
        table_rows = csv.DictReader(io.StringIO(content.decode(), newline=""))
        seconds = {row["epoch"]: float(row["seconds"]) for row in table_rows}
        if not all(map(math.isfinite, seconds.values())):
            raise ValueError("an epoch has no finite seconds")
        return [*seconds.values()]


@lru_cache(maxsize=16)
def _total(checkpoint: Path) -> int | None:
    """Epochs of a training, from what its checkpoint says it follows from; None where that does not say."""
    from evonas.training import stored_identity

    identity = stored_identity(checkpoint, "a checkpoint")
    stages = (identity.get("method") or {}).get("stages") if isinstance(identity.get("method"), dict) else None
    if stages:
        return sum(int(stage["epochs"]) for stage in stages.values())
    training = identity.get("training") or {}
    if "block_epochs" in training:
        return int(training["block_epochs"]) + int(training["joint_epochs"])
    return int(training["epochs"]) if "epochs" in training else None


def _after(path: Path) -> Iterator[Stage]:
    """Trainings to the end and measurements after a search: records in folders below the run's."""
    for records in sorted([*path.glob("*/rows.jsonl"), *path.glob("audit/*/rows.jsonl")]):
        with storage_errors(f"read {records}"):
            lines = [unseal(line) for line in read_regular(records, 2**30).splitlines(keepends=True)]
        whole = {
            tuple(str(line.get(name)) for name in ("kind", "arch_id", "digest")): str(line.get("status"))
            for line in lines
            if line
        }
        searched = records.parent.parent != path  # of `evonas audit`, which the run's own command does not go on with
        name = "audit as searched" if searched else records.parent.name
        tables = path / "audit.csv", records.parent / f"{name}.csv"
        unfinished = not (searched or any(table.exists() for table in tables))
        for kind, unit in (("trained", "networks trained"), ("measured", "measurements")):
            found = [status for (what, *_), status in whole.items() if what == kind]
            if found:
                yield Stage(name, unit, len(found), failed=found.count("failed"), unfinished=unfinished)


def _sets(cache: Path, process: int) -> Iterator[Stage]:
    """Adversarial sets that this process is building."""
    for ledger in sorted(cache.glob("*.parts/ledger.jsonl")):
        if holder(ledger) == process:
            with storage_errors(f"read {ledger}"):
                lines = read_regular(ledger, 2**28).splitlines(keepends=True)
            parts = sum(unseal(line) is not None for line in lines[1:])
            yield Stage(f"adversarial set {ledger.parent.name.removesuffix('.parts')}", "parts", parts)
