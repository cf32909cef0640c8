"""The parts of a gradient method: stages of a supernet, losses of two levels, and their combination."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol

from evonas.errors import ConfigurationError, check_name
from evonas.gradient.delivered import DeliveredCost, DeliveredLatency, DeliveredShare, check_together
from evonas.gradient.losses import CrossEntropy, ExpectedCost, LevelLoss
from evonas.gradient.mgda import NORMALISATIONS, SOLVERS, Normalisation, mgda_weights
from evonas.gradient.perturbation import AlphaPerturbation
from evonas.gradient.recipe_loss import recipe_of
from evonas.gradient.robustness import BoundLoss, EpsilonSchedule
from evonas.parts import part_name
from evonas.spaces.darts_costs import OperationTimes

if TYPE_CHECKING:
    from torch import Tensor

    from evonas.training import AdversarialRecipe

__all__ = ["BilevelConfig", "Combine", "FixedShares", "FixedWeights", "Method", "Mgda", "Preferences", "Stage"]


@dataclass(frozen=True, kw_only=True)
class BilevelConfig:
    """Settings of the alternating descent of weights and architecture; the defaults are those of DARTS, first order."""

    search_batch_size: int = 64
    search_lr: float = 0.025
    """Initial learning rate of the weights in a stage; cosine decay, epoch by epoch."""
    search_lr_min: float = 0.001
    """Learning rate of the weights at the end of the cosine."""
    search_momentum: float = 0.9
    search_weight_decay: float = 3e-4
    search_grad_clip: float = 5.0
    """Largest L2 norm of the gradient of the weights."""
    alpha_lr: float = 3e-4
    """Learning rate of the architecture (Adam)."""
    alpha_betas: tuple[float, ...] = (0.5, 0.999)
    """Decay rates of Adam's moments."""
    alpha_weight_decay: float = 1e-3
    order: Literal[1, 2] = 1
    """1: gradient at the current weights; 2: gradient through one step of the weights."""
    hessian: Literal["finite", "exact"] = "finite"
    """Hessian product of order 2: by a central difference, or exact by double differentiation."""
    begin_with: Literal["alpha", "weights"] = "alpha"
    """First step of an iteration: alpha (DARTS) or weights (E2RNAS, Algorithm 1)."""
    portion: float = 0.5
    """Share of the train part for the weights; the rest trains the architecture."""

    def __post_init__(self) -> None:
        for name in ("search_batch_size", "search_lr", "search_grad_clip", "alpha_lr"):
            if not getattr(self, name) > 0:
                raise ConfigurationError(f"expected {name} > 0, got {getattr(self, name)}")
        if self.search_batch_size < 2:  # training skips batches of one image, since batch statistics need two
            raise ConfigurationError(f"expected search_batch_size >= 2, got {self.search_batch_size}")
        if not 0 <= self.search_lr_min <= self.search_lr:
            raise ConfigurationError(f"expected search_lr_min in [0, {self.search_lr}], got {self.search_lr_min}")
        if not 0 <= self.search_momentum < 1 or self.search_weight_decay < 0 or self.alpha_weight_decay < 0:
            raise ConfigurationError(
                f"expected search_momentum in [0, 1) and weight decays >= 0, got {self.search_momentum}, "
                f"{self.search_weight_decay} and {self.alpha_weight_decay}"
            )
        if len(self.alpha_betas) != 2 or not all(0 <= beta < 1 for beta in self.alpha_betas):
            raise ConfigurationError(f"expected two alpha_betas in [0, 1), got {self.alpha_betas}")
        if self.order not in (1, 2) or self.hessian not in ("finite", "exact"):
            raise ConfigurationError(
                f"expected order 1 or 2 and a hessian 'finite' or 'exact', got {self.order} and {self.hessian!r}"
            )
        if self.begin_with not in ("alpha", "weights"):
            raise ConfigurationError(f"expected to begin with 'alpha' or 'weights', got {self.begin_with!r}")
        if not 0 < self.portion < 1:
            raise ConfigurationError(f"expected a portion of the images in (0, 1), got {self.portion}")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Training of one supernet."""

    epochs: int = 50
    weights_only: int = 0
    """First epochs, which train the weights only."""
    channels: int = 16
    layers: int = 8
    keep: int = 8
    """Operations of each edge: the strongest ones after the previous stage."""
    skip_dropout: float = 0.0
    """Initial rate of dropout on skip_connect (P-DARTS)."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or not 0 <= self.weights_only <= self.epochs:
            raise ConfigurationError(
                f"expected epochs >= 1 and weights_only in [0, epochs], got {self.epochs} and {self.weights_only}"
            )
        if not 3 <= self.keep <= 8 or not 0 <= self.skip_dropout < 1:
            raise ConfigurationError(
                f"expected keep in [3, 8] and skip_dropout in [0, 1), got {self.keep} and {self.skip_dropout}"
            )

    def dropout(self, epoch: int) -> float:
        """Dropout rate of an epoch of the stage: at first linear, towards 0 at the end of the stage; after
        `weights_only` epochs again from the initial rate, times exp(-0.2) for each epoch (the code of P-DARTS)."""
        if epoch < self.weights_only:
            return self.skip_dropout * (self.epochs - epoch - 1) / self.epochs
        return self.skip_dropout * math.exp(-0.2 * (epoch - self.weights_only))


