"""Error of a candidate on validation images under a white-box attack."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from typing import ClassVar

from torch import Tensor

from evonas.attacks import FGSM, PGD, Attack
from evonas.data import batches
from evonas.errors import ConfigurationError
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import error_under

__all__ = ["AttackError", "FGSMError", "PGDError", "described", "described_radius"]


@dataclass(frozen=True, kw_only=True)
class AttackError:
    """Error on validation images under one white-box attack, a fraction in [0, 1] to be minimised; scored in float32.

    An image that is misclassified without the attack counts as wrong.
    """

    name: ClassVar[str]
    attack: Attack
    images: int | None = None
    """Number of validation images to attack, the first ones; None: all."""
    batch_size: int = 250

    def __post_init__(self) -> None:
        if self.batch_size < 1 or (self.images is not None and self.images < 1):
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        metadata = {"threat": "white-box", "attack": self.attack.name, **asdict(self.attack), "images": self.images}  # type: ignore[call-overload]
        return (Column(self.name, reference=1.0, about=f"white-box: {described(self.attack)}", metadata=metadata),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        return {self.name: error_under(candidate.attacked, self._batches(candidate), self.attack, candidate.generator)}

    def _batches(self, candidate: Candidate) -> Iterator[tuple[Tensor, Tensor]]:
        remaining = len(candidate.data.validation) if self.images is None else self.images
        for images, labels in batches(candidate.data.validation, self.batch_size):
            if remaining > 0:
                yield images[:remaining], labels[:remaining]
            remaining -= len(labels)


@dataclass(frozen=True, kw_only=True)
class PGDError(AttackError):
    """Error under PGD, by default of 10 steps in the L-inf ball of 8/255 (TAM-NAS).

    With `stop_when_fooled` of the attack (the default here) an image counts as wrong if any iterate is, the clean image
    included (worst over iterates, as in AutoAttack); without it only the last iterate counts, as in TRADES and the
    papers. The former is never smaller for the same steps, and takes less time.
    """

    name: ClassVar[str] = "pgd_error"
    attack: PGD = field(default_factory=lambda: PGD(stop_when_fooled=True))


@dataclass(frozen=True, kw_only=True)
class FGSMError(AttackError):
    """Error under FGSM, by default in the L-inf ball of 8/255."""

    name: ClassVar[str] = "fgsm_error"
    attack: FGSM = field(default_factory=FGSM)


def described(attack: Attack) -> str:
    """An attack in a few words: `PGD, linf 8/255, 10 steps`."""
    steps = getattr(attack, "steps", None)
    radius = f"{attack.radius:g}" if attack.norm == "l0" else described_radius(attack.radius)
    words = [attack.name.upper(), f"{attack.norm} {radius}", f"{steps} steps" if steps else ""]
    return ", ".join(word for word in words if word)


def described_radius(radius: float) -> str:
    """A radius on the [0, 1] pixel scale as text: `8/255` for a whole multiple of 1/255, else the number."""
    share = Fraction(radius * 255).limit_denominator(100) if radius < 1e6 else Fraction(0)
    return f"{share}/255" if share.denominator == 1 and abs(share / 255 - radius) < 1e-9 else f"{radius:g}"
