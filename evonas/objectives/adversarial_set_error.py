"""Error of a candidate on a precomputed adversarial set."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from evonas.adversarial_sets import ATTACK_NAMES, AdversarialSet, image_digests
from evonas.data import DevicePart, Part, batches
from evonas.errors import ConfigurationError
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import wrong_under
from evonas.parts import part_identity

__all__ = ["AdversarialSetError"]


@dataclass(frozen=True)
class AdversarialSetError:
    """Error on a precomputed L0 / L-inf set, a fraction in [0, 1] to be minimised (RoCo-NAS, III-D: err_adv).

    Every image counts once. The set was made against other networks: this is transferred, not white-box, robustness.
    Further columns give the error on the L0 and on the L-inf images alone, where the set has any, and, with
    `clean_sources`, the error on the same images before the attack: the difference is the attack's. One forward pass of
    the images per candidate, in float32.
    """

    name: ClassVar[str] = "adversarial_set_error"
    stage: ClassVar[str] = "rungs"
    clean_name: ClassVar[str] = "adversarial_set_error_clean"
    adversarial_set: AdversarialSet
    batch_size: int = 500
    clean_sources: Part | None = None
    """The set's clean images, in the order of its `sources`."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigurationError(f"expected batch_size >= 1, got {self.batch_size}")
        clean, digests = self.clean_sources, self.adversarial_set.sources
        if clean is not None and not np.array_equal(image_digests(clean.images), digests):
            raise ConfigurationError(f"expected the {len(digests)} clean images of the set in its order, got others")

    def identity(self) -> dict[str, Any]:
        """As of every part, but that clean images are named only where they are scored on."""
        clean = {} if self.clean_sources is None else {"clean_sources": part_identity(self.clean_sources)}
        return {"adversarial_set": part_identity(self.adversarial_set), "batch_size": self.batch_size, **clean}

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        card, attacked = self.adversarial_set.card, "transferred: precomputed set of {} images"
        found = [self._column(self.name, card.images, attacked, "transfer")]
        if self.clean_sources is not None:
            found.append(self._column(self.clean_name, card.images, "the set's {} images before the attack", "none"))
        found += [self._column(f"{self.name}_{part}", n, attacked, "transfer") for part, n in self._parts().items()]
        return tuple(found)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        the_set = self.adversarial_set
        each = self._wrong(candidate, the_set)  # (N,)
        values = {self.name: float(each.mean())}
        if self.clean_sources is not None:
            before = self._wrong(candidate, self.clean_sources)[the_set.image_sources()]  # (N,)
            values[self.clean_name] = float(before.mean())
        for attack in self._parts():
            values[f"{self.name}_{attack}"] = float(each[the_set.mask(attack)].mean())
        return values

    def _wrong(self, candidate: Candidate, images: AdversarialSet | Part) -> npt.NDArray[np.bool_]:
        part = _on_device(images, candidate.device)
        return wrong_under(candidate.network, batches(part, self.batch_size)).numpy()

    def _column(self, name: str, count: int, about: str, threat: str) -> Column:
        card = self.adversarial_set.card
        metadata = {
            "threat": threat,
            "set": card.name,
            "fingerprint": self.adversarial_set.fingerprint,
            "images": count,
            "targets": [target.name for target in card.targets],
        }
        return Column(name, reference=1.0, about=about.format(count), metadata=metadata)

    def _parts(self) -> dict[str, int]:
        """Attack -> number of its images, for the attacks of which the set has any."""
        sizes = {part: int(self.adversarial_set.mask(part).sum()) for part in ATTACK_NAMES}
        return {part: size for part, size in sizes.items() if size}


@lru_cache(maxsize=4)
def _on_device(images: AdversarialSet | Part, device: torch.device) -> DevicePart:
    """Images and labels on a device, moved once per process."""
    return DevicePart(Part(images.images, images.labels), device)
