"""Several trade-offs from one search: preference vectors, and steps by Pareto multi-task learning (Lin et al., 2019).

As many architectures share the weights of one supernet. Each has a preference vector in the space of the objectives,
and goes towards the part of the front where the objectives are in about its proportions.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from evonas.gradient.delivered import DeliveredSize
from evonas.gradient.losses import ExpectedCost, LevelLoss
from evonas.gradient.method import Method, Mgda, Preferences

if TYPE_CHECKING:
    from torch import Tensor

    from evonas.gradient.delivered import DeliveredShare

__all__ = ["Standing", "cone_weights", "with_preferences"]

RULE = Mgda(normalisation="l2", applied_to="normalised")
"""Shortest convex combination, exact, of gradients of length 1: with one preference alone the rule of all steps."""


def with_preferences(method: Method, size: DeliveredShare, count: int) -> Method:
    """The method with as many architectures, from small to large networks.

    Its objectives are its own upper losses, each by itself where they were a sum, and the size in place of those of
    costs. N-hat is monitored as the method has it.
    """
    parts = [part for loss in method.upper for part in getattr(loss, "parts", (loss,))]
    costs = [part for part in parts if isinstance(part, ExpectedCost) and part.kind == "params"]
    kept: list[LevelLoss] = [part for part in parts if not isinstance(part, ExpectedCost | DeliveredSize)]
    return replace(
        method,
        upper=(*kept, size),
        combine=RULE,
        counted=replace(costs[0], limit=0.0) if costs else method.counted,
        preferences=Preferences(count=count),
    )


class Standing:
    """Running values of the objectives of every architecture: what a step's weights follow from, besides gradients.

    An objective but the size is normalised to 1 + (value - mean) / (mean of |value|), in [0, 2], with means over all
    architectures: for a positive loss it is value / mean, 1 for an architecture like the others, however far the shared
    weights are trained. A certified bound may change its sign, and its mean come near 0. The size is a
    share of its range already.

    Args:
        objectives: their number m; the last one is the size.
    """

    def __init__(self, preferences: Preferences, objectives: int) -> None:
        self.preferences = preferences
        self.vectors = preferences.vectors(objectives)
        self.values: list[Tensor | None] = [None] * preferences.count
        """(m,) float64 running means of each architecture, on the CPU; None before its first turn."""

    def weights(self, number: int, gradients: Tensor, losses: Tensor) -> Tensor:
        """(m,) weights of the objectives in a step of architecture `number`; takes their values into account first.

        Args:
            gradients: (m, d) of the objectives as they are.
            losses: (m,) their values in this batch.
        """
        values, divisors = self._normalised(number, losses.detach().double().cpu())
        divisors = divisors.to(gradients.device)
        near = self.preferences.near
        return cone_weights(gradients.double() / divisors[:, None], values, self.vectors, number, near) / divisors

    def _normalised(self, number: int, losses: Tensor) -> tuple[Tensor, Tensor]:
        """(m,) normalised objectives of one architecture, and their divisors."""
        import torch

        old = self.values[number]
        smoothed = losses if old is None else old.lerp(losses, self.preferences.smoothing)
        own = self.values[number] = torch.cat([smoothed[:-1], losses[-1:]])  # no batch decides on the size
        known = torch.stack([each for each in self.values if each is not None])
        means, lengths = known.mean(dim=0), known.abs().mean(dim=0)
        divisors = torch.where(lengths == 0, torch.ones_like(lengths), lengths)
        divisors[-1] = 1.0
        values = (1 + (own - means) / divisors).clamp(0, 2)
        values[-1] = losses[-1]
        return values, divisors


def cone_weights(gradients: Tensor, values: Tensor, vectors: Tensor, number: int, near: float = 0.0) -> Tensor:
    """Weight of each objective in a step towards the front within the cone of one preference vector.

    Pareto multi-task learning (Lin et al., 2019, Algorithm 1). The cone of u_k holds the objective vectors F whose
    angle to u_k is no larger than to any other u_j: G_j = (u_j - u_k) F <= 0 for every j. Outside, the step is along
    the shortest convex combination of the gradients of all G_j > 0, and decreases each of them. Inside, it is along
    that of the gradients of the objectives and of all G_j near 0, and decreases all of these, or is zero: then no
    direction decreases all of them. Each gradient counts by its direction, as length 1. Unlike there, a step
    outside is taken whenever F is outside, not in the beginning alone, since the shared weights move F, too.

    Args:
        gradients: (m, d) of the normalised objectives.
        values: (m,) F, the normalised objectives, >= 0.
        vectors: (K, m) of length 1, >= 0; a single one gives the weights of MGDA with gradients of length 1.
        number: k, from 0.
        near: in [0, 1): a constraint counts inside where G_j is at most this share of what it is for u_k of length |F|.
    Returns:
        (m,) float64 on the device of `gradients`; negative where an objective must grow to come into the cone.
    """
    import torch

    borders = vectors - vectors[number]  # (K, m)
    violations = borders @ values.to(vectors)
    rows = borders[violations > 0]
    if not len(rows):
        centre = (vectors @ vectors[number] - 1) * torch.linalg.vector_norm(values.to(vectors))
        active = violations >= near * centre
        active[number] = False
        rows = torch.cat([torch.eye(vectors.shape[1], dtype=vectors.dtype), borders[active]])
    rows = rows.to(gradients.device)
    along = rows @ gradients.to(rows)
    return RULE(along, along.new_ones(len(along))) @ rows