class Combine(Protocol):
    """Gradients of several losses -> the weight of each in a step."""

    def __call__(self, gradients: Tensor, losses: Tensor) -> Tensor:
        """(m,) float64 weights for (m, d) gradients of (m,) losses."""
        ...


@dataclass(frozen=True)
class FixedWeights:
    """Constant weights; (): equal weights of sum 1."""

    weights: tuple[float, ...] = ()

    def __call__(self, gradients: Tensor, losses: Tensor) -> Tensor:
        import torch

        from evonas.devices import filled

        m = len(gradients)
        if self.weights and len(self.weights) != m:
            raise ConfigurationError(f"expected {m} weights, one for each upper loss, got {self.weights}")
        return filled(self.weights or (1 / m,) * m, gradients.new_empty((), dtype=torch.float64))


@dataclass(frozen=True)
class FixedShares:
    """Weights with which each loss's gradient has a constant share of the step's lengths, however long it is."""

    shares: tuple[float, ...]
    """One for each loss, >= 0."""

    def __call__(self, gradients: Tensor, losses: Tensor) -> Tensor:
        import torch

        from evonas.devices import filled

        if len(self.shares) != len(gradients):
            raise ConfigurationError(f"expected {len(gradients)} shares, one for each upper loss, got {self.shares}")
        lengths = torch.linalg.vector_norm(gradients.double(), dim=1)
        return filled(self.shares, lengths) / torch.where(lengths == 0, torch.ones_like(lengths), lengths)


@dataclass(frozen=True, kw_only=True)
class Mgda:
    """Weights of the shortest convex combination; `mgda_weights` states which settings guarantee descent."""

    normalisation: Normalisation = "none"
    solver: str = "exact"
    applied_to: Literal["raw", "normalised"] = "raw"

    def __post_init__(self) -> None:
        check_name(NORMALISATIONS, self.normalisation, "normalisation")
        check_name(SOLVERS, self.solver, "solver")
        if self.applied_to not in ("raw", "normalised"):
            raise ConfigurationError(f"expected weights applied to 'raw' or 'normalised', got {self.applied_to!r}")

    def __call__(self, gradients: Tensor, losses: Tensor) -> Tensor:
        return mgda_weights(gradients, losses, self.normalisation, self.solver, self.applied_to)


