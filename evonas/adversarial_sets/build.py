"""Build a set: train the targets, attack each at every threshold, keep the successful images."""

import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.adversarial_sets.card import AttackCell, Card, CardData, Target
from evonas.adversarial_sets.contents import AdversarialSet, Piece, assemble
from evonas.adversarial_sets.format import save_adversarial_set
from evonas.adversarial_sets.plan import THREADS, BuildPlan, BuildProgress, Effort
from evonas.adversarial_sets.settings import TargetSettings
from evonas.adversarial_sets.targets import build_target, correct, train_target
from evonas.adversarial_sets.work import BuildWork
from evonas.attacks import PixelAttack, ThresholdAttack
from evonas.costs import count_macs, count_params
from evonas.data import DeviceData, DevicePart, batches
from evonas.devices import seconds, settle
from evonas.errors import DataError
from evonas.seeding import derive_seed, generator
from evonas.types import Cost

__all__ = ["build_adversarial_set"]

UNIT = 64
"""Images attacked in one part of the work; an interruption loses at most one part."""

_ARRAYS, _TOTALS = ("images", "sources", "changes"), ("tried", "evaluations", "seconds")
"""Arrays and facts of an attacked part."""

FinishedPart = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
"""(facts, arrays) of a finished part of the work."""


def build_adversarial_set(
    plan: BuildPlan, path: Path, report: Callable[[BuildProgress], None] = lambda progress: None
) -> AdversarialSet:
    """Build the set and write it to PATH.safetensors with its card.

    Until the set is complete, finished parts are kept in the folder PATH.parts; a later call continues from them. All
    arithmetic on the CPU is done by one thread, whatever the number of this process.

    Raises:
        DataError: the data has no adversarial part, or no attack succeeded.
        StorageError, RunInUseError, RunMismatchError: see `BuildWork`.
        DivergedError: the loss of a target left the finite numbers.
    """
    if not len(plan.data.adversarial):
        raise DataError(f"expected images in the adversarial part of {plan.data.name}, got none")
    settle(plan.device)
    before = torch.get_num_threads()
    torch.set_num_threads(THREADS)
    try:
        builder = _Builder(plan, report)  # raises before any work is done where the settings cannot succeed
        with BuildWork(path.with_name(f"{path.name.removesuffix('.safetensors')}.parts"), plan.identity) as work:
            the_set = builder.build(work)
            save_adversarial_set(path, the_set)
            work.remove()
    finally:
        torch.set_num_threads(before)
    return the_set


@dataclass(frozen=True)
class _CellPlan:
    """One target under one attack at one threshold."""

    place: int
    target: str
    attack: str
    threshold: int

    def part(self, unit: int) -> str:
        return f"attack-{self.target}-{self.attack}-{self.threshold}-{unit}"


