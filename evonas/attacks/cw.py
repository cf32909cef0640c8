"""The attack of Carlini and Wagner in L2, by foolbox."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.attacks.foolbox_adapter import (
    Float32Model,
    adapted,
    as_foolbox_model,
    check_epsilon,
    library,
    radius_of,
)
from evonas.errors import ConfigurationError

__all__ = ["CarliniWagnerL2"]


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerL2:
    """Small L2 changes by minimising |change|^2 + c * margin (Carlini and Wagner, 2017), with a search for c.

    Where nothing was found the clean image is returned, and so is an image that the model gets wrong already. Draws
    nothing.
    """

    name: ClassVar[str] = "cw"
    norm: ClassVar[str] = "l2"
    epsilon: float | None = None
    """L2 radius on the [0, 1] scale: what is found outside is drawn back to it, and may then fool no longer.
    None: no bound; 0 gives the clean images."""
    confidence: float = 0.0
    """How far below the largest other logit the true one must be (kappa)."""
    steps: int = 1000
    """Steps of Adam for each c, at most."""
    stepsize: float = 0.01
    """Of Adam, in the space of arctanh."""
    initial_const: float = 1e-3
    """The first c."""
    binary_search_steps: int = 9
    """How many c are tried: ten times the last one until something is found, then halving the interval."""
    abort_early: bool = True
    """Leave a c when the loss of the whole batch stops falling: an image's result may depend on its batch."""

    def __post_init__(self) -> None:
        check_epsilon(self.epsilon)
        if not (self.steps >= 1 and self.binary_search_steps >= 1):
            raise ConfigurationError(
                f"expected steps >= 1 and binary_search_steps >= 1, got {self.steps} and {self.binary_search_steps}"
            )
        if not (self.confidence >= 0 and self.stepsize > 0 and self.initial_const > 0):
            raise ConfigurationError(
                "expected confidence >= 0, stepsize > 0 and initial_const > 0, "
                f"got {self.confidence}, {self.stepsize} and {self.initial_const}"
            )

    @property
    def radius(self) -> float:
        return radius_of(self.epsilon)

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """(B, C, H, W) images in [0, 1] and (B,) labels -> attacked images; see `Attack`."""
        return adapted(self._found, model, images, labels, self.norm, self.epsilon)

    def _found(self, model: Float32Model, images: Tensor, labels: Tensor) -> Tensor:
        attack = library("foolbox").attacks.L2CarliniWagnerAttack(
            binary_search_steps=self.binary_search_steps,
            steps=self.steps,
            stepsize=self.stepsize,
            confidence=self.confidence,
            initial_const=self.initial_const,
            abort_early=self.abort_early,
        )
        found: Tensor = attack.run(as_foolbox_model(model, images.device), images, labels)
        nothing = ~found.flatten(1).any(dim=1).view(-1, 1, 1, 1)  # foolbox returns black images there
        return torch.where(nothing, images, found)
