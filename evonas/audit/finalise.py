"""What a one-shot search found, trained to the end: from scratch or with the supernet's weights (TAM-NAS, III-F)."""

import json
import math
import time
from dataclasses import asdict, dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal

import numpy as np
import safetensors.torch
import torch
from torch import nn

from evonas.attacks import PGD
from evonas.audit.front import FrontNetwork
from evonas.audit.retrain import NetworkTraining, scored
from evonas.costs import count_macs, count_params
from evonas.data import Dataset, DeviceData, DevicePart, Part
from evonas.errors import ConfigurationError, choose
from evonas.evaluation import SupernetWeights, load_supernet
from evonas.networks.blocks import seeded
from evonas.networks.handmade import HANDMADE
from evonas.networks.shuffle_supernet import ShuffleSupernet
from evonas.objectives import Candidate
from evonas.seeding import derive_seed, generator
from evonas.spaces import ShuffleSpace
from evonas.training import TradesYopo, TrainingConfig, train
from evonas.types import Cost, Genome, Progress, Report, arch_id

__all__ = ["FinalNetwork", "Finalising", "HandmadeSpace", "PGDGrid"]

SEARCH_ALONE = ("window", "crossover_kind", "crossover_rate", "mutation_rate")
"""Fields of a ShuffleSpace that the network of a genome does not depend on."""


@dataclass(frozen=True)
class HandmadeSpace:
    """A single network, one of `HANDMADE`; its genome is empty.

    Raises:
        UnknownNameError: there is no such network.
        ConfigurationError: a width that is not > 0.
    """

    name: str
    width: float = 1.0
    """Factor on the channels of every layer."""
    image_size: int = 32

    def __post_init__(self) -> None:
        choose(HANDMADE, self.name, "hand-made network")
        if not 0 < self.width < math.inf:
            raise ConfigurationError(f"expected a width > 0 for {self.name}, got {self.width}")

    def build(self, genome: Genome, n_classes: int = 10) -> nn.Module:
        return HANDMADE[self.name].build(n_classes, self.width)

    def cost(self, genome: Genome, n_classes: int = 10) -> Cost:
        return _handmade_cost(self, n_classes)

    def max_cost(self, n_classes: int = 10) -> Cost:
        return self.cost(np.empty(0, dtype=np.int64), n_classes)


@lru_cache(maxsize=32)
def _handmade_cost(space: HandmadeSpace, n_classes: int) -> Cost:
    network = seeded(lambda: HANDMADE[space.name].build(n_classes, space.width), 0)
    return Cost(count_params(network), count_macs(network, (3, space.image_size, space.image_size)))


