"""A run: its folder and lock, what was stored there, its identity, its data, and where it computes."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from evonas.adversarial_sets import SET_PRESETS, AdversarialSet, BuildPlan, SetSettings, load_adversarial_set
from evonas.attacks.inference import Precision
from evonas.audit import (
    Audit,
    AuditNetwork,
    AuditRecords,
    FinalTraining,
    Measured,
    lightest,
    measurements,
)
from evonas.data import Dataset, load_data, resolve_data
from evonas.data.out_of_distribution import load_ood_data, resolve_ood_data
from evonas.errors import ConfigurationError, RunMismatchError
from evonas.evaluation import BuildingSpace, Evaluator, Prepare, TrainFromScratch, TrainsCandidates
from evonas.executors import Executor
from evonas.objectives import AdversarialSetError, Objective, OodAupr
from evonas.parts import as_plain, part_identity, refuse_another_run
from evonas.report import shown, write_rows
from evonas.runs.execution import Hardware, make_executor, resolve_hardware
from evonas.runs.folder import RunFolder
from evonas.runs.interrupt import interruptible
from evonas.runs.objectives import AttackOptions, CertifyOptions, make_objectives
from evonas.runs.options import AuditOptions, DataOptions, RunOptions, as_json
from evonas.runs.plugins import load_plugins, plugin_identity, refuse_without_plugins
from evonas.runs.recording import Recorder, Searching
from evonas.runs.result import Result
from evonas.runs.screen import Pace, Screen
from evonas.runs.sets import check_set, find_or_build, set_path
from evonas.search import EvolutionConfig, Journal, evolve, score
from evonas.training import EpochTraining, Recipe, TrainingConfig, standard, train_epochs
from evonas.training.checkpoints import Row
from evonas.types import Genome, Progress, Space

__all__ = ["Run", "SearchSpace"]


class SearchSpace(Space, BuildingSpace, Protocol):
    """A space that can be searched and built."""


class Run:
    """One run in its folder, from its first line on the screen to its tables; made by `Run.open`.

    Every `auto` is resolved as the run in the folder was begun, where there is one. Parts that decide its results are
    collected in `identity` while they are used, and another run is refused as soon as one of them differs.
    """

    def __init__(self, method: str, options: RunOptions, folder: RunFolder, screen: Screen, reading: bool) -> None:
        self.method, self.options, self.folder, self.screen = method, options, folder, screen
        self.reading = reading
        """Whether nothing is trained, built or written: the run is only looked at."""
        self.stored = folder.stored()
        self.checkpoint = {} if self.stored else folder.checkpoint_identity()
        refuse_without_plugins(self.stored, options.plugin)
        self.identity: dict[str, Any] = {}
        self.notes: list[str] = []
        """Choices made for the user, one line each."""
        self.use(method=method)
        if options.plugin:
            self.use(plugins=plugin_identity(options.plugin))
        self.hardware: Hardware = resolve_hardware(options.execution, self.begun() or self.checkpoint)
        self.use(seed=options.seed, device=torch.device(self.device).type, threads=self.threads)

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        method: str,
        options: RunOptions,
        name: str = "",
        label: str = "",
        console: Console | None = None,
        reading: bool = False,
    ) -> Iterator["Run"]:
        """Begin a run in its folder, or continue the one that is there.

        Args:
            method: what tables call it.
            name: of its folder, RUNS/NAME-DATA-PRESET-seedN; the method by default.
            label: instead of the data set's name there.
            reading: look at the run in `options.out` without changing anything.
        Raises:
            RunInUseError: another process writes the run.
            RunMismatchError: the folder holds another method's run.
            ConfigurationError, StorageError: the folder or the machine cannot be used as asked.
        """
        load_plugins(options.plugin)
        data, because = ("", "") if label else _data_name(options)
        run_name = f"{name or method}-{label or _short(data)}-{options.preset}-seed{options.seed}"
        folder = RunFolder((options.out or Path("runs") / run_name).expanduser())
        with interruptible() as interruption, contextlib.nullcontext() if reading else folder.locked():
            run = cls(method, options, folder, Screen(console, interruption.check), reading)
            run._data_name = data
            run.note(because)
            yield run

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def seed(self) -> int:
        return self.options.seed

    @property
    def device(self) -> str:
        """Of the evaluations."""
        return self.hardware.device

    @property
    def threads(self) -> int:
        """CPU threads of an evaluation."""
        return self.hardware.threads

    def begun(self, *path: str) -> Any:
        """What the identity of the run in the folder has there; None where there is none."""
        value: Any = self.stored.get("identity", {})
        for name in path:
            value = value.get(name) if isinstance(value, Mapping) else None
        return value

    def note(self, text: str) -> None:
        """Say a choice that was made for the user, and keep it for config.json."""
        if text and text not in self.notes:
            self.notes.append(text)
            if not self.reading:
                self.screen.say(text)

    def use(self, **parts: Any) -> None:
        """Make parts a piece of the run's identity.

        Raises:
            RunMismatchError: the run in the folder was begun with another one.
        """
        plain = as_plain(parts)
        self.identity |= plain
        begun = self.begun()
        if begun:  # before hours are spent on a run that is then refused; the journal compares all of it
            refuse_another_run(self.folder.journal, {name: _there(begun, name, plain[name]) for name in plain}, plain)

    def precision(self, asked: str, begun: Any, depthwise: bool = False, what: str = "") -> Precision:
        """A resolved precision.

        Args:
            begun: what the run in the folder was begun with; None: there is none.
            depthwise: whether the networks have depthwise convolutions.
            what: it is of, for the line on the screen.
        """
        if asked == "auto" and begun:
            self.note(f"precision{f' of the {what}' if what else ''}: {begun}, as this run was started with")
            return "bf16" if begun == "bf16" else "fp32"
        precision, note = self.hardware.precision(asked, self.options.execution.gpus_per_task, depthwise)
        self.note(f"{what}: {note}" if what and note else note)
        return precision

    def needs_device_here(self, what: str) -> None:
        """ConfigurationError where this process has no GPU for what it trains itself."""
        if self.hardware.here != self.hardware.device:
            raise ConfigurationError(
                f"expected a GPU where {what}, this process has none; start it on a machine with one, "
                "such as with `ray job submit --entrypoint-num-gpus 1`"
            )

    def load_data(self, options: DataOptions | None = None) -> Dataset:
        """The images of the run, in its four parts."""
        given = options or self.options.data
        data = load_data(self._data_name, given.data_root, self.split_seed, given.train_limit, given.val_limit)
        self.use(data=data.identity())
        self.note(self.hardware.note)
        return data

    @property
    def split_seed(self) -> int:
        """Seed of the data's parts."""
        given = self.options.data.split_seed
        return self.seed if given is None else given

    def ood_data(self, data: Dataset, begun: str | None = None) -> Dataset:
        """Images of none of the data's classes, chosen as the run was begun or by what is there."""
        asked = self.options.data.ood_data
        if asked == "auto" and begun:
            name, note = begun, f"out-of-distribution images: {begun}, as this run was started with"
        else:
            name, note = resolve_ood_data(asked, data.name, self.options.data.data_root)
        self.note(note)
        return load_ood_data(name, data, self.options.data.data_root, self.seed)

    def train_from_scratch(
        self,
        space: SearchSpace,
        data: Dataset,
        training: TrainingConfig,
        recipe: Recipe = standard,
        depthwise: bool = False,
    ) -> TrainFromScratch:
        """Training of every candidate from new weights, its precision resolved.

        Args:
            depthwise: whether the networks have depthwise convolutions.
        Raises:
            RunMismatchError: the run in the folder was begun with another space or training.
        """
        precision = self.precision(training.precision, self.begun("training", "precision"), depthwise)
        prepare = TrainFromScratch(space, data, replace(training, precision=precision), self.device, recipe)
        self.use(space={"name": space.name, **part_identity(space)}, **prepare.identity())
        return prepare

    def make_objectives(
        self,
        names: Sequence[str],
        data: Dataset,
        attacks: AttackOptions | None = None,
        certify: CertifyOptions | None = None,
        precision: str = "fp32",
        adversarial_set: str = "auto",
        ood_data: Dataset | None = None,
    ) -> tuple[Objective, ...]:
        """The objectives called so; a set or other images that they need are found, or built, or chosen.

        Args:
            precision: of the gradients of attacks, and of what builds a set.
            adversarial_set: see `adversarial_set`.
            ood_data: for `ood_aupr`; None: see `ood_data`.
        Raises:
            RunMismatchError: the run in the folder was begun without one of them.
            EvonasError: see `adversarial_set`.
        """
        begun = self.begun("objectives")
        if begun is not None and not {*names} <= begun.keys():  # before a set is built for it
            refuse_another_run(self.folder.journal, {"objectives": [*begun]}, {"objectives": [*names]})
        arithmetic: Precision = "bf16" if precision == "bf16" else "fp32"
        the_set, ood = None, None
        if AdversarialSetError.name in names:
            the_set = self.adversarial_set(data, adversarial_set, precision=arithmetic)
        if OodAupr.name in names:
            ood = OodAupr.of(ood_data or self.ood_data(data), data, seed=self.seed)
        return make_objectives(names, attacks, certify, arithmetic, the_set, ood)

    def adversarial_set(
        self,
        data: Dataset,
        asked: str = "auto",
        settings: SetSettings | None = None,
        precision: Precision = "fp32",
    ) -> AdversarialSet:
        """The set in the file `asked`, or the preset's set of these images, built where it is missing.

        Raises:
            ConfigurationError: it does not fit the data.
            EvonasError: it cannot be read or built.
        """
        if asked == "auto":  # a run goes on with the set that it began with
            asked = self.stored.get("settings", {}).get("adversarial_set", "auto")
        if asked == "auto":
            plan = BuildPlan(
                data=data,
                split_seed=self.split_seed,
                settings=settings or SET_PRESETS[self.options.preset],
                preset=self.options.preset,
                seed=self.split_seed,
                device=self.hardware.here,
                precision=precision,
                threads=self.threads,
            )
            found, where = find_or_build(plan, set_path(plan), self.screen, build=not self.reading)
        else:
            found, where = load_adversarial_set(asked), f"found at {asked}"
        check_set(found, data)
        self.note(f"adversarial set: {found.card.name}, {len(found)} images, {where}")
        for warning in found.card.warnings:
            self.note(warning)
        return found

    def train_epochs(
        self,
        name: str,
        training: EpochTraining,
        identity: Mapping[str, Any],
        what: str,
        opening: str,
        row: Callable[[Any], Row],
        describe: Callable[[Row], str],
        write: Callable[[list[Row]], None],
    ) -> list[Row]:
        """Train something epoch by epoch with the checkpoint NAME.pt in the folder, or continue with that.

        Args:
            identity: what the result follows from.
            what: it is, for messages: `a supernet`.
            opening: line before the first epoch.
            row: of what `run_epoch` returned; describe: that row in a line.
            write: called with all rows, those of earlier processes too, after every epoch.
        Raises:
            ConfigurationError: the run is only looked at, and the training is not finished.
            EvonasError: the checkpoint is another one's, or cannot be read or written; training diverges.
        """
        path, epochs = self.path / f"{name}.pt", training.epochs
        for other in self.path.glob("*.pt"):
            if other.name.split("-")[0].removesuffix(".pt") != name.split("-")[0]:
                raise RunMismatchError(f"{self.path} holds {other.name} of another method's run; name another folder")
        pace = Pace(epochs)

        def on_begin(rows: list[Row]) -> None:
            done = training.epoch
            if self.reading and done < epochs:
                raise ConfigurationError(f"expected {what} that is trained to the end in {path}")
            if done == epochs:
                self.note(f"{opening.split(':')[0]}: found at {path}")
            else:
                self.screen.say(f"{opening}{f', continued after epoch {done}' if done else ''}")
            if rows and not self.reading:
                write(rows)  # a kill may have come between the two files
            pace.before = done

        def on_step(done: int, steps: int, message: str) -> None:
            reached = training.epoch + done / steps
            self.screen.show(f"epoch {training.epoch + 1}/{epochs}: {message}, {pace.words(reached)}")

        def on_epoch(rows: list[Row]) -> None:
            write(rows)
            self.screen.say(f"  epoch {training.epoch}/{epochs}: {describe(rows[-1])}, {pace.words(training.epoch)}")
            self.screen.check()  # only now: what was shown as done is kept

        torch.set_num_threads(self.threads)
        with self.screen:
            return train_epochs(training, path, identity, what, row, on_step, on_epoch, on_begin)

    def search(
        self,
        space: SearchSpace,
        prepare: Prepare,
        objectives: Sequence[Objective],
        config: EvolutionConfig,
        first: Sequence[Sequence[int]] | None = None,
    ) -> Result:
        """Search the space, or continue with that; tables and pictures are written after every generation.

        Args:
            prepare: gives candidates their weights.
            objectives: what candidates are scored on; `config.objectives` of their columns are searched.
            first: canonical genomes of the first population, a part of the identity; None: all are random.
        Raises:
            EvonasError: the folder belongs to another run, or cannot be written; the executor cannot be started.
            Interrupted: a signal came; everything finished is in the journal.
        """
        self.use_search(space, prepare.data.n_classes, objectives, config, first)
        self.use(**prepare.identity())
        searching = self._searching(space, prepare, objectives, config.objectives)
        with self._recording(searching, config.evaluations, config.generations) as (recorder, journal, executor):
            states = evolve(
                space,
                searching.evaluator,
                config,
                executor,
                journal,
                [np.array(genome, dtype=np.int64) for genome in first or ()],
                maximize=searching.maximize,
                retry_failed=self.options.retry_failed,
                report=recorder.see,
                predict=searching.predict,
            )
            for state in states:
                recorder.end_generation(state.generation)
        return Result(self.folder, searching.searched, lambda: searching.evaluator)

    def score(
        self,
        space: SearchSpace,
        prepare: Prepare,
        objectives: Sequence[Objective],
        genomes: Sequence[Genome],
        columns: Sequence[str] = (),
    ) -> Result:
        """Evaluate genomes that were found otherwise, or continue with that: the same rows as a search's.

        Args:
            genomes: canonical; equal ones are evaluated once.
            columns: those of the front; the first column of each objective by default.
        Raises:
            As `search`.
        """
        distinct = list(dict.fromkeys(tuple(genome.tolist()) for genome in genomes))
        names = tuple(columns) or tuple(objective.name for objective in objectives)
        config = EvolutionConfig(population=len(distinct), generations=0, objectives=names, seed=self.seed)
        self.use_search(space, prepare.data.n_classes, objectives, config, distinct)
        self.use(**prepare.identity())
        searching = self._searching(space, prepare, objectives, names)
        with self._recording(searching, len(distinct), 0) as (recorder, journal, executor):
            score(
                np.array(distinct, dtype=np.int64),
                searching.evaluator,
                names,
                self.seed,
                executor,
                journal,
                self.options.retry_failed,
                recorder.see,
                searching.predict,
            )
        return Result(self.folder, searching.searched, lambda: searching.evaluator)

    def use_search(
        self,
        space: SearchSpace,
        n_classes: int,
        objectives: Sequence[Objective],
        config: EvolutionConfig,
        first: Sequence[Sequence[int]] | None = None,
    ) -> None:
        """Make what is searched a piece of the identity, before anything is trained for it; see `use`."""
        names = {column.name: column for part in objectives for column in part.columns(space, n_classes)}
        missing = [name for name in config.objectives if name not in names]
        if missing:
            raise ConfigurationError(
                f"expected objectives among the measured columns {', '.join(names)}, got {', '.join(missing)}"
            )
        found = {**config.identity(), "maximize": [name for name in config.objectives if names[name].maximize]}
        if first is not None:
            found["first"] = [" ".join(map(str, genome)) for genome in first]
        self.use(
            space={"name": space.name, **part_identity(space)},
            objectives={part.name: part_identity(part) for part in objectives},
            search=found,
        )

    def audit(
        self, networks: Sequence[AuditNetwork], measured: Measured, opening: str, folder: str = "trained"
    ) -> tuple[Path, list[dict[str, Any]]]:
        """Train networks to the end and measure them, or continue with that, on the slots of the run's executor.

        Args:
            opening: line before anything is trained.
            folder: below the run's, of weights and records.
        Returns:
            The folder, and a row for every network; see `Audit.rows`.
        Raises:
            EvonasError: the folder cannot be written, or another process writes it.
            Interrupted: a signal came; the same command continues with the epoch that was begun.
        """
        with AuditRecords.opened(self.path / folder) as records:
            shared = self.hardware.connection is None  # workers on other machines do not see the folder
            audit = Audit(networks, measured, records, self.options.retry_failed, checkpoints=shared)
            pending = audit.pending()
            self.screen.say(f"{opening}; {len(pending)} pending")
            if records.damaged:
                path = records.path
                self.screen.say(f"{path} has {records.damaged} damaged line(s); what they recorded is done again")
            if pending:
                pace, done = Pace(sum(network.macs for network in pending)), set[str]()

                def watch(event: object) -> None:
                    if isinstance(event, Progress):
                        self.screen.show(f"{event.key} {event.note}, {duration_of(pace)}")

                def told(network: AuditNetwork, record: Mapping[str, Any]) -> None:
                    self.screen.say(f"  {network.arch_id} of {network.configuration}: {_outcome(record)}")
                    done.add(network.arch_id)

                def duration_of(pace: Pace) -> str:
                    return pace.words(sum(network.macs for network in pending if network.arch_id in done))

                with self.screen:
                    audit.run(self.executor(), watch, self.screen.say, told)
            audit.forget_checkpoints()
            return records.folder, audit.rows()

    def audit_front(self, found: Result, options: AuditOptions) -> pd.DataFrame:
        """Train networks of the front to the end and measure them, or continue with that; audit.csv in the folder.

        Args:
            found: of this run, whose candidates are trained from scratch.
        Returns:
            A row a network, the lightest first.
        Raises:
            As `audit`; ConfigurationError for a search whose candidates are not trained from scratch.
        """
        candidates = found.evaluator.prepare
        if not isinstance(candidates, TrainsCandidates):
            raise ConfigurationError(
                "expected a search that trains its candidates one by one, got one whose candidates share weights; "
                "its own method trains its front to the end"
            )
        training = FinalTraining(
            space=candidates.space,
            data=candidates.data,
            training=replace(candidates.training, epochs=options.audit_epochs or candidates.training.epochs),
            recipe=candidates.recipe,
            seed=self.seed,
            device=self.device,
            threads=self.threads,
        )
        genomes = [np.array(genes.split(), dtype=np.int64) for genes in found.front["genome"]]
        networks = list(lightest([AuditNetwork(self.method, genome, training) for genome in genomes]))
        measured = Measured(measurements=measurements(options.audit), test_limit=options.audit_images)
        opening = f"auditing {len(networks[: options.audit_top])} networks of the front ({', '.join(options.audit)})"
        _, rows = self.audit(networks[: options.audit_top], measured, opening)
        write_rows(self.path / "audit.csv", rows)
        return pd.DataFrame(rows)

    def executor(self, resident: bool = False) -> Executor:
        """A new executor as the options ask for.

        Args:
            resident: its work keeps something large in its process.
        """
        return make_executor(self.options.execution, self.hardware, resident)

    def _searching(
        self, space: SearchSpace, prepare: Prepare, objectives: Sequence[Objective], names: Sequence[str]
    ) -> Searching:
        evaluator = Evaluator(prepare, tuple(objectives), self.threads)
        return Searching(self.method, space, evaluator, tuple(names))

    @contextlib.contextmanager
    def _recording(
        self, searching: Searching, evaluations: int, generations: int
    ) -> Iterator[tuple[Recorder, Journal, Executor]]:
        if self.reading:
            raise ConfigurationError(f"expected a run to continue, {self.path} is only looked at")
        with Journal(self.folder.journal, self.identity) as journal:
            reached = max((entry.generation for entry in journal), default=0)
            if reached > generations:
                raise ConfigurationError(
                    f"expected at least the {reached} generations that {self.path} has begun, "
                    f"got {generations}; a run may grow, not shrink"
                )
            changed = self.folder.write_config(
                {
                    "options": type(self.options).__module__,
                    "settings": {**as_json(self.options), **self._kept_settings()},
                    "identity": self.identity,
                    "notes": self.notes,
                    **searching.config,
                    "evaluations": evaluations,
                }
            )
            for line in (
                *searching.opening(evaluations, generations, self.identity["search"]),
                f"run folder: {self.path}",
            ):
                self.screen.say(line)
            if len(journal):
                self.screen.say(f"continuing: {len(journal)} evaluations are in the journal already")
            for line in (journal.damage, changed):
                self.screen.say(line)
            executor = self.executor(getattr(searching.evaluator.prepare, "resident", False))
            recorder = Recorder(searching, self.folder, journal, executor, self.screen, evaluations, generations)
            with self.screen:
                yield recorder, journal, executor
                recorder.export()
            recorder.conclude()

    def _kept_settings(self) -> dict[str, Any]:
        """Options that are `auto` now and were given when the run was begun: it goes on with them every time."""
        begun, given = self.stored.get("settings", {}), as_json(self.options)
        return {
            name: begun[name] for name in ("data", "adversarial_set") if name in begun and given.get(name) == "auto"
        }

    _data_name = ""


