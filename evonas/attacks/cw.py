"""The L2 attack of Carlini and Wagner, computed by foolbox."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.attacks.foolbox_adapter import (
    Float32Model,
    adapted,
    as_foolbox_model,
    check_bound,
    library,
    radius_of,
)
from evonas.errors import ConfigurationError

__all__ = ["CarliniWagnerL2"]


@dataclass(frozen=True, kw_only=True)
class CarliniWagnerL2:
    """Small L2 changes that minimise |change|^2 + c * margin (Carlini and Wagner, 2017), with a search for c.

    An image is returned clean where the attack fails, and where the model is wrong about it already. Deterministic.
    """

    name: ClassVar[str] = "cw"
    norm: ClassVar[str] = "l2"
    epsilon: float | None = None
    """L2 radius on the [0, 1] scale; a longer change is shortened to it, after which it may no longer fool the model.
    None: no bound; 0 gives the clean images."""
    confidence: float = 0.0
    """Required distance of the true logit below the largest other one (kappa)."""
    steps: int = 1000
    """Maximum number of Adam steps for each c."""
    stepsize: float = 0.01
    """Step size of Adam, in arctanh space."""
    initial_const: float = 1e-3
    """First value of c."""
    binary_search_steps: int = 9
    """Number of values of c: each ten times the last one until the attack succeeds, then bisection."""
    abort_early: bool = True
    """Go on to the next c when the loss of the whole batch stops falling; the result of an image then depends on its
    batch."""

    def __post_init__(self) -> None:
        check_bound(self.epsilon, self.norm)
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
        failed = ~found.flatten(1).any(dim=1).view(-1, 1, 1, 1)  # foolbox returns black images there
        return torch.where(failed, images, found)
