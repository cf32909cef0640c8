"""Build a set: train the targets, attack each at every threshold, keep the successful images."""

import platform
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from evonas.adversarial_sets.card import AttackCell, Card, CardData, Target
from evonas.adversarial_sets.contents import AdversarialSet, Piece, assemble
from evonas.adversarial_sets.format import save_adversarial_set
from evonas.adversarial_sets.jobs import FinishedPart, SetWork, Step, Task, attacked_blocks
from evonas.adversarial_sets.plan import THREADS, BuildPlan
from evonas.adversarial_sets.settings import TargetSettings, build_victim
from evonas.adversarial_sets.work import BuildWork
from evonas.attacks import ThresholdAttack
from evonas.costs import count_macs, count_params
from evonas.errors import DataError, EvonasError, ExecutionError
from evonas.executors import Executor, Job, LocalExecutor, Outcome, ignore
from evonas.networks.blocks import seeded
from evonas.types import Cost, Progress, Watch

__all__ = ["build_adversarial_set", "set_work"]

Told = Callable[[str, str], object]
"""(name of a finished job, line) -> whatever."""

BACKWARD = 3
"""Cost of a training step, in forward passes of its images."""

_ARRAYS, _TOTALS = ("images", "sources", "changes"), ("tried", "evaluations", "seconds")
"""Arrays and facts of an attacked part."""


def build_adversarial_set(
    plan: BuildPlan,
    path: Path,
    executor: Executor | None = None,
    watch: Watch = ignore,
    told: Told = lambda key, line: None,
) -> AdversarialSet:
    """Build the set and write it to PATH.safetensors with its card.

    The training of a target is a job, and so is each attack on a block of images. Until the set is complete, finished
    parts are kept in the folder PATH.parts, and trainings epoch by epoch; a later call continues from them. On the CPU
    each job is one thread's work, so the set depends neither on the executor nor on the number of its slots.

    Args:
        executor: runs the jobs, and is closed in the end; None: one after another in this process.
        watch: gets what the executor and its workers say; may raise to stop: what is finished is kept.
        told: gets the name of every job in `set_work` that is finished, by an earlier process too, and a line on what
            has come of it, or nothing; may raise to stop.
    Raises:
        DataError: the data has no adversarial part, or no attack succeeded.
        StorageError, RunInUseError, RunMismatchError: see `BuildWork`.
        DivergedError: the loss of a target left the finite numbers.
        ExecutionError: a job has failed otherwise, or the executor cannot run any.
    """
    if not len(plan.data.adversarial):
        raise DataError(f"expected images in the adversarial part of {plan.data.name}, got none")
    building = _Building(plan, executor or LocalExecutor(), watch, told)  # raises where it cannot succeed
    before = torch.get_num_threads()
    try:
        with BuildWork(path.with_name(f"{path.name.removesuffix('.safetensors')}.parts"), plan.identity) as work:
            the_set = building.run(work)
            save_adversarial_set(path, the_set)
            work.remove()
    finally:
        torch.set_num_threads(before)  # a job in this process has changed it
    return the_set


def set_work(plan: BuildPlan) -> dict[str, float]:
    """Name of every job of a building -> its predicted multiply-adds."""
    building = _Building(plan, LocalExecutor(), ignore, lambda key, line: None)
    return {step.label: building.passes(step) for step in building.steps()}


