"""The plan of a set, and its name."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch

from evonas.adversarial_sets.settings import SetSettings
from evonas.attacks.inference import Precision
from evonas.data import Dataset
from evonas.errors import ConfigurationError
from evonas.networks.victim_plan import IMAGE_SIZE

__all__ = ["THREADS", "BuildPlan"]

ALGORITHMS = 2
"""Version of targets and attacks, part of a set's name; increased when equal settings begin to give other images."""

THREADS = 1
"""CPU threads of all arithmetic: another number rounds differently, and a set is to be the same on every machine."""
MOST_THREADS = 256
"""Largest number by which a set of version 0.1.0 is found again."""


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Everything that determines a set, with all `auto`s resolved."""

    data: Dataset
    split_seed: int
    """Seed of the data's split into parts."""
    settings: SetSettings
    preset: str
    seed: int
    device: str
    precision: Precision
    """Precision of the targets' training and of the attacks' search: fp32 or bf16."""

    def __post_init__(self) -> None:
        if min(self.seed, self.split_seed) < 0:
            raise ConfigurationError(f"expected seeds >= 0 for a set, got {min(self.seed, self.split_seed)}")
        if self.data.image_size != IMAGE_SIZE:
            raise ConfigurationError(
                f"expected images of {IMAGE_SIZE}x{IMAGE_SIZE} pixels for an adversarial set, got {self.data.name} of "
                f"{self.data.image_size}x{self.data.image_size}: pad them, or search without a set, "
                "--objectives clean_error,macs, with an attack beside them, clean_error,macs,pgd_error"
            )

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the images depend on; equal identities give equal images, on the CPU bit for bit."""
        return {
            "train": self.data.train.fingerprint,
            "adversarial": self.data.adversarial.fingerprint,
            "normalization": self.data.normalization,
            "settings": self.settings.identity(),
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "precision": self.precision,
            "threads": THREADS,
            "algorithms": ALGORITHMS,
        }

    @property
    def name(self) -> str:
        """Data, preset, and 12 digits of a hash of the identity."""
        return self._named(self.identity)

    @property
    def earlier_names(self) -> Iterator[str]:
        """Names of sets of these settings by version 0.1.0, which computed them with any number of threads."""
        identity = self.identity
        for threads in range(2, MOST_THREADS + 1):
            yield self._named({**identity, "threads": threads})

    @property
    def digits(self) -> str:
        """The 12 digits."""
        return self.name.rpartition("-")[2]

    def _named(self, identity: dict[str, Any]) -> str:
        digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]
        return f"{self.data.name}-{self.preset}-{digest}"
