"""Certificates from bounds: margins, the radius within which the predicted class cannot change, certified accuracy."""

import math
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evonas.certify.ball import Ball
from evonas.certify.interval_margins import differences
from evonas.certify.intervals import recorded
from evonas.certify.linear import Bounded
from evonas.certify.recording import Model, in_eval_mode, outside_inference_mode, record
from evonas.certify.rounding import rounded_down
from evonas.certify.rules import RULES
from evonas.certify.settings import Intermediate, RelaxationName, Rounding
from evonas.devices import float32
from evonas.errors import ConfigurationError

__all__ = [
    "BoundsAndMargins",
    "bounds_and_margins",
    "certified_accuracy",
    "certified_radius",
    "margin_bounds",
    "random_targets",
]


@float32()
@outside_inference_mode()
def margin_bounds(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intermediate: Intermediate = "linear",
    clip: tuple[float, float] | None = None,
    rounding: Rounding = "nearest",
) -> Tensor:
    """Lower bounds (B, K - 1) of logit[label] - logit[other] over a ball around each image, other classes ascending.

    If all bounds of an image are above 0, no image of the ball is classified differently. Each margin is bounded as one
    function, which is tighter than the difference of two bounds. Differentiable as `linear_bounds`.

    Args:
        labels: (B,) int64 in [0, K).
        model, images, epsilon, norm, relaxation, intermediate, clip, rounding: as for `linear_bounds`.
    Raises:
        ConfigurationError (a ValueError): as `linear_bounds`; labels of another shape, dtype or range.
    """
    graph, ball = recorded(model, images, epsilon, norm, clip, rounding)
    functions = differences(labels, graph.nodes[-1].shape[0], images)
    outward = images.dtype if rounding == "outward" else None
    return rounded_down(Bounded(graph, ball, relaxation, intermediate, outward).least(functions).t(), images.dtype)


class BoundsAndMargins(NamedTuple):
    """Results of `linear_bounds` and `margin_bounds`, from one pass."""

    lower: Tensor
    """(B, K)"""
    upper: Tensor
    margins: Tensor
    """(B, K - 1)"""


@float32()
@outside_inference_mode()
def bounds_and_margins(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intermediate: Intermediate = "linear",
    clip: tuple[float, float] | None = None,
) -> BoundsAndMargins:
    """Bounds of logits and of margins together. Arguments and errors as for `margin_bounds`."""
    graph, ball = record(model, images, RULES), Ball.of(images, epsilon, norm, clip)
    bounded, n_logits = Bounded(graph, ball, relaxation, intermediate), graph.nodes[-1].shape[0]
    functions = torch.cat([bounded.logits, -bounded.logits, differences(labels, n_logits, images)])
    lower, upper, margins = torch.split(bounded.least(functions).t(), [n_logits, n_logits, n_logits - 1], dim=1)
    return BoundsAndMargins(lower, -upper, margins)


