"""Measurements that count images: their progress, their errors image by image, and some images instead of all."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from torch import Tensor

from evonas.data import Dataset
from evonas.objectives import Candidate
from evonas.seeding import generator
from evonas.types import Progress, Report, arch_id

if TYPE_CHECKING:
    from evonas.audit.measurements import Measure

__all__ = ["CountsErrors", "OnImages", "reporting", "shares"]


class CountsErrors:
    """A measure whose columns are shares of images that are classified wrong."""

    def wrong(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, Tensor]:
        """Column -> (N,) bool, whether the network is wrong about an image; arguments as of `Measure`."""
        raise NotImplementedError

    def values(self, wrong: Mapping[str, Tensor]) -> dict[str, float]:
        """Column -> value, of what `wrong` gave."""
        return shares(wrong)

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        return self.values(self.wrong(candidate, tested, batch_size, report))


def shares(wrong: Mapping[str, Tensor]) -> dict[str, float]:
    """Column -> share of True."""
    return {name: each.double().mean().item() for name, each in wrong.items()}


@dataclass(frozen=True)
class OnImages:
    """A measure on so many test images, class-balanced, the same for every network; on all if there are fewer."""

    measure: "Measure"
    images: int

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        drawn = generator("some test images", self.images)
        some = replace(tested, validation=tested.validation.limited(self.images, tested.n_classes, drawn))
        return self.measure(candidate, some, batch_size, report)


def reporting(report: Report, candidate: Candidate, columns: str, total: int) -> Callable[[int], None]:
    """A function that reports how many images are done; none are by now."""

    def on_batch(done: int) -> None:
        report(Progress(arch_id(candidate.genome), done, total, "image", f"scoring {columns}, {done}/{total} images"))

    on_batch(0)
    return on_batch
