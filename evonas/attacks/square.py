"""A black-box attack: random squares of the largest change, kept where they bring the network nearer to an error."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.attacks.attack import margins, needs_generator
from evonas.attacks.foolbox_adapter import Float32Model, adapted
from evonas.errors import ConfigurationError
from evonas.ranges import check_radius

__all__ = ["SquareSearch"]

HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""Steps of 10,000 after which the squares' area is halved (Andriushchenko et al., 2020)."""


@dataclass(frozen=True, kw_only=True)
class SquareSearch:
    """Square attack (Andriushchenko et al., 2020) in L-inf: a random search that sees logits alone, and no gradients.

    Stops for an image as soon as it fools the model. An image is returned clean where the model is wrong about it
    already. AutoAttack's own, of 5,000 queries, is the measurement `square`.
    """

    name: ClassVar[str] = "square_search"
    norm: ClassVar[str] = "linf"
    epsilon: float = 8 / 255
    """Radius on the [0, 1] scale; 0 gives the clean images."""
    queries: int = 500
    """Passes of an image, at most."""
    area: float = 0.8
    """Share of the image that the first square covers."""

    def __post_init__(self) -> None:
        check_radius(self.epsilon, self.norm)
        if self.queries < 1 or not 0 < self.area <= 1:
            raise ConfigurationError(f"expected queries >= 1 and area in (0, 1], got {self.queries} and {self.area}")

    @property
    def radius(self) -> float:
        return self.epsilon

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1] and (B,) labels -> attacked images; see `Attack`."""
        drawn = needs_generator(generator, "the squares of the square attack")

        @torch.no_grad()
        def found(model: Float32Model, images: Tensor, labels: Tensor) -> Tensor:
            return self._search(model, images, labels, drawn)

        return adapted(found, model, images, labels, self.norm, self.epsilon, needs_gradients=False)

    def _search(self, model: Float32Model, clean: Tensor, labels: Tensor, drawn: torch.Generator) -> Tensor:
        n, channels, height, width = clean.shape
        stripes = self._signs((n, channels, 1, width), clean, drawn)
        best = (clean + self.epsilon * stripes).clamp(0, 1)
        lowest = margins(model(best), labels)  # (B,), below 0: fooled
        for side in self._sides(height, width):
            places = self._places(side, clean, drawn)
            signs = self._signs((n, channels, 1, 1), clean, drawn)
            left = torch.nonzero(lowest >= 0).squeeze(1)
            if not len(left):
                break
            changed = (clean[left] + self.epsilon * signs[left]).clamp(0, 1)
            trial = torch.where(places[left], changed, best[left])
            margin = margins(model(trial), labels[left])
            nearer = margin < lowest[left]
            best[left] = torch.where(nearer.view(-1, 1, 1, 1), trial, best[left])  # a mask as an index waits for a GPU
            lowest[left] = torch.where(nearer, margin, lowest[left])
        return best

    def _sides(self, height: int, width: int) -> Iterator[int]:
        """Side of the square of every step, in pixels."""
        for step in range(1, self.queries):
            reached = 10_000 * step / self.queries
            share = self.area / 2 ** sum(reached > each for each in HALVINGS)
            yield min(max(1, round(math.sqrt(share * height * width))), height, width)

    @staticmethod
    def _places(side: int, clean: Tensor, drawn: torch.Generator) -> Tensor:
        """(B, 1, H, W) bool: a square of each image, anywhere."""
        n, _, height, width = clean.shape

        def along(size: int) -> Tensor:
            first = torch.randint(size - side + 1, (n, 1), generator=drawn, device=clean.device)
            at = torch.arange(size, device=clean.device)
            return (at >= first) & (at < first + side)  # (B, size)

        return (along(height)[:, :, None] & along(width)[:, None, :])[:, None]

    @staticmethod
    def _signs(shape: tuple[int, ...], clean: Tensor, drawn: torch.Generator) -> Tensor:
        return torch.randint(2, shape, generator=drawn, device=clean.device).to(clean.dtype) * 2 - 1
