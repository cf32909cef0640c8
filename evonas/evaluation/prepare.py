"""Weights of candidates: trained from scratch."""

import inspect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from torch import nn

from evonas.data import Dataset, DeviceData
from evonas.devices import seconds
from evonas.networks.blocks import Normalization, seeded
from evonas.objectives import Candidate, CostedSpace
from evonas.parts import part_identity, part_name
from evonas.seeding import derive_seed
from evonas.training import Recipe, TrainingConfig, resolve_precision, standard, train
from evonas.types import Cost, Genome, Progress, Report, arch_id

__all__ = ["BuildingSpace", "Prepare", "PrepareCandidate", "TrainFromScratch", "TrainsCandidates"]

PrepareCandidate = Callable[[Genome, int, Report], tuple[Candidate, float]]
"""(genome, seed, report) -> (candidate, seconds of giving it its weights)."""

OnEpoch = Callable[[int, Candidate], None]
"""See `TrainsCandidates`."""


class Prepare(Protocol):
    """Gives candidates their weights. A frozen value; `start` is called once in every worker."""

    @property
    def data(self) -> Dataset: ...
    @property
    def space(self) -> "BuildingSpace":
        """The space of the candidates."""
        ...

    @property
    def normalization(self) -> Normalization:
        """(mean, deviation) of the candidates' first layer; None: they see images as they are."""
        ...

    @property
    def epochs(self) -> int | None:
        """Passes over the train part; None: the weights are inherited."""
        ...

    def identity(self) -> dict[str, Any]:
        """Everything the weights follow from, besides genome, seed and data, as named pieces of a run's identity."""
        ...

    def start(self) -> PrepareCandidate: ...


@runtime_checkable
class TrainsCandidates(Protocol):
    """A `Prepare` that trains each candidate by itself, so that it can be trained to the end as well.

    What its `start` gives takes a fourth argument, for early stopping: `on_epoch(epoch, candidate)` is called after
    every finished epoch, counted from 1, with the network in eval mode, and may raise to end the training.
    """

    @property
    def training(self) -> TrainingConfig: ...
    @property
    def recipe(self) -> Recipe: ...


class BuildingSpace(CostedSpace, Protocol):
    """A search space that builds networks."""

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        *,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> nn.Module: ...
    def cost(self, genome: Genome, n_classes: int = 10) -> Cost: ...


@dataclass(frozen=True)
class TrainFromScratch:
    """Builds the network and trains it on the train part.

    Weights, order and augmentation follow from the seed alone: on the CPU the same seed gives the same network, bit
    for bit, with the same number of threads.
    """

    space: BuildingSpace
    data: Dataset
    training: TrainingConfig
    device: str = "cpu"
    recipe: Recipe = standard

    @property
    def precision(self) -> Literal["fp32", "bf16"]:
        """Arithmetic of training; fp32 while it is `auto`."""
        return "bf16" if self.training.precision == "bf16" else "fp32"

    @property
    def normalization(self) -> Normalization:
        return self.data.normalization

    @property
    def epochs(self) -> int:
        return self.training.epochs

    def identity(self) -> dict[str, Any]:
        recipe, name = part_identity(self.recipe), part_name(self.recipe)
        return {
            "training": {
                "recipe": name if inspect.isroutine(self.recipe) else {"name": name, **recipe},
                **self.training.identity(),
            }
        }

    def start(self) -> PrepareCandidate:
        device = torch.device(self.device)
        data = DeviceData(self.data, device)
        precision, _ = resolve_precision(self.training.precision, device)

        def prepare(
            genome: Genome, seed: int, report: Report, on_epoch: OnEpoch | None = None
        ) -> tuple[Candidate, float]:
            started = seconds(device)
            network = seeded_build(self.space, genome, data, derive_seed(seed, "weights"))
            candidate = Candidate(
                network,
                genome,
                self.space,
                data,
                self.space.cost(genome, data.n_classes),
                torch.Generator(device).manual_seed(derive_seed(seed, "objectives")),
            )
            key, epochs = arch_id(genome), itertools.count(1)

            def told(loss: float) -> None:
                if on_epoch is not None:
                    network.eval()
                    on_epoch(next(epochs), candidate)

            def on_step(done: int, total: int, note: str) -> None:
                report(Progress(key, done, total, "step", note))

            train(
                network,
                data.train,
                data.augmentation,
                replace(self.training, precision=precision),
                self.recipe,
                torch.Generator(device).manual_seed(derive_seed(seed, "training")),
                on_step,
                told,
            )
            return candidate, seconds(device) - started

        return prepare


def seeded_build(space: BuildingSpace, genome: Genome, data: DeviceData, seed: int) -> nn.Module:
    """The network on the device of `data`, its initial weights drawn from `seed`; torch's own generator is untouched.

    Drawn on the CPU, so that every device starts from the same weights.
    """
    network = seeded(lambda: space.build(genome, data.n_classes, normalization=data.normalization), seed)
    return network.to(data.device)
