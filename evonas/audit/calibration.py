"""Calibration: whether a network is right as often as it is sure."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from evonas.audit.images import reporting
from evonas.data import Dataset, DevicePart, batches
from evonas.errors import DivergedError
from evonas.objectives import Candidate
from evonas.types import Report

__all__ = ["CalibrationError", "expected_calibration_error"]


def expected_calibration_error(confidence: Tensor, right: Tensor, bins: int = 15) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, each weighted by its images.

    ECE (Guo et al., 2017), in [0, 1]; smaller is better.

    Args:
        confidence: (N,) largest softmax probability, in (0, 1].
        right: (N,) bool.
    """
    place = (confidence.double() * bins).ceil().long().clamp(1, bins) - 1  # bins are open below, as in the paper
    distance = torch.zeros(bins, dtype=torch.float64, device=confidence.device)
    distance.index_add_(0, place, right.double() - confidence.double())
    return float(distance.abs().sum() / len(confidence))


@dataclass(frozen=True)
class CalibrationError:
    """Expected calibration error on clean test images."""

    column: str = "ece"
    bins: int = 15

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        part = DevicePart(tested.validation, candidate.device)
        on_batch = reporting(report, candidate, self.column, len(part))
        confidence, right, done = [], [], 0
        with torch.no_grad():
            for images, labels in batches(part, batch_size):
                largest, guessed = candidate.network(images).softmax(dim=1).max(dim=1)
                confidence.append(largest)
                right.append(guessed == labels)
                done += len(labels)
                on_batch(done)
        found = expected_calibration_error(torch.cat(confidence), torch.cat(right), self.bins)
        if not math.isfinite(found):
            raise DivergedError("training diverged: the network's logits are not finite")
        return {self.column: found}
