"""The threshold attack: a small change of every value, found by an evolution strategy."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from evonas.attacks.attack import check_inputs, needs_generator
from evonas.attacks.cma_es import SeparableCMA
from evonas.attacks.de import DifferentialEvolution, de_population
from evonas.attacks.evolution import (
    EvolutionPlan,
    EvolutionResult,
    Optimiser,
    check_settings,
    eight_bit,
    evolve_images,
    unchanged,
)
from evonas.attacks.inference import Precision
from evonas.errors import ConfigurationError

__all__ = ["ThresholdAttack"]


@dataclass(frozen=True, kw_only=True)
class ThresholdAttack:
    """Change every value of an 8-bit image by at most `threshold` levels (L-inf; Kotyan and Vargas, 2019).

    An individual is all values of an image, within `threshold` of the clean ones and 0..255, truncated to whole
    numbers. Minimises `confidence`, and stops for an image as soon as its best individual fools the model. An image is
    returned clean where the model is wrong about it already, and where the attack fails; `run` also says which attacks
    succeeded.
    """

    name: ClassVar[str] = "threshold"
    norm: ClassVar[str] = "linf"
    threshold: int = 1
    """th, in 8-bit levels; 0 changes nothing."""
    algorithm: Literal["cma", "de"] = "cma"
    """cma: `SeparableCMA` from the clean image with step size th / 4. de: `DifferentialEvolution` within the bounds,
    with at least as many individuals as the image has values."""
    population: int = 400
    """Individuals per image; with de rounded down to a multiple of the genes, at least one per gene."""
    generations: int = 100
    """cma: at most generations * population evaluations per image; de: at most (generations + 1) * population."""
    chunk: int = 128
    """Individuals per forward pass."""
    precision: Precision = "fp32"
    """Precision of the search: fp32 or bf16. The model itself confirms every success."""

    def __post_init__(self) -> None:
        check_settings(self.threshold, self.population, self.generations, self.chunk, self.precision)
        if self.algorithm not in ("cma", "de"):
            raise ConfigurationError(f"expected algorithm cma or de, got {self.algorithm!r}")

    @property
    def radius(self) -> float:
        """`threshold` on the [0, 1] scale."""
        return self.threshold / 255

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
        rng = needs_generator(generator, "the populations of the threshold attack")
        genes = images[:1].numel() if len(images) else 1
        cma = self.algorithm == "cma"
        plan = EvolutionPlan(
            start=lambda clean: self._start(clean, rng),
            decode=_truncated if cma else self._within_bounds,
            individuals=self.population if cma else de_population(self.population, genes),
            genes=genes,
            rounds=self.generations if cma else self.generations + 1,
            chunk=self.chunk,
            precision=self.precision,
        )
        return evolve_images(model, images, pixels, labels, plan)

    def _start(self, pixels: Tensor, generator: torch.Generator) -> Optimiser:
        values = pixels.flatten(1)  # (B, D)
        if self.algorithm == "de":
            problems, genes = values.shape
            return DifferentialEvolution(problems, de_population(self.population, genes), genes, generator)
        low, high = self._bounds(values)
        return SeparableCMA(values, self.threshold / 4, low, high, self.population, generator)

    def _bounds(self, values: Tensor) -> tuple[Tensor, Tensor]:
        return (values - self.threshold).clamp_min(0), (values + self.threshold).clamp_max(255)

    def _within_bounds(self, pixels: Tensor, unit: Tensor) -> Tensor:
        low, high = self._bounds(pixels)
        return (low + unit.view_as(pixels) * (high - low)).trunc_()


def _truncated(pixels: Tensor, values: Tensor) -> Tensor:
    return values.view_as(pixels).trunc()