def _data_name(options: RunOptions) -> tuple[str, str]:
    """The data set's name, and a line where it was chosen for the user: by the run in --out, or by what is there."""
    if options.data.data == "auto" and options.out is not None:
        stored = RunFolder(options.out.expanduser()).stored()
        if stored:
            given, found = stored["settings"]["data"], stored["identity"]["data"]["name"]
            name = found if given == "auto" else given  # a file of one's own has its path there
            return name, f"data: {name}, as this run was started with"
    return resolve_data(options.data.data, options.data.data_root)


def _short(data: str) -> str:
    """Of a folder's name: a file of one's own goes by its stem."""
    own = data.startswith("npz:") or data.endswith(".npz")
    return f"npz-{Path(data.removeprefix('npz:')).stem}" if own else data


def _there(begun: Mapping[str, Any], name: str, given: Any) -> Any:
    """What a stored identity has, as far as what is given says something of it."""
    value = begun.get(name, "nothing")
    if isinstance(value, Mapping) and isinstance(given, Mapping):
        return {key: value[key] for key in value if key in given}
    return value


def _outcome(record: Mapping[str, Any]) -> str:
    if record["status"] == "failed":
        return f"failed: {record['reason']}"
    if record["kind"] == "trained":
        return f"trained in {record['seconds']:.0f} s"
    return ", ".join(f"{name} {shown(name, value)}" for name, value in record["values"].items())
