"""Certified error of a candidate: the share of images that are not proven right within a radius."""

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from evonas.certify import interval_margin_bounds, margin_bounds
from evonas.certify.settings import Norm
from evonas.data import batches
from evonas.errors import DivergedError
from evonas.objectives.attack_error import described_radius
from evonas.objectives.certified import CLIP
from evonas.objectives.objective import Candidate, Column, CostedSpace
from evonas.objectives.scoring import first_images
from evonas.ranges import COUNT, IMAGES, check_radius, check_ranges

__all__ = ["CertifiedError", "MarginBounds"]

MarginBounds = Literal["best", "interval", "crown_ibp"]
"""Kind of margin bounds; best: the larger one of each margin."""


@dataclass(frozen=True, kw_only=True)
class CertifiedError:
    """Share of validation images whose margins are not all proven above 0 within `epsilon`; in [0, 1], minimised.

    No attack within the ball, clipped to the range of pixels, has a larger error, and a misclassified image
    counts as wrong. Of deep networks that were not trained for it (recipes `ibp`, `crown_ibp`) it is often 1.
    Bounds are rounded outwards, so that no rounding error proves anything. Networks with an operation that has no
    bounds fail.
    """

    name: ClassVar[str] = "certified_error"
    norm: Norm = "linf"
    epsilon: float = 1 / 255
    """Radius, on the [0, 1] pixel scale."""
    bounds: MarginBounds = "best"
    """interval: those that IBP trains, two passes; crown_ibp: backward linear bounds over boxes by intervals, a pass
    for every other class; best: the larger one of each margin."""
    images: Annotated[int | None, IMAGES] = None
    """Number of validation images, the first ones; None: all."""
    batch_size: Annotated[int, COUNT] = 100

    def __post_init__(self) -> None:
        check_ranges(self)
        check_radius(self.epsilon, self.norm)

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        about = f"not certified in {self.norm} {described_radius(self.epsilon)}, {self.bounds} bounds"
        metadata = {
            "threat": "certified",
            "norm": self.norm,
            "epsilon": self.epsilon,
            "bounds": self.bounds,
            "images": self.images,
            "clip": list(CLIP),
        }
        return (Column(self.name, reference=1.0, about=about, metadata=metadata),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        part = candidate.data.validation
        part = part if self.images is None else first_images(part, self.images)
        wrong = torch.cat([self.unproven(candidate, *batch) for batch in batches(part, self.batch_size)])
        return {self.name: int(wrong.sum()) / len(wrong)}

    @torch.no_grad()
    def unproven(self, candidate: Candidate, images: Tensor, labels: Tensor) -> Tensor:
        """(B,) bool on the CPU: True where the true class is not proven. DivergedError: logits that are not finite."""
        network, margins = candidate.network, []
        logits: Tensor = network(images.clone())
        if not bool(logits.isfinite().all()):
            raise DivergedError("training diverged: the network's logits are not finite")
        ball: dict[str, Any] = {"epsilon": self.epsilon, "norm": self.norm, "clip": CLIP, "rounding": "outward"}
        if self.bounds != "crown_ibp":
            margins.append(interval_margin_bounds(network, images, labels, **ball))
        if self.bounds != "interval":
            linear = margin_bounds(network, images, labels, intermediate="interval", **ball)
            margins.append(torch.where(linear.isnan(), -torch.inf, linear))
        proven = (torch.stack(margins).amax(dim=0) > 0).all(dim=1)
        return ~(proven & (logits.argmax(dim=1) == labels)).cpu()
