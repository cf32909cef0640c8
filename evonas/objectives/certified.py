"""Certified robustness of a candidate: mean radius, and accuracy within a radius."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from evonas.certify.certificate import certified_accuracy, certified_radius
from evonas.certify.settings import Intermediate, Norm, RelaxationName, Rounding
from evonas.data import batches
from evonas.errors import ConfigurationError, DivergedError, choose
from evonas.objectives.attack_error import described_radius
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import first_images
from evonas.ranges import check_radius

__all__ = ["Certified", "CertifiedAccuracy", "CertifiedRadius", "Norm"]


CHOICES = {
    "norm": ("linf", "l2"),
    "relaxation": ("adaptive", "same_slope"),
    "intermediate": ("interval", "linear", "signs"),
    "rounding": ("outward", "nearest"),
}
CLIP = (0.0, 1.0)
"""Range of perturbed pixels."""


@dataclass(frozen=True, kw_only=True)
class Certified:
    """Images, ball and bounds of the certified objectives.

    Proven for the first validation images, perturbed within [0, 1]; no attack of this norm can do better. Networks with
    an operation that has no bounds fail.
    """

    name: ClassVar[str]
    norm: Norm = "linf"
    images: int = 16
    """Number of validation images to certify, the first ones; all if there are fewer."""
    relaxation: RelaxationName = "adaptive"
    """Lower line of a ReLU: adaptive (slope 0 or 1), or same_slope (that of the upper line)."""
    intermediate: Intermediate = "interval"
    """Bounds before each ReLU: interval (one backward pass, fast), linear (one for every layer, tight), or signs (the
    same, each as far as it takes to know the sign)."""
    batch_size: int = 32
    rounding: Rounding = "outward"
    """outward: proven in spite of rounding errors; nearest: up to them, as runs of 0.1.0 have it."""

    def identity(self) -> dict[str, Any]:
        """The fields; those of 0.1.0 where rounding is to nearest, as it was there."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        if self.rounding == "nearest":
            del found["rounding"]
        return found

    def __post_init__(self) -> None:
        for setting, options in CHOICES.items():
            choose(dict.fromkeys(options), getattr(self, setting), setting)
        if self.batch_size < 1 or self.images < 1:
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")

    def _column(self, about: str, **metadata: Any) -> Column:
        definition = {
            "threat": "certified",
            "norm": self.norm,
            "images": self.images,
            "relaxation": self.relaxation,
            "intermediate": self.intermediate,
            "clip": list(CLIP),
            "rounding": self.rounding,
            **metadata,
            "maximize": True,
        }
        return Column(self.name, reference=0.0, maximize=True, about=about, metadata=definition)

    @property
    def _bounds(self) -> dict[str, Any]:
        return {
            "norm": self.norm,
            "relaxation": self.relaxation,
            "intermediate": self.intermediate,
            "clip": CLIP,
            "rounding": self.rounding,
        }

    def _correct(self, candidate: Candidate) -> Iterator[tuple[Tensor, Tensor, int]]:
        """Batch by batch the correctly classified images, their labels, and the size of the batch."""
        for images, labels in batches(first_images(candidate.data.validation, self.images), self.batch_size):
            logits = candidate.network(images.clone())  # (B, K)
            if not bool(logits.isfinite().all()):
                raise DivergedError("training diverged: the network's logits are not finite")
            correct = logits.argmax(dim=1) == labels
            yield images[correct], labels[correct], len(labels)


@dataclass(frozen=True, kw_only=True)
class CertifiedRadius(Certified):
    """Mean over images of the radius within which the prediction is proven to stay correct, to be maximised.

    In units of the [0, 1] pixel scale; 0 for an image that is misclassified, or for which no radius is proven. Found by
    bisection in the logarithm of the radius, `steps` steps from `start`: by default down to 4e-8, about the resolution
    of a pixel in float32.

    Interval bounds widen by a factor at every layer, so deep networks that were not trained for them have radius 0, and
    a search for this radius and an error finds shallow networks. `linear` proves far more and takes minutes;
    `jacobian_norm` measures deep networks in a second.
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
        for images, labels, batch_size in self._correct(candidate):
            count += batch_size
            if len(labels):
                radii = certified_radius(
                    candidate.network, images, labels, start=self.start, steps=self.steps, **self._bounds
                )
                total += radii.double().sum().item()
        return {self.name: total / count}


@dataclass(frozen=True, kw_only=True)
class CertifiedAccuracy(Certified):
    """Share of images whose prediction is correct, provably so within `epsilon`; in [0, 1], to be maximised."""

    name: ClassVar[str] = "certified_accuracy"
    epsilon: float = 1 / 255
    """Radius, on the [0, 1] pixel scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_radius(self.epsilon, self.norm)

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        about = f"certified in {self.norm} {described_radius(self.epsilon)}, {self.intermediate} bounds"
        return (self._column(about, epsilon=self.epsilon),)

    @torch.no_grad()
    def __call__(self, candidate: Candidate) -> dict[str, float]:
        proven, count = 0.0, 0
        for images, labels, batch_size in self._correct(candidate):
            count += batch_size
            if len(labels):
                share = certified_accuracy(candidate.network, images, labels, self.epsilon, **self._bounds)
                proven += share * len(labels)
        return {self.name: proven / count}
