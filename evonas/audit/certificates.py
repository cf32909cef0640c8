"""Certificates of test images: errors that no attack within a radius exceeds, and the smoothed network's accuracy."""

from dataclasses import dataclass

import torch
from torch import Tensor

from evonas.audit.images import CountsErrors, reporting
from evonas.certify.smoothing import Smoothing
from evonas.data import Dataset, DevicePart, batches
from evonas.objectives import Candidate, CertifiedError
from evonas.types import Report

__all__ = ["SmoothedAccuracy", "Unproven"]


@dataclass(frozen=True)
class Unproven(CountsErrors):
    """Share of the test images that are not proven right within a radius."""

    column: str
    certificate: CertifiedError

    def wrong(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, Tensor]:
        part = DevicePart(tested.validation, candidate.device)
        on_batch = reporting(report, candidate, self.column, len(part))
        found: list[Tensor] = []
        for images, labels in batches(part, min(batch_size, self.certificate.batch_size)):
            found.append(self.certificate.unproven(candidate, images, labels))
            on_batch(sum(map(len, found)))
        return {self.column: torch.cat(found)}


@dataclass(frozen=True)
class SmoothedAccuracy:
    """Certified L2 accuracy of the smoothed network: the mean over radii, then the share of images at each of them.

    An image counts where the class is the true one and the radius at least as long (Cohen et al., 2019, Section 4).
    """

    column: str
    smoothing: Smoothing
    radii: tuple[float, ...] = (0.25, 0.5)
    """On the [0, 1] scale of pixels, in L2."""

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        part = DevicePart(tested.validation, candidate.device)
        on_batch = reporting(report, candidate, self.column, len(part))
        right, done = dict.fromkeys(self.radii, 0), 0
        for images, labels in batches(part, min(batch_size, 10)):  # each image has many passes of its own
            classes, radii = self.smoothing.certify(candidate.network, images, candidate.generator)
            for radius in self.radii:
                right[radius] += int(((classes == labels.cpu()) & (radii >= radius)).sum())
            done += len(labels)
            on_batch(done)
        shares = {radius: count / done for radius, count in right.items()}
        return {
            self.column: sum(shares.values()) / len(shares),
            **{f"{self.column}_at_{round(100 * radius):03d}": share for radius, share in shares.items()},
        }
