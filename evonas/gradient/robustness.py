"""Robustness that an architecture can be descended by: certified lower bounds and Jacobian norms (DSRNA, 3.1)."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from evonas.certify import bounds_and_margins, piecewise_jacobian
from evonas.errors import ConfigurationError
from evonas.gradient.forward import Forward, settled
from evonas.gradient.losses import Batch

__all__ = ["BoundLoss", "EpsilonSchedule", "JacobianLoss", "Norm"]

Norm = Literal["linf", "l2"]
"""Of the perturbation that a network is to be robust against."""

DUAL = {"linf": 1, "l2": 2}
"""q with 1/p + 1/q = 1 (Eq. 14)."""


def _check(gamma: float, norm: str, images: int | None) -> None:
    if not 0 <= gamma < float("inf") or norm not in DUAL:
        raise ConfigurationError(f"expected gamma >= 0 and a norm linf or l2, got {gamma} and {norm!r}")
    if images is not None and images < 1:
        raise ConfigurationError(f"expected images >= 1 of a batch for the metric, got {images}")


@dataclass(frozen=True, kw_only=True)
class JacobianLoss:
    """gamma times the Jacobian norm bound, Eq. 15 without its delta: its -R in Eq. 16 (DSRNA-Jacobian).

    Mean over images of (1/K) sum_k ||J_k||_q of the logits. The supernet is settled meanwhile: running statistics,
    without dropout, in float32. Notes `jacobian_norm`.
    """

    gamma: float = 0.01
    norm: Norm = "linf"
    """q is 1 against linf, 2 against l2."""
    images: int | None = None
    """The first so many of a batch; all, unless given."""

    name: ClassVar[str] = "jacobian"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.gamma, self.norm, self.images)

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        with settled(forward) as network:
            rows = piecewise_jacobian(network, batch.images[: self.images])  # (B, K, C, H, W)
        value: Tensor = torch.linalg.vector_norm(rows.flatten(2), DUAL[self.norm], dim=2).mean()
        batch.note("jacobian_norm", value)
        return self.gamma * value


@dataclass(frozen=True, kw_only=True)
class EpsilonSchedule:
    """The radius at which bounds are taken: on a line down where they are too wide, and up where they are tight.

    The paper begins at 0.03 and then "linearly increased or decreased based on the global difference between the
    certified upper bound and lower bound" (4.2.2); it gives neither step nor rule. Here the radius falls by `step`
    after a step of the architecture in which the logits' bounds were `target` apart or more in the mean, and rises by
    it after another, within [minimum, maximum].
    """

    start: float = 0.03
    step: float = 0.0005
    target: float = 1.0
    """Mean difference of upper and lower bounds over images and classes, in logits."""
    minimum: float = 0.0005
    maximum: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.minimum <= self.start <= self.maximum <= 1 or not self.step >= 0 or not self.target > 0:
            raise ConfigurationError(
                "expected 0 < minimum <= start <= maximum <= 1 of epsilon, step >= 0 and target > 0, got "
                f"{self.minimum}, {self.start}, {self.maximum}, {self.step} and {self.target}"
            )

    def after(self, epsilon: float, difference: float) -> float:
        """The next radius, where bounds at `epsilon` were so far apart; not finite counts as too far."""
        moved = epsilon + self.step if difference < self.target else epsilon - self.step
        return min(max(moved, self.minimum), self.maximum)


@dataclass(frozen=True, kw_only=True)
class BoundLoss:
    """Minus gamma times a certified lower bound, -gamma R of Eq. 16 (DSRNA-CB), at the radius `batch.epsilon`.

    The supernet is settled meanwhile: running statistics, without dropout, in float32. Notes `certified_bound`, which
    is R, and `certified_difference`, the mean of upper minus lower bounds of the logits.
    """

    gamma: float = 0.01
    quantity: Literal["margin", "output"] = "margin"
    """R: margin: mean over images of the smallest lower bound of the true logit minus another one, which is what a
    certificate needs. output: mean lower bound of all logits, the paper's words (3.1.1)."""
    norm: Norm = "linf"
    relaxation: Literal["adaptive", "same_slope"] = "adaptive"
    """Of ReLU from below: slope 0 or 1, whichever is nearer, or that of the line above."""
    intermediate: Literal["interval", "linear"] = "interval"
    """Bounds before each ReLU: by intervals, one backward pass in all; or by linear bounds of their own."""
    images: int | None = None
    """The first so many of a batch; all, unless given."""
    epsilon: EpsilonSchedule = field(default_factory=EpsilonSchedule)

    name: ClassVar[str] = "bound"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.gamma, self.norm, self.images)
        for name, known in (
            ("relaxation", ("adaptive", "same_slope")),
            ("intermediate", ("interval", "linear")),
            ("quantity", ("margin", "output")),
        ):
            if getattr(self, name) not in known:
                raise ConfigurationError(f"expected {name} {' or '.join(known)}, got {getattr(self, name)!r}")

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        images, labels = batch.images[: self.images], batch.labels[: self.images]
        how: dict[str, Any] = {"norm": self.norm, "relaxation": self.relaxation, "intermediate": self.intermediate}
        with settled(forward) as network:
            bounds = bounds_and_margins(network, images, labels, batch.epsilon, **how)
        bound = bounds.lower.mean() if self.quantity == "output" else bounds.margins.amin(dim=1).mean()
        batch.note("certified_bound", bound)
        batch.note("certified_difference", (bounds.upper - bounds.lower).mean())
        return -self.gamma * bound
