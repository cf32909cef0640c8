"""Weights of several losses by the multiple-gradient descent algorithm (MGDA; Desideri, 2012)."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from evonas.errors import ConfigurationError, choose
from evonas.lazy import Table

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["NORMALISATIONS", "SOLVERS", "Normalisation", "mgda_weights", "normalise"]

Normalisation = Literal["none", "l2", "loss", "loss+"]

NORMALISATIONS: tuple[Normalisation, ...] = ("none", "l2", "loss", "loss+")

SOLVERS: Table[Callable[[Tensor], Tensor]] = Table(
    {
        "exact": "evonas.gradient.min_norm:min_norm_weights",
        "frank_wolfe": "evonas.gradient.min_norm:frank_wolfe_weights",
    }
)
"""Name -> (m, d) gradients -> (m,) simplex weights in float64."""


def mgda_weights(
    gradients: Tensor,
    losses: Tensor,
    normalisation: Normalisation = "none",
    solver: str = "exact",
    applied_to: Literal["raw", "normalised"] = "raw",
) -> Tensor:
    """Weight of each loss in a step along the weighted sum of their gradients.

    The weights are those of the shortest convex combination of the normalised gradients. A zero gradient is left out,
    with weight 0: of two losses with a flat second one, the first gets exactly 1. If all gradients are zero, the
    weights are equal.

    With `normalisation="none"` or `applied_to="normalised"`, a short enough step against the sum decreases every loss
    with a nonzero gradient (or the sum is zero, and no direction does). With weights of normalised gradients applied to
    the raw losses, as the authors of the papers do, this is **not** guaranteed. The guarantee is for the exact solver,
    which Frank-Wolfe approximates, and for plain gradient descent; Adam changes the direction.

    Args:
        gradients: (m, d) gradients of losses to be minimised.
        losses: (m,) their values; used by the normalisations loss and loss+ only.
        normalisation: one of NORMALISATIONS.
        solver: a name of SOLVERS.
        applied_to: raw: the simplex weights w_i, for the raw losses. normalised: w_i / c_i, where c_i is the divisor of
            gradient i in the normalisation, so that the weighted sum of raw gradients equals that of normalised ones.
    Returns:
        (m,) float64, >= 0, on the device of `gradients`; their sum is 1 if raw.
    """
    solve = choose(SOLVERS, solver, "solver")
    if applied_to not in ("raw", "normalised"):
        raise ConfigurationError(f"expected weights applied to 'raw' or 'normalised', got {applied_to!r}")
    normalised, divisors = _normalised(gradients.cpu(), losses.cpu(), normalisation)  # the only waits for a device
    present = [i for i, gradient in enumerate(normalised) if gradient.any()] or list(range(len(normalised)))
    weights = normalised.new_zeros(len(normalised))
    weights[present] = solve(normalised[present])
    return (weights if applied_to == "raw" else weights / divisors).to(gradients.device)


def normalise(gradients: Tensor, losses: Tensor, how: Normalisation) -> Tensor:
    """Gradients of comparable length (Sener & Koltun, 2018), the input of the solvers.

    none: unchanged. l2: divided by their norm. loss: divided by the absolute value of their loss (a negative loss must
    not reverse its gradient). loss+: divided by both. A zero norm or loss counts as 1, so a zero gradient stays zero.

    Args:
        gradients: (m, d), finite.
        losses: (m,) their values; used by loss and loss+ only.
    Returns:
        (m, d) float64, on the device of `gradients`.
    """
    return _normalised(gradients, losses, how)[0]


def _normalised(gradients: Tensor, losses: Tensor, how: Normalisation) -> tuple[Tensor, Tensor]:
    """Normalised gradients, and the (m,) divisors."""
    import torch

    if how not in NORMALISATIONS:
        raise ConfigurationError(f"expected a normalisation of {', '.join(NORMALISATIONS)}, got {how!r}")
    if gradients.ndim != 2 or losses.shape != gradients.shape[:1]:
        raise ValueError(
            f"expected gradients of shape (m, d) and m losses, got {tuple(gradients.shape)} and {tuple(losses.shape)}"
        )
    rows = gradients.detach().to(torch.float64)
    divisors = rows.new_ones(len(rows))
    if how in ("l2", "loss+") and rows.shape[1]:
        largest = _not_zero(rows.abs().amax(dim=1))  # before the norm: squares may leave the range of float64
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
    import torch

    return torch.where(values == 0, torch.ones_like(values), values)
