"""Losses of both levels: losses of a supernet on a batch, and expected costs of its cells."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol

import numpy as np

from evonas.costs import CostTable
from evonas.errors import ConfigurationError
from evonas.ranges import check_radius
from evonas.spaces.darts_costs import operation_costs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from evonas.gradient.forward import Forward

__all__ = ["AdversarialLoss", "Batch", "CrossEntropy", "ExpectedCost", "LevelLoss", "OodLoss", "Sum"]


@dataclass(frozen=True, eq=False)
class Batch:
    """Images and settings of a loss."""

    images: Tensor
    """(B, C, H, W) in [0, 1]."""
    labels: Tensor
    """(B,) int64."""
    ood_data: Tensor | None = None
    """(B, C, H, W) out-of-distribution images, which belong to none of the classes; None: no such images."""
    attacked: Tensor | None = None
    """(B, C, H, W) what the attack of a training recipe made of `images`; None: no recipe."""
    epsilon: float = 0.0
    """Radius of certified bounds, pixels in [0, 1]."""
    progress: float = 0.0
    """Share of the stage of the search that is over, in [0, 1]; the temperature of expected sizes follows it."""
    seed: int = 0
    """Random directions of a Jacobian follow from it."""
    notes: dict[str, Tensor] | None = None
    """Further values for search.csv, filled by the losses; None: not recorded."""

    def note(self, name: str, value: Tensor) -> None:
        """Record a () value for the column `name`."""
        if self.notes is not None:
            self.notes[name] = value.detach()


class LevelLoss(Protocol):
    """A loss of the lower or the upper level, a frozen dataclass.

    `prepare` draws random numbers and attacks images, with the current supernet; `loss(forward, probabilities, batch)`
    is then a function of weights and architecture alone, as the finite differences of second order require.
    """

    @property
    def name(self) -> str:
        """Column in search.csv."""
        ...

    @property
    def needs_ood(self) -> bool:
        """Whether batches must hold out-of-distribution images."""
        ...

    @property
    def attacks(self) -> bool:
        """Whether `prepare` changes the batch: attacks its images, or draws what the loss is measured along."""
        ...

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch: ...
    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        """() loss.

        Args:
            probabilities: (2, edges, 8) of the operations of every edge, in normal and reduction cells.
        """
        ...


def _precise(logits: Tensor) -> Tensor:
    """Logits in float32, or in float64 if they are."""
    import torch

    return logits if logits.dtype == torch.float64 else logits.float()


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy."""

    name: ClassVar[str] = "loss"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(_precise(forward(batch.images)), batch.labels)


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """Mean cross-entropy after a one-step attack from a random start (E2RNAS: Eq. 3 of v1, Eq. 4 of v2)."""

    epsilon: float = 2 / 255
    """Radius of the L-inf ball, pixels in [0, 1]."""
    step: float | None = None
    """Length of the step; None: 1.25 epsilon."""

    name: ClassVar[str] = "adversarial_loss"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_radius(self.epsilon)
        if not (self.step is None or self.step > 0):
            raise ConfigurationError(f"expected a step > 0, got {self.step}")

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        from evonas.training.fgsm_rs import fast_adversarial_images

        step = 1.25 * self.epsilon if self.step is None else self.step
        return replace(
            batch, images=fast_adversarial_images(forward, batch.images, batch.labels, self.epsilon, step, generator)
        )

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        from torch.nn import functional

        return functional.cross_entropy(_precise(forward(batch.images)), batch.labels)


@dataclass(frozen=True)
class OodLoss:
    """Mean KL divergence between the uniform distribution and predictions for OoD images (E2RNAS v2, Eq. 3).

    KL(U || softmax(z)) = logsumexp(z) - mean(z) - log K, 0 for a uniform prediction.
    """

    name: ClassVar[str] = "ood_loss"
    needs_ood: ClassVar[bool] = True
    attacks: ClassVar[bool] = False

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        if batch.ood_data is None:
            raise ConfigurationError("expected images of none of the classes for ood_loss, got none")
        logits = _precise(forward(batch.ood_data))  # (B, K)
        divergence = logits.logsumexp(dim=1) - logits.mean(dim=1) - math.log(logits.shape[1])  # (B,)
        return divergence.mean()


@dataclass(frozen=True)
class Sum:
    """Sum of several losses on one batch (E2RNAS v2, Eq. 7: L_tr + L_ood below); records each as `upper_NAME`."""

    parts: tuple[LevelLoss, ...]

    @property
    def name(self) -> str:
        return "+".join(part.name for part in self.parts)

    @property
    def needs_ood(self) -> bool:
        return any(part.needs_ood for part in self.parts)

    @property
    def attacks(self) -> bool:
        return any(part.attacks for part in self.parts)

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        for part in self.parts:
            batch = part.prepare(forward, batch, generator)
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        first, *rest = values = [part(forward, probabilities, batch) for part in self.parts]
        for part, value in zip(self.parts, values, strict=True):
            batch.note(f"upper_{part.name}", value)
        return sum(rest, first)


@dataclass(frozen=True, kw_only=True)
class ExpectedCost:
    """Expected parameters or FLOPs of the operations at all edges of all cells, in millions.

    N-hat of E2RNAS v1, Eq. 5, F-hat of v2: the cost of each operation in a network of `channels` and `layers` times its
    probability. Counts operations only, at every edge, although a derived cell keeps two edges for each node.
    """

    kind: Literal["params", "flops"] = "params"
    limit: float = 0.0
    """L or F, in millions."""
    bound: Literal["above", "near"] = "above"
    """above: max(expected, limit), flat below the limit (v1, Eq. 6). near: |expected - limit| (v2, Eqs. 5 and 6)."""
    channels: int = 36
    layers: int = 20
    nodes: int = 4
    image_size: int = 32
    affine: bool = True
    """Whether batch normalisation has parameters: it has in the evaluated network, not in a supernet."""

    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.kind not in ("params", "flops") or self.bound not in ("above", "near"):
            raise ConfigurationError(
                f"expected kind params or flops and bound above or near, got {self.kind!r} and {self.bound!r}"
            )
        if not 0 <= self.limit < math.inf:
            raise ConfigurationError(f"expected a limit >= 0 in millions, got {self.limit}")

    @property
    def name(self) -> str:
        return f"{self.kind}_loss"

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        import torch

        expected = self.expected(probabilities)
        if self.bound == "near":
            return (expected - self.limit).abs()
        return torch.where(expected > self.limit, expected, torch.full_like(expected, self.limit))

    def expected(self, probabilities: Tensor) -> Tensor:
        """() in millions, for (2, edges, 8) probabilities; differentiable in them."""
        costs = operation_costs(self.channels, self.layers, self.affine, self.nodes, self.image_size)
        table = np.asarray(getattr(costs, self.kind))  # (2, edges, 8)
        return CostTable(table.reshape(-1, table.shape[-1]) / 1e6).expected(probabilities.flatten(0, 1))
