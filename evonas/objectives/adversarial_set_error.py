"""Error of a candidate on a precomputed adversarial set."""

from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import torch

from evonas.adversarial_sets import ATTACK_NAMES, AdversarialSet
from evonas.data import DevicePart, Part, batches
from evonas.errors import ConfigurationError
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import wrong_under

__all__ = ["AdversarialSetError"]


@dataclass(frozen=True)
class AdversarialSetError:
    """Error on a precomputed L0 / L-inf set, a fraction in [0, 1] to be minimised (RoCo-NAS, III-D: err_adv).

    Every image counts once. The set was made against other networks: this is transferred, not white-box, robustness.
    Further columns give the error on the L0 and on the L-inf images alone, where the set has any. One forward pass of
    the set per candidate, in float32.
    """

    name: ClassVar[str] = "adversarial_set_error"
    adversarial_set: AdversarialSet
    batch_size: int = 500

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError(f"expected batch_size >= 1, got {self.batch_size}")

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        card = self.adversarial_set.card
        counts = {self.name: card.images} | {f"{self.name}_{part}": n for part, n in self._parts().items()}
        return tuple(
            Column(
                name,
                reference=1.0,
                about=f"transferred: precomputed set of {count} images",
                metadata={
                    "threat": "transfer",
                    "set": card.name,
                    "fingerprint": self.adversarial_set.fingerprint,
                    "images": count,
                    "targets": [target.name for target in card.targets],
                },
            )
            for name, count in counts.items()
        )

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        part = _on_device(self.adversarial_set, candidate.device)
        each = wrong_under(candidate.network, batches(part, self.batch_size)).numpy()  # (N,)
        values = {self.name: float(each.mean())}
        for attack in self._parts():
            values[f"{self.name}_{attack}"] = float(each[self.adversarial_set.mask(attack)].mean())
        return values

    def _parts(self) -> dict[str, int]:
        """Attack -> number of its images, for the attacks of which the set has any."""
        sizes = {part: int(self.adversarial_set.mask(part).sum()) for part in ATTACK_NAMES}
        return {part: size for part, size in sizes.items() if size}


@lru_cache(maxsize=4)
def _on_device(adversarial_set: AdversarialSet, device: torch.device) -> DevicePart:
    """Images and labels of a set on a device, moved once per process."""
    return DevicePart(Part(adversarial_set.images, adversarial_set.labels), device)
