"""A run on disk: its configuration, its journal, its lock, and what is exported from it."""

import contextlib
import itertools
import platform
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

from evonas._version import version_of
from evonas.errors import ConfigurationError, StorageError
from evonas.files import (
    decoding,
    exists,
    expanded,
    read_json,
    read_regular,
    replace_file,
    seal,
    storage_errors,
    sweep,
    take_lock,
    unseal,
    write_json,
)
from evonas.parts import fits
from evonas.report import (
    Chance,
    JointRun,
    Replicates,
    Searched,
    history,
    objective_values,
    plot_front,
    plot_history,
    population_table,
    read_genomes,
    write_tables,
)
from evonas.search import Entry, minimised, non_dominated, read_journal
from evonas.search.evaluations import evaluation_seed
from evonas.search.journal import lost_lines, stored_identity
from evonas.seeding import derive_seed

__all__ = ["EXPORTS", "RunFolder", "first_genomes", "joint_run", "stored_searched", "stored_space", "versions"]

EXPORTS = ("front.csv", "population.csv", "history.csv", "front.png", "history.png")
LOCK = "run.lock"

_SHAPE = {
    "settings": dict[str, Any],
    "identity": dict[str, Any],
    "notes": list[str],
    "versions": dict[str, Any],
    "options": str,
    "columns": list[str],
    "reference_point": dict[str, float],
    "measured": dict[str, dict[str, Any]],
    "replicates": dict[str, int],
}
"""Types of the entries of config.json."""

_SETTINGS = {"data": str, "adversarial_set": str, "plugin": list[str], "designs": list[str], "init_from": str | None}
"""Types of the settings that a run is continued with."""


