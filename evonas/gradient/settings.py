"""Settings of searches by gradient; no torch."""

from dataclasses import dataclass
from typing import Literal

from evonas.errors import ConfigurationError

__all__ = ["EpsilonSchedule", "Normalisation"]

Normalisation = Literal["none", "l2", "loss", "loss+"]
"""Of gradients, before MGDA."""


@dataclass(frozen=True, kw_only=True)
class EpsilonSchedule:
    """Radius of the bounds: shrinks linearly while bounds are too wide, grows linearly while they are tight.

    The paper starts at 0.03 and then "linearly increased or decreased based on the global difference between the
    certified upper bound and lower bound" (4.2.2), without a step or a rule. Here, after each step of the architecture,
    the radius falls by `step` if the mean difference of the bounds of the logits is `target` or more, else rises by
    `step`, within [minimum, maximum].
    """

    start: float = 0.03
    """Initial radius."""
    step: float = 0.0005
    """Change after a step of the architecture."""
    target: float = 1.0
    """Mean difference of upper and lower bounds over images and classes, in logits."""
    minimum: float = 0.0005
    """Smallest radius."""
    maximum: float = 0.1
    """Largest radius."""

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.start <= self.maximum <= 1 or not self.step >= 0 or not self.target > 0:
            raise ConfigurationError(
                "expected 0 < minimum <= start <= maximum <= 1 of epsilon, step >= 0 and target > 0, got "
                f"{self.minimum}, {self.start}, {self.maximum}, {self.step} and {self.target}"
            )

    def after(self, epsilon: float, difference: float) -> float:
        """Next radius, given the mean difference of the bounds at `epsilon`; nan and infinity count as too wide."""
        moved = epsilon + self.step if difference < self.target else epsilon - self.step
        return min(max(moved, self.minimum), self.maximum)
