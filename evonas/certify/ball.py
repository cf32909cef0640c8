"""The set of images that bounds hold for: a norm ball around each image, optionally clipped to valid pixels."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from evonas.certify.graph import Box, Patch
from evonas.certify.patches import cut
from evonas.errors import ConfigurationError, choose

__all__ = ["NORMS", "Ball"]

NORMS: dict[str, float] = {"linf": math.inf, "l2": 2.0}
"""Name -> p of the norm."""


@dataclass(frozen=True, eq=False)
class Ball:
    """Images x + d with ||d|| <= epsilon and, with `clip`, every pixel in the range `clip`.

    Raises:
        ConfigurationError (a ValueError): an unknown norm, an epsilon below 0, or not one epsilon per image.
    """

    images: Tensor
    """(B, C, H, W)"""
    epsilon: Tensor
    """(B, 1, 1, 1)"""
    norm: str
    clip: tuple[float, float] | None

    @classmethod
    def of(
        cls, images: Tensor, epsilon: float | Tensor, norm: str = "linf", clip: tuple[float, float] | None = None
    ) -> "Ball":
        """Check the arguments and build the ball.

        Args:
            epsilon: one radius for all images, or (B,).
        """
        choose(NORMS, norm, "norm")
        radii = torch.as_tensor(epsilon, dtype=images.dtype, device=images.device)
        if radii.ndim not in (0, 1) or (radii.ndim == 1 and len(radii) != len(images)):
            raise ConfigurationError(
                f"expected one epsilon, or one for each of {len(images)} images, got {tuple(radii.shape)}"
            )
        if not bool((radii >= 0).all()) or not bool(radii.isfinite().all()):
            raise ConfigurationError(f"expected epsilon >= 0, got {epsilon}")
        if clip is not None and not (clip[0] < clip[1] and bool(((images >= clip[0]) & (images <= clip[1])).all())):
            raise ConfigurationError(f"expected images within the clip range, which is {clip}; clip=None allows any")
        return cls(images, radii.expand(len(images))[:, None, None, None], norm, clip)

    @property
    def around(self) -> Box:
        """The smallest box that contains the ball without `clip`."""
        return Box(self.images - self.epsilon, self.images + self.epsilon)

    @property
    def box(self) -> Box:
        """The smallest box that contains the ball."""
        lower, upper = self.around
        if self.clip is not None:
            lower, upper = lower.clamp(min=self.clip[0]), upper.clamp(max=self.clip[1])
        return Box(lower, upper)

    def within(self, patch: Patch) -> "Ball":
        """The ball of the pixels of a patch."""
        return replace(self, images=cut(self.images, patch))

    def least(self, coefficients: Tensor) -> Tensor:
        """(S, B) lower bounds over the ball of sum(coefficients * image), coefficients (S, B, C, H, W).

        Exact without `clip`, and in l-inf; in l2 with `clip` the tighter of the bounds over the ball and over the box.
        """
        box, bounds = self.box, []
        coefficients = coefficients.to(self.images)
        if self.norm == "linf" or self.clip is not None:
            ends = coefficients * box.middle - coefficients.abs() * box.radius
            bounds.append(ends.flatten(2).sum(dim=2))
        if self.norm == "l2":
            middle = (coefficients * self.images).flatten(2).sum(dim=2)
            bounds.append(middle - self.epsilon.flatten() * _euclidean(coefficients.flatten(2), 2))
        return bounds[0] if len(bounds) == 1 else torch.maximum(*bounds)


def _euclidean(values: Tensor, dim: int) -> Tensor:
    """Euclidean length along a dimension; its gradient at 0 is 0."""
    squares = values.square().sum(dim=dim)
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
