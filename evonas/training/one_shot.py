"""Training a supernet: one random network of it at a time, for a few epochs (TAM-NAS, Algorithm 1, IV-A)."""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from evonas.data import Augmentation, DevicePart, augmented
from evonas.devices import float32
from evonas.errors import ConfigurationError, DivergedError
from evonas.graphs import Graphed, Step, moments
from evonas.seeding import derive_seed, generator
from evonas.training.fair import fair_genome
from evonas.training.loop import OnStep, Recipe, of_epoch
from evonas.training.settings import OneShotConfig
from evonas.types import Cost, Genome

__all__ = ["OneShotConfig", "OneShotTraining", "check_windows", "draw_architecture", "drawn_architectures"]

TRIES = 100_000
"""Largest number of random genomes in the search for one inside the window."""

DRAWN_AT_ONCE = 1000


class OneShotSpace(Protocol):
    """A space with genomes of blocks, then ratios."""

    @property
    def name(self) -> str: ...
    @property
    def n_places(self) -> int: ...
    @property
    def n_genes(self) -> int: ...
    @property
    def upper(self) -> Genome: ...
    def cost(self, genome: Genome, n_classes: int = 10) -> Cost: ...
    def scaled(self, window: tuple[float, float]) -> tuple[float, float]: ...
    def units(self, genome: Genome) -> list[Any]: ...


class Supernet(Protocol):
    """Weights that networks share."""

    def network(self, units: list[Any]) -> nn.Module: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> Any: ...


