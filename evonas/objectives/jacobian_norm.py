"""First-order sensitivity of a candidate's logits to the image."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch

from evonas.certify.jacobian import jacobian_norm_bound
from evonas.data import batches
from evonas.errors import ConfigurationError, DivergedError
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import first_images

__all__ = ["JacobianNorm"]

WORST = 2550.0
"""Hypervolume reference: the mean logit moves by 10, more than classes are apart, if all pixels move by 1/255."""


@dataclass(frozen=True, kw_only=True)
class JacobianNorm:
    """Mean over validation images of (1/K) sum_k ||J_k||_q, to be minimised (DSRNA, Eq. 15 without its -delta).

    In logits per unit of the [0, 1] pixel scale: times epsilon it bounds, to first order, the change of the mean logit
    within radius epsilon. It scales with the logits, so an unconfident network scores low: search for it together with
    an error. Computed in float32, one backward pass per class.

    The norm has no largest value; the hypervolume counts networks below 2,550, where with q = 1 one grey level at all
    pixels moves the mean logit by 10. Norms with a larger q are smaller, so the same reference serves them.
    """

    name: ClassVar[str] = "jacobian_norm"
    q: float = 1.0
    """Norm of a row: 1 for the l-inf ball, 2 for the l2 ball; finite."""
    images: int = 64
    """Number of validation images to measure on, the first ones; all if there are fewer."""
    batch_size: int = 64

    def __post_init__(self) -> None:
        if not 1 <= self.q < math.inf:
            raise ConfigurationError(f"expected a finite q >= 1, got {self.q}")
        if self.batch_size < 1 or self.images < 1:
            raise ConfigurationError(f"expected batch_size and images >= 1, got {self.batch_size} and {self.images}")

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        metadata = {"threat": "first order", "q": self.q, "images": self.images}
        about = f"mean {self.q:g}-norm of the logits' Jacobian"
        return (Column(self.name, reference=WORST, about=about, metadata=metadata),)

    @torch.no_grad()
    def __call__(self, candidate: Candidate) -> dict[str, float]:
        total, count = 0.0, 0
        for images, _ in batches(first_images(candidate.data.validation, self.images), self.batch_size):
            total += jacobian_norm_bound(candidate.network, images, self.q).item() * len(images)
            count += len(images)
        if not math.isfinite(total):
            raise DivergedError("training diverged: the Jacobian of the network's logits is not finite")
        return {self.name: total / count}
