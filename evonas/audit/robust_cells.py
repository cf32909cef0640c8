"""What DSRNA measures of cells that were trained again: errors under attacks, and certified radii (Tables 1 to 6)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from evonas.attacks import FGSM, PGD
from evonas.audit.retrain import NetworkTraining, scored
from evonas.audit.suite import SINGLE_CW, SuiteColumn
from evonas.certify import certified_radius, random_targets
from evonas.certify.linear import Intermediate
from evonas.data import Dataset, DevicePart, Part, batches
from evonas.errors import ConfigurationError, DivergedError, choose
from evonas.objectives import Candidate
from evonas.seeding import derive_seed, generator
from evonas.types import Genome, Progress, Report, arch_id

__all__ = ["RADII", "ROBUST_SUITE", "RobustnessScoring", "robust_columns"]

RADII = {"certified_radius_linf": "linf", "certified_radius_l2": "l2"}
"""Column -> norm (Tables 5 and 6)."""

PGD_NOTE = "epsilon 8/255, the paper's 0.03, in steps of 2/255 from the clean image; the last iterate counts"
FGSM_NOTE = "the paper's 'epsilon = 0.01 (2/255)', which are two numbers, is read as 2/255 unless another is given"

ROBUST_SUITE = {
    "fgsm": SuiteColumn("fgsm_error", "FGSM", FGSM(epsilon=2 / 255), FGSM_NOTE),
    **{
        f"pgd{steps}": SuiteColumn(
            f"pgd{steps}_error", f"PGD ({steps})", PGD(epsilon=8 / 255, step_size=2 / 255, steps=steps), PGD_NOTE
        )
        for steps in (10, 20, 100)
    },
    "cw": SuiteColumn(
        "cw_error", "C&W", SINGLE_CW, "L2, 60 iterations; c = 1, kappa = 0 and steps of 0.01 are ours, without a bound"
    ),
}
"""Name on the command line -> column; 4.3.1."""


def robust_columns(names: tuple[str, ...], fgsm_epsilon: float) -> tuple[SuiteColumn, ...]:
    """The columns of attacks, in their order, FGSM's with this radius. UnknownNameError for an unknown one."""
    columns = (choose(ROBUST_SUITE, name, "attack on cells") for name in names)
    fgsm = SuiteColumn("fgsm_error", "FGSM", FGSM(epsilon=fgsm_epsilon), FGSM_NOTE)
    return tuple(fgsm if column.name == fgsm.name else column for column in columns)


@dataclass(frozen=True, kw_only=True)
class RobustnessScoring:
    """Errors are shares of the scored test images; radii are means over the first so many of them, 0 where wrong.

    A radius is the largest at which the class is certain, as bisection on linear bounds finds it, on images in [0, 1].
    Everything is in float32.
    """

    columns: tuple[SuiteColumn, ...]
    certified_images: int = 100
    """0: no radii."""
    intermediate: Intermediate = "interval"
    """Bounds before each ReLU: intervals, or linear bounds, which are tighter and cost far more."""
    targets: Literal["random", "all"] = "random"
    """Classes that an image must not be taken for: one drawn for it, the same for every network, as CNN-Cert's
    averages are (Tables 5 and 6), or all."""
    test_limit: int | None = None
    """Attack a class-balanced subset of so many test images; None: all."""
    batch_size: int = 250
    certified_batch: int = 10

    def __post_init__(self) -> None:
        if self.targets not in ("random", "all"):
            raise ConfigurationError(f"expected radii against random or all targets, got {self.targets!r}")
        if self.certified_images < 0:
            raise ConfigurationError(f"expected certified images >= 0, got {self.certified_images}")

    def identity(self) -> dict[str, Any]:
        """What the scores follow from, besides the network."""
        return {
            "robustness": {column.name: repr(column.attack) for column in self.columns},
            "certified_images": self.certified_images,
            "intermediate": self.intermediate,
            "radius_targets": self.targets,
            "test_limit": self.test_limit,
            "batch_size": self.batch_size,
        }

    def test_part(self, data: Dataset, seed: int) -> Part:
        """The test images that are attacked. DataError where the limit is below one image a class."""
        return data.test.limited(self.test_limit, data.n_classes, generator("test limit", seed))

    def score(self, retraining: NetworkTraining, genome: Genome, weights: bytes, report: Report) -> dict[str, float]:
        """Columns clean_error, the attacks', certified_radius_linf and certified_radius_l2.

        Raises:
            DivergedError: logits that are not finite.
        """
        candidate = retraining.candidate(genome, weights)
        part = DevicePart(self.test_part(retraining.data, retraining.seed), candidate.device)
        attacks = {column.name: column.attack for column in self.columns}
        values = scored(candidate, part, {"clean_error": None, **attacks}, self.batch_size, report)
        if self.certified_images:
            values |= self._radii(candidate, part, report)
        return values

    def _radii(self, candidate: Candidate, part: DevicePart, report: Report) -> dict[str, float]:
        """Means over the first images; of class-balanced parts these are in no order of classes."""
        first = DevicePart.of(part.images[: self.certified_images], part.labels[: self.certified_images])
        key, total, done, values = arch_id(candidate.genome), len(RADII) * len(first), 0, {}
        for name, norm in RADII.items():
            found, drawn = [], torch.Generator().manual_seed(derive_seed(0, "radius targets"))
            for images, labels in batches(first, self.certified_batch):
                report(Progress(key, done, total, "image", f"scoring {name}"))
                one = random_targets(labels, candidate.data.n_classes, drawn) if self.targets == "random" else None
                radii = certified_radius(
                    candidate.network,
                    images,
                    labels,
                    norm,
                    intermediate=self.intermediate,
                    clip=(0.0, 1.0),
                    targets=one,
                )
                found.append(radii.double())
                done += len(labels)
            values[name] = float(torch.cat(found).mean())
        broken = [name for name, value in values.items() if not math.isfinite(value)]
        if broken:
            raise DivergedError(f"{', '.join(broken)} is not finite")
        return values