class _Builder:
    """One building of a set: its data, the images that are attacked, and the predicted effort."""

    work: BuildWork

    def __init__(self, plan: BuildPlan, report: Callable[[BuildProgress], None]) -> None:
        self.plan, self.settings, self.report = plan, plan.settings, report
        self.data = DeviceData(plan.data, torch.device(plan.device))
        self.adversarial = DevicePart(plan.data.adversarial, self.data.device)
        rng = generator("attacked", plan.seed)
        self.chosen = plan.data.adversarial.balanced(plan.settings.attacked_images, plan.data.n_classes, rng)
        self.units = np.array_split(self.chosen, -(-len(self.chosen) // UNIT))
        self.costs, self.paces = zip(*map(self.measured, self.settings.each_target()), strict=True)
        self.effort = Effort(self.parts())

    def build(self, work: BuildWork) -> AdversarialSet:
        self.work = work
        targets, cells, pieces = [], [], []
        for place, target in enumerate(self.settings.each_target()):
            network, described = self.trained(place, target)
            targets.append(described)
            for cell_plan in self.cells(place, target):
                cell, piece = self.cell(cell_plan, network)
                cells.append(cell)
                pieces.append(piece)
        contents = assemble(pieces, self.plan.data.adversarial.images)
        if not len(contents.images):
            raise DataError("expected at least one successful attack, got none; raise the thresholds or the budgets")
        card = self.card(tuple(targets), tuple(cells), contents.counts())
        return AdversarialSet(*contents, card=card)

    def measured(self, target: TargetSettings) -> tuple[Cost, float]:
        """A target's cost, and its measured seconds per image."""
        network = build_target(target, self.data, 0)
        cost = Cost(count_params(network), count_macs(network, (3, *(self.plan.data.image_size,) * 2)))
        images, _ = next(batches(self.adversarial, UNIT))
        with torch.no_grad():
            network.eval()(images)
            started = seconds(self.data.device)
            network(images)
        return cost, (seconds(self.data.device) - started) / len(images)

    def cells(self, place: int, target: TargetSettings) -> list[_CellPlan]:
        return [
            _CellPlan(place, target.name, attack, threshold)
            for attack in self.settings.set_attacks
            for threshold in self.settings.thresholds
        ]

    def parts(self) -> dict[str, tuple[str, float]]:
        """Part of the work -> (kind, cost); the cost is forward passes times the target's seconds per image."""
        parts: dict[str, tuple[str, float]] = {}
        for place, target in enumerate(self.settings.each_target()):
            pace = self.paces[place]
            parts[f"target-{target.name}"] = ("training", pace * target.epochs * len(self.data.train))
            for cell in self.cells(place, target):
                kind = f"{cell.attack} {cell.threshold}"  # stronger attacks succeed sooner
                parts |= {cell.part(unit): (kind, pace * len(rows)) for unit, rows in enumerate(self.units)}
        return parts

    def trained(self, place: int, target: TargetSettings) -> tuple[nn.Module, Target]:
        """The target's trained network, and its entry on the card."""
        plan, part = self.plan, f"target-{target.name}"
        training = self.settings.training_of(target, plan.precision)
        network = build_target(target, self.data, plan.seed)
        facts, arrays = self.work.get(part) or self.train(part, network, target)
        network.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
        network.eval()
        self.effort.finish(part, facts["seconds"])
        note = f"clean accuracy {facts['clean_accuracy']:.1%}"
        self.report(BuildProgress(target.name, "training", 0, 1, 1, 0, self.effort.seconds_left(), True, note))
        return network, Target(
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

    def train(self, part: str, network: nn.Module, target: TargetSettings) -> FinishedPart:
        started = time.monotonic()

        def on_step(done: int, total: int, note: str) -> None:
            remaining = self.effort.seconds_left(part, done / total, time.monotonic() - started)
            self.report(BuildProgress(target.name, "training", 0, done, total, 0, remaining, False, note))

        training = self.settings.training_of(target, self.plan.precision)
        train_target(network, target, self.data, training, self.plan.seed, on_step)
        facts = {
            "clean_accuracy": correct(network, self.data.validation).double().mean().item(),
            "adversarial_part_accuracy": correct(network, self.adversarial).double().mean().item(),
            "seconds": time.monotonic() - started,
        }
        weights = {name: value.cpu().numpy() for name, value in network.state_dict().items()}
        self.work.put(part, facts, weights)
        return facts, weights

    def cell(self, cell: _CellPlan, network: nn.Module) -> tuple[AttackCell, Piece]:
        """Attack the drawn images that the network gets right; returns the card's cell and the successes."""
        finished: list[FinishedPart] = []
        total, fooled, done = len(self.chosen), 0, 0
        for unit, rows in enumerate(self.units):
            part = self.work.get(cell.part(unit)) or self.attacked(cell, network, unit)
            finished.append(part)
            fooled, done = fooled + len(part[1]["images"]), done + len(rows)
            self.effort.finish(cell.part(unit), part[0]["seconds"])
            remaining, stage = self.effort.seconds_left(), (cell.target, cell.attack, cell.threshold)
            self.report(BuildProgress(*stage, done, total, fooled, remaining, done == total))
        arrays = {name: np.concatenate([part[1][name] for part in finished]) for name in _ARRAYS}
        totals = {name: sum(part[0][name] for part in finished) for name in _TOTALS}
        attack, changes = self.attack(cell), arrays["changes"]
        labels = self.plan.data.adversarial.labels[arrays["sources"]]
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
            labels=labels,
            sources=arrays["sources"],
        )

    def attacked(self, cell: _CellPlan, network: nn.Module, unit: int) -> FinishedPart:
        """Attack one unit of images; returns the successful ones with their distances from the clean images."""
        started, rows = time.monotonic(), torch.from_numpy(self.units[unit])
        clean = self.adversarial.images[rows.to(self.data.device)].permute(0, 3, 1, 2)  # (B, C, H, W) uint8
        labels = self.adversarial.labels[rows.to(self.data.device)]
        seed = derive_seed(self.plan.seed, "attack", cell.target, cell.attack, cell.threshold, unit)
        rng = torch.Generator(self.data.device).manual_seed(seed)
        result = self.attack(cell).run(network, clean.float() / 255, labels, rng)
        images = (result.images[result.fooled] * 255).round().to(torch.uint8)
        arrays = {
            "images": images.contiguous().cpu().numpy(),
            "sources": rows.numpy()[result.fooled.cpu().numpy()],
            "changes": _changes(cell.attack, clean[result.fooled], images).cpu().numpy(),
        }
        facts = {
            "tried": int(result.attacked.sum()),
            "evaluations": int(result.evaluations.sum()),
            "seconds": time.monotonic() - started,
        }
        self.work.put(cell.part(unit), facts, arrays)
        return facts, arrays

    def attack(self, cell: _CellPlan) -> PixelAttack | ThresholdAttack:
        return self.settings.attack(cell.attack, cell.threshold, self.plan.precision)

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


def _changes(attack: str, clean: Tensor, images: Tensor) -> Tensor:
    """(k,) float64: changed pixels (L0), or the largest change of a value on the [0, 1] scale (Linf)."""
    difference = (images.int() - clean.int()).abs()  # (k, C, H, W)
    if attack == "L0":
        return (difference.amax(dim=1) > 0).sum(dim=(1, 2)).double()
    return difference.flatten(1).amax(dim=1).double() / 255
