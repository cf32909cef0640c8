"""The bilevel loop: weights of a supernet below, its architecture above, an epoch at a time."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from evonas.data import Augmentation, DevicePart, training_batches
from evonas.devices import float32
from evonas.errors import ConfigurationError, DivergedError
from evonas.gradient.architecture import Architecture, Operations, SupernetPlan
from evonas.gradient.derive import derive_genotype
from evonas.gradient.derived import log_odds
from evonas.gradient.levels import Levels, Means
from evonas.gradient.losses import Batch
from evonas.gradient.method import Method
from evonas.gradient.recipe_loss import lower_of_epoch
from evonas.gradient.supernet import DartsSupernet
from evonas.networks.blocks import seeded
from evonas.networks.darts import Genotype
from evonas.networks.darts_operations import PRIMITIVES
from evonas.seeding import derive_seed
from evonas.training.loop import OnStep

__all__ = ["GradientSearch", "SearchData", "halves"]

SKIP = PRIMITIVES.index("skip_connect")


@dataclass(frozen=True, eq=False)
class SearchData:
    """Data of a gradient search, on its device."""

    below: DevicePart
    """Images for the weights."""
    above: DevicePart
    """Images for the architecture."""
    ood_data: DevicePart | None
    """Out-of-distribution images, which belong to none of the classes; their labels are unused."""
    augmentation: Augmentation
    n_classes: int
    normalization: tuple[Sequence[float], Sequence[float]] | None

    def __post_init__(self) -> None:
        if min(len(self.below), len(self.above)) < 2:
            raise ConfigurationError(
                f"expected at least 2 images for each level, got {len(self.below)} and {len(self.above)}"
            )


def halves(part: DevicePart, portion: float) -> tuple[DevicePart, DevicePart]:
    """The first `portion` of the images of a part, and the rest (by index, as in DARTS)."""
    cut = math.floor(portion * len(part))
    return DevicePart.of(part.images[:cut], part.labels[:cut]), DevicePart.of(part.images[cut:], part.labels[cut:])


class GradientSearch:
    """A gradient search, an epoch at a time; the same arguments give the same path, also when continued.

    Args:
        data: on `device`.
        precision: fp32, or bf16 under autocast.
    """

    def __init__(
        self, method: Method, data: SearchData, seed: int, device: torch.device, precision: str = "fp32"
    ) -> None:
        if method.needs_ood and data.ood_data is None:
            raise ConfigurationError(f"expected images of none of the classes for {method.name}, got none")
        self.method = method
        self.data = data
        self.seed = seed
        self.device = device
        self.precision = precision
        self.epoch = 0
        """Finished epochs."""
        self.history: list[Tensor] = []
        """`probabilities` after each finished epoch."""
        self._check_turns()
        self._begin_stage(0, None)

    @property
    def epochs(self) -> int:
        return self.method.epochs

    @property
    def steps(self) -> int:
        """Steps of an epoch: batches of the images below, but a last one of a single image (`training_batches`)."""
        whole, left = divmod(len(self.data.below), self.method.config.search_batch_size)
        return whole + (left > 1)

    def _check_turns(self) -> None:
        """ConfigurationError where an architecture would never have its turn."""
        turns = self.steps * sum(stage.epochs - stage.weights_only for stage in self.method.stages)
        if self.method.preferences is not None and turns < self.method.architectures:
            raise ConfigurationError(
                f"expected a step of the architecture for each of {self.method.architectures} preferences, got {turns} "
                "in the whole search; take more epochs or smaller batches, or fewer preferences"
            )

    @property
    def done(self) -> bool:
        return self.epoch == self.method.epochs

    @property
    def genotype(self) -> Genotype:
        """Cells that the current architecture delivers; of several ones the first, of the smallest networks."""
        return self.genotypes[0]

    @property
    def genotypes(self) -> list[Genotype]:
        """Cells that each architecture delivers: those that are derived, or the strongest ones within limits."""
        derived = [self._derived(each) for each in self.levels.architectures]
        if not self.method.limits:
            return derived
        size, *others = self.method.limits
        odds = map(_log_odds, self.levels.architectures)
        return [
            size.kept(cells, each, self.method.max_skips, others) for cells, each in zip(derived, odds, strict=True)
        ]

    @property
    def derived(self) -> Genotype:
        """Cells of the current architecture by the rule of the two strongest edges; of several ones the first."""
        return self._derived(self.levels.architectures[0])

    def _derived(self, architecture: Architecture) -> Genotype:
        scores = architecture.scores()
        normal, reduce = scores.alpha_normal, scores.alpha_reduce
        genotype = derive_genotype(normal, reduce, scores.beta_normal, scores.beta_reduce)
        limit = self.method.max_skips
        while limit is not None and _skips(genotype) > limit:
            normal = _without_weakest_skip(normal, genotype)
            genotype = derive_genotype(normal, reduce, scores.beta_normal, scores.beta_reduce)
        return genotype

    def probabilities(self) -> Tensor:
        """(2, edges, 8) probabilities of the operations at each edge, differentiable in the architecture; of K
        architectures (K, 2, edges, 8)."""
        every = [each.probabilities() for each in self.levels.architectures]
        return every[0] if self.method.preferences is None else torch.stack(every)

    @float32()
    def run_epoch(self, on_step: OnStep | None = None) -> dict[str, Any]:
        """Train both levels for one epoch.

        Returns:
            learning_rate, train_loss, and the means of upper losses, their weights, their shares of the step
            (of lengths of weighted gradients) and recorded values, by column. Of several architectures all but the rate
            stand in `preferences`, a dict of each, over the steps in its turns; none of those for one without a turn.
        Raises:
            DivergedError: a loss, a gradient or a weight is not finite.
        """
        number, within = self.method.place(self.epoch)
        stage, config = self.method.stages[number], self.method.config
        cosine = 0.5 * (1 + math.cos(math.pi * within / stage.epochs))
        rate = config.search_lr_min + (config.search_lr - config.search_lr_min) * cosine
        levels, means = self.levels, [Means() for _ in self.levels.architectures]
        perturbation, radius = self.method.perturbation, 0.0
        if perturbation is not None:
            radius = perturbation.radius(self.epoch, self.method.epochs)
        weights_only = within < stage.weights_only
        lower = lower_of_epoch(self.method.lower, levels.supernet, within, stage.epochs)
        levels.begin_epoch(rate, stage.dropout(within), self._generator("attacks"), radius, weights_only, lower)
        steps, shown = self.steps, time.monotonic()
        for step, (below, above) in enumerate(self.batches()):
            levels.progress = (within + step / steps) / stage.epochs
            levels.turn = (self.epoch * steps + step) % len(means)
            levels.descend(below, above, means[levels.turn])
            if on_step is not None and time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                on_step(step + 1, steps, f"loss {means[levels.turn].mean('train_loss'):.3f}")
        every = [self._values(each.means()) for each in means]
        levels.check("weights", [*levels.weights, *levels.supernet.buffers()])
        levels.check("architecture", [alpha for each in levels.architectures for alpha in each.parameters()])
        self.epoch += 1
        self.history.append(self.probabilities().detach().cpu())
        for values, sizes in zip(every, self.sizes((within + 1) / stage.epochs), strict=True):
            values |= sizes
        if within + 1 == stage.epochs and not self.done:
            self._begin_stage(number + 1, self._strongest(self.method.stages[number + 1].keep))
        found = every[0] if self.method.preferences is None else {"preferences": every}
        return {"learning_rate": rate, **found}

    def _values(self, means: dict[str, float]) -> dict[str, float]:
        """Means of an epoch, and the current radius of certified bounds. DivergedError where one is not finite."""
        values = {**means, "epsilon": self.levels.epsilon} if self.method.epsilon is not None else means
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(f"the search diverged: {broken[0]} of epoch {self.epoch + 1} is {values[broken[0]]}")
        return values

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `restore` continues from."""
        return {"epoch": self.epoch, "operations": self._operations, "history": self.history, **self.levels.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.epoch = state["epoch"]
        number = len(self.method.stages) - 1 if self.done else self.method.place(self.epoch)[0]
        self._begin_stage(number, state["operations"])
        self.levels.restore(state)
        self.history = list(state["history"])

    def sizes(self, progress: float) -> list[dict[str, float]]:
        """Sizes of each architecture's networks: expected of the derived cells, of these, and of the delivered ones.

        Millions of parameters (`_size`) or multiply-adds (`_macs`), or milliseconds (`_latency_ms`); empty where no
        size is descended. Several architectures deliver what is derived.

        Args:
            progress: share of the stage that is over.
        """
        share = self.method.size_share
        found: list[dict[str, float]] = []
        for architecture, genotype in zip(self.levels.architectures, self.genotypes, strict=True):
            row: dict[str, float] = {}
            for size in (*self.method.limits, *(() if share is None else (share,))):
                expected = size.expected(_log_odds(architecture), size.temperature(progress))
                row[f"expected_{size.column}"] = float(expected)
                if size is not share:
                    row[f"derived_{size.column}"] = size.of(self._derived(architecture))
                row[f"delivered_{size.column}"] = size.of(genotype)
            found.append(row)
        return found

    def _begin_stage(self, number: int, operations: Any) -> None:
        """Create weights and architecture of a stage, over the given operations of every edge; None: all."""
        method = self.method
        stage = method.stages[number]
        self._operations = operations
        plan = SupernetPlan(
            channels=stage.channels,
            layers=stage.layers,
            nodes=method.nodes,
            n_classes=self.data.n_classes,
            partial=method.partial,
            edge_normalisation=method.edge_normalisation,
            operations=operations,
        )
        supernet = seeded(
            lambda: DartsSupernet(plan, self.data.normalization), derive_seed(self.seed, "supernet weights", number)
        )
        assert isinstance(supernet, DartsSupernet)
        supernet = supernet.to(self.device).to(memory_format=torch.channels_last)
        drawn = derive_seed(self.seed, "architecture", number)  # all begin alike
        first, *others = (
            Architecture(plan, torch.Generator().manual_seed(drawn)).to(self.device)
            for _ in range(method.architectures)
        )
        self.levels = Levels(method, supernet, first, self.precision, others)

    def batches(self) -> Iterator[tuple[Batch, Batch]]:
        """One pass over the images of the lower level, each batch with a random one of the upper level."""
        size, data = self.method.config.search_batch_size, self.data
        # seeds depend on these purposes, which keep the former name of the data
        ood_below, ood_above = (self._endless(data.ood_data, f"others {level}") for level in ("below", "above"))
        upper = self._endless(data.above, "above")
        order = self._generator("below")
        for images, labels in training_batches(data.below, size, data.augmentation, order):
            above_images, above_labels = next(upper)
            yield (Batch(images, labels, next(ood_below)[0]), Batch(above_images, above_labels, next(ood_above)[0]))

    def _endless(self, part: DevicePart | None, purpose: str) -> Iterator[tuple[Any, Any]]:
        while part is None:
            yield None, None
        generator = self._generator(purpose)
        while True:
            yield from training_batches(part, self.method.config.search_batch_size, self.data.augmentation, generator)

    def _generator(self, purpose: str) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(derive_seed(self.seed, purpose, self.epoch))

    def _strongest(self, keep: int) -> Operations:
        """The strongest operations of every edge, in the order of `PRIMITIVES`; the first of equally strong ones."""
        return tuple(
            tuple(tuple(sorted(sorted(range(len(edge)), key=edge.__getitem__, reverse=True)[:keep])) for edge in cell)
            for cell in self.probabilities().tolist()
        )


def _log_odds(architecture: Architecture) -> Tensor:
    """(2, edges, 8) with which operations compete, detached."""
    return log_odds(architecture.probabilities(), architecture().edge_shares).detach()


def _skips(genotype: Genotype) -> int:
    return sum(operation == "skip_connect" for operation, _ in genotype.normal)


def _without_weakest_skip(alpha: Tensor, genotype: Genotype) -> Tensor:
    """(edges, 8) alpha of the normal cell, with the share of the genotype's weakest skip_connect moved to `none`."""
    edges, first = [], 0
    for node in range(len(genotype.normal) // 2):
        pairs = genotype.normal[2 * node : 2 * node + 2]
        edges += [first + source for operation, source in pairs if operation == "skip_connect"]
        first += node + 2
    changed = alpha.detach().double().clone()
    weights = changed.log_softmax(dim=1)[edges, SKIP]
    weakest = edges[int(weights.argmin())]
    changed[weakest, 0] = torch.logaddexp(changed[weakest, 0], changed[weakest, SKIP])
    changed[weakest, SKIP] = -torch.inf
    return changed
