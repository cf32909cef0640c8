"""Errors on test images that are changed by no attacker: noise, brightness, contrast, blur, in five severities.

Kinds and strengths are those of CIFAR-10-C (Hendrycks and Dietterich, 2019), made here from their formulas. The same
images are changed alike for every network: noise is drawn once for each image, and scaled by the severity.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evonas.audit.images import CountsErrors, reporting, shares
from evonas.data import Dataset, DevicePart, batches
from evonas.errors import choose
from evonas.objectives import Candidate
from evonas.objectives.scoring import wrong_under
from evonas.seeding import generator
from evonas.types import Report

__all__ = ["KINDS", "STRENGTHS", "Corrupted", "corrupted"]

STRENGTHS = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),
    "blur": (0.4, 0.6, 0.7, 0.8, 1.0),
}
"""Kind -> its number at severity 1 to 5: deviation of the noise, addition to the largest channel, factor on the
contrast, all on the [0, 1] scale, and deviation of the Gaussian in pixels."""


def _gaussian_noise(images: Tensor, strength: float, first: int) -> Tensor:
    noise = [generator("gaussian noise", first + at).standard_normal(images[0].shape) for at in range(len(images))]
    return images + strength * torch.from_numpy(np.stack(noise)).to(images)


def _brightness(images: Tensor, strength: float, first: int) -> Tensor:
    """The value of HSV, the largest channel, grows by `strength`; hue and saturation stay."""
    value = images.amax(dim=1, keepdim=True)
    brighter = (value + strength).clamp(max=1)
    return torch.where(value > 0, images * (brighter / value.clamp(min=1e-6)), brighter)


def _contrast(images: Tensor, strength: float, first: int) -> Tensor:
    mean = images.mean(dim=(2, 3), keepdim=True)
    return (images - mean) * strength + mean


def _blur(images: Tensor, strength: float, first: int) -> Tensor:
    """Convolution with a Gaussian that is cut off at four deviations; the border's pixels go on beyond it."""
    radius = min(math.ceil(4 * strength), min(images.shape[2:]))
    at = torch.arange(-radius, radius + 1, dtype=images.dtype, device=images.device)
    weights = torch.exp(-0.5 * (at / strength) ** 2)
    weights = weights / weights.sum()
    channels = images.shape[1]
    padded = functional.pad(images, (radius,) * 4, mode="replicate")
    rows = functional.conv2d(padded, weights.view(1, 1, -1, 1).repeat(channels, 1, 1, 1), groups=channels)
    return functional.conv2d(rows, weights.view(1, 1, 1, -1).repeat(channels, 1, 1, 1), groups=channels)


KINDS: dict[str, Callable[[Tensor, float, int], Tensor]] = {
    "gaussian_noise": _gaussian_noise,
    "brightness": _brightness,
    "contrast": _contrast,
    "blur": _blur,
}
"""Name -> function of (B, C, H, W) images in [0, 1], a strength, and the number of the first one in its part."""


def corrupted(kind: str, severity: int, images: Tensor, first: int = 0) -> Tensor:
    """(B, C, H, W) images in [0, 1], changed, and rounded to 8 bits as images on disk are.

    Args:
        severity: 1 to 5.
        first: number of the first image in its part, which its noise follows from.
    """
    changed = choose(KINDS, kind, "corruption")(images, STRENGTHS[kind][severity - 1], first)
    return (changed.clamp(0, 1) * 255).round() / 255


@dataclass(frozen=True)
class Corrupted(CountsErrors):
    """Error on changed test images: the mean over five severities, then each of them."""

    column: str
    kind: str

    def values(self, wrong: Mapping[str, Tensor]) -> dict[str, float]:
        each = shares(wrong)
        return {self.column: sum(each.values()) / len(each), **each}

    def wrong(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, Tensor]:
        part = DevicePart(tested.validation, candidate.device)
        severities = range(1, 6)
        on_batch = reporting(report, candidate, self.column, len(severities) * len(part))
        found = {}
        for severity in severities:
            first, wrong = 0, []
            for images, labels in batches(part, batch_size):
                changed = corrupted(self.kind, severity, images, first)
                wrong.append(wrong_under(candidate.network, [(changed, labels)]))
                first += len(labels)
                on_batch((severity - 1) * len(part) + first)
            found[f"{self.column}_{severity}"] = torch.cat(wrong)
        return found
