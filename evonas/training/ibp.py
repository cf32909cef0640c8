"""IBP training: cross-entropy of the worst logits that interval bounds leave open (Gowal et al., 2018)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, Self

import torch
from torch import Tensor, nn

from evonas.certify import interval_margin_bounds
from evonas.errors import ConfigurationError
from evonas.ranges import RADIUS, SHARE, check_ranges
from evonas.training.adversarial import Heads, cross_entropy
from evonas.training.attacking import same_buffers
from evonas.training.batch_statistics import Statistics, observed, with_statistics
from evonas.training.cells import drops

__all__ = ["PIXELS", "Ibp", "worst_cross_entropy"]

PIXELS = (0.0, 1.0)
"""Range of perturbed pixels."""


@dataclass(frozen=True, kw_only=True)
class Ibp:
    """A training recipe: kappa times the clean cross-entropy, plus 1 - kappa times that of the worst logits.

    The worst logits are lower bounds of all margins over the L-inf ball, clipped to the range of pixels, by intervals
    with the last layer elided. The defaults are those of the authors' code for CIFAR-10 at 8/255, which trains a tenth
    beyond the radius that it certifies. The radius grows on a line from 0 and kappa falls from 1 to `kappa`, after the
    warm-up and during the ramp; each epoch has the values of its middle, the last one those after the ramp.

    In train mode batch normalisation is the affine map of the clean batch's statistics, with gradients through them, as
    in the authors' code; running statistics come from the clean images alone. Bounds are of the network's own head,
    without drop-path, and in float32; other heads have their clean cross-entropy. Where there is drop-path, a second
    clean pass without it gives the statistics of the bounds.
    """

    epsilon: Annotated[float, RADIUS] = 8.8 / 255
    """Radius of the L-inf ball after the ramp, pixels in [0, 1]; 0: plain training."""
    kappa: Annotated[float, SHARE] = 0.5
    """Weight of the clean cross-entropy after the ramp; 1: plain training."""
    warmup: Annotated[float, SHARE] = 0.05
    """Share of the epochs that begin as plain training: 5,000 of 100,000 steps in the paper. With `ramp` 1 at
    most."""
    ramp: Annotated[float, SHARE] = 0.5
    """Share of the epochs in which radius and bounds grow: 50,000 of 100,000 steps in the paper; 0: at once."""

    name: ClassVar[str] = "ibp"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.warmup + self.ramp > 1 + 1e-9:  # decimals such as 0.7 + 0.3 may round
            raise ConfigurationError(
                f"expected warmup + ramp <= 1, got {self.warmup} + {self.ramp}: the ramp would not end"
            )

    def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> Self:
        """The loss of an epoch, counted from 0."""
        if epoch == epochs - 1:
            return self.grown(1.0)
        done = (epoch + 0.5) / epochs - self.warmup
        return self.grown(float(done > 0) if self.ramp == 0 else min(max(done / self.ramp, 0.0), 1.0))

    def grown(self, share: float) -> Self:
        """The loss with this share of the ramp done, in [0, 1]."""
        return replace(self, epsilon=share * self.epsilon, kappa=1 - share * (1 - self.kappa))

    def unperturbed(self) -> Self:
        """The recipe by which batch statistics are measured: on clean images."""
        return replace(self, epsilon=0.0)

    def margins(self, network: Callable[[Tensor], Tensor], images: Tensor, labels: Tensor) -> Tensor:
        """(B, K - 1) lower bounds of the margins to the other classes."""
        return interval_margin_bounds(network, images, labels, self.epsilon, clip=PIXELS)

    def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        """() loss of a batch, float32."""
        return self.of_heads(network, lambda batch: [(1.0, network(batch))], images, labels, generator)

    def of_heads(
        self, network: nn.Module, heads: Heads, images: Tensor, labels: Tensor, generator: torch.Generator
    ) -> Tensor:
        """() weighted sum of the losses of all heads; the first one is the network's own, and has the bounds."""
        with observed(network) as statistics:
            answers = heads(images)
        own, *others = (weight * cross_entropy(logits, labels) for weight, logits in answers)
        if self.epsilon and self.kappa < 1:
            if drops(network):
                statistics = _without_drop_path(network, images)
            with with_statistics(network, statistics), torch.autocast(images.device.type, enabled=False):
                margins = self.margins(lambda batch: network(batch), images, labels)  # in the network's own mode
            own = self.kappa * own + (1 - self.kappa) * answers[0][0] * worst_cross_entropy(margins)
        return sum(others, own)


def _without_drop_path(network: nn.Module, images: Tensor) -> Statistics:
    """Statistics of a batch in a pass of the network's own head; running ones stay."""
    with same_buffers(network), observed(network) as statistics:
        network(images)
    return statistics


def worst_cross_entropy(margins: Tensor) -> Tensor:
    """() mean cross-entropy of the logits with these (B, K - 1) margins of the true class; no image with larger margins
    has a larger one."""
    worst = torch.cat([torch.zeros_like(margins[:, :1]), -margins], dim=1)
    return cross_entropy(worst, torch.zeros(len(worst), dtype=torch.long, device=worst.device))
