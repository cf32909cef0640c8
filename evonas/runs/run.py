"""A run: the parts it is made of, and its stages: epochs, search, scores, audit."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from evonas.adversarial_sets import SET_PRESETS, AdversarialSet, BuildPlan, SetSettings, load_adversarial_set
from evonas.attacks.inference import Precision
from evonas.audit import (
    AuditNetwork,
    Measured,
    lightest,
    measurements,
    require_libraries,
)
from evonas.data import Dataset, Part
from evonas.data.out_of_distribution import load_ood_data, resolve_ood_data
from evonas.errors import ConfigurationError, RunMismatchError
from evonas.evaluation import BuildingSpace, Evaluator, Prepare, TrainFromScratch, check_early_stop
from evonas.executors import Executor
from evonas.files import exists
from evonas.objectives import AdversarialSetError, LatencyMs, Objective, OodAupr
from evonas.objectives.certified import Certified
from evonas.parts import digest, part_identity, part_name, refuse_another_run
from evonas.report import with_earlier, write_audit_table
from evonas.report.table import OWN_COLUMNS
from evonas.runs.auditing import audit_networks, training_to_the_end
from evonas.runs.begun import BegunRun
from evonas.runs.epochs import EpochLog
from evonas.runs.keeping import KeptWeights, keep_weights
from evonas.runs.latency import FILE as LATENCY
from evonas.runs.latency import begun_table, find_or_measure
from evonas.runs.objectives import AttackOptions, CertifyOptions, make_objectives, untrained_note
from evonas.runs.options import AuditOptions, as_json
from evonas.runs.recording import Recorder, Searching
from evonas.runs.replicating import replicate_front
from evonas.runs.result import Result
from evonas.runs.screen import Pace
from evonas.runs.sets import check_set, clean_sources, find_or_build, plan_as_begun
from evonas.search import EvolutionConfig, Journal, evolve, score
from evonas.ship import LatencyTable
from evonas.ship.latency_measuring import subject_of
from evonas.training import EpochTraining, Recipe, TrainingConfig, standard, train_epochs
from evonas.training.checkpoints import Row
from evonas.types import Genome, Space

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Run", "SearchSpace"]


class SearchSpace(Space, BuildingSpace, Protocol):
    """A space that can be searched and built."""


class Run(BegunRun):
    """One run in its folder, from its first line on the screen to its tables; made by `Run.open`.

    Every `auto` is resolved as the run in the folder was begun, where there is one. Parts that decide its results are
    collected in `identity` while they are used, and another run is refused as soon as one of them differs.
    """

    def ood_data(self, data: Dataset) -> Dataset:
        """Images of none of the data's classes, chosen as the run was begun or by what is there; loaded once."""
        if self._ood_data is None:
            asked, root = self.options.data.ood_data, self.options.data.data_root
            begun = self.begun("others", "name") or self.begun("objectives", OodAupr.name, "ood", "name")
            if asked == "auto" and begun:
                name, note = begun, f"out-of-distribution images: {begun}, as this run was started with"
            else:
                name, note = resolve_ood_data(asked, data.name, root)
            self.note(note)
            self._ood_data = load_ood_data(name, data, root, self.seed, self.screen.say)
        return self._ood_data

    _ood_data: Dataset | None = None

    @cached_property
    def _sets(self) -> dict[object, AdversarialSet]:
        return {}

    def train_from_scratch(
        self,
        space: SearchSpace,
        data: Dataset,
        training: TrainingConfig,
        recipe: Recipe = standard,
    ) -> TrainFromScratch:
        """Training of every candidate from new weights, its precision resolved.

        Raises:
            RunMismatchError: the run in the folder was begun with another space or training.
        """
        depthwise = getattr(space, "depthwise", False)
        precision = self.precision(training.precision, self.begun("training", "precision"), depthwise)
        recipe = self.recipe_as_begun(recipe, self.begun("training", "recipe"))
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
        space: BuildingSpace | None = None,
        beside: Sequence[Objective] = (),
    ) -> tuple[Objective, ...]:
        """The objectives called so; a set or other images that they need are found, or built, or chosen.

        Args:
            precision: of the gradients of attacks, and of what builds a set.
            adversarial_set: see `adversarial_set`.
            ood_data: for `ood_aupr`; None: see `ood_data`.
            space: for `latency_ms`, whose table is found or measured for it.
            beside: measured as well, not searched; the last ones of those returned.
        Raises:
            RunMismatchError: the run in the folder was begun without one of them.
            EvonasError: see `adversarial_set`.
        """
        begun = self.begun("objectives")
        if begun is not None and not {*names} <= begun.keys():  # before a set is built for it
            refuse_another_run(self.folder.journal, {"objectives": [*begun]}, {"objectives": [*names]})
        arithmetic: Precision = "bf16" if precision == "bf16" else "fp32"
        the_set, clean, ood, latency = None, None, None, None
        if AdversarialSetError.name in names:
            the_set = self.adversarial_set(data, adversarial_set, precision=arithmetic)
            clean = self._clean_sources(the_set, data)
        if OodAupr.name in names:
            ood = OodAupr.of(ood_data or self.ood_data(data), data, self.options.data.ood_ratio, self.seed)
        if LatencyMs.name in names and space is not None:
            latency = self.latency_table(space, data)
        self.note(untrained_note([*names, *(each.name for each in beside)]))
        size = self.score_batch_size(data.image_size)
        found = make_objectives(names, attacks, certify, arithmetic, the_set, ood, clean, size, latency)
        return (*map(self._rounded_as_begun, found), *beside)

    def _rounded_as_begun(self, objective: Objective) -> Objective:
        """A certified objective with the rounding of the run in the folder; that of 0.1.0 names none."""
        begun = self.begun("objectives", objective.name)
        if not isinstance(objective, Certified) or begun is None or "rounding" in begun:
            return objective
        self.note(f"{objective.name} is proven up to rounding errors: this run was begun so")
        return replace(objective, rounding="nearest")

    def _clean_sources(self, the_set: AdversarialSet, data: Dataset) -> Part | None:
        """The set's clean images, where the data has them and a run in the folder was begun with them."""
        begun = self.begun("objectives", AdversarialSetError.name)
        if begun is not None and "clean_sources" not in begun:
            return None
        found = clean_sources(the_set, data)
        if found is None:
            self.note(f"{AdversarialSetError.clean_name} is not measured: {the_set.card.name} is of another split")
        return found

    def adversarial_set(
        self,
        data: Dataset,
        asked: str = "auto",
        settings: SetSettings | None = None,
        precision: Precision = "fp32",
    ) -> AdversarialSet:
        """The set in the file `asked`, or the preset's set of these images, built where it is missing; read once.

        Raises:
            ConfigurationError: it does not fit the data.
            EvonasError: it cannot be read or built.
        """
        if asked == "auto":  # a run goes on with the set that it began with
            asked = self.stored.get("settings", {}).get("adversarial_set", "auto")
        key = (data.fingerprint, asked, settings, precision)
        if key in self._sets:
            return self._sets[key]
        if asked == "auto":
            plan = BuildPlan(
                data=data,
                split_seed=self.split_seed,
                settings=settings or SET_PRESETS[self.options.preset],
                preset=self.options.preset,
                seed=self.split_seed,
                device=self.device,
                precision=precision,
            )
            begun = self.begun("objectives", AdversarialSetError.name, "adversarial_set") or {}
            by_driver = replace(plan, device=self.hardware.here)  # as earlier versions built it, a driver without a GPU
            plan = by_driver if begun.get("name") == by_driver.name else plan
            called = self.stored.get("measured", {}).get(AdversarialSetError.name, {}).get("set", "")
            plan, path = plan_as_begun(plan, begun.get("fingerprint"), called)
            executor = partial(self.executor, deadline=False)
            found, where = find_or_build(plan, path, self.screen, not self.reading, executor)
        else:
            found, where = load_adversarial_set(asked), f"found at {asked}"
        check_set(found, data)
        self.note(f"adversarial set: {found.card.name}, {len(found)} images, {where}")
        for warning in found.card.warnings:
            self.note(warning)
        self._sets[key] = found
        return found

    def latency_table(self, space: BuildingSpace, data: Dataset, begun: str | None = None) -> LatencyTable:
        """The latency table of a space: the one that the run was begun with, or one of this machine; looked up once.

        Args:
            begun: fingerprint of the run's table, where a search uses it; else that of the objective counts.
        Raises:
            EvonasError: it cannot be read or measured, or the run's own is gone.
        """
        subject = subject_of(space, data.n_classes, data.image_size)
        key = digest(subject)
        if key in self._latency_tables:
            return self._latency_tables[key]
        begun = begun or self.begun("objectives", LatencyMs.name, "table", "fingerprint")
        if begun is not None or (self.checkpoint and exists(self.path / LATENCY)):
            table, note = begun_table(self.path, begun)
            if table.subject != subject:
                raise RunMismatchError(
                    f"expected the networks of this run's latency table, {table.subject}, got {subject}; "
                    "give the run's own, or name another folder (--out)"
                )
        else:
            table, note = find_or_measure(space, data.n_classes, data.image_size, self.path, self.screen)
        self.note(note)
        self._latency_tables[key] = table
        return table

    @cached_property
    def _latency_tables(self) -> dict[str, LatencyTable]:
        return {}

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
        warn: Callable[[Row], str] = lambda row: "",
    ) -> list[Row]:
        """Train something epoch by epoch with the checkpoint NAME.pt in the folder, or continue with that.

        Args:
            identity: what the result follows from.
            what: it is, for messages: `a supernet`.
            opening: line before the first epoch.
            row: of what `run_epoch` returned; describe: that row in a line.
            write: called with all rows, those of earlier processes too, after every epoch.
            warn: of a row, a line that is said once and kept in config.json; empty: nothing to warn of.
        Raises:
            ConfigurationError: the run is only looked at, and the training is not finished.
            EvonasError: the checkpoint is another one's, or cannot be read or written; training diverges.
        """
        path, epochs = self.checkpoint_path(name), training.epochs
        log, pace = EpochLog(self, path, epochs, what, opening, describe, write, warn), Pace(epochs)

        def on_begin(rows: list[Row]) -> None:
            log.begin(training.epoch, rows)
            pace.before = training.epoch

        def on_step(done: int, steps: int, message: str) -> None:
            reached = training.epoch + done / steps
            self.screen.show(f"epoch {training.epoch + 1}/{epochs}: {message}, {pace.words(reached)}")

        def on_epoch(rows: list[Row]) -> None:
            log.add(rows, pace.words(training.epoch))
            self.screen.check()  # only now: what was shown as done is kept

        torch.set_num_threads(self.threads)
        with self.screen:
            return train_epochs(training, path, identity, what, row, on_step, on_epoch, on_begin)

    def checkpoint_path(self, name: str) -> Path:
        """The file NAME.pt in the folder. RunMismatchError where the folder has another method's checkpoints."""
        for other in self.path.glob("*.pt"):
            if other.name.split("-")[0].removesuffix(".pt") != name.split("-")[0]:
                raise RunMismatchError(f"{self.path} holds {other.name} of another method's run; name another folder")
        return self.path / f"{name}.pt"

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
        if config.early_stop:
            check_early_stop(prepare.epochs, objectives)
        self.use_search(space, prepare.data.n_classes, objectives, config, first)
        self.use(**prepare.identity())
        searching = self._searching(space, prepare, objectives, config.objectives)
        with self._recording(searching, config) as (recorder, journal, executor, kept):
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
                cost=searching.searched.cost,
            )
            with contextlib.closing(states):
                for state in states:
                    recorder.end_generation(state.generation)
                    kept.sweep()
        if config.replicates > 1:
            replicate_front(self, searching, config)
        return Result(self.folder, searching.searched, lambda: searching.evaluator, begun_here=True)

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
        with self._recording(searching, config) as (recorder, journal, executor, _):
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
        return Result(self.folder, searching.searched, lambda: searching.evaluator, begun_here=True)

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
        taken = [name for name in names if name in OWN_COLUMNS]
        if taken:
            raise ConfigurationError(
                f"expected objectives with names of their own, got {', '.join(taken)}, which is a column of every "
                "table; rename it"
            )
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
        size = self.score_batch_size(networks[0].training.data.image_size) if networks else None
        measured = measured if size is None else replace(measured, batch_size=size)
        return audit_networks(self, networks, measured, opening, folder)

    def check_audit(self, data: Dataset, options: AuditOptions) -> None:
        """Raise, before anything is searched, what would stop `audit_front`.

        Raises:
            UnknownNameError, ConfigurationError: an unknown measurement, or one whose library is missing.
            DataError: fewer test images asked for than there are classes.
        """
        measured = Measured(measurements=measurements(options.audit), test_limit=options.audit_images)
        require_libraries(measured.measurements, "audit")
        measured.test_part(data, self.seed)

    def audit_front(self, found: Result, options: AuditOptions) -> pd.DataFrame:
        """Train networks of the front to the end and measure them, or continue with that; audit.csv in the folder.

        Args:
            found: of this run, whose candidates are trained from scratch.
        Returns:
            A row a network, the lightest first.
        Raises:
            As `audit`; ConfigurationError for a search whose candidates are not trained from scratch.
        """
        import pandas as pd

        training = training_to_the_end(self, found.evaluator.prepare, options.audit_epochs)
        genomes = [np.array(genes.split(), dtype=np.int64) for genes in found.front["genome"]]
        networks = list(lightest([AuditNetwork(self.method, genome, training) for genome in genomes]))
        measured = Measured(measurements=measurements(options.audit), test_limit=options.audit_images)
        chosen = networks[: options.audit_top]
        opening = f"auditing {len(chosen)} networks of the front ({', '.join(options.audit)})"
        _, rows = self.audit(chosen, measured, opening)
        images = len(measured.test_part(training.data, self.seed))
        beside = {"weights": "audit", "recipe": part_name(training.recipe), "training": training.digest[:8]}
        written = [{**row, **beside, "images": images} for row in rows]
        write_audit_table(self.path, with_earlier(self.path, written))
        return pd.DataFrame(rows)

    def _searching(
        self, space: SearchSpace, prepare: Prepare, objectives: Sequence[Objective], names: Sequence[str]
    ) -> Searching:
        evaluator = Evaluator(prepare, tuple(objectives), self.threads)
        searching = Searching(self.method, space, evaluator, tuple(names))
        kept = keep_weights(self.options.keep_weights, searching, self.identity)
        return replace(searching, evaluator=replace(evaluator, keep=kept))

    @contextlib.contextmanager
    def _recording(
        self, searching: Searching, config: EvolutionConfig
    ) -> Iterator[tuple[Recorder, Journal, Executor, KeptWeights]]:
        evaluations, generations = config.evaluations, config.generations
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
                    "settings": {**as_json(self.options), **self.kept_settings()},
                    "identity": self.identity,
                    "notes": self.notes,
                    **searching.config,
                    "evaluations": evaluations,
                    **(
                        {"replicates": {"replicates": config.replicates, "budget": config.again}}
                        if config.replicates > 1
                        else {}
                    ),
                    "workers": self.hardware.workers,
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
            tracker = self.options.track
            recorder = Recorder(
                searching, self.folder, journal, executor, self.screen, evaluations, generations, tracker
            )
            kept = KeptWeights(self.folder, self.options.keep_weights, journal, searching.searched)
            with self.screen:
                yield recorder, journal, executor, kept
                recorder.export()
                kept.sweep()
            recorder.conclude()
            self.screen.say(kept.missing())
