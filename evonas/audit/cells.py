"""Cells that a search has found, trained again in a large network and scored on test images (DARTS; E2RNAS, 4.1)."""

import json
import time
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import safetensors.torch
import torch

from evonas.attacks import PGD
from evonas.audit.retrain import NetworkTraining, scored
from evonas.data import Dataset, DeviceData, DevicePart, Part
from evonas.errors import ConfigurationError
from evonas.evaluation.prepare import seeded_build
from evonas.networks.blocks import seeded
from evonas.networks.darts import DartsNetwork
from evonas.objectives import Candidate, CleanError, OodAupr, PGDError
from evonas.seeding import derive_seed, generator
from evonas.spaces import DartsSpace
from evonas.spaces.darts_costs import paper_flops
from evonas.training import CellTraining, TrainingConfig, train
from evonas.training.loop import OnEpoch
from evonas.types import Cost, Genome, Progress, Report, arch_id

__all__ = ["PAPER_FLOPS", "CellRetraining", "CellScoring", "width_for"]

PAPER_FLOPS = "paper_flops"
"""Column of the FLOPs that E2RNAS's tables give; see `evonas.spaces.darts_costs.paper_flops`."""

SEARCH_ALONE = ("crossover_kind", "crossover_rate", "mutation_rate")
"""Fields of a DartsSpace that the network of a genome does not depend on."""

HEAD = "auxiliary."
"""What the names of the auxiliary head's tensors begin with."""

MOST_PARAMS = 1e12
"""More than any network has that is built."""


@dataclass(frozen=True, kw_only=True)
class CellRetraining:
    """Trains the network of cells on the train part, its seed derived from the run's and from the cells.

    The papers train on all training images; here validation and adversarial images stay out. The auxiliary head is
    there while the network is trained and nowhere else: not in the weights that are kept, not in its costs. The same
    value gives the same weights, bit for bit, on the same kind of CPU.
    """

    space: DartsSpace
    """At the width and depth of the network that is trained."""
    data: Dataset
    training: TrainingConfig
    """With a resolved precision."""
    recipe: CellTraining
    """With auxiliary_weight > 0 the network is trained with an auxiliary head."""
    cutout: int
    """Side of the square hole in training images, in pixels; 0: none."""
    seed: int
    """The run's."""
    device: str = "cpu"
    threads: int = 1

    def identity(self) -> dict[str, Any]:
        """What the weights follow from, besides the genome."""
        return {
            "space": self._space_identity,
            "data": self.data.fingerprint,
            "training": self.training.identity(),
            "recipe": {"name": self.recipe.name, **asdict(self.recipe)},
            "cutout": self.cutout,
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "threads": self.threads,
        }

    def settings(self) -> dict[str, Any]:
        return {"channels": self.space.channels, "layers": self.space.layers, "epochs": self.training.epochs}

    def cost(self, genome: Genome) -> Cost:
        """Of the network that is scored."""
        return self.space.cost(genome, self.data.n_classes)

    def train(
        self, genome: Genome, report: Report, on_epoch: OnEpoch | None = None, begun: Mapping[str, Any] | None = None
    ) -> tuple[bytes, float]:
        """The trained weights as a safetensors file, and the seconds that this call took.

        The file's metadata, `evonas`, is JSON that says which network they belong to: what `DartsSpace.build` gives.

        Args:
            on_epoch, begun: as `training.train` takes them; on the CPU what is continued gives the same weights.
        Raises:
            DivergedError: the loss left the finite numbers.
        """
        started = time.monotonic()
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        key = arch_id(genome)
        seed = derive_seed(self.seed, "retrain", key)
        network = seeded(lambda: self._for_training(genome), derive_seed(seed, "weights")).to(data.device)

        def on_step(done: int, total: int, note: str) -> None:
            report(Progress(key, done, total, "step", note))

        drawn = torch.Generator(data.device).manual_seed(derive_seed(seed, "training"))
        augmentation = replace(data.augmentation, cutout=self.cutout)
        train(network, data.train, augmentation, self.training, self.recipe, drawn, on_step, on_epoch, begun)
        tensors = {
            name: value.detach().cpu().contiguous()
            for name, value in network.state_dict().items()
            if not name.startswith(HEAD)
        }
        about = {
            "space": self._space_identity,
            "genome": genome.tolist(),
            "n_classes": self.data.n_classes,
            "normalization": self.data.normalization,
        }
        weights = safetensors.torch.save(tensors, {"evonas": json.dumps(about)})  # several have no stable order
        return weights, time.monotonic() - started

    def candidate(self, genome: Genome, weights: bytes) -> Candidate:
        """The network of a genome with weights that `train` gave, in eval mode on the device."""
        torch.set_num_threads(self.threads)
        data = DeviceData(self.data, torch.device(self.device))
        network = seeded_build(self.space, genome, data, 0)
        network.load_state_dict(safetensors.torch.load(weights))
        network.to(memory_format=torch.channels_last).eval()
        drawn = torch.Generator(data.device).manual_seed(derive_seed(self.seed, "audit", arch_id(genome)))
        return Candidate(network, genome, self.space, data, self.cost(genome), drawn)

    def _for_training(self, genome: Genome) -> DartsNetwork:
        space = self.space
        return DartsNetwork(
            space.genotype(genome),
            space.channels,
            space.layers,
            self.data.n_classes,
            auxiliary=self.recipe.auxiliary_weight > 0,
            normalization=self.data.normalization,
            stem=space.stem,
        )

    @property
    def _space_identity(self) -> dict[str, Any]:
        own = asdict(self.space).items()
        return {"name": self.space.name, **{name: value for name, value in own if name not in SEARCH_ALONE}}