@dataclass(frozen=True)
class RunFolder:
    """Files of a run; only the process that holds the lock writes them."""

    path: Path

    @property
    def config(self) -> Path:
        return self.path / "config.json"

    @property
    def journal(self) -> Path:
        return self.path / "journal.jsonl"

    def weights(self, arch_id: str) -> Path:
        """File of the weights of a network as it was searched."""
        return self.path / "weights" / f"{arch_id}.safetensors"

    def stored(self) -> dict[str, Any]:
        """The configuration that a run here was created with; empty where there is none yet.

        Raises:
            StorageError: config.json is not one of ours, or was altered, or there are tables that no journal accounts
                for; or the folder cannot be read.
        """
        with storage_errors(f"read {self.path}"):
            if not exists(self.config):
                foreign = [name for name in EXPORTS if exists(self.path / name)]
                if foreign and not exists(self.journal):
                    raise StorageError(
                        f"expected a new folder or one with a run, {self.path} holds {', '.join(foreign)} without a "
                        "config.json; move them or name another folder with --out"
                    )
                return {}
            searched = exists(self.journal)
        config = read_json(self.config)
        with self._configuration():
            _check(config, stored_identity(self.journal) if searched else {})
        return config if searched else {}

    def open_stored(self) -> dict[str, Any]:
        """The configuration of the run here. ConfigurationError where there is none."""
        config = self.stored()
        if not config:
            raise ConfigurationError(f"expected a run folder with config.json and journal.jsonl, {self.path} is none")
        with self._configuration():
            _require(config, "columns", "reference_point")
        return config

    def _configuration(self) -> contextlib.AbstractContextManager[None]:
        """Context of reading config.json, see `decoding`."""
        remedy = "restore it, or move it away and give the command again that began the run"
        return decoding(f"expected the configuration of a run in {self.config}", remedy, StorageError)

    def checkpoint_identity(self) -> dict[str, Any]:
        """The identity of a stage that trains before there is a journal; empty where none was begun."""
        from evonas.training import stored_identity as checkpoint_identity

        for path in sorted(self.path.glob("*.pt")):
            return checkpoint_identity(path, "a checkpoint")
        return {}

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """No other process writes the run meanwhile; where nothing was written, nothing stays behind, no folder either.

        Raises:
            RunInUseError: another process writes it.
            StorageError: the folder cannot be written.
        """
        with storage_errors(f"open {self.path}"):
            made = [path for path in (self.path, *self.path.parents) if not exists(path)]
            before = set() if made else {path.name for path in self.path.iterdir()}
            self.path.mkdir(parents=True, exist_ok=True)
            lock = open(self.path / LOCK, "ab")  # noqa: SIM115
        with lock:
            take_lock(lock, self.path)
            try:
                sweep(self.path)
                yield
            finally:
                with contextlib.suppress(OSError):
                    if LOCK not in before and {path.name for path in self.path.iterdir()} == before | {LOCK}:
                        (self.path / LOCK).unlink()
                        for path in made:
                            path.rmdir()

    def keep_options(self, options: str, settings: Mapping[str, Any]) -> None:
        """Write into the lock's file what the process that holds it was asked for: before a search nothing else says.

        In place, not by a new file: that would be another lock.

        Args:
            options: module of the options' class.
        """
        with storage_errors(f"write {self.path / LOCK}"), open(self.path / LOCK, "r+b") as file:
            file.write(seal({"options": options, "settings": settings}))
            file.truncate()

    def kept_options(self) -> dict[str, Any]:
        """`options` and `settings` that the last process here was asked for; empty where nothing says."""
        with storage_errors(f"read {self.path / LOCK}"):
            try:
                content = read_regular(self.path / LOCK, 2**26)
            except FileNotFoundError:
                return {}
        return unseal(content) or {}

    def entries(self) -> list[Entry]:
        """Everything evaluated so far; a run that is going on may be read, too."""
        return read_journal(self.journal)[1]

    def front(self, searched: Searched) -> list[Entry]:
        """The networks that no other one dominates, in the order of front.csv."""
        entries = self.entries()
        values = objective_values(entries, searched)
        return sorted(
            (entries[place] for place in non_dominated(values)),
            key=lambda entry: (minimised(entry.result.objectives, searched.objectives, searched.maximize), entry.key),
        )

    def replicate_journal(self, number: int) -> Path:
        """Journal of the front's evaluations by the seed of this number, 2 and up."""
        return self.path / "replicates" / f"{number}.jsonl"

    def replicated(self, number: int) -> list[Entry]:
        """The evaluations by the seed of this number; empty where there is no journal of them.

        StorageError where the journal is another run's.
        """
        path = self.replicate_journal(number)
        if not exists(path):
            return []
        own = stored_identity(self.journal)
        identity, entries = read_journal(path, own)
        if identity != own:
            raise StorageError(f"expected further evaluations of this run in {path}, got another run's; move it away")
        seed = derive_seed(own["seed"], "replicate", number)
        return [entry for entry in entries if entry.result.seed == evaluation_seed(seed, entry.key)]

    def replicates(self, searched: Searched) -> Replicates | None:
        """The networks of the front that were evaluated again by other seeds; None where none was."""
        further: dict[str, list[Entry]] = {}
        for number in itertools.count(2):
            if not exists(self.replicate_journal(number)):
                break
            for entry in self.replicated(number):
                if entry.result.ok:
                    further.setdefault(entry.key, []).append(entry)
        if not further:
            return None
        again = [entry for entry in self.front(searched) if entry.key in further]
        return Replicates(searched, again, [further[entry.key] for entry in again]) if again else None

    @property
    def damage(self) -> str:
        """A line where lines of the journal are torn or altered; empty where none is."""
        lost = lost_lines(self.journal)
        if not lost:
            return ""
        return (
            f"{self.journal} is damaged: {lost} torn or altered line(s) are left out; "
            "the command that began the run evaluates them again"
        )

    def write_config(self, config: Mapping[str, Any]) -> str:
        """Write config.json; a run that is continued keeps its results, and the notes and versions it began with.

        Returns:
            One line where it is continued with other versions, which may round differently; else nothing.
        """
        begun, now = self.stored(), versions()
        kept: dict[str, Any] = {name: begun[name] for name in ("notes", "versions", "results") if name in begun}
        write_json(self.config, {**config, "versions": now, **kept})
        before = kept.get("versions", now)
        changed = [f"{name} {before[name]}, now {now.get(name)}" for name in before if before[name] != now.get(name)]
        if not changed:
            return ""
        return f"begun with {'; '.join(changed)}: what is evaluated from here on may round differently"

    def log_failure(self, name: str, reason: str, traceback: str) -> str:
        """Write failures.log, and say where it is; nothing of either without a traceback."""
        if not traceback:
            return ""
        log = self.path / "failures.log"
        text = f"{name}: {reason}\n\n{traceback}"
        replace_file(log, lambda file: file.write(text.encode()))
        return f"; its traceback is in {log}"

    def export(self, entries: Sequence[Entry], searched: Searched) -> None:
        """Write tables, pictures and the results in config.json, each whole or not at all."""
        table, rows, again = population_table(entries, searched), history(entries, searched), self.replicates(searched)
        write_tables(self.path, table, rows, {} if again is None else again.table())
        found: dict[str, Any] = {}
        if rows and rows[-1].rank_correlation:
            found["rank_correlation_with_clean_error"] = rows[-1].rank_correlation
        if rows and (stops := rows[-1].stops) is not None:
            found["early_stop"] = {**stops._asdict(), "share_wrong": stops.share, "interval": list(stops.interval)}
        if again is not None:
            found["replicates"] = again.summary()
        if found:
            write_json(self.config, {**read_json(self.config), "results": found})
        plot_front(self.path / "front.png", table, searched)
        plot_history(self.path / "history.png", rows, searched)


