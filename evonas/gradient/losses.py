"""What the two levels minimise: losses of a supernet on a batch, and costs that are expected of its cells."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from evonas.costs import CostTable
from evonas.errors import ConfigurationError
from evonas.gradient.forward import Forward
from evonas.spaces.darts_costs import operation_costs
from evonas.training.fgsm_rs import fast_adversarial_images

__all__ = ["AdversarialLoss", "Batch", "CrossEntropy", "ExpectedCost", "Forward", "LevelLoss", "OodLoss", "Sum"]


@dataclass(frozen=True, eq=False)
class Batch:
    """What a loss is taken on."""

    images: Tensor
    """(B, C, H, W) in [0, 1]."""
    labels: Tensor
    """(B,) int64."""
    ood_data: Tensor | None = None
    """(B, C, H, W) images of none of the classes; None where there are none."""
    epsilon: float = 0.0
    """Radius at which certified bounds are taken, pixels in [0, 1]."""
    notes: dict[str, Tensor] | None = None
    """Where losses note what search.csv shows beside them; None: nobody reads it."""

    def note(self, name: str, value: Tensor) -> None:
        """Note a () value for the column `name`."""
        if self.notes is not None:
            self.notes[name] = value.detach()


class LevelLoss(Protocol):
    """A loss of the lower or of the upper level, a frozen value.

    `prepare` draws what is random and attacks what is to be attacked, with the supernet as it is; `loss(forward,
    probabilities, batch)` is then a function of weights and architecture alone, as second differences need it.
    """

    @property
    def name(self) -> str:
        """Its column in search.csv."""
        ...

    @property
    def needs_ood(self) -> bool:
        """Whether its batches must hold images of none of the classes."""
        ...

    @property
    def attacks(self) -> bool:
        """Whether `prepare` does anything."""
        ...

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch: ...
    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        """() loss.

        Args:
            probabilities: (2, edges, 8) of the operations at each edge of the normal and of the reduction cell.
        """
        ...


def _precise(logits: Tensor) -> Tensor:
    """In float32 at least."""
    return logits if logits.dtype == torch.float64 else logits.float()


@dataclass(frozen=True)
class CrossEntropy:
    """Mean cross-entropy of the images' classes."""

    name: ClassVar[str] = "loss"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(_precise(forward(batch.images)), batch.labels)


@dataclass(frozen=True, kw_only=True)
class AdversarialLoss:
    """Mean cross-entropy of images that one step from a random start has changed (E2RNAS: Eq. 3 of v1, Eq. 4 of v2)."""

    epsilon: float = 2 / 255
    """Radius of the L-inf ball, pixels in [0, 1]."""
    step: float | None = None
    """Length of the step; 1.25 epsilon unless given."""

    name: ClassVar[str] = "adversarial_loss"
    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if not 0 <= self.epsilon <= 1 or not (self.step is None or self.step > 0):
            raise ConfigurationError(f"expected epsilon in [0, 1] and a step > 0, got {self.epsilon} and {self.step}")

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        step = 1.25 * self.epsilon if self.step is None else self.step
        return replace(
            batch, images=fast_adversarial_images(forward, batch.images, batch.labels, self.epsilon, step, generator)
        )

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        return functional.cross_entropy(_precise(forward(batch.images)), batch.labels)


@dataclass(frozen=True)
class OodLoss:
    """Mean KL divergence of the answers to images of no class from the uniform answer (E2RNAS v2, Eq. 3).

    KL(U || softmax(z)) = logsumexp(z) - mean(z) - log K, which is 0 for a uniform answer.
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
        apart = logits.logsumexp(dim=1) - logits.mean(dim=1) - math.log(logits.shape[1])
        return apart.mean()


@dataclass(frozen=True)
class Sum:
    """The sum of several losses on one batch (E2RNAS v2, Eq. 7: L_tr + L_ood below); notes each as `upper_NAME`."""

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
    """Parameters or FLOPs, in millions, that are expected of the operations at all edges of all cells.

    The N-hat of E2RNAS v1, Eq. 5, the F-hat of v2: each operation's cost in a network of `channels` and `layers`, times
    its probability. It counts every edge, of which a derived cell keeps two a node, and nothing but operations.
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
    """Whether batch normalisation counts: it does in the network that is evaluated, not in a supernet."""

    needs_ood: ClassVar[bool] = False
    attacks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.kind not in ("params", "flops") or self.bound not in ("above", "near"):
            raise ConfigurationError(
                f"expected params or flops, above or near a limit, got {self.kind!r} and {self.bound!r}"
            )
        if not 0 <= self.limit < math.inf:
            raise ConfigurationError(f"expected a limit >= 0 in millions, got {self.limit}")

    @property
    def name(self) -> str:
        return f"{self.kind}_loss"

    def prepare(self, forward: Forward, batch: Batch, generator: torch.Generator) -> Batch:
        return batch

    def __call__(self, forward: Forward, probabilities: Tensor, batch: Batch) -> Tensor:
        expected = self.expected(probabilities)
        if self.bound == "near":
            return (expected - self.limit).abs()
        return torch.where(expected > self.limit, expected, torch.full_like(expected, self.limit))

    def expected(self, probabilities: Tensor) -> Tensor:
        """() in millions, for (2, edges, 8) probabilities; differentiable in them."""
        costs = operation_costs(self.channels, self.layers, self.affine, self.nodes, self.image_size)
        table = np.asarray(getattr(costs, self.kind))  # (2, edges, 8)
        return CostTable(table.reshape(-1, table.shape[-1]) / 1e6).expected(probabilities.flatten(0, 1))