class _Building:
    """One building of a set: what waits and what is finished."""

    work: BuildWork

    def __init__(self, plan: BuildPlan, executor: Executor, watch: Watch, told: Told) -> None:
        self.plan, self.settings = plan, plan.settings
        self.executor, self.watch, self.told = executor, watch, told
        self.targets = plan.settings.each_target()
        self.costs = [self.cost(target) for target in self.targets]
        self.blocks = attacked_blocks(plan)
        self.finished: dict[Step, FinishedPart] = {}
        self.waiting = 0

    def run(self, work: BuildWork) -> AdversarialSet:
        self.work = work
        self.executor.start(SetWork(self.plan).make_work, self.watch)
        try:
            for place in range(len(self.targets)):
                self.begin(self.training(place))
            while self.waiting:
                job, outcome = self.executor.next_finished()
                self.waiting -= 1
                self.keep(job, outcome)
        finally:
            self.executor.close()
        return self.assembled()

    def cost(self, target: TargetSettings) -> Cost:
        data = self.plan.data
        network = seeded(lambda: build_victim(target, data.n_classes, data.normalization), 0)
        return Cost(count_params(network), count_macs(network, (3, *(data.image_size,) * 2)))

    def training(self, place: int) -> Step:
        return Step(place, self.targets[place].name)

    def steps(self) -> Iterator[Step]:
        for training in map(self.training, range(len(self.targets))):
            yield from (training, *self.attacks(training))

    def cells(self, training: Step) -> list[Step]:
        """The first block of every attack on a target."""
        return [
            training._replace(attack=attack, threshold=threshold)
            for attack in self.settings.set_attacks
            for threshold in self.settings.thresholds
        ]

    def attacks(self, training: Step) -> list[Step]:
        return [step for cell in self.cells(training) for step in self.of_cell(cell)]

    def of_cell(self, cell: Step) -> list[Step]:
        return [cell._replace(block=block) for block in range(len(self.blocks))]

    def passes(self, step: Step) -> float:
        """Multiply-adds of a step: those of its training, or of the whole budget of its attack."""
        settings, macs = self.settings, self.costs[step.place].macs
        if not step.attack:
            return float(BACKWARD * macs * self.targets[step.place].epochs * len(self.plan.data.train))
        budget = settings.attack_population * (settings.attack_generations + 1)
        return float(macs * budget * len(self.blocks[step.block]))

    def begin(self, step: Step, weights: dict[str, Any] | None = None) -> None:
        """Take a step from the finished parts, or submit it; a training counts with the attacks that wait for it."""
        kept = self.work.get(step.part)
        if kept is not None:
            self.watch(Progress(step.label, 1, 1, "epoch", "kept"))  # by an earlier process
            self.take(step, kept)
            return
        after = [] if step.attack else self.attacks(step)
        predicted = sum(map(self.passes, (step, *after)))
        checkpoint = step.checkpoint(self.work.folder, self.plan)
        self.executor.submit(Job(step.label, Task(step, weights or {}), predicted, checkpoint))
        self.waiting += 1

    def keep(self, job: Job, outcome: Outcome) -> None:
        """Store what a job has given; raises where it has failed."""
        step: Step = job.payload.step
        if not outcome.ok:
            error = ExecutionError(
                f"expected every part of the set, {job.key} failed: {outcome.failure}; "
                "mend that and run the same command again (everything finished is kept)"
            )
            if outcome.traceback:
                error.add_note(outcome.traceback)
            raise error
        if isinstance(outcome.value, EvonasError):
            raise outcome.value
        self.work.put(step.part, *outcome.value)
        if job.checkpoint is not None:
            job.checkpoint.unlink(missing_ok=True)
        self.take(step, outcome.value)

    def take(self, step: Step, part: FinishedPart) -> None:
        """Tell that a part is finished, and begin the attacks that have waited for it."""
        self.finished[step] = part
        if step.attack:
            self.told(step.label, self.outcome(step))
            return
        self.told(step.label, f"{step.target}: trained, clean accuracy {part[0]['clean_accuracy']:.1%}")
        for attack in self.attacks(step):
            self.begin(attack, part[1])

    def outcome(self, step: Step) -> str:
        """Images of an attack at a threshold that fooled, once all of its blocks are finished."""
        blocks = self.of_cell(step)
        if not all(block in self.finished for block in blocks):
            return ""
        fooled = sum(len(self.finished[block][1]["images"]) for block in blocks)
        return f"{step.target}, {step.kind}: {fooled} fooled, of {sum(map(len, self.blocks))} images"

    def assembled(self) -> AdversarialSet:
        """The set of all finished parts, in the order of the settings."""
        cells = [cell for place in range(len(self.targets)) for cell in self.cells(self.training(place))]
        described, pieces = zip(*map(self.described, cells), strict=True)
        contents = assemble(pieces, self.plan.data.adversarial.images)
        if not len(contents.images):
            raise DataError("expected at least one successful attack, got none; raise the thresholds or the budgets")
        targets = tuple(self.trained(place) for place in range(len(self.targets)))
        return AdversarialSet(*contents, card=self.card(targets, described, contents.counts()))

    def trained(self, place: int) -> Target:
        """A target's entry on the card."""
        plan, target, facts = self.plan, self.targets[place], self.finished[self.training(place)][0]
        training = self.settings.training_of(target, plan.precision)
        return Target(
            name=target.name,
            width=target.width,
            depth=target.depth,
            params=self.costs[place].params,
            macs=self.costs[place].macs,
            epochs=target.epochs,
            lr=training.lr,
            batch_size=training.batch_size,
            train_images=len(plan.data.train),
            clean_accuracy=facts["clean_accuracy"],
            adversarial_part_accuracy=facts["adversarial_part_accuracy"],
            recipe=f"SGD, momentum {training.momentum}, weight decay {training.weight_decay}, cosine, crop"
            f"{' and flip' if plan.data.flip else ''}, {training.precision}",
        )

    def described(self, cell: Step) -> tuple[AttackCell, Piece]:
        """The card's cell of one target under one attack at one threshold, and its successes."""
        parts = [self.finished[step] for step in self.of_cell(cell)]
        arrays = {name: np.concatenate([part[1][name] for part in parts]) for name in _ARRAYS}
        totals = {name: sum(part[0][name] for part in parts) for name in _TOTALS}
        attack = self.settings.attack(cell.attack, cell.threshold, self.plan.precision)
        changes = arrays["changes"]
        return AttackCell(
            target=cell.target,
            attack=cell.attack,
            threshold=cell.threshold,
            algorithm=attack.algorithm if isinstance(attack, ThresholdAttack) else "de",
            population=attack.population,
            generations=attack.generations,
            successful=len(changes),
            epsilon_used=float(changes.max(initial=0)),
            epsilon_mean=float(changes.mean()) if len(changes) else 0.0,
            **totals,
        ), Piece(
            target=cell.place,
            attack=cell.attack,
            threshold=cell.threshold,
            images=arrays["images"],
            labels=self.plan.data.adversarial.labels[arrays["sources"]],
            sources=arrays["sources"],
        )

    def card(self, targets: tuple[Target, ...], cells: tuple[AttackCell, ...], counts: dict[str, Any]) -> Card:
        plan, data = self.plan, self.plan.data
        packages = ("evonas", "torch", "numpy")
        versions = {"python": platform.python_version()} | {name: metadata.version(name) for name in packages}
        return Card(
            name=plan.name,
            data=CardData(
                name=data.name,
                n_classes=data.n_classes,
                image_size=data.image_size,
                mean=data.mean,
                deviation=data.deviation,
                train_images=len(data.train),
                adversarial_images=len(data.adversarial),
                train_fingerprint=data.train.fingerprint,
                adversarial_fingerprint=data.adversarial.fingerprint,
                split_seed=plan.split_seed,
            ),
            preset=plan.preset,
            seed=plan.seed,
            device=torch.device(plan.device).type,
            precision=plan.precision,
            threads=THREADS,
            targets=targets,
            cells=cells,
            **counts,
            versions=versions,
            created_by=f"evonas {versions['evonas']}",
        )