@float32()
@outside_inference_mode()
def certified_radius(
    model: Model,
    images: Tensor,
    labels: Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intermediate: Intermediate = "linear",
    clip: tuple[float, float] | None = None,
    start: float = 0.05,
    steps: int = 15,
    targets: Tensor | None = None,
    rounding: Rounding = "outward",
) -> Tensor:
    """(B,) radii, in units of pixel values, within which the prediction provably stays correct; 0 if misclassified.

    CNN-Cert's search (Boopathy et al., 2019): from `start`, a factor of e up or down until one radius is proven and one
    is not, then bisection of their logarithms; `steps` bounds in all. Every returned radius is proven. More steps come
    closer to the largest provable radius, up to start e^(steps - 1). The radius is 0 if no tried radius is proven, or
    only one below the smallest difference of two pixel values (1.2e-7 in float32).

    Args:
        targets: (B,) one class per image; only the margin to this class is certified. Tables 5 and 6 of DSRNA, after
            CNN-Cert, average over one random target each. None: the margins to all classes.
        start: first radius tried.
        steps: number of radii tried.
        rounding: `outward` proves radii for the network in exact arithmetic; `nearest` up to rounding errors.
        model, images, labels, norm, relaxation, intermediate, clip: as for `margin_bounds`.
    Raises:
        ConfigurationError (a ValueError): as `margin_bounds`; a target equal to its label; steps < 1 or start <= 0.
    """
    if steps < 1 or not 0 < start < math.inf:
        raise ConfigurationError(f"expected steps >= 1 and a start > 0, got {steps} and {start}")
    if targets is not None and bool((targets == labels).any()):
        raise ConfigurationError("expected targets that differ from the labels, some are equal to them")
    with torch.no_grad():
        graph, first = recorded(model, images, start, norm, clip, rounding)  # checks of a ball wait for a GPU
        outward = images.dtype if rounding == "outward" else None
        n_logits = graph.nodes[-1].shape[0]
        margins = differences(labels, n_logits, images)
        functions = margins if targets is None else _margin(labels, targets, n_logits, images)
        right = (margins * _logits(model, images)).sum(dim=2).amin(dim=0) > 0
        held = torch.full((len(images),), -math.inf, dtype=torch.float64, device=images.device)
        smallest = torch.finfo(images.dtype).eps
        failed, tried = -held, torch.full_like(held, math.log(start))
        for _ in range(steps):
            radii = tried.exp().to(images.dtype).to(first.images)  # those that are returned
            ball = replace(first, epsilon=radii[:, None, None, None])
            holds = Bounded(graph, ball, relaxation, intermediate, outward).least(functions).amin(dim=0) > 0
            holds &= ball.epsilon.flatten() >= smallest
            held = torch.where(holds, torch.maximum(held, tried), held)
            failed = torch.where(holds, failed, torch.minimum(failed, tried))
            middle = (held + failed) / 2
            tried = torch.where(
                holds,
                torch.minimum(tried + 1, _finite(middle, math.inf)),
                torch.maximum(tried - 1, _finite(middle, -math.inf)),
            )
        return torch.where(right, held.exp(), 0.0).to(images.dtype)


@float32()
@outside_inference_mode()
def certified_accuracy(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intermediate: Intermediate = "linear",
    clip: tuple[float, float] | None = None,
    rounding: Rounding = "outward",
) -> float:
    """Fraction of images, in [0, 1], that are provably classified correctly on the whole ball of radius epsilon.

    Arguments and errors as for `margin_bounds`.
    """
    with torch.no_grad():
        margins = margin_bounds(model, images, labels, epsilon, norm, relaxation, intermediate, clip, rounding)
        return float((margins > 0).all(dim=1).double().mean())


def random_targets(labels: Tensor, n_classes: int, generator: torch.Generator) -> Tensor:
    """(B,) for each image a class other than its label, uniform."""
    drawn = torch.randint(1, n_classes, labels.shape, generator=generator, device=generator.device).to(labels.device)
    return (labels + drawn) % n_classes


def _margin(labels: Tensor, targets: Tensor, n_logits: int, images: Tensor) -> Tensor:
    """(1, B, K) coefficients of logit[label] - logit[target]."""
    _check(labels, n_logits, images)
    _check(targets, n_logits, images)
    return _coefficients(labels, targets, n_logits, images)


def _coefficients(labels: Tensor, targets: Tensor, n_logits: int, images: Tensor) -> Tensor:
    rows = torch.arange(len(images), device=images.device)
    functions = images.new_zeros(1, len(images), n_logits)
    functions[0, rows, labels] += 1
    functions[0, rows, targets] -= 1
    return functions


def _check(labels: Tensor, n_logits: int, images: Tensor) -> None:
    if n_logits < 2:
        raise ConfigurationError(f"expected a network of at least two classes, got {n_logits}")
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        raise ConfigurationError(
            f"expected ({len(images)},) int64 classes of the images, got {tuple(labels.shape)} {labels.dtype}"
        )
    if not bool(((labels >= 0) & (labels < n_logits)).all()):
        raise ConfigurationError(f"expected classes in [0, {n_logits}), got {labels.tolist()}")


def _logits(model: Model, images: Tensor) -> Tensor:
    if not isinstance(model, nn.Module):
        return model(images.clone())
    with in_eval_mode(model):
        logits: Tensor = model(images.clone())  # the model may change them in place
    return logits


def _finite(values: Tensor, otherwise: float) -> Tensor:
    """`values` with entries that are not finite replaced."""
    return torch.where(values.isfinite(), values, otherwise)
