"""How far a candidate's answers are proven to stay right: radius, and accuracy at a radius."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from evonas.certify.certificate import certified_accuracy, certified_radius
from evonas.certify.linear import Intermediate, RelaxationName
from evonas.data import batches
from evonas.errors import ConfigurationError, DivergedError, choose
from evonas.objectives.attack_error import described_radius
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import first_images

__all__ = ["Certified", "CertifiedAccuracy", "CertifiedRadius", "Norm"]

Norm = Literal["linf", "l2"]

CHOICES = {
    "norm": ("linf", "l2"),
    "relaxation": ("adaptive", "same_slope"),
    "intermediate": ("interval", "linear"),
}
CLIP = (0.0, 1.0)
"""Perturbed pixels stay in it."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """What the certified objectives share: images, ball and bounds.

    Proven for the first validation images, perturbed within [0, 1]; no attack of this norm can do better. A network
    with an operation that has no bounds fails. The bounds are computed in float32 and do not allow for its rounding.
    """

    name: ClassVar[str]
    norm: Norm = "linf"
    images: int = 16
    """Certify the first so many validation images, or all where there are fewer."""
    relaxation: RelaxationName = "adaptive"
    """Of a ReLU's lower side: adaptive (slope 0 or 1), or same_slope, that of its upper side."""
    intermediate: Intermediate = "interval"
    """Bounds before each ReLU: interval (one backward pass, fast), or linear (one for every layer, tight)."""
    batch_size: int = 32

    def __post_init__(self) -> None:
        for setting, known in CHOICES.items():
            choose(dict.fromkeys(known), getattr(self, setting), setting)
        if self.batch_size < 1 or self.images < 1:
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")

    def _column(self, about: str, **metadata: Any) -> Column:
        how = {
            "threat": "certified",
            "norm": self.norm,
            "images": self.images,
            "relaxation": self.relaxation,
            "intermediate": self.intermediate,
            "clip": list(CLIP),
            **metadata,
            "maximize": True,
        }
        return Column(self.name, reference=0.0, maximize=True, about=about, metadata=how)

    def _right(self, candidate: Candidate) -> Iterator[tuple[Tensor, Tensor, int]]:
        """(images, labels, of): those that the network answers right without a perturbation, of so many; in batches."""
        for images, labels in batches(first_images(candidate.data.validation, self.images), self.batch_size):
            logits = candidate.network(images.clone())  # (B, K)
            if not bool(logits.isfinite().all()):
                raise DivergedError("training diverged: the network's logits are not finite")
            right = logits.argmax(dim=1) == labels
            yield images[right], labels[right], len(labels)


@dataclass(frozen=True, kw_only=True)
class CertifiedRadius(Certified):
    """Mean over images of the radius within which the answer is proven to stay right, to be maximised.

    In units of the [0, 1] pixel scale; 0 for an image that is misclassified, or for which no radius was proven. By
    bisection in the logarithm of the radius, of `steps` steps from `start`: by default down to 4e-8, which is about
    what float32 resolves of a pixel.

    Interval bounds widen by a factor at every layer, so deep networks that were not trained for them have 0, and what
    a search finds beside an error is shallow. `linear` proves far more and takes minutes; `jacobian_norm` is the
    measure of deep networks that takes a second.
    """

    name: ClassVar[str] = "certified_radius"
    start: float = 0.05
    steps: int = 15

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.start < math.inf or self.steps < 1:
            raise ConfigurationError(f"expected a finite start > 0 and steps >= 1, got {self.start} and {self.steps}")

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        about = f"mean certified {self.norm} radius, {self.intermediate} bounds"
        return (self._column(about, start=self.start, steps=self.steps),)

    @torch.no_grad()
    def __call__(self, candidate: Candidate) -> dict[str, float]:
        total, count = 0.0, 0
        for images, labels, of in self._right(candidate):
            count += of
            if len(labels):
                radii = certified_radius(
                    candidate.network,
                    images,
                    labels,
                    norm=self.norm,
                    relaxation=self.relaxation,
                    intermediate=self.intermediate,
                    clip=CLIP,
                    start=self.start,
                    steps=self.steps,
                )
                total += radii.double().sum().item()
        return {self.name: total / count}


@dataclass(frozen=True, kw_only=True)
class CertifiedAccuracy(Certified):
    """Share of images whose answer is right and proven to stay so within `epsilon`, in [0, 1], to be maximised."""

    name: ClassVar[str] = "certified_accuracy"
    epsilon: float = 1 / 255
    """Radius, on the [0, 1] pixel scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon < math.inf:
            raise ConfigurationError(f"expected a finite epsilon >= 0, got {self.epsilon}")

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        about = f"certified in {self.norm} {described_radius(self.epsilon)}, {self.intermediate} bounds"
        return (self._column(about, epsilon=self.epsilon),)

    @torch.no_grad()
    def __call__(self, candidate: Candidate) -> dict[str, float]:
        proven, count = 0.0, 0
        for images, labels, of in self._right(candidate):
            count += of
            if len(labels):
                share = certified_accuracy(
                    candidate.network,
                    images,
                    labels,
                    self.epsilon,
                    norm=self.norm,
                    relaxation=self.relaxation,
                    intermediate=self.intermediate,
                    clip=CLIP,
                )
                proven += share * len(labels)
        return {self.name: proven / count}
