"""The pixel attack: a few pixels of any colour, chosen by differential evolution."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.attacks.attack import check_inputs, needs_generator
from evonas.attacks.de import DifferentialEvolution, de_population
from evonas.attacks.evolution import EvolutionPlan, EvolutionResult, check_settings, eight_bit, evolve_images, unchanged
from evonas.attacks.inference import Precision
from evonas.attacks.score_cache import KEY_BITS

__all__ = ["PixelAttack"]


@dataclass(frozen=True, kw_only=True)
class PixelAttack:
    """Change at most `threshold` pixels of an 8-bit image (L0; Su et al., 2019; Kotyan and Vargas, 2019).

    An individual is (row, column, colour...) for each pixel, truncated to whole numbers; positions are taken modulo
    height and width, and later pixels overwrite earlier ones. Minimises `confidence`, and stops for an image as soon as
    its best individual fools the model. An image is returned clean where the model is wrong about it already, and
    where the attack fails; `run` also says which attacks succeeded.
    """

    name: ClassVar[str] = "pixel"
    norm: ClassVar[str] = "l0"
    threshold: int = 1
    """th, number of pixels that may change; 0 changes nothing."""
    population: int = 400
    """Individuals per image, rounded down to a multiple of the genes; at least one per gene, and 5."""
    generations: int = 100
    """Generations after the first population: at most (generations + 1) * population evaluations per image."""
    chunk: int = 128
    """Individuals per forward pass."""
    precision: Precision = "fp32"
    """Precision of the search: fp32 or bf16. The model itself confirms every success."""

    def __post_init__(self) -> None:
        check_settings(self.threshold, self.population, self.generations, self.chunk, self.precision)

    @property
    def radius(self) -> float:
        """Number of pixels."""
        return float(self.threshold)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1] and (B,) labels -> attacked images; `threshold` > 0 requires a generator."""
        return self.run(model, images, labels, generator).images

    def run(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> EvolutionResult:
        """The attacked images as `__call__` returns them, with successes and cost."""
        check_inputs(images, labels)
        pixels = eight_bit(images)
        if not self.threshold:
            return unchanged(images, labels)
        rng = needs_generator(generator, "the first population and the mutations of the pixel attack")
        encoding = _Encoding(*images.shape[1:])
        individuals = de_population(self.population, genes := self.threshold * encoding.genes)
        plan = EvolutionPlan(
            start=lambda clean: DifferentialEvolution(len(clean), individuals, genes, rng),
            decode=lambda clean, unit: paint(clean, encoding.points(unit)),
            individuals=individuals,
            genes=genes,
            rounds=self.generations + 1,
            chunk=self.chunk,
            precision=self.precision,
            key=encoding.key if self.threshold == 1 and encoding.has_keys else None,
        )
        return evolve_images(model, images, pixels, labels, plan)


@dataclass(frozen=True)
class _Encoding:
    """Decoding of genes in the unit cube."""

    channels: int
    height: int
    width: int

    @property
    def genes(self) -> int:
        """Genes of one pixel: row, column, colour."""
        return 2 + self.channels

    @property
    def has_keys(self) -> bool:
        """Whether position and colour of a pixel fit into a key."""
        return self.height * self.width << 8 * self.channels <= 1 << KEY_BITS

    def points(self, unit: Tensor) -> Tensor:
        """(n, th * genes) in [0, 1] -> (n, th, genes) int64 row, column, colour."""
        upper = torch.tensor([self.height, self.width, *[255] * self.channels], device=unit.device)
        points = (unit.view(len(unit), -1, self.genes) * upper).long()
        points[..., 0] %= self.height
        points[..., 1] %= self.width
        return points

    def key(self, unit: Tensor) -> Tensor:
        """(n, genes) of one pixel -> (n,) int64: position and colour as one number."""
        row, column, *colour = self.points(unit).squeeze(1).unbind(dim=1)
        key = row * self.width + column
        for value in colour:
            key = key * 256 + value
        return key


def paint(pixels: Tensor, points: Tensor) -> Tensor:
    """(n, H, W, C) copies of pixels with (n, th, 2 + C) int64 points (row, column, colour) drawn on them, in order."""
    painted = pixels.clone()
    each = torch.arange(len(pixels), device=pixels.device)
    for point in points.unbind(dim=1):
        painted[each, point[:, 0], point[:, 1]] = point[:, 2:].to(pixels.dtype)
    return painted