def _check(config: Mapping[str, Any], journalled: Mapping[str, Any]) -> None:
    """An error unless the entries of config.json have their types, and its identity is that of the journal."""
    _require(config, "settings", "identity")
    for shape, values in ((_SHAPE, config), (_SETTINGS, config["settings"])):
        for name, hint in shape.items():
            if name in values and not fits(values[name], hint):
                raise ConfigurationError(f"its {name} is {values[name]!r:.60}")
    if {"columns", "measured"} <= config.keys() and config["columns"] != [*config["measured"]]:
        raise ConfigurationError("its columns are not those that it measured")
    if journalled and config["identity"] != journalled:
        raise ConfigurationError("its identity is not that of the journal")


def _require(config: Mapping[str, Any], *names: str) -> None:
    for name in names:
        if name not in config:
            raise ConfigurationError(f"it lacks {name}")


def stored_space(identity: Mapping[str, Any]) -> Any:
    """The space of a stored run; None where no table has it, such as one of a script."""
    from evonas.spaces import SPACES

    given = {name: tuple(value) if isinstance(value, list) else value for name, value in identity.items()}
    kind: Any = SPACES.get(str(given.pop("name")))
    known = {each.name for each in fields(kind)} if is_dataclass(kind) else set()
    return kind(**given) if given.keys() <= known else None


def stored_searched(config: Mapping[str, Any]) -> Searched:
    """Description of a search for tables, from config.json: no data set is loaded.

    Of a space that is in no table, such as one of a script, failed rows have no costs.
    """
    identity = config["identity"]
    space = stored_space(identity["space"])
    n_classes = identity["data"]["n_classes"]
    objectives = tuple(identity["search"]["objectives"])
    with decoding("expected the configuration of a run in its config.json", "restore it", StorageError):
        return Searched(
            identity["method"],
            identity["data"]["name"],
            objectives,
            tuple(identity["search"]["maximize"]),
            tuple(config["columns"]),
            tuple(config["reference_point"][name] for name in objectives),
            {name: str(measured["about"]) for name, measured in config.get("measured", {}).items()},
            None if space is None else lambda genome: space.cost(genome, n_classes),
            Chance.of(n_classes, identity["data"]["validation"], config.get("measured", {})),
        )


def joint_run(folder: RunFolder, name: str) -> JointRun:
    """A run as a joint front needs it.

    Raises:
        ConfigurationError: there is no run in the folder.
    """
    config = folder.open_stored()
    identity = config["identity"]
    space, measured = str(identity["space"]["name"]), config.get("measured", {})
    return JointRun(name, stored_searched(config), space, identity["data"], measured, folder.entries())


def first_genomes(source: str) -> list[list[int]]:
    """Genomes of a run folder's population.csv or of a table, best first. ConfigurationError where there are none."""
    path = expanded(source)
    with storage_errors(f"read {path}"):
        folder = exists(path) and path.is_dir()
    genomes = read_genomes(path / "population.csv" if folder else path)
    if not genomes:
        raise ConfigurationError(f"expected genomes to start from in {source}, got none with status ok")
    return genomes


def versions() -> dict[str, str]:
    """Versions of everything that can change a number."""
    packages = ("evonas", "torch", "torchvision", "pymoo", "numpy")
    return {"python": platform.python_version(), **{name: version_of(name) for name in packages}}
