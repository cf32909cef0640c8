"""DeepFool, computed by foolbox."""

import logging
from dataclasses import dataclass
from typing import ClassVar, Literal

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

__all__ = ["DeepFool"]


@dataclass(frozen=True, kw_only=True)
class DeepFool:
    """Steps to the nearest boundary of the linearised model (Moosavi-Dezfooli et al., 2016), in L2 or L-inf.

    Where `steps` steps do not suffice, the result is the last iterate, which the model still gets right. An image that
    the model gets wrong already is returned clean. Deterministic.
    """

    name: ClassVar[str] = "deepfool"
    norm: Literal["l2", "linf"] = "l2"
    epsilon: float | None = None
    """Radius in `norm` on the [0, 1] scale; a larger change is cut to it, after which it may no longer fool the model.
    None: no bound; 0 gives the clean images."""
    steps: int = 50
    candidates: int = 10
    """Number of classes considered: those with the largest logits."""
    overshoot: float = 0.02
    """Extra step beyond the boundary, as a fraction of the change."""

    def __post_init__(self) -> None:
        check_bound(self.epsilon, self.norm)
        if self.norm not in ("l2", "linf"):
            raise ConfigurationError(f"expected norm l2 or linf, got {self.norm!r}")
        if not (self.steps >= 1 and self.candidates >= 2 and self.overshoot >= 0):
            raise ConfigurationError(
                "expected steps >= 1, candidates >= 2 and overshoot >= 0, "
                f"got {self.steps}, {self.candidates} and {self.overshoot}"
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
        attacks = library("foolbox").attacks
        kind = attacks.L2DeepFoolAttack if self.norm == "l2" else attacks.LinfDeepFoolAttack
        attack = kind(steps=self.steps, candidates=self.candidates, overshoot=self.overshoot)
        handlers = logging.root.handlers[:]
        try:
            found: Tensor = attack.run(as_foolbox_model(model, images.device), images, labels)
        finally:
            logging.root.handlers[:] = handlers  # foolbox logs a line, which would configure logging
        return found