@dataclass(frozen=True, kw_only=True)
class CellScoring:
    """What such a network is scored on: test images as they are, under PGD, and among images of other classes.

    PGD is made against the very network. It begins at the clean image (E2RNAS, Eq. 2; no random start is named), and
    the last iterate counts. The papers' step, 2.5 epsilon, is taken literally: it is longer than the ball is wide, so
    that every step takes each pixel whose gradient is not 0 to the border. Everything is in float32.
    """

    attack: PGD = field(default_factory=lambda: PGD(epsilon=2 / 255, step_size=5 / 255, steps=10))
    others: Dataset | None = None
    """The data set whose test images are out of distribution; None: there is no `ood_aupr`."""
    ratio: tuple[int, int] = (1, 5)
    """Out-of-distribution images to own ones. Where there are too few of either, there are fewer of both."""
    test_limit: int | None = None
    """Score a class-balanced subset of so many test images; None: all."""
    batch_size: int = 250

    def identity(self) -> dict[str, Any]:
        """What the scores follow from, besides the network."""
        others = self.others
        return {
            "attack": repr(self.attack),
            "others": None if others is None else {"name": others.name, "fingerprint": others.test.fingerprint},
            "ratio": list(self.ratio),
            "test_limit": self.test_limit,
            "batch_size": self.batch_size,
        }

    def test_part(self, data: Dataset, seed: int) -> Part:
        """The test images that are scored. DataError where the limit is below one image a class."""
        return data.test.limited(self.test_limit, data.n_classes, generator("test limit", seed))

    def ood_aupr(self, data: Dataset, seed: int) -> OodAupr | None:
        """The objective over test images of both data sets. DataError where there are too few, or of another size."""
        if self.others is None:
            return None
        return OodAupr.of(_only(self.others, self.others.test), self._tested(data, seed), self.ratio, seed)

    def score(self, retraining: NetworkTraining, genome: Genome, weights: bytes, report: Report) -> dict[str, float]:
        """Columns clean_error, pgd_error, ood_aupr where there are others, and paper_flops.

        Raises:
            DivergedError: logits that are not finite.
        """
        candidate = retraining.candidate(genome, weights)
        tested = self._tested(retraining.data, retraining.seed)
        part = DevicePart(tested.validation, candidate.device)
        attacks: Mapping[str, PGD | None] = {CleanError.name: None, PGDError.name: self.attack}
        values = scored(candidate, part, attacks, self.batch_size, report)
        aupr = self.ood_aupr(retraining.data, retraining.seed)
        if aupr is not None:
            report(Progress(arch_id(genome), len(part), len(part), "image", f"scoring {aupr.name}"))
            values |= aupr(replace(candidate, data=DeviceData(tested, candidate.device)))
        size = tested.image_size
        return {**values, PAPER_FLOPS: paper_flops(candidate.network, (3, size, size))}

    def _tested(self, data: Dataset, seed: int) -> Dataset:
        return _only(data, self.test_part(data, seed))


def width_for(space: DartsSpace, genome: Genome, n_classes: int, params: float) -> int:
    """Channels of the first cell whose network comes nearest to so many parameters; of two as near, the smaller.

    By lookup, at the space's depth: E2RNAS's C46 ... C12 are networks of about 3.35, 2.1, 1.05 and 0.42 million.

    Raises:
        ConfigurationError: not a number of parameters.
    """
    if not 0 < params <= MOST_PARAMS:
        raise ConfigurationError(f"expected a number of parameters > 0 and <= {MOST_PARAMS:g}, got {params}")

    def counted(channels: int) -> int:
        return space.cost(genome, n_classes, channels).params

    step = 2 if space.stem == "imagenet" else 1  # its stem halves the width
    most = step
    while counted(most) < params:
        most *= 2
    widths = range(step, most + 1, step)
    at = bisect_left(widths, params, key=counted)
    return min(widths[max(at - 1, 0) : at + 1], key=lambda channels: abs(counted(channels) - params))


def _only(data: Dataset, part: Part) -> Dataset:
    """A data set in which objectives, which look at the validation part, see this part."""
    return replace(data, train=part, validation=part)
