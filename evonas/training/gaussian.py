"""Training under Gaussian noise, for randomised smoothing (Cohen et al., 2019)."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from evonas.ranges import Range, check_ranges
from evonas.training.adversarial import AdversarialRecipe, cross_entropy

__all__ = ["Gaussian"]


@dataclass(frozen=True, kw_only=True)
class Gaussian(AdversarialRecipe):
    """A training recipe: cross-entropy on images with normal noise, drawn anew for every batch and not clipped.

    Nothing attacks; a network that answers under the noise is what smoothing certifies. Trained with the sigma that it
    is smoothed with, as in the paper.
    """

    sigma: Annotated[float, Range(least=0)] = 0.25
    """Standard deviation, pixels in [0, 1]; 0: plain training."""

    name: ClassVar[str] = "gaussian"

    def __post_init__(self) -> None:
        check_ranges(self)

    def attack(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        if not self.sigma:
            return images
        noise = torch.empty_like(images, memory_format=torch.contiguous_format)  # the same draws for any memory layout
        return images + self.sigma * noise.normal_(generator=generator)

    def loss(self, attacked: Tensor, clean: Tensor, labels: Tensor) -> Tensor:
        return cross_entropy(attacked, labels)
