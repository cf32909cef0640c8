"""The pixel attack: a few pixels of any colour, found by differential evolution."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.attacks.attack import check_inputs, needs_generator
from evonas.attacks.de import DifferentialEvolution, de_population
from evonas.attacks.evolution import EvolutionResult, Plan, check_settings, eight_bit, evolve, unchanged
from evonas.attacks.inference import Precision
from evonas.attacks.score_cache import KEY_BITS

__all__ = ["PixelAttack"]


@dataclass(frozen=True, kw_only=True)
class PixelAttack:
    """At most `threshold` pixels get any colour (L0; Su et al., 2019; Kotyan and Vargas, 2019). Images are 8-bit.

    An individual is (row, column, colour...) for each pixel; all are truncated to whole numbers, positions are taken
    modulo height and width, and later pixels overwrite earlier ones. What is minimised is `confidence`. An image
    leaves as soon as its best individual fools the model. Images that the model gets wrong are not attacked, and a
    failed attack gives the clean image: what succeeded shows when the model is asked, or in `run`'s result.
    """

    name: ClassVar[str] = "pixel"
    norm: ClassVar[str] = "l0"
    threshold: int = 1
    """th: pixels that may change; 0 changes nothing."""
    population: int = 400
    """Individuals of an image; rounded down to a multiple of the genes, at least one for each and 5."""
    generations: int = 100
    """After the first population, which is scored, too: (generations + 1) * population evaluations at most."""
    chunk: int = 128
    """Individuals of one forward pass."""
    precision: Precision = "fp32"
    """Of the search: fp32 or bf16. The model itself confirms every success."""

    def __post_init__(self) -> None:
        check_settings(self.threshold, self.population, self.generations, self.chunk, self.precision)

    @property
    def radius(self) -> float:
        """Pixels."""
        return float(self.threshold)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1]; `generator` on their device is required where `threshold` is above 0."""
        return self.run(model, images, labels, generator).images

    def run(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> EvolutionResult:
        """The same with what was spent."""
        check_inputs(images, labels)
        pixels = eight_bit(images)
        if not self.threshold:
            return unchanged(images, labels)
        rng = needs_generator(generator, "the first population and the mutations of the pixel attack")
        encoding = _Encoding(*images.shape[1:])
        individuals = de_population(self.population, genes := self.threshold * encoding.genes)
        plan = Plan(
            start=lambda clean: DifferentialEvolution(len(clean), individuals, genes, rng),
            decode=lambda clean, unit: paint(clean, encoding.points(unit)),
            individuals=individuals,
            genes=genes,
            rounds=self.generations + 1,
            chunk=self.chunk,
            precision=self.precision,
            key=encoding.key if self.threshold == 1 and encoding.has_keys else None,
        )
        return evolve(model, images, pixels, labels, plan)


@dataclass(frozen=True)
class _Encoding:
    """What genes in the unit cube mean."""

    channels: int
    height: int
    width: int

    @property
    def genes(self) -> int:
        """Of one pixel: row, column, colour."""
        return 2 + self.channels

    @property
    def has_keys(self) -> bool:
        """Whether a pixel fits into a key."""
        return self.height * self.width << 8 * self.channels <= 1 << KEY_BITS

    def points(self, unit: Tensor) -> Tensor:
        """(n, th * genes) in [0, 1] -> (n, th, genes) int64 row, column, colour."""
        upper = torch.tensor([self.height, self.width, *[255] * self.channels], device=unit.device)
        points = (unit.view(len(unit), -1, self.genes) * upper).long()
        points[..., 0] %= self.height
        points[..., 1] %= self.width
        return points

    def key(self, unit: Tensor) -> Tensor:
        """(n, genes) of one pixel -> (n,) int64: position and colour in one number."""
        row, column, *colour = self.points(unit).squeeze(1).unbind(dim=1)
        key = row * self.width + column
        for value in colour:
            key = key * 256 + value
        return key


def paint(pixels: Tensor, points: Tensor) -> Tensor:
    """(n, H, W, C) pixels with (n, th, 2 + C) int64 points of row, column and colour drawn on them, in order."""
    painted = pixels.clone()
    each = torch.arange(len(pixels), device=pixels.device)
    for point in points.unbind(dim=1):
        painted[each, point[:, 0], point[:, 1]] = point[:, 2:].to(pixels.dtype)
    return painted