def draw_architecture(
    space: OneShotSpace, config: OneShotConfig, seed: int, epoch: int, step: int = 0, steps: int = 1
) -> Genome:
    """Genome to train in an epoch; deterministic.

    Uniform among those inside the parameter window of the phase; with `fair` each choice in turn, whatever the window.

    Args:
        step: batch within the epoch; only used with one genome for every batch.
        steps: batches of an epoch; only used with `fair`.
    Raises:
        ConfigurationError: 100,000 random genomes were all outside the window.
    """
    joint = epoch >= config.block_epochs
    phase, within = ("joint", epoch - config.block_epochs) if joint else ("blocks", epoch)
    if config.sampling == "fair":
        of_phase, ratios = range(epoch - within, epoch + 1), _ratios(space, config, epoch)
        since = bisect_left(of_phase, ratios, key=lambda each: _ratios(space, config, each))  # so many are in use
        return fair_genome(space.upper, space.n_places, ratios, (within - since) * steps + step, seed, phase)
    turn = (epoch, step) if config.sampling == "batches" else (within // config.resample_epochs,)
    rng = generator(seed, "architecture", phase, *turn)
    start = epoch if config.sampling == "batches" else epoch - within % config.resample_epochs
    low, high = space.scaled(config.joint_window if joint else config.block_window)
    smallest = np.zeros_like(space.upper)
    smallest[space.n_places :] = max(0, int(space.upper[-1]) + 1 - config.ratios(start))
    for _ in range(TRIES // DRAWN_AT_ONCE):
        genomes = rng.integers(smallest, space.upper + 1, size=(DRAWN_AT_ONCE, space.n_genes))
        for genome in genomes:
            if low <= space.cost(genome).params <= high:
                return np.asarray(genome, dtype=np.int64)
    raise ConfigurationError(
        f"expected a window with networks of space {space.name!r} inside, found none of {TRIES} random ones between "
        f"{low:,.0f} and {high:,.0f} parameters; widen --{'joint' if joint else 'block'}-window"
    )


def _ratios(space: OneShotSpace, config: OneShotConfig, epoch: int) -> int:
    """Number of ratios in use, at most all of them."""
    return min(config.ratios(epoch), int(space.upper[-1]) + 1)


def steps_of(config: OneShotConfig, images: int) -> int:
    """Batches of an epoch over so many images; a last batch of one image is dropped."""
    size = config.supernet_batch_size
    return math.ceil(images / size) - (images % size == 1 and images > 1)


def drawn_architectures(
    space: OneShotSpace, config: OneShotConfig, seed: int, epoch: int, images: int
) -> Iterator[Genome]:
    """Genomes that an epoch over so many images trains."""
    steps = steps_of(config, images)
    for step in range(1 if config.sampling == "epochs" else steps):
        yield draw_architecture(space, config, seed, epoch, step, steps)


def check_windows(space: OneShotSpace, config: OneShotConfig, seed: int) -> None:
    """ConfigurationError if a window has no network in one of the epochs; draws once for every number of ratios."""
    checked: set[tuple[bool, int]] = set()
    for epoch in range(config.epochs):
        kind = (epoch >= config.block_epochs, _ratios(space, config, epoch))
        if kind not in checked:
            checked.add(kind)
            draw_architecture(space, config, seed, epoch)


class OneShotTraining:
    """A supernet in training, an epoch at a time; the same arguments give the same weights, also when continued.

    SGD with momentum on the weights of the current network; all other weights, and their momentum, do not change.

    Args:
        supernet: on the device of `part`; trained in place.
        momentum: a second supernet of the same shape, for the momentum of every weight.
        config: with a resolved precision.
    """

    def __init__(
        self,
        space: OneShotSpace,
        supernet: Supernet,
        momentum: Supernet,
        part: DevicePart,
        augmentation: Augmentation,
        config: OneShotConfig,
        recipe: Recipe,
        seed: int,
    ) -> None:
        self.space = space
        self.supernet = supernet
        self.momentum = momentum
        self.part = part
        self.augmentation = augmentation
        self.config = config
        self.recipe = recipe
        self.seed = seed
        self.epoch = 0
        """Finished epochs."""
        with torch.no_grad():
            for value in momentum.state_dict().values():
                value.zero_()

    @property
    def epochs(self) -> int:
        return self.config.epochs

    def run_epoch(self, on_step: OnStep | None = None) -> float:
        """Train for one more epoch.

        Returns:
            Mean loss of its batches.
        Raises:
            DivergedError: the loss or a weight is not finite.
        """
        with float32(tf32=self.config.supernet_precision == "tf32"):
            return self._run_epoch(on_step)

    def _run_epoch(self, on_step: OnStep | None) -> float:
        config, device = self.config, self.part.labels.device
        rng = torch.Generator(device).manual_seed(derive_seed(self.seed, "supernet epoch", self.epoch))
        steps = math.ceil(len(self.part) / config.supernet_batch_size)
        total, shown, count = torch.zeros((), device=device), time.monotonic(), 0
        prepared = None
        for step, batch in enumerate(self.part.shuffled(config.supernet_batch_size, rng)):
            if prepared is None or config.sampling != "epochs":
                prepared, graphed = self._prepared(step, rng), Graphed("training of the supernet")
            descend, changing = prepared
            (loss,) = graphed(descend, *batch, state=changing, generators=(rng,))
            total += loss
            count += 1
            if on_step is not None and time.monotonic() - shown > 0.5:
                shown = time.monotonic()
                on_step(step + 1, steps, f"loss {float(total) / count:.3f}")
        mean = float(total) / count
        values = self.supernet.state_dict()
        finite = torch.stack([value.isfinite().all() for value in values.values()])
        if not (math.isfinite(mean) and bool(finite.all())):  # one wait for all
            broken = [name for name, fine in zip(values, finite.tolist(), strict=True) if not fine]
            loss_note = f"the loss of epoch {self.epoch + 1} is {mean}"
            cause = f"{broken[0]} is not finite" if math.isfinite(mean) else loss_note
            raise DivergedError(
                f"training the supernet diverged: {cause}; try a lower --supernet-lr, in another folder (--out)"
            )
        self.epoch += 1
        return mean

    def genome(self) -> Genome:
        """Genome to train in the next epoch, or in its first batch with one for every batch."""
        return self._drawn(0)

    def _drawn(self, step: int) -> Genome:
        steps = steps_of(self.config, len(self.part))
        return draw_architecture(self.space, self.config, self.seed, self.epoch, step, steps)

    def state(self) -> dict[str, Any]:
        """Tensors and plain values that `restore` continues from; momentum until the last epoch is done."""
        state = {"epoch": self.epoch, "weights": self.supernet.state_dict()}
        return state if self.epoch == self.epochs else {**state, "momentum": self.momentum.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Continue from what `state` gave."""
        self.supernet.load_state_dict(state["weights"])
        if "momentum" in state:
            self.momentum.load_state_dict(state["momentum"])
        self.epoch = int(state["epoch"])

    def _prepared(self, step: int, rng: torch.Generator) -> tuple[Step, Callable[[], list[Tensor]]]:
        """A step of the network to train now, on a batch of a part, with the stored momentum; what it changes."""
        units = self.space.units(self._drawn(step))
        network, momentum = self.supernet.network(units).train(), self.momentum.network(units)
        weights = list(network.parameters())
        optimiser = torch.optim.SGD(
            weights,
            lr=self.config.rate(self.epoch),
            momentum=self.config.supernet_momentum,
            weight_decay=self.config.supernet_weight_decay,
        )
        for weight, buffer in zip(weights, momentum.parameters(), strict=True):
            optimiser.state[weight]["momentum_buffer"] = buffer.detach()

        recipe = of_epoch(self.recipe, network, self.epoch, self.epochs)

        def descend(images: Tensor, labels: Tensor) -> tuple[Tensor]:
            pixels = augmented(images, self.augmentation, rng)
            with torch.autocast(images.device.type, torch.bfloat16, enabled=self.config.supernet_precision == "bf16"):
                loss = recipe(network, pixels, labels, rng)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            return (loss.detach(),)

        def changing() -> list[Tensor]:
            return [*network.parameters(), *network.buffers(), *moments(optimiser)]

        return descend, changing
