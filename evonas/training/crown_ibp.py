"""CROWN-IBP training: IBP whose bounds begin as backward linear ones (Zhang et al., 2020)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

from torch import Tensor

from evonas.certify import margin_bounds
from evonas.ranges import SHARE
from evonas.training.ibp import PIXELS, Ibp

__all__ = ["CrownIbp"]


@dataclass(frozen=True, kw_only=True)
class CrownIbp(Ibp):
    """A training recipe: IBP on beta times the margins of CROWN-IBP plus 1 - beta times those of intervals.

    CROWN-IBP's bounds go from the logits back to the images by planes over the boxes of one forward pass of intervals:
    tighter than intervals where a training begins, at a pass for every other class. Beta falls from 1 to `beta` while
    the radius grows; the mixture of two lower bounds is one. Radius, kappa, beta and shares of the epochs are those of
    the authors' code for CIFAR-10 at 8/255 (cifar_dm-large_8_255.json, method "robust"). Two schedules differ: there
    the radius grows along a smoothed curve, here on a line; there kappa is 0 as soon as the radius is above 0, here it
    falls from 1 to `kappa` while the radius grows.
    """

    kappa: Annotated[float, SHARE] = 0.0
    """Weight of the clean cross-entropy after the ramp; 1: plain training."""
    beta: Annotated[float, SHARE] = 0.0
    """Weight of CROWN-IBP's bounds after the ramp; 0: intervals alone, from there on."""
    warmup: Annotated[float, SHARE] = 0.1
    """Share of the epochs that begin as plain training: 320 of 3,200 in the authors' code."""

    name: ClassVar[str] = "crown_ibp"

    def grown(self, share: float) -> Self:
        return replace(super().grown(share), beta=1 - share * (1 - self.beta))

    def margins(self, network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
        if not self.beta:
            return super().margins(network, images, labels)
        linear = margin_bounds(network, images, labels, self.epsilon, intermediate="interval", clip=PIXELS)
        if self.beta == 1:
            return linear
        return self.beta * linear + (1 - self.beta) * super().margins(network, images, labels)
