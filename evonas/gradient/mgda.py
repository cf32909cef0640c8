"""How the gradients of several losses become one: the multiple-gradient descent algorithm (MGDA; Desideri, 2012)."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from evonas.errors import ConfigurationError, choose
from evonas.gradient.min_norm import frank_wolfe_weights, min_norm_weights

__all__ = ["NORMALISATIONS", "SOLVERS", "Normalisation", "mgda_weights", "normalise"]

Normalisation = Literal["none", "l2", "loss", "loss+"]

NORMALISATIONS: tuple[Normalisation, ...] = ("none", "l2", "loss", "loss+")

SOLVERS: dict[str, Callable[[Tensor], Tensor]] = {"exact": min_norm_weights, "frank_wolfe": frank_wolfe_weights}
"""Name -> (m, d) gradients -> (m,) simplex weights in float64."""


def mgda_weights(
    gradients: Tensor,
    losses: Tensor,
    normalisation: Normalisation = "none",
    solver: str = "exact",
    applied_to: Literal["raw", "normalised"] = "raw",
) -> Tensor:
    """What each loss is multiplied by, so that the weighted sum of their gradients is the step's.

    The weights are solved on the normalised gradients. A gradient that vanishes says nothing about the others and is
    left out, with weight 0: for two objectives of which the second is flat, gamma is 1 exactly. Where all vanish, the
    weights are equal.

    A step against the sum, short enough, decreases every loss whose gradient does not vanish (or the sum is zero, and
    no direction does) with `normalisation="none"`, or with `applied_to="normalised"`. With weights that were solved on
    normalised gradients but are applied to the raw losses, as the papers' authors do, this is **not** guaranteed. It
    is said of the exact solver, Frank-Wolfe comes near; and of plain gradient descent, Adam turns the direction.

    Args:
        gradients: (m, d) of the losses, all of which are to be minimised.
        losses: (m,) their values; used by the normalisations loss and loss+ alone.
        normalisation: one of NORMALISATIONS.
        solver: a name of SOLVERS.
        applied_to: raw: the simplex weights w_i, to be applied to the raw losses. normalised: w_i / c_i, where c_i is
            what the normalisation divides gradient i by, so that the weighted sum of the raw gradients is that of the
            normalised ones.
    Returns:
        (m,) float64, >= 0, on the device of `gradients`; of sum 1 if raw.
    """
    solve = choose(SOLVERS, solver, "solver")
    if applied_to not in ("raw", "normalised"):
        raise ConfigurationError(f"expected weights applied to 'raw' or 'normalised', got {applied_to!r}")
    normalised, divisors = _normalised(gradients, losses, normalisation)
    present = normalised.ne(0).any(dim=1)
    if not present.any():
        present = ~present
    weights = normalised.new_zeros(len(normalised))
    weights[present] = solve(normalised[present])
    return weights if applied_to == "raw" else weights / divisors


def normalise(gradients: Tensor, losses: Tensor, how: Normalisation) -> Tensor:
    """Gradients of comparable length (Sener & Koltun, 2018), to solve for weights on.

    none: as they are. l2: divided by their norm. loss: divided by their loss's absolute value (a negative loss must
    not turn its gradient round). loss+: by both. A norm or a loss that is zero divides nothing, so a gradient that
    vanishes stays zero.

    Args:
        gradients: (m, d), finite.
        losses: (m,) their values; used by loss and loss+ alone.
    Returns:
        (m, d) float64, on the device of `gradients`.
    """
    return _normalised(gradients, losses, how)[0]


def _normalised(gradients: Tensor, losses: Tensor, how: Normalisation) -> tuple[Tensor, Tensor]:
    """The gradients, and (m,) what each was divided by."""
    if how not in NORMALISATIONS:
        raise ConfigurationError(f"expected a normalisation of {', '.join(NORMALISATIONS)}, got {how!r}")
    if gradients.ndim != 2 or losses.shape != gradients.shape[:1]:
        raise ValueError(
            f"expected gradients of shape (m, d) and m losses, got {tuple(gradients.shape)} and {tuple(losses.shape)}"
        )
    rows = gradients.detach().to(torch.float64)
    divisors = rows.new_ones(len(rows))
    if how in ("l2", "loss+") and rows.shape[1]:
        largest = _not_zero(rows.abs().amax(dim=1))  # first of all: a square may leave the range of float64
        rows = rows / largest[:, None]
        norms = _not_zero(torch.linalg.vector_norm(rows, dim=1))
        rows, divisors = rows / norms[:, None], largest * norms
    if how in ("loss", "loss+"):
        size = _not_zero(losses.detach().to(rows).abs())
        if not bool(torch.isfinite(size).all()):
            raise ValueError(f"expected finite losses, got {losses.tolist()}; has the training diverged?")
        rows, divisors = rows / size[:, None], divisors * size
    return rows, divisors


def _not_zero(values: Tensor) -> Tensor:
    return torch.where(values == 0, torch.ones_like(values), values)
