"""Training a supernet in a run's folder: a checkpoint an epoch, continued where it was stopped."""

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from rich.console import Console

from evonas.costs import count_params
from evonas.data import Dataset, DeviceData
from evonas.evaluation import SupernetWeights
from evonas.files import storage_errors, take_lock
from evonas.networks.blocks import seeded
from evonas.networks.shuffle_supernet import ShuffleSupernet
from evonas.report import shown
from evonas.runs.checkpoint import load_checkpoint, save_checkpoint, stored_identity, write_rows
from evonas.runs.epoch_screen import EpochScreen
from evonas.runs.interrupt import interruptible
from evonas.seeding import derive_seed
from evonas.spaces import ShuffleSpace
from evonas.training import OneShotConfig, OneShotTraining, Recipe
from evonas.types import arch_id

__all__ = ["SupernetPlan", "begun_supernet", "supernet_path", "train_supernet", "trained_supernet"]

WHAT = "a supernet"

COLUMNS = ("epoch", "phase", "learning_rate", "arch_id", "params", "loss", "seconds", "genome")
"""Of supernet.csv: one row an epoch; with `--sampling batches` the architecture is that of the first batch."""


@dataclass(frozen=True, kw_only=True)
class SupernetPlan:
    """Everything that a supernet's weights follow from."""

    space: ShuffleSpace
    data: Dataset
    config: OneShotConfig
    """With a resolved precision."""
    recipe: Recipe
    recipe_identity: Mapping[str, Any]
    seed: int
    device: str
    threads: int

    def identity(self) -> dict[str, Any]:
        """As plain values; window, crossover and mutation of the search change nothing here."""
        space = {name: getattr(self.space, name) for name in ("name", "width", "depth", "intermediate", "image_size")}
        values = {
            "space": space,
            "data": self.data.fingerprint,
            "training": asdict(self.config),
            "recipe": dict(self.recipe_identity),
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
        }
        return dict(json.loads(json.dumps(values)))


def supernet_path(folder: Path) -> Path:
    return folder / "supernet.pt"


def trained_supernet(folder: Path, identity: Mapping[str, Any]) -> SupernetWeights | None:
    """The weights in a run's folder, or None where they are not there or not trained to the end.

    Raises:
        RunMismatchError: they were trained otherwise.
        StorageError: the file cannot be read.
    """
    state = load_checkpoint(supernet_path(folder), identity, WHAT)
    if state is None or "momentum" in state:
        return None
    return SupernetWeights({name: value.numpy() for name, value in state["weights"].items()})


def begun_supernet(folder: Path) -> dict[str, Any]:
    """Identity of the supernet in a run's folder, trained or in training; empty where there is none."""
    return stored_identity(supernet_path(folder), WHAT)


def train_supernet(folder: Path, plan: SupernetPlan, console: Console) -> SupernetWeights:
    """The trained weights: found in the folder, or trained there, or continued.

    Raises:
        EvonasError: see `trained_supernet`; another process trains there, the disk is full, training diverges.
        Interrupted: a signal came; the same command continues with the epoch that was begun.
    """
    identity, path = plan.identity(), supernet_path(folder)
    found = trained_supernet(folder, identity)
    if found is not None:
        console.out(f"supernet: found at {path}, {found.fingerprint}", highlight=False)
        rows = (load_checkpoint(path, identity, WHAT) or {})["history"]
        write_rows(folder / "supernet.csv", COLUMNS, rows)  # it may be lost, or a kill came between the two files
        return found
    with storage_errors(f"open {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / "supernet.lock", "ab")  # noqa: SIM115
    with lock, interruptible() as interruption:
        take_lock(lock, path)
        for leftover in folder.glob(".supernet.*.tmp"):
            leftover.unlink(missing_ok=True)
        torch.set_num_threads(plan.threads)
        training = _set_up(plan)
        history: list[list[Any]] = []
        state = load_checkpoint(path, identity, WHAT)
        if state is not None:
            training.restore(state)
            history = state["history"]
        screen = EpochScreen(console, interruption, plan.config.epochs, training.epoch, _opening(plan))
        while training.epoch < plan.config.epochs:
            history.append(_epoch(training, plan, screen))
            done = training.epoch == plan.config.epochs  # momentum is needed no more
            kept = {name: value for name, value in training.state().items() if not (done and name == "momentum")}
            save_checkpoint(path, identity, {"history": history, **kept})
            write_rows(folder / "supernet.csv", COLUMNS, history)
            interruption.check()  # only now: what was shown as done is kept
    return SupernetWeights.of(cast(ShuffleSupernet, training.supernet))


def _set_up(plan: SupernetPlan) -> OneShotTraining:
    device = torch.device(plan.device)
    data = DeviceData(plan.data, device)
    n_classes = plan.data.n_classes
    drawn = seeded(lambda: plan.space.supernet(n_classes), derive_seed(plan.seed, "supernet weights"))
    supernet = cast(ShuffleSupernet, drawn).to(device)
    momentum = plan.space.supernet(n_classes).to(device)
    return OneShotTraining(
        plan.space, supernet, momentum, data.train, data.augmentation, plan.config, plan.recipe, plan.seed
    )


def _epoch(training: OneShotTraining, plan: SupernetPlan, screen: EpochScreen) -> list[Any]:
    """Train for one epoch; its row in supernet.csv."""
    started, epoch, genome = time.monotonic(), training.epoch, training.genome()
    params = plan.space.cost(genome, plan.data.n_classes).params
    loss = training.run_epoch(lambda done, total, note: screen.inside(epoch, done / total, note))
    phase = "joint" if epoch >= plan.config.block_epochs else "blocks"
    screen.told(epoch, f"{phase}, a network of {shown('params', params)} parameters, loss {loss:.3f}")
    canonical = plan.space.canonical(genome)
    return [
        epoch + 1,
        phase,
        plan.config.rate(epoch),
        arch_id(canonical),
        params,
        loss,
        round(time.monotonic() - started, 3),
        " ".join(map(str, canonical.tolist())),
    ]


def _opening(plan: SupernetPlan) -> str:
    with torch.device("meta"):
        total = count_params(plan.space.supernet(plan.data.n_classes))
    return (
        f"supernet: {shown('params', total)} parameters, {plan.config.epochs} epochs of {plan.recipe_identity['name']} "
        f"on {len(plan.data.train)} images"
    )
