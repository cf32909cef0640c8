"""Randomised smoothing: certified L2 radii of a network's majority answer under noise (Cohen et al., 2019)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor

from evonas.devices import float32, images_at_once
from evonas.errors import ConfigurationError, DivergedError
from evonas.ranges import IMAGES, Range, check_ranges

__all__ = ["ABSTAINED", "Smoothed", "Smoothing", "lower_confidence_bound", "radius_of"]

ABSTAINED = -1
"""Class of an image of which nothing is said."""

AT_ONCE = 100
"""Noisy copies of an image in one pass, where the device does not tell."""

Counts = npt.NDArray[np.int64]


class Smoothed(NamedTuple):
    """Answers of a smoothed network."""

    classes: Tensor
    """(B,) int64 on the CPU; `ABSTAINED` where nothing is certified."""
    radii: Tensor
    """(B,) float64 on the CPU: L2 radii on the scale of the pixels, 0 where it abstained."""


@dataclass(frozen=True, kw_only=True)
class Smoothing:
    """The smoothed network: its class is the one that the network gives most often under normal noise.

    CERTIFY and PREDICT of Cohen et al. (2019), Section 3.2. A statement about one image is wrong with a probability of
    at most `alpha`, whatever the network is. Noise is not clipped to the range of pixels.
    """

    sigma: Annotated[float, Range(above=0, most=1000)] = 0.25
    """Standard deviation of the noise, on the scale of the pixels."""
    n0: Annotated[int, IMAGES] = 100
    """Samples that choose the class; 100 in the paper."""
    n: Annotated[int, IMAGES] = 1000
    """Samples that bound its probability; 100,000 in the paper. No radius is longer than
    sigma Phi^-1(alpha^(1 / n))."""
    alpha: Annotated[float, Range(above=0, below=1)] = 0.001
    """Largest probability that a statement is wrong; 0.001 in the paper."""

    def __post_init__(self) -> None:
        check_ranges(self)

    def certify(self, model: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator) -> Smoothed:
        """Classes with radii within which the smoothed network provably keeps them, one image after another.

        The radius is sigma Phi^-1(p), where p is a lower confidence bound of the class's probability; where p is below
        a half, it abstains. Of another class than the true one the radius says nothing about being right.

        Args:
            model: (N, C, H, W) images -> (N, K) logits, in eval mode.
            images: (B, C, H, W).
            generator: of the noise, on the device of the images. The same state gives the same answers there.
        Raises:
            ConfigurationError (a ValueError): fewer than two classes.
            DivergedError: logits that are not finite.
        """
        classes, radii = [], []
        for image in images:
            chosen = int(self._counts(model, image, self.n0, generator).argmax())
            hits = self._counts(model, image, self.n, generator)[chosen]
            bound = lower_confidence_bound(int(hits), self.n, self.alpha)
            classes.append(ABSTAINED if bound < 0.5 else chosen)
            radii.append(0.0 if bound < 0.5 else radius_of(bound, self.sigma))
        return Smoothed(torch.tensor(classes), torch.tensor(radii, dtype=torch.float64))

    def predict(self, model: Callable[[Tensor], Tensor], images: Tensor, generator: torch.Generator) -> Tensor:
        """(B,) classes of the smoothed network, of `n` samples each; `ABSTAINED` where the first two classes could be
        equally likely by a two-sided test at `alpha`. Arguments and errors as of `certify`."""
        classes = []
        for image in images:
            counts = self._counts(model, image, self.n, generator)
            second, first = np.sort(counts)[-2:].tolist()
            one_sided = special.betainc(first, second + 1, 0.5)  # P(first or more of both, each with 1/2)
            classes.append(ABSTAINED if min(1.0, 2 * one_sided) > self.alpha else int(counts.argmax()))
        return torch.tensor(classes)

    @torch.no_grad()
    @float32()
    def _counts(
        self, model: Callable[[Tensor], Tensor], image: Tensor, samples: int, generator: torch.Generator
    ) -> Counts:
        """(K,) how often the network gives each class under noise."""
        at_once = images_at_once(image.device, max(image.shape[1:])) or AT_ONCE
        total: Counts | None = None
        for begin in range(0, samples, at_once):
            size = (min(at_once, samples - begin), *image.shape)
            noise = torch.empty(size, dtype=image.dtype, device=image.device).normal_(generator=generator)
            logits = model(image + self.sigma * noise)
            if logits.ndim != 2 or logits.shape[1] < 2:
                raise ConfigurationError(
                    f"expected logits of shape (N, K) of two classes or more, got {tuple(logits.shape)}"
                )
            if not bool(logits.isfinite().all()):
                raise DivergedError("training diverged: the network's logits are not finite")
            found = torch.bincount(logits.argmax(dim=1), minlength=logits.shape[1]).cpu().numpy()
            total = found if total is None else total + found
        assert total is not None  # samples >= 1
        return total


def lower_confidence_bound(hits: int, samples: int, alpha: float) -> float:
    """Clopper and Pearson's one-sided bound of a probability, which is below it in a share of at least 1 - alpha of all
    experiments; 0 without hits."""
    return 0.0 if hits == 0 else float(special.betaincinv(hits, samples - hits + 1, alpha))


def radius_of(probability: float, sigma: float) -> float:
    """Certified L2 radius of a class with at least this probability, sigma Phi^-1(p); not above 0 up to a half."""
    return sigma * float(special.ndtri(probability))
