"""A searched network trained to the end: from scratch or with the weights of a supernet, under any recipe."""

import inspect
import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import safetensors.torch
import torch
from torch import nn

from evonas.data import Dataset, DeviceData, DevicePart, Part
from evonas.errors import ConfigurationError
from evonas.evaluation import SupernetWeights, load_supernet
from evonas.networks.blocks import seeded
from evonas.objectives import Candidate
from evonas.parts import digest, part_identity, part_name
from evonas.seeding import derive_seed
from evonas.ship import Provenance, WeightsCard, weights_file
from evonas.training import Recipe, Training, TrainingConfig, standard
from evonas.training.checkpoints import train_reporting
from evonas.types import Cost, Genome, Report, TrainOn, arch_id

__all__ = ["ENDING", "FinalTraining"]

ENDING = ".training.pt"
"""Ending of the checkpoint of a network in training."""


@dataclass(frozen=True, kw_only=True)
class FinalTraining:
    """Trains networks of a space; seeds follow from the run's seed and the network alone.

    Equal values give equal weights, bit for bit, on the same kind of CPU, wherever training was stopped and continued.
    """

    space: Any
    """Builds the networks, at the width and depth that they are trained at."""
    data: Dataset
    training: TrainingConfig
    """With a resolved precision."""
    recipe: Recipe = standard
    """One with `auxiliary_weight` > 0 trains with an auxiliary head, which is neither kept nor counted."""
    train_on: TrainOn = "train"
    """Images: the train part, so that validation and adversarial images stay out, or all but the test part."""
    cutout: int | None = None
    """Side of the square hole in training images, in pixels; None: the data's own augmentation."""
    mode: Literal["", "scratch", "finetune"] = ""
    """Start of a supernet's network, which sees images as they are: new weights, or those of `inherited`."""
    inherited: SupernetWeights | None = None
    seed: int
    """The run's."""
    device: str = "cpu"
    threads: int = 1

    def __post_init__(self) -> None:
        if (self.mode == "finetune") != (self.inherited is not None):
            raise ConfigurationError(f"expected the weights of a supernet to fine-tune alone, got mode {self.mode!r}")

    def identity(self) -> dict[str, Any]:
        """Everything the weights follow from, besides the genome."""
        training = self.training.identity()
        if math.isinf(self.training.grad_clip):
            training["grad_clip"] = None  # JSON has no infinity
        recipe, name = part_identity(self.recipe), part_name(self.recipe)
        identity: dict[str, Any] = {
            "space": self._space_identity,
            "data": self.data.fingerprint,
            "training": training,
            "recipe": name if inspect.isroutine(self.recipe) else {"name": name, **recipe},
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
        }
        if self.train_on != "train":
            identity["train_on"] = self.train_on
        if self.cutout is not None:
            identity["cutout"] = self.cutout
        if self.mode:
            identity["supernet"] = None if self.inherited is None else self.inherited.fingerprint
        return identity

    def settings(self) -> dict[str, Any]:
        """Columns of tables that say how a network was trained."""
        mode = {"mode": self.mode} if self.mode else {}
        shape = {name: getattr(self.space, name) for name in ("channels", "layers") if hasattr(self.space, name)}
        images = {"train_on": self.train_on} if self.train_on != "train" else {}
        return {**(mode or shape), "epochs": self.training.epochs, **images}

    def cost(self, genome: Genome) -> Cost:
        """Cost of the network that is kept."""
        return Cost(*self.space.cost(genome, self.data.n_classes))

    def train(self, genome: Genome, report: Report, checkpoint: Path | None = None) -> tuple[bytes, float]:
        """The trained weights as a safetensors file, and the seconds of training, those of earlier processes too.

        The file's metadata, `evonas`, is JSON that builds the network again; see `evonas.ship.load_weights`.

        Args:
            checkpoint: where every epoch is kept until the last one; None: nowhere.
        Raises:
            DivergedError: the loss left the finite numbers.
            EvonasError: the checkpoint cannot be read or written, or is another training's.
        """
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        seed = derive_seed(self.seed, *self._names("finalise" if self.mode else "retrain", genome))
        network = self._initial(genome, derive_seed(seed, "weights")).to(data.device)
        drawn = torch.Generator(data.device).manual_seed(derive_seed(seed, "training"))
        augmentation = data.augmentation if self.cutout is None else replace(data.augmentation, cutout=self.cutout)
        images = DevicePart(self.images, data.device) if self.train_on != "train" else data.train
        training = Training(network, images, augmentation, self.training, self.recipe, drawn)
        rows = train_reporting(
            training,
            checkpoint,
            self._checkpoint_identity(genome),
            "a training",
            lambda loss: {"epoch": training.epoch, "loss": loss},
            arch_id(genome),
            report,
        )
        network.eval()
        return weights_file(network, self.card(network, genome)), sum(row["seconds"] for row in rows)

    def card(self, network: nn.Module, genome: Genome) -> WeightsCard:
        """Everything that builds the trained network again, but its weights."""
        provenance = Provenance(
            weights="audit",
            identity=self.digest,
            seed=self.seed,
            data=self.data.name,
            fingerprint=self.data.fingerprint,
            epochs=self.training.epochs,
            train_on=self.train_on,
        )
        normalization = None if self.mode else self.data.normalization
        shape = self.data.train.images.shape[1:]
        return WeightsCard.of(network, self.space, genome, self.data.n_classes, shape, normalization, provenance)

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        """The network of a genome with weights that `train` gave, in eval mode on the device."""
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        network = self._built(genome, 0)
        network.load_state_dict(safetensors.torch.load(weights))
        network.to(data.device).to(memory_format=torch.channels_last).eval()
        drawn = torch.Generator(data.device).manual_seed(derive_seed(self.seed, *self._names("audit", genome)))
        return Candidate(network, genome, self.space, data, self.cost(genome), drawn)

    def checkpoint(self, folder: Path, genome: Genome) -> Path:
        """File that keeps the network's training until it is done."""
        return folder / f"{arch_id(genome)}-{self.digest[:8]}{ENDING}"

    @cached_property
    def digest(self) -> str:
        """Digest of everything the weights follow from, besides the genome."""
        return digest(self.identity())

    def _names(self, purpose: str, genome: Genome) -> list[int | str]:
        """Parts of the network's seed, besides the run's."""
        if not self.mode:
            return [purpose, arch_id(genome)]
        space = [self.space.name] if purpose == "finalise" else []
        return [purpose, *space, *genome.tolist()]

    def _checkpoint_identity(self, genome: Genome) -> dict[str, Any]:
        return {"genome": genome.tolist(), "digest": self.digest}

    def _initial(self, genome: Genome, seed: int) -> nn.Module:
        """The network that training starts from."""
        network = self._built(genome, seed, auxiliary=getattr(self.recipe, "auxiliary_weight", 0) > 0)
        if self.inherited is not None:
            network.load_state_dict(self._supernet.network(self.space.units(genome)).state_dict())
        return network

    def _built(self, genome: Genome, seed: int, auxiliary: bool = False) -> nn.Module:
        given: dict[str, Any] = {} if self.mode else {"normalization": self.data.normalization}
        if auxiliary:
            given["auxiliary"] = True
        build: Callable[[], nn.Module] = lambda: self.space.build(genome, self.data.n_classes, **given)  # noqa: E731
        return seeded(build, seed)

    @property
    def epochs(self) -> int:
        """Passes over the images."""
        return self.training.epochs

    @property
    def images(self) -> Part:
        """Images that networks are trained on."""
        return self.data.trained_on(self.train_on)

    @property
    def images_in_words(self) -> str:
        """Number of these images, and their part."""
        parts = {"train": "the train part", "all": "the train, validation and adversarial parts"}
        return f"the {len(self.images)} images of {parts[self.train_on]}"

    @property
    def _space_identity(self) -> dict[str, Any]:
        unused = getattr(self.space, "search_only", ())
        own = {name: value for name, value in asdict(self.space).items() if name not in unused}
        return {"name": self.space.name, **own}

    @cached_property
    def _supernet(self) -> Any:
        assert self.inherited is not None
        return load_supernet(self.space, self.inherited, self.data.n_classes, torch.device("cpu"))
