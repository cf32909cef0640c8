"""A searched architecture, trained again for longer and wider, and scored on images that no search has seen."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, cast

import safetensors.torch
import torch
from torch import nn

from evonas.adversarial_sets import AdversarialSet
from evonas.attacks import Attack
from evonas.audit.suite import suite_columns
from evonas.data import Dataset, DeviceData, DevicePart, Part, batches
from evonas.errors import DivergedError
from evonas.evaluation import TrainFromScratch
from evonas.evaluation.prepare import seeded_build
from evonas.objectives import AdversarialSetError, Candidate
from evonas.objectives.scoring import error_under
from evonas.seeding import derive_seed, generator
from evonas.training import Recipe, TrainingConfig, standard
from evonas.types import Cost, Genome, Progress, Report, arch_id

__all__ = ["AtWidth", "NetworkScoring", "NetworkTraining", "Retraining", "Scoring", "WidthSpace", "scored"]

WIDTH_AND_OPERATORS = ("channels", "operators", "mutation_rate")
"""Fields of a space that the network of a genome at a given width does not depend on."""


class NetworkTraining(Protocol):
    """How a network that a search has found gets weights of its own; `Retraining` is one."""

    @property
    def data(self) -> Dataset: ...
    @property
    def seed(self) -> int: ...
    def identity(self) -> dict[str, Any]:
        """What the weights follow from, besides the genome: plain values."""
        ...

    def settings(self) -> dict[str, Any]:
        """Columns of tables that say how it was trained."""
        ...

    def cost(self, genome: Genome) -> Cost: ...
    def train(self, genome: Genome, report: Report) -> tuple[bytes, float]:
        """The trained weights as a safetensors file, and the seconds that they took."""
        ...

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        """The network of a genome with weights that `train` gave, in eval mode on the device."""
        ...


class NetworkScoring(Protocol):
    """What such a network is scored on; `Scoring` is one."""

    def identity(self) -> dict[str, Any]: ...
    def score(self, retraining: NetworkTraining, genome: Genome, weights: bytes, report: Report) -> dict[str, float]:
        """Column -> value."""
        ...


class WidthSpace(Protocol):
    """A search space that builds networks of any width."""

    @property
    def name(self) -> str: ...
    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        channels: int | None = None,
        *,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> nn.Module: ...
    def cost(self, genome: Genome, n_classes: int = 10, channels: int | None = None) -> Cost: ...
    def max_cost(self, n_classes: int = 10, channels: int | None = None) -> Cost: ...


@dataclass(frozen=True)
class AtWidth:
    """A search space with another width of its first block."""

    space: WidthSpace
    channels: int

    @property
    def name(self) -> str:
        return self.space.name

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        *,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> nn.Module:
        return self.space.build(genome, n_classes, self.channels, normalization=normalization)

    def cost(self, genome: Genome, n_classes: int = 10) -> Cost:
        return self.space.cost(genome, n_classes, self.channels)

    def max_cost(self, n_classes: int = 10) -> Cost:
        return self.space.max_cost(n_classes, self.channels)

    def identity(self) -> dict[str, Any]:
        """What decides which network a genome is."""
        own = asdict(cast(Any, self.space))
        kept = {name: value for name, value in own.items() if name not in WIDTH_AND_OPERATORS}
        return {"name": self.name, **kept, "channels": self.channels}


@dataclass(frozen=True, kw_only=True)
class Retraining:
    """Trains an architecture on the train part, its seed derived from the run's and the architecture's name.

    The same value gives the same weights, bit for bit, on the same kind of CPU.
    """

    space: AtWidth
    data: Dataset
    training: TrainingConfig
    """With a resolved precision."""
    seed: int
    """The run's."""
    device: str = "cpu"
    threads: int = 1
    recipe: Recipe = standard

    def identity(self) -> dict[str, Any]:
        """What the weights follow from, besides the genome."""
        return {
            "space": self.space.identity(),
            "data": self.data.fingerprint,
            "training": self.training.identity(),
            "recipe": self.recipe.__name__,
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
        }

    def settings(self) -> dict[str, Any]:
        return {"channels": self.space.channels, "epochs": self.training.epochs}

    def cost(self, genome: Genome) -> Cost:
        """Of the network that is trained, not of the searched one."""
        return self.space.cost(genome, self.data.n_classes)

    def train(self, genome: Genome, report: Report) -> tuple[bytes, float]:
        """The trained weights as a safetensors file, and the seconds that they took.

        The file's metadata, `evonas`, is JSON that says which network they belong to.

        Raises:
            DivergedError: the loss left the finite numbers.
        """
        torch.set_num_threads(self.threads)
        prepare = TrainFromScratch(self.space, self.data, self.training, self.device, self.recipe).start()
        seed = derive_seed(self.seed, "retrain", arch_id(genome))
        candidate, seconds = prepare(genome, seed, report)
        tensors = {name: value.detach().cpu().contiguous() for name, value in candidate.network.state_dict().items()}
        about = {
            "space": self.space.identity(),
            "genome": genome.tolist(),
            "n_classes": self.data.n_classes,
            "normalization": self.data.normalization,
        }
        return safetensors.torch.save(tensors, {"evonas": json.dumps(about)}), seconds  # several have no stable order

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        """The network of a genome with weights that `train` gave, in eval mode on the device."""
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        network = seeded_build(self.space, genome, data, 0)
        network.load_state_dict(safetensors.torch.load(weights))
        network.to(memory_format=torch.channels_last).eval()
        drawn = torch.Generator(data.device).manual_seed(derive_seed(self.seed, "audit", arch_id(genome)))
        return Candidate(network, genome, self.space, data, self.cost(genome), drawn)


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What a retrained network is scored on: the test part, clean and under attacks, and an adversarial set.

    Errors are fractions in [0, 1] in float32, whatever the network was trained in.
    """

    suite: tuple[str, ...] = ("pgd", "fgsm", "bim", "cw", "deepfool")
    """Parts of `SUITE`: white-box, made against the very network that is scored."""
    adversarial_set: AdversarialSet | None = None
    """Made against other networks: measures transferred, not white-box robustness."""
    test_limit: int | None = None
    """Score a class-balanced subset of so many test images; None: all."""
    batch_size: int = 200

    def identity(self) -> dict[str, Any]:
        """What the scores follow from, besides the network."""
        the_set = self.adversarial_set
        return {
            "suite": {column.name: repr(column.attack) for column in suite_columns(self.suite)},
            "adversarial_set": None if the_set is None else the_set.fingerprint,
            "test_limit": self.test_limit,
            "batch_size": self.batch_size,
        }

    def test_part(self, data: Dataset, seed: int) -> Part:
        """The test images that are scored. DataError where the limit is below one image a class."""
        return data.test.limited(self.test_limit, data.n_classes, generator("test limit", seed))

    def score(self, retraining: NetworkTraining, genome: Genome, weights: bytes, report: Report) -> dict[str, float]:
        """Columns clean_error, adversarial_set_error (with its L0 and Linf parts) where there is a set, the suite's.

        Raises:
            DivergedError: logits that are not finite.
        """
        candidate = retraining.candidate(genome, weights)
        part = DevicePart(self.test_part(retraining.data, retraining.seed), candidate.device)
        attacks = {column.name: column.attack for column in suite_columns(self.suite)}
        values = scored(candidate, part, {"clean_error": None, **attacks}, self.batch_size, report)
        if self.adversarial_set is not None:
            on_the_set = AdversarialSetError(self.adversarial_set)(candidate)
            values = {"clean_error": values["clean_error"], **on_the_set, **values}
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(f"{', '.join(broken)} is not finite")
        return values


def scored(
    candidate: Candidate, part: DevicePart, attacks: Mapping[str, Attack | None], batch_size: int, report: Report
) -> dict[str, float]:
    """Column -> share of a part's images that a network gets wrong under its attack; None: as they are.

    Raises:
        DivergedError: logits that are not finite.
    """
    key = arch_id(candidate.genome)
    values: dict[str, float] = {}
    for number, (name, attack) in enumerate(attacks.items()):

        def on_batch(done: int, number: int = number, name: str = name) -> None:
            total = len(part)
            note = f"scoring {name}, {done}/{total} images"
            report(Progress(key, number * total + done, len(attacks) * total, "image", note))

        on_batch(0)
        values[name] = error_under(candidate.network, batches(part, batch_size), attack, candidate.generator, on_batch)
    return values
