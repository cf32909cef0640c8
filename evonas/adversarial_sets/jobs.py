"""Jobs of a building and their worker: the training of a target, an attack on it on one block of images."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.adversarial_sets.plan import THREADS, BuildPlan
from evonas.adversarial_sets.targets import build_target, correct, train_target
from evonas.data import DeviceData, DevicePart
from evonas.devices import settle
from evonas.errors import EvonasError
from evonas.seeding import derive_seed, generator
from evonas.types import Progress, Report

__all__ = ["FinishedPart", "SetWork", "Step", "Task", "attacked_blocks"]

FinishedPart = tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]
"""(facts, arrays) of a finished part of the work."""


class Step(NamedTuple):
    """One part of the work: the training of a target, or an attack on it on one block of images."""

    place: int
    """Number of the target among the targets."""
    target: str
    attack: str = ""
    """L0 or Linf; empty: the training."""
    threshold: int = 0
    block: int = 0

    @property
    def part(self) -> str:
        """Name of what is kept of it."""
        cell = f"{self.target}-{self.attack}-{self.threshold}"
        return f"attack-{cell}-{self.block}" if self.attack else f"target-{self.target}"

    @property
    def kind(self) -> str:
        return f"{self.attack} th {self.threshold}" if self.attack else "training"

    @property
    def label(self) -> str:
        """Name on the screen."""
        return f"{self.target}, {self.kind}, block {self.block + 1}" if self.attack else f"{self.target}, training"

    def checkpoint(self, folder: Path, plan: BuildPlan) -> Path | None:
        """File that keeps the training until it is done; None for an attack."""
        return None if self.attack else folder / f"{self.part}-{plan.digits}.training.pt"


class Task(NamedTuple):
    """The message to a worker."""

    step: Step
    weights: Mapping[str, npt.NDArray[Any]]
    """Weights of the trained target; none for its training."""


@dataclass(frozen=True)
class SetWork:
    """Work of a worker: set up once, then one step after another, on one thread."""

    plan: BuildPlan

    def make_work(self, report: Report) -> Callable[..., FinishedPart | EvonasError]:
        settle(self.plan.device)
        torch.set_num_threads(THREADS)
        worker = _Worker(self.plan, report)

        def work(task: Task, checkpoint: Path | None = None) -> FinishedPart | EvonasError:
            try:
                return worker.attack(*task) if checkpoint is None else worker.train(task.step, checkpoint)
            except EvonasError as error:  # itself: a failed outcome would not say of which kind it is
                return error

        return work


class _Worker:
    def __init__(self, plan: BuildPlan, report: Report) -> None:
        self.plan, self.report = plan, report
        self.data = DeviceData(plan.data, torch.device(plan.device))
        self.adversarial = DevicePart(plan.data.adversarial, self.data.device)
        self.targets = plan.settings.each_target()
        self.blocks = attacked_blocks(plan)
        self._networks: dict[str, nn.Module] = {}

    def train(self, step: Step, checkpoint: Path) -> FinishedPart:
        """The target's weights, and its accuracy."""
        target, plan = self.targets[step.place], self.plan
        network = build_target(target, self.data, plan.seed)
        training = plan.settings.training_of(target, plan.precision)
        identity = {"set": plan.name, "target": target.name}
        seconds = train_target(
            network, target, self.data, training, plan.seed, checkpoint, identity, step.label, self.report
        )
        facts = {
            "clean_accuracy": correct(network, self.data.validation).double().mean().item(),
            "adversarial_part_accuracy": correct(network, self.adversarial).double().mean().item(),
            "seconds": seconds,
        }
        return facts, {name: value.cpu().numpy() for name, value in network.state_dict().items()}

    def attack(self, step: Step, weights: Mapping[str, npt.NDArray[Any]]) -> FinishedPart:
        """Attack one block of images; returns the successful ones with their distances from the clean images."""
        started, rows = time.monotonic(), torch.from_numpy(self.blocks[step.block])
        self.report(Progress(step.label, 0, len(rows), "image", f"{len(rows)} images"))
        clean = self.adversarial.images[rows.to(self.data.device)].permute(0, 3, 1, 2)  # (B, C, H, W) uint8
        labels = self.adversarial.labels[rows.to(self.data.device)]
        seed = derive_seed(self.plan.seed, "attack", step.target, step.attack, step.threshold, step.block)
        rng = torch.Generator(self.data.device).manual_seed(seed)
        attack = self.plan.settings.attack(step.attack, step.threshold, self.plan.precision)
        result = attack.run(self._network(step, weights), clean.float() / 255, labels, rng)
        images = (result.images[result.fooled] * 255).round().to(torch.uint8)
        arrays = {
            "images": images.contiguous().cpu().numpy(),
            "sources": rows.numpy()[result.fooled.cpu().numpy()],
            "changes": _changes(step.attack, clean[result.fooled], images).cpu().numpy(),
        }
        facts = {
            "tried": int(result.attacked.sum()),
            "evaluations": int(result.evaluations.sum()),
            "seconds": time.monotonic() - started,
        }
        return facts, arrays

    def _network(self, step: Step, weights: Mapping[str, npt.NDArray[Any]]) -> nn.Module:
        """The trained target, made once in this worker."""
        if step.target not in self._networks:
            network = build_target(self.targets[step.place], self.data, self.plan.seed)
            network.load_state_dict({name: torch.tensor(array) for name, array in weights.items()})
            self._networks[step.target] = network.eval()
        return self._networks[step.target]


def attacked_blocks(plan: BuildPlan) -> list[npt.NDArray[np.int64]]:
    """Indices into the adversarial part of the images that are attacked, balanced over classes, block by block.

    Raises:
        DataError: fewer images asked for, or left, than there are classes.
    """
    part, classes, skipped = plan.data.adversarial, plan.data.n_classes, plan.settings.skip_images
    left = np.arange(len(part))
    if skipped:
        left = np.setdiff1d(left, part.balanced(skipped, classes, generator("attacked", plan.split_seed)))
    rng = generator("attacked", plan.seed)
    chosen = left[part.take(left).balanced(plan.settings.attacked_images, classes, rng)]
    return np.array_split(chosen, -(-len(chosen) // plan.settings.attack_block))


def _changes(attack: str, clean: Tensor, images: Tensor) -> Tensor:
    """(k,) float64: changed pixels (L0), or the largest change of a value on the [0, 1] scale (Linf)."""
    difference = (images.int() - clean.int()).abs()  # (k, C, H, W)
    if attack == "L0":
        return (difference.amax(dim=1) > 0).sum(dim=(1, 2)).double()
    return difference.flatten(1).amax(dim=1).double() / 255
