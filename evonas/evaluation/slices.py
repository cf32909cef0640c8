"""Candidates that inherit their weights from a supernet: sliced, never copied, with statistics of their own."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from evonas.data import Dataset, DeviceData, DevicePart, batches
from evonas.devices import seconds
from evonas.errors import ConfigurationError, check_name
from evonas.evaluation.prepare import BuildingSpace, PrepareCandidate
from evonas.networks.shuffle_supernet import ShuffleSupernet
from evonas.objectives import Candidate
from evonas.parts import part_identity, part_name
from evonas.seeding import derive_seed, generator
from evonas.types import Genome, Progress, Report, arch_id

__all__ = [
    "RECALIBRATIONS",
    "SliceSupernet",
    "SupernetSpace",
    "SupernetWeights",
    "load_supernet",
    "recalibrate",
    "recalibration_identity",
]

Attacker = Callable[[nn.Module, Tensor, Tensor, torch.Generator | None], Tensor]
"""attack(model, images, labels, generator) -> images: an attack of `evonas.attacks`."""

RECALIBRATIONS = ("clean", "attacked", "off")
"""Images that a candidate's batch statistics are measured on: clean ones, or these attacked; off: not measured."""


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
    recalibration: str = "clean"
    """One of `RECALIBRATIONS`; off: the statistics that the supernet's training has left."""
    recalibration_attack: Attacker | None = None
    """Changes these images, made against the candidate with the statistics of clean ones; for `attacked`."""
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
        check_name(RECALIBRATIONS, self.recalibration, "recalibration")
        if (self.recalibration == "attacked") != (self.recalibration_attack is not None):
            raise ConfigurationError(
                f"expected an attack for recalibration on attacked images alone, got {self.recalibration!r} with "
                f"{self.recalibration_attack}"
            )

    def identity(self) -> dict[str, Any]:
        return {
            "supernet": {**self.weights.training, "fingerprint": self.weights.fingerprint},
            "recalibration": recalibration_identity(
                self.recalibration,
                self.recalibration_batches,
                self.recalibration_batch_size,
                self.recalibration_attack,
            ),
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
            candidate = Candidate(
                supernet.network(self.space.units(genome), own_statistics=self.recalibration != "off"),
                genome,
                self.space,
                data,
                self.space.cost(genome, data.n_classes),
                torch.Generator(device).manual_seed(derive_seed(seed, "objectives")),
            )
            if self.recalibration != "off":
                recalibrate(candidate.network, (images for images, _ in self._shown(part)))
            if self.recalibration_attack is not None:
                network = supernet.network(self.space.units(genome), own_statistics=True)
                recalibrate(network, self._attacked(candidate, part))
                candidate = replace(candidate, network=network)
            return candidate, seconds(device) - started

        return prepare

    def _shown(self, part: DevicePart) -> Iterator[tuple[Tensor, Tensor]]:
        """The batches that statistics are measured on."""
        return islice(batches(part, self.recalibration_batch_size), self.recalibration_batches)

    def _attacked(self, candidate: Candidate, part: DevicePart) -> Iterator[Tensor]:
        """Images of these batches, attacked."""
        assert self.recalibration_attack is not None
        drawn = torch.Generator(candidate.device).manual_seed(derive_seed(self.seed, "recalibration attack"))
        for images, labels in self._shown(part):
            yield self.recalibration_attack(candidate.attacked, images, labels, drawn)


def recalibration_identity(kind: str, number: int, batch_size: int, attack: Attacker | None = None) -> Any:
    """A recalibration as a piece of a run's identity; two numbers for clean images, as version 0.1.0 has it.

    Args:
        number: of batches.
    """
    if kind == "off":
        return kind
    attacked = [{"name": part_name(attack), **part_identity(attack)}] if attack is not None else []
    return [number, batch_size, *attacked]


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
