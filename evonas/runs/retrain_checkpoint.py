"""A training of cells that is kept epoch by epoch, so that what is killed goes on with the epoch that was begun."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from evonas.audit import CellRetraining, digest
from evonas.data import Dataset
from evonas.files import storage_errors
from evonas.objectives import Candidate
from evonas.runs.checkpoint import load_checkpoint, save_checkpoint
from evonas.types import Cost, Genome, Progress, Report, arch_id

__all__ = ["KeptTraining"]

WHAT = "a training of cells"
ENDING = ".training.pt"


@dataclass(frozen=True, eq=False)
class KeptTraining:
    """A `CellRetraining` with a checkpoint of every network that is in training; a `NetworkTraining`.

    On the CPU the weights are the same bit for bit, wherever it was stopped and how often.
    """

    training: CellRetraining
    folder: Path
    """Of the checkpoints; one process at a time."""

    @property
    def data(self) -> Dataset:
        return self.training.data

    @property
    def seed(self) -> int:
        return self.training.seed

    def identity(self) -> dict[str, Any]:
        return self.training.identity()

    def settings(self) -> dict[str, Any]:
        return self.training.settings()

    def cost(self, genome: Genome) -> Cost:
        return self.training.cost(genome)

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        return self.training.candidate(genome, weights)

    def path(self, genome: Genome) -> Path:
        return self.folder / f"{arch_id(genome)}-{self._digest[:8]}{ENDING}"

    def share(self, genome: Genome) -> float:
        """What of its training is done: 0 where nothing is kept of it.

        Raises:
            RunMismatchError, StorageError: see `load_checkpoint`.
        """
        state = self._load(genome)
        return state["training"]["epoch"] / self.training.training.epochs if state else 0.0

    def train(self, genome: Genome, report: Report) -> tuple[bytes, float]:
        """The trained weights as a safetensors file, and the seconds that they took, those of earlier processes too.

        Raises:
            DivergedError: the loss left the finite numbers.
            EvonasError: the checkpoint cannot be read or written.
        """
        state = self._load(genome) or {"training": None, "seconds": 0.0}
        before, started, epochs = state["seconds"], time.monotonic(), self.training.training.epochs

        def on_epoch(reached: Mapping[str, Any]) -> None:
            content = {"training": dict(reached), "seconds": before + time.monotonic() - started}
            save_checkpoint(self.path(genome), self._identity(genome), content)
            note = f"epoch {reached['epoch']}/{epochs}, loss {reached['loss']:.3f}"
            report(Progress(arch_id(genome), reached["epoch"], epochs, "epoch", note))  # may end it: it is kept

        weights, seconds = self.training.train(genome, report, on_epoch, state["training"])
        return weights, before + seconds

    def forget(self, genome: Genome) -> None:
        """Remove the checkpoint, where there is one."""
        with storage_errors(f"remove {self.path(genome)}"):
            self.path(genome).unlink(missing_ok=True)

    @staticmethod
    def sweep(folder: Path) -> None:
        """Remove what a process that was killed while it wrote has left."""
        for leftover in folder.glob(f".*{ENDING}.*.tmp"):
            leftover.unlink(missing_ok=True)

    def _load(self, genome: Genome) -> dict[str, Any] | None:
        return load_checkpoint(self.path(genome), self._identity(genome), WHAT)

    def _identity(self, genome: Genome) -> dict[str, Any]:
        return {"genome": genome.tolist(), "digest": self._digest}

    @cached_property
    def _digest(self) -> str:
        return digest(self.identity())