@dataclass(frozen=True, kw_only=True)
class Preferences:
    """Vectors in the space of the normalised objectives, of as many architectures on one supernet; see `cone_weights`.

    From small to large networks: vector k points to the mean over all architectures of every objective but the last
    one, the size, and to the share (k + 1) / (K + 1) of the range of sizes, k from 0.
    """

    count: int
    """K."""
    near: float = 0.1
    """Distance from the border of a cone below which it counts, as a share of the border's distance from the cone's
    centre; below 1, so that at the centre none counts."""
    smoothing: float = 0.2
    """Share of a new value in the running mean of an objective."""

    def __post_init__(self) -> None:
        if self.count < 2 or not 0 <= self.near < 1 or not 0 < self.smoothing <= 1:
            raise ConfigurationError(
                f"expected at least 2 preferences, near in [0, 1) and smoothing in (0, 1], got {self.count}, "
                f"{self.near} and {self.smoothing}"
            )

    def vectors(self, objectives: int) -> Tensor:
        """(K + 1, m) float64 of length 1, for m objectives, of which the last one is the size.

        The last vector, of size 0, belongs to no architecture: it bounds the cone of the smallest networks, which would
        else lose all their weights.
        """
        import torch

        vectors = torch.ones(self.count + 1, objectives, dtype=torch.float64)
        vectors[:, -1] = (torch.arange(self.count + 1) + 1) % (self.count + 1) / (self.count + 1)
        lengths: Tensor = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
        return vectors / lengths


