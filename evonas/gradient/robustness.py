"""Differentiable measures of robustness: certified lower bounds and Jacobian norms (DSRNA, 3.1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Literal

from evonas.certify.settings import Intermediate, Norm
from evonas.errors import ConfigurationError
from evonas.gradient.losses import Batch

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evonas.gradient.forward import Forward

__all__ = ["BoundLoss", "EpsilonSchedule", "JacobianLoss", "Metric", "Norm", "SquaredJacobianLoss"]


DUAL = {"linf": 1, "l2": 2}
"""Norm of the perturbation -> q of the dual norm, 1/p + 1/q = 1 (Eq. 14)."""


CHOICES = {
    "relaxation": ("adaptive", "same_slope"),
    "intermediate": ("interval", "linear", "signs"),
    "quantity": ("margin", "output"),
}


def _check(gamma: float, norm: str, images: int | None) -> None:
    if not 0 <= gamma < float("inf") or norm not in DUAL:
        raise ConfigurationError(f"expected gamma >= 0 and a norm linf or l2, got {gamma} and {norm!r}")
    if images is not None and images < 1:
        raise ConfigurationError(f"expected images >= 1, got {images}")


@dataclass(frozen=True, kw_only=True)
class JacobianLoss:
    """gamma times the Jacobian norm bound, Eq. 15 without its delta: -gamma R in Eq. 16 (DSRNA-Jacobian).

    Mean over images of (1/K) sum_k ||J_k||_q of the logits; supernet in eval mode: running statistics, no dropout,
    float32. Records `jacobian_norm`.
    """

    gamma: float = 0.01
    """Weight of the metric in Eq. 16."""
    norm: Norm = "linf"
    """Norm of the perturbation: q is 1 for linf, 2 for l2."""
    images: int | None = None
    """Number of images of a batch to measure on, the first ones; None: all."""

    name: ClassVar[str] = "jacobian"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.gamma, self.norm, self.images)

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        import torch

        from evonas.certify import piecewise_jacobian
        from evonas.gradient.forward import eval_mode

        with eval_mode(forward) as network:
            rows = piecewise_jacobian(network, batch.images[: self.images])  # (B, K, C, H, W)
        value: Tensor = torch.linalg.vector_norm(rows.flatten(2), DUAL[self.norm], dim=2).mean()
        batch.note("jacobian_norm", value)
        return self.gamma * value


@dataclass(frozen=True, kw_only=True)
class SquaredJacobianLoss:
    """gamma times the mean over images of ||J||_F^2 of the logits, exact or by the random projections of DSRNA's [17].

    Supernet in eval mode: running statistics, no dropout, float32. Records `squared_jacobian`.
    """

    gamma: float = 0.01
    """Weight of the metric in Eq. 16."""
    images: int | None = None
    """Number of images of a batch to measure on, the first ones; None: all."""
    projections: int | None = 1
    """Random directions of an image, one backward pass each; None: exact, one backward pass for each class."""

    name: ClassVar[str] = "jacobian"
    needs_ood: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.gamma, "l2", self.images)
        if self.projections is not None and self.projections < 1:
            raise ConfigurationError(f"expected projections >= 1, or None for the exact norm, got {self.projections}")

    @property
    def attacks(self) -> bool:
        """Whether directions are drawn."""
        return self.projections is not None

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        import torch

        if self.projections is None:
            return batch
        return replace(batch, seed=int(torch.randint(2**62, (), generator=generator, device=generator.device)))

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        import torch

        from evonas.certify import squared_jacobian_norm
        from evonas.gradient.forward import eval_mode

        images = batch.images[: self.images]
        drawn = torch.Generator(images.device).manual_seed(batch.seed)
        with eval_mode(forward) as network:
            value = squared_jacobian_norm(network, images, self.projections, drawn)
        batch.note("squared_jacobian", value)
        return self.gamma * value


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


@dataclass(frozen=True, kw_only=True)
class BoundLoss:
    """Minus gamma times a certified lower bound, -gamma R of Eq. 16 (DSRNA-CB), at the radius `batch.epsilon`.

    Supernet in eval mode: running statistics, no dropout, float32. Records `certified_bound`, which is R, and
    `certified_difference`, the mean of upper minus lower bounds of the logits.
    """

    gamma: float = 0.01
    """Weight of the metric in Eq. 16."""
    quantity: Literal["margin", "output"] = "margin"
    """R: margin (mean over images of the smallest lower bound of the true logit minus another one, as a certificate
    needs) or output (mean lower bound of all logits, as written in 3.1.1)."""
    norm: Norm = "linf"
    """Norm of the perturbation."""
    relaxation: Literal["adaptive", "same_slope"] = "adaptive"
    """Lower line of a ReLU: adaptive (slope 0 or 1, the closer one), or same_slope (that of the upper line)."""
    intermediate: Intermediate = "interval"
    """Bounds before each ReLU: interval (one backward pass in all), linear (one for every layer), or signs (the same,
    each as far as it takes to know the sign)."""
    images: int | None = None
    """Number of images of a batch to certify, the first ones; None: all."""
    epsilon: EpsilonSchedule = field(default_factory=EpsilonSchedule)
    """Schedule of the radius."""

    name: ClassVar[str] = "bound"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.gamma, self.norm, self.images)
        for name, options in CHOICES.items():
            if getattr(self, name) not in options:
                raise ConfigurationError(f"expected {name} {' or '.join(options)}, got {getattr(self, name)!r}")

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        from evonas.certify import bounds_and_margins
        from evonas.gradient.forward import eval_mode

        images, labels = batch.images[: self.images], batch.labels[: self.images]
        with eval_mode(forward) as network:
            bounds = bounds_and_margins(
                network,
                images,
                labels,
                batch.epsilon,
                norm=self.norm,
                relaxation=self.relaxation,
                intermediate=self.intermediate,
            )
        bound = bounds.lower.mean() if self.quantity == "output" else bounds.margins.amin(dim=1).mean()
        batch.note("certified_bound", bound)
        batch.note("certified_difference", (bounds.upper - bounds.lower).mean())
        return -self.gamma * bound


Metric = BoundLoss | JacobianLoss | SquaredJacobianLoss
"""A measure of robustness among the upper losses."""
