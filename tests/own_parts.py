"""Parts of a user's own: a space, an objective and a recipe, in the form of a plugin file."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.costs import count_macs, count_params
from evonas.data import batches
from evonas.networks.blocks import first_layer, seeded
from evonas.objectives import Candidate, Column, CostedSpace
from evonas.types import Cost, Genome, as_genome

__all__ = ["OBJECTIVES", "RECIPES", "SPACES", "Confidence", "Widths", "smoothed"]


@dataclass(frozen=True)
class Widths:
    """Two strided convolutions; a gene, 0 to 2, is the width of one."""

    image_size: int = 32

    name: ClassVar[str] = "widths"
    n_genes: ClassVar[int] = 2

    @property
    def upper(self) -> Genome:
        return np.full(2, 2, dtype=np.int64)

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        return rng.integers(3, size=(n, 2), dtype=np.int64)

    def crossover(self, a: Genome, b: Genome, rng: np.random.Generator) -> tuple[Genome, Genome]:
        return np.array([a[0], b[1]]), np.array([b[0], a[1]])

    def mutate(self, genome: Genome, rng: np.random.Generator) -> Genome:
        child = genome.copy()
        child[rng.integers(2)] = rng.integers(3)
        return child

    def canonical(self, genome: Genome) -> Genome:
        return as_genome(genome, 2, self.name)

    def violation(self, genome: Genome) -> float:
        return 0.0

    def build(
        self,
        genome: Genome,
        n_classes: int = 10,
        *,
        normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    ) -> nn.Module:
        first, second = (4 * (int(gene) + 1) for gene in genome)
        return nn.Sequential(
            first_layer(normalization, 3),
            nn.Conv2d(3, first, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(16 * second, n_classes),
        )

    def cost(self, genome: Genome, n_classes: int = 10) -> Cost:
        network = seeded(lambda: self.build(genome, n_classes), 0)
        return Cost(count_params(network), count_macs(network, (3, self.image_size, self.image_size)))

    def max_cost(self, n_classes: int = 10) -> Cost:
        return self.cost(self.upper, n_classes)

    def describe(self, genome: Genome) -> str:
        return f"widths {genome}"


@dataclass(frozen=True, kw_only=True)
class Confidence:
    """Mean probability of the true class on the first validation images, to be maximised."""

    name: ClassVar[str] = "confidence"
    images: int = 50

    def columns(self, space: CostedSpace, n_classes: int) -> tuple[Column, ...]:
        return (Column(self.name, reference=0.0, maximize=True, about=f"mean over {self.images} images"),)

    def __call__(self, candidate: Candidate) -> dict[str, float]:
        images, labels = next(iter(batches(candidate.data.validation, self.images)))
        with torch.no_grad():
            chances = candidate.network(images).softmax(dim=1).gather(1, labels[:, None])
        return {self.name: float(chances.mean())}


def smoothed(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
    """() cross-entropy with smoothed labels."""
    return functional.cross_entropy(network(images).float(), labels, label_smoothing=0.2)


SPACES = {Widths.name: Widths}
OBJECTIVES = {Confidence.name: Confidence}
RECIPES = {"smoothed": smoothed}