@dataclass(frozen=True, kw_only=True)
class Method:
    """A gradient method, run by `GradientSearch`."""

    name: str
    stages: tuple[Stage, ...] = (Stage(),)
    config: BilevelConfig = field(default_factory=BilevelConfig)
    partial: int = 1
    """K of PC-DARTS: 1/K of the channels go through the operations."""
    edge_normalisation: bool = False
    """Whether the edges into a node have weights of their own (beta of PC-DARTS)."""
    nodes: int = 4
    """Intermediate nodes of a cell."""
    max_skips: int | None = None
    """Largest number of skip_connects in the normal cell (P-DARTS); None: no limit."""
    lower: LevelLoss = field(default_factory=CrossEntropy)
    upper: tuple[LevelLoss, ...] = (CrossEntropy(),)
    combine: Combine = field(default_factory=FixedWeights)
    perturbation: AlphaPerturbation | None = None
    """Perturbation of the architecture in steps of the weights (SDARTS-ADV, PC-DARTS-ADV); None: no perturbation."""
    counted: ExpectedCost | None = None
    """Definition of N-hat if no upper loss has one; None: at the scale of the evaluation of DARTS."""
    preferences: Preferences | None = None
    """Trade-offs of several architectures on one supernet, whose last upper loss is their size; None: one architecture,
    and `combine` weights its losses."""

    def __post_init__(self) -> None:
        if self.perturbation is not None and self.config.order == 2:
            raise ConfigurationError(
                f"expected order 1 with a perturbed alpha, since its weights do not follow alpha itself, "
                f"{self.name} has 2"
            )
        trained = recipe_of(self.lower)
        if trained is not None and trained.moves_weights and self.config.order == 2:
            raise ConfigurationError(
                f"expected order 1 with {part_name(trained.recipe)}, whose loss moves the weights that second order "
                f"steps through, {self.name} has 2; take --order 1, or trades"
            )
        if not self.stages or not self.upper:
            raise ConfigurationError(f"expected stages and upper losses of {self.name}, got none")
        if not 1 <= self.nodes <= 6:
            raise ConfigurationError(f"expected 1 to 6 nodes of a cell, got {self.nodes}")
        if any(later.keep > earlier.keep for earlier, later in zip(self.stages, self.stages[1:], strict=False)):
            raise ConfigurationError("expected stages that keep no more operations than those before them")
        known = tuple(limit for limit in self.limits if limit.known)
        if len(known) > 1:
            check_together(known, self.max_skips)
        if self.preferences is not None and len(self.stages) > 1:
            raise ConfigurationError(
                f"expected a method of one stage with several preferences, got {self.name} with {len(self.stages)}: "
                "preferences disagree about the operations that a stage drops; take darts or pcdarts"
            )

    @property
    def epochs(self) -> int:
        return sum(stage.epochs for stage in self.stages)

    @property
    def architectures(self) -> int:
        """Number of architectures that share the weights, and of cells that a search delivers."""
        return 1 if self.preferences is None else self.preferences.count

    @property
    def needs_ood(self) -> bool:
        """Whether any loss needs out-of-distribution images."""
        return self.lower.needs_ood or any(loss.needs_ood for loss in self.upper)

    @property
    def recipe(self) -> AdversarialRecipe | None:
        """Recipe whose loss the weights descend; None: the method's own lower loss."""
        trained = recipe_of(self.lower)
        return None if trained is None else trained.recipe

    @property
    def epsilon(self) -> EpsilonSchedule | None:
        """Radius schedule of the certified bound among the upper losses; None without one."""
        parts = [part for loss in self.upper for part in getattr(loss, "parts", (loss,))]
        return next((part.epsilon for part in parts if isinstance(part, BoundLoss)), None)

    @property
    def limits(self) -> tuple[DeliveredCost, ...]:
        """Costs that the delivered cells are held to; (): the derived cells are delivered."""
        return tuple(loss for loss in self.upper if isinstance(loss, DeliveredCost))

    @property
    def latency(self) -> DeliveredLatency | None:
        """The one of `limits` that is in milliseconds; None without one."""
        return next((limit for limit in self.limits if isinstance(limit, DeliveredLatency)), None)

    def timed(self, times: OperationTimes) -> Method:
        """The method with the times that its `latency` is the sum of.

        Raises:
            ConfigurationError: no network is so fast or slow, or has its other limits as well.
        """
        upper = (replace(loss, times=times) if isinstance(loss, DeliveredLatency) else loss for loss in self.upper)
        return replace(self, upper=tuple(upper))

    @property
    def size(self) -> DeliveredCost | None:
        """The first of `limits`; None without one."""
        return next(iter(self.limits), None)

    @property
    def size_share(self) -> DeliveredShare | None:
        """Size that several architectures spread over; None without one."""
        return next((loss for loss in self.upper if isinstance(loss, DeliveredShare)), None)

    def place(self, epoch: int) -> tuple[int, int]:
        """(stage, epoch within the stage) of an epoch of the search, all from 0."""
        for number, stage in enumerate(self.stages):
            if epoch < stage.epochs:
                return number, epoch
            epoch -= stage.epochs
        raise ValueError(f"expected an epoch below {self.epochs}, got one {epoch} beyond")

    def identity(self) -> dict[str, Any]:
        """Plain values that, with data, seed and machine, determine the search."""
        stages = {str(number): asdict(stage) for number, stage in enumerate(self.stages, start=1)}
        optional = {"perturbation": self.perturbation, "counted": self.counted, "preferences": self.preferences}
        kinds = [limit.kind for limit in self.limits]
        held = {} if kinds in ([], ["params"]) else {"held": kinds}  # searches that were begun before hold parameters
        return {
            "name": self.name,
            "stages": stages,
            "bilevel": asdict(self.config),
            "partial": self.partial,
            "edge_normalisation": self.edge_normalisation,
            "nodes": self.nodes,
            "max_skips": self.max_skips,
            "lower": _kind_and_fields(self.lower),
            "upper": {loss.name: _kind_and_fields(loss) for loss in self.upper},
            "combine": _kind_and_fields(self.combine),
            **{name: _kind_and_fields(part) for name, part in optional.items() if part is not None},
            **held,
        }


def _kind_and_fields(part: Any) -> dict[str, Any]:
    inner: Sequence[Any] = getattr(part, "parts", ())
    if inner:
        values: dict[str, Any] = {"parts": [_kind_and_fields(each) for each in inner]}
    else:
        values = part.identity() if hasattr(part, "identity") else asdict(part)
    return {"kind": type(part).__name__, **values}