@dataclass(frozen=True, kw_only=True)
class Finalising:
    """Trains a network on the train part, its seed derived from the run's and from what the network is.

    The network sees images in [0, 1] as they are. The same value gives the same weights, bit for bit, on the same kind
    of CPU. A genome's images come in the same order and augmentation from scratch and fine-tuned.
    """

    space: ShuffleSpace | HandmadeSpace
    data: Dataset
    training: TrainingConfig
    """With a resolved precision."""
    recipe: TradesYopo
    seed: int
    """The run's."""
    inherited: SupernetWeights | None = None
    """Fine-tune: it starts from the supernet's weights and batch statistics. None: from scratch."""
    device: str = "cpu"
    threads: int = 1

    @property
    def mode(self) -> Literal["scratch", "finetune"]:
        return "scratch" if self.inherited is None else "finetune"

    def identity(self) -> dict[str, Any]:
        """What the weights follow from, besides the genome."""
        training = self.training.identity()
        if math.isinf(self.training.grad_clip):
            training["grad_clip"] = None  # JSON has no infinity
        return {
            "space": self._space_identity,
            "data": self.data.fingerprint,
            "training": training,
            "recipe": {"name": self.recipe.name, **asdict(self.recipe)},
            "seed": self.seed,
            "supernet": None if self.inherited is None else self.inherited.fingerprint,
            "device": torch.device(self.device).type,
            "threads": self.threads,
        }

    def settings(self) -> dict[str, Any]:
        return {"mode": self.mode, "epochs": self.training.epochs}

    def cost(self, genome: Genome) -> Cost:
        return self.space.cost(genome, self.data.n_classes)

    def train(self, genome: Genome, report: Report) -> tuple[bytes, float]:
        """The trained weights as a safetensors file, and the seconds that they took.

        The file's metadata, `evonas`, is JSON that says which network they belong to.

        Raises:
            DivergedError: the loss left the finite numbers.
        """
        started = time.monotonic()
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        key, genes = arch_id(genome), tuple(genome.tolist())
        seed = derive_seed(self.seed, "finalise", self.space.name, *genes)
        network = self._initial(genome, derive_seed(seed, "weights")).to(data.device)

        def on_step(done: int, total: int, note: str) -> None:
            report(Progress(key, done, total, "step", note))

        drawn = torch.Generator(data.device).manual_seed(derive_seed(seed, "training"))
        train(network, data.train, data.augmentation, self.training, self.recipe, drawn, on_step)
        tensors = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
        about = {
            "space": self._space_identity,
            "genome": genome.tolist(),
            "n_classes": self.data.n_classes,
            "normalization": None,
        }
        weights = safetensors.torch.save(tensors, {"evonas": json.dumps(about)})  # several have no stable order
        return weights, time.monotonic() - started

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        """The network of a genome with weights that `train` gave, in eval mode on the device."""
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        network = self._built(genome, 0)
        network.load_state_dict(safetensors.torch.load(weights))
        network.to(data.device).to(memory_format=torch.channels_last).eval()
        drawn = torch.Generator(data.device).manual_seed(derive_seed(self.seed, "audit", *genome.tolist()))
        return Candidate(network, genome, self.space, data, self.cost(genome), drawn)

    def _initial(self, genome: Genome, seed: int) -> nn.Module:
        """The network that training starts from."""
        network = self._built(genome, seed)
        if self.inherited is not None:
            assert isinstance(self.space, ShuffleSpace)
            network.load_state_dict(self._supernet.network(self.space.units(genome)).state_dict())
        return network

    def _built(self, genome: Genome, seed: int) -> nn.Module:
        return seeded(lambda: self.space.build(genome, self.data.n_classes), seed)

    @property
    def _space_identity(self) -> dict[str, Any]:
        own = asdict(self.space).items()
        return {"name": self.space.name, **{name: value for name, value in own if name not in SEARCH_ALONE}}

    @cached_property
    def _supernet(self) -> ShuffleSupernet:
        assert isinstance(self.space, ShuffleSpace)
        assert self.inherited is not None
        return load_supernet(self.space, self.inherited, self.data.n_classes, torch.device("cpu"))


@dataclass(frozen=True, kw_only=True)
class PGDGrid:
    """What a final network is scored on: the test part, clean and under PGD made against the very network.

    PGD begins at the clean image, and the last iterate counts. Errors are fractions in [0, 1], in float32.
    """

    attacks: tuple[tuple[int, int], ...]
    """(steps, epsilon in 255ths of the pixel range) of every column; a column is named `pgd10_8_error`."""
    step_size: float = 2 / 255
    test_limit: int | None = None
    """Score a class-balanced subset of so many test images; None: all."""
    batch_size: int = 250

    @property
    def columns(self) -> dict[str, PGD]:
        """Column -> its attack."""
        return {
            f"pgd{steps}_{epsilon}_error": PGD(epsilon=epsilon / 255, step_size=self.step_size, steps=steps)
            for steps, epsilon in self.attacks
        }

    @property
    def labels(self) -> dict[str, str]:
        """Column -> its name in tables: `P10 8/255`, in the paper a P with the steps above and epsilon below."""
        return {
            name: f"P{steps} {epsilon}/255" for name, (steps, epsilon) in zip(self.columns, self.attacks, strict=True)
        }

    def identity(self) -> dict[str, Any]:
        """What the scores follow from, besides the network."""
        attacks = {name: repr(attack) for name, attack in self.columns.items()}
        return {"attacks": attacks, "test_limit": self.test_limit, "batch_size": self.batch_size}

    def test_part(self, data: Dataset, seed: int) -> Part:
        """The test images that are scored. DataError where the limit is below one image a class."""
        return data.test.limited(self.test_limit, data.n_classes, generator("test limit", seed))

    def score(self, retraining: NetworkTraining, genome: Genome, weights: bytes, report: Report) -> dict[str, float]:
        """clean_error and the attacks' columns. DivergedError where logits are not finite."""
        candidate = retraining.candidate(genome, weights)
        part = DevicePart(self.test_part(retraining.data, retraining.seed), candidate.device)
        return scored(candidate, part, {"clean_error": None, **self.columns}, self.batch_size, report)


@dataclass(frozen=True, eq=False)
class FinalNetwork(FrontNetwork):
    """A network that is trained to the end."""

    name: str = ""
    """What tables call it; the arch_id where there is none."""

    @cached_property
    def arch_id(self) -> str:
        return arch_id(self.genome) if self.genome.size else self.name
