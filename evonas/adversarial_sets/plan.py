"""What decides a set, what its parts are, and how long they will take."""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch

from evonas.adversarial_sets.settings import SetSettings
from evonas.attacks.inference import Precision
from evonas.data import Dataset
from evonas.errors import ConfigurationError

__all__ = ["BuildPlan", "BuildProgress", "Effort"]

ALGORITHMS = 2
"""Raised whenever targets or attacks change what the same settings give: an older set then has another name."""


@dataclass(frozen=True, kw_only=True)
class BuildPlan:
    """Everything that decides a set, resolved."""

    data: Dataset
    split_seed: int
    """The seed that drew the data's parts."""
    settings: SetSettings
    preset: str
    seed: int
    device: str
    precision: Precision
    """Of the targets' training and of the attacks' search: fp32 or bf16."""
    threads: int

    def __post_init__(self) -> None:
        if min(self.seed, self.split_seed) < 0:
            raise ConfigurationError(f"expected seeds >= 0 for a set, got {min(self.seed, self.split_seed)}")

    @property
    def identity(self) -> dict[str, Any]:
        """The same identity gives the same images, on the CPU bit for bit."""
        return {
            "train": self.data.train.fingerprint,
            "adversarial": self.data.adversarial.fingerprint,
            "normalization": self.data.normalization,
            "settings": asdict(self.settings),
            "seed": self.seed,
            "device": torch.device(self.device).type,
            "precision": self.precision,
            "threads": self.threads,
            "algorithms": ALGORITHMS,
        }

    @property
    def name(self) -> str:
        """Data, preset, and 12 digits that stand for all the rest."""
        digest = hashlib.sha256(json.dumps(self.identity).encode()).hexdigest()[:12]
        return f"{self.data.name}-{self.preset}-{digest}"


class BuildProgress(NamedTuple):
    """How far the building is."""

    target: str
    stage: str
    """training, L0 or Linf."""
    threshold: int
    """0 while training."""
    done: int
    """Images attacked, or steps of training."""
    total: int
    fooled: int
    seconds_left: float | None
    """Of the whole work; None where nothing was measured yet."""
    finished: bool
    """The target is trained, or attacked at this threshold."""
    note: str = ""


class Effort:
    """Predicts the time left: parts of one kind take as long for their cost as those that are done.

    Args:
        parts: name -> (kind, cost); cost in any unit that is the same within a kind.
    """

    def __init__(self, parts: dict[str, tuple[str, float]]) -> None:
        self._left = dict(parts)
        self._spent: dict[str, tuple[float, float]] = {}  # kind -> (seconds, cost)

    def finish(self, part: str, seconds: float) -> None:
        """A part is done, and took so long."""
        kind, cost = self._left.pop(part)
        before = self._spent.get(kind, (0.0, 0.0))
        self._spent[kind] = (before[0] + seconds, before[1] + cost)

    def seconds_left(self, running: str = "", share: float = 0.0, elapsed: float = 0.0) -> float | None:
        """All that is left; `running` is done by `share` after `elapsed` seconds."""
        spent = dict(self._spent)
        if running and share > 0:
            kind, cost = self._left[running]
            before = spent.get(kind, (0.0, 0.0))
            spent[kind] = (before[0] + elapsed, before[1] + cost * share)
        rates = {kind: seconds / cost for kind, (seconds, cost) in spent.items() if cost}
        if not rates:
            return None
        fallback = sum(rates.values()) / len(rates)
        total = sum(rates.get(kind, fallback) * cost for kind, cost in self._left.values())
        if running and share > 0:
            kind, cost = self._left[running]
            total -= rates[kind] * cost * share
        return total
