"""Candidates that inherit their weights from a supernet: sliced, never copied, with statistics of their own."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.data import Dataset, DeviceData, DevicePart, batches
from evonas.devices import seconds
from evonas.errors import ConfigurationError
from evonas.evaluation.prepare import BuildingSpace, PrepareCandidate
from evonas.networks.shuffle_supernet import ShuffleSupernet
from evonas.objectives import Candidate
from evonas.seeding import derive_seed, generator
from evonas.types import Genome, Progress, Report, arch_id

__all__ = ["SliceSupernet", "SupernetSpace", "SupernetWeights", "load_supernet", "recalibrate"]


class SupernetSpace(BuildingSpace, Protocol):
    """A search space whose networks share the weights of one supernet."""

    def supernet(
        self,
        n_classes: int = 10,
        in_channels: int = 3,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> ShuffleSupernet: ...
    def units(self, genome: Genome) -> list[Any]: ...


@dataclass(frozen=True, eq=False)
class SupernetWeights:
    """A trained supernet's state, as arrays by name; compares by fingerprint."""

    arrays: Mapping[str, npt.NDArray[Any]] = field(repr=False)
    training: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """Identity of the training that gave them, plain values."""

    @classmethod
    def of(cls, supernet: nn.Module, training: Mapping[str, Any] | None = None) -> "SupernetWeights":
        """A copy of what `supernet` holds now."""
        arrays = {name: value.detach().cpu().numpy().copy() for name, value in supernet.state_dict().items()}
        return cls(arrays, training or {})

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over names, shapes and values, 32 hexadecimal digits."""
        digest = hashlib.sha256()
        for name, array in sorted(self.arrays.items()):
            digest.update(f"{name} {array.dtype} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SupernetWeights) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def load_supernet(
    space: SupernetSpace, weights: SupernetWeights, n_classes: int, device: torch.device
) -> ShuffleSupernet:
    """The supernet of a space with these weights, in eval mode; it sees images in [0, 1] as they are.

    Raises:
        ConfigurationError: the weights are of another space or number of classes.
    """
    supernet = space.supernet(n_classes)
    try:
        supernet.load_state_dict({name: torch.tensor(array) for name, array in weights.arrays.items()})
    except RuntimeError as error:
        raise ConfigurationError(
            f"expected the weights of a supernet of space {space.name!r} with {n_classes} classes, got others"
        ) from error
    return supernet.to(device).eval()


@dataclass(frozen=True, kw_only=True)
class SliceSupernet:
    """Gives a candidate the first channels of the supernet's weights, and measures its batch statistics anew.

    The statistics belong to the candidate alone: no result depends on what was scored before.
    """

    space: SupernetSpace
    data: Dataset
    weights: SupernetWeights
    device: str = "cpu"
    recalibration_batches: int = 200
    """Batches of train images that the statistics are measured on (Guo et al., 2020)."""
    recalibration_batch_size: int = 128
    seed: int = 0
    """Seed of the order of these images, the same for every candidate."""

    resident = True
    """The supernet stays in its worker."""
    normalization = None
    epochs = None

    def __post_init__(self) -> None:
        for name in ("recalibration_batches", "recalibration_batch_size"):
            if getattr(self, name) < 1:
                raise ConfigurationError(f"expected {name} >= 1, got {getattr(self, name)}")

    def identity(self) -> dict[str, Any]:
        return {
            "supernet": {**self.weights.training, "fingerprint": self.weights.fingerprint},
            "recalibration": [self.recalibration_batches, self.recalibration_batch_size],
        }

    def start(self) -> PrepareCandidate:
        device = torch.device(self.device)
        data = DeviceData(self.data, device)
        supernet = load_supernet(self.space, self.weights, data.n_classes, device)
        order = generator(self.seed, "recalibration").permutation(len(data.train))
        chosen = torch.from_numpy(order[: self.recalibration_batches * self.recalibration_batch_size]).to(device)
        part = DevicePart.of(data.train.images[chosen], data.train.labels[chosen])

        def prepare(genome: Genome, seed: int, report: Report) -> tuple[Candidate, float]:
            started = seconds(device)
            report(Progress(arch_id(genome), 0, 1, "step", "measuring batch statistics"))
            network = supernet.network(self.space.units(genome), own_statistics=True)
            images = (images for images, _ in batches(part, self.recalibration_batch_size))
            recalibrate(network, islice(images, self.recalibration_batches))
            candidate = Candidate(
                network,
                genome,
                self.space,
                data,
                self.space.cost(genome, data.n_classes),
                torch.Generator(device).manual_seed(derive_seed(seed, "objectives")),
            )
            return candidate, seconds(device) - started

        return prepare


def recalibrate(network: nn.Module, images: Iterable[Tensor]) -> None:
    """Measure the statistics of batch normalisation anew: plain means over these (B, C, H, W) batches.

    The network is left in eval mode, its weights as they were.
    """
    norms = [part for part in network.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # every batch counts the same
    network.train()
    with torch.no_grad():
        for batch in images:
            network(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
