"""The plan of a set, progress reports, and prediction of the remaining time."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from evonas.adversarial_sets.settings import SetSettings
from evonas.attacks.inference import Precision
from evonas.data import Dataset
from evonas.errors import ConfigurationError
from evonas.networks.victim_plan import IMAGE_SIZE

__all__ = ["THREADS", "BuildPlan", "BuildProgress", "Effort"]

ALGORITHMS = 2
"""Version of targets and attacks, part of a set's name; increased when equal settings begin to give other images."""

THREADS = 1
"""CPU threads of all arithmetic: another number rounds differently, and a set is to be the same on every machine."""
MOST_THREADS = 256
"""Largest number by which a set of version 0.1.0 is found again."""

Kind = tuple[str, str]
"""(target network, what is done with it)."""


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


class BuildProgress(NamedTuple):
    """Progress of the building of a set."""

    target: str
    stage: str
    """training, L0 or Linf."""
    threshold: int
    """0 while training."""
    done: int
    """Images attacked, or training steps."""
    total: int
    fooled: int
    seconds_left: float | None
    """Predicted for the whole work on the slots that there are; None before the first measurement."""
    finished: bool
    """Whether the target is trained, or attacked at this threshold."""
    note: str = ""


class Effort:
    """Predicts the remaining time: parts take the same seconds per cost as others of their network and kind have taken.

    Where none has, as those of their kind, or else as all others.

    Args:
        parts: name -> (network, kind, cost).
    """

    def __init__(self, parts: Mapping[str, tuple[str, str, float]]) -> None:
        self._parts = dict(parts)
        self._left: dict[Kind, float] = {}
        self._spent: dict[Kind, tuple[float, float]] = {}
        """(seconds, cost) of finished parts."""
        self._reached: dict[str, tuple[float, float]] = {}
        """Running part -> (share, seconds)."""
        for network, kind, cost in parts.values():
            self._left[network, kind] = self._left.get((network, kind), 0.0) + cost

    def reach(self, part: str, share: float, seconds: float) -> None:
        """Record that a running part came to this share of itself in so many seconds."""
        self._reached[part] = (share, seconds)

    def finish(self, part: str, seconds: float) -> None:
        """Record the seconds that a finished part took."""
        self._reached.pop(part, None)
        _move(self._parts.pop(part), 1.0, seconds, self._left, self._spent)

    def seconds_left(self, slots: int = 1) -> float | None:
        """Predicted seconds for all pending parts, so many at once; None before anything was measured."""
        left, spent = dict(self._left), dict(self._spent)
        for part, (share, seconds) in self._reached.items():
            _move(self._parts[part], share, seconds, left, spent)
        rates = {key: seconds / cost for key, (seconds, cost) in spent.items() if cost}
        if not rates:
            return None
        total = 0.0
        for key, cost in left.items():
            alike = [rate for other, rate in rates.items() if other[1] == key[1]] or [*rates.values()]
            total += cost * rates.get(key, sum(alike) / len(alike))
        return total / slots


def _move(
    part: tuple[str, str, float],
    share: float,
    seconds: float,
    left: dict[Kind, float],
    spent: dict[Kind, tuple[float, float]],
) -> None:
    """Move a share of a part from what is left to what was spent."""
    network, kind, cost = part
    before = spent.get((network, kind), (0.0, 0.0))
    left[network, kind] -= cost * share
    spent[network, kind] = (before[0] + seconds, before[1] + cost * share)
