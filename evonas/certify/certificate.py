"""What bounds say about answers: margins, the largest radius within which no answer changes, certified accuracy."""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from evonas.certify.ball import Ball
from evonas.certify.linear import Bounded, Intermediate, RelaxationName
from evonas.certify.recording import Model, in_eval_mode, record
from evonas.certify.rules import RULES
from evonas.errors import ConfigurationError

__all__ = [
    "BoundsAndMargins",
    "bounds_and_margins",
    "certified_accuracy",
    "certified_radius",
    "margin_bounds",
    "random_targets",
]


def margin_bounds(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intermediate: Intermediate = "linear",
    clip: tuple[float, float] | None = None,
) -> Tensor:
    """Lower bounds (B, K - 1) of logit[label] - logit[other] over a ball around each image, others in rising order.

    Where all of an image's are above 0, no image of the ball is taken for another class. Bounded as one function, a
    margin's bound is tighter than the difference of bounds. Differentiable as `linear_bounds`, whose arguments and
    errors it has.

    Args:
        labels: (B,) int64 in [0, K).
    """
    graph, ball = record(model, images, RULES), Ball.of(images, epsilon, norm, clip)
    functions = _margins(labels, graph.nodes[-1].shape[0], images)
    return Bounded(graph, ball, relaxation, intermediate).least(functions).t()


class BoundsAndMargins(NamedTuple):
    """What `linear_bounds` and `margin_bounds` give, from one pass."""

    lower: Tensor
    """(B, K)"""
    upper: Tensor
    margins: Tensor
    """(B, K - 1)"""


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
    """Bounds of logits and of margins together. Arguments and errors are those of `margin_bounds`."""
    graph, ball = record(model, images, RULES), Ball.of(images, epsilon, norm, clip)
    bounded, n_logits = Bounded(graph, ball, relaxation, intermediate), graph.nodes[-1].shape[0]
    functions = torch.cat([bounded.logits, -bounded.logits, _margins(labels, n_logits, images)])
    lower, upper, margins = torch.split(bounded.least(functions).t(), [n_logits, n_logits, n_logits - 1], dim=1)
    return BoundsAndMargins(lower, -upper, margins)


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
) -> Tensor:
    """(B,) radii, in pixels, within which the answer provably stays right; 0 for images that are misclassified.

    CNN-Cert's search (Boopathy et al., 2019): from `start`, by a factor of e up or down until a radius that holds and
    one that does not are known, then the middle of their logarithms, `steps` bounds in all. Each is a radius that was
    proven; by how much more could be, the steps decide: the largest that can be found is start e^(steps - 1). An image
    for which none of them held has 0, as has one that holds for less than pixels can differ (1.2e-7 in float32).

    Args:
        targets: (B,) a class for each image: the margin to this one alone is certified, as the averages of Tables 5 and
            6 of DSRNA, after CNN-Cert, are for one random target; None: to all classes.
    """
    if steps < 1 or not 0 < start < math.inf:
        raise ConfigurationError(f"expected steps >= 1 and a start > 0, got {steps} and {start}")
    if targets is not None and bool((targets == labels).any()):
        raise ConfigurationError("expected targets that differ from the labels, some are the labels themselves")
    with torch.no_grad():
        graph = record(model, images, RULES)
        n_logits = graph.nodes[-1].shape[0]
        margins = _margins(labels, n_logits, images)
        functions = margins if targets is None else _one(labels, targets, n_logits, images)
        right = (margins * _logits(model, images)).sum(dim=2).amin(dim=0) > 0
        held = torch.full((len(images),), -math.inf, dtype=torch.float64, device=images.device)
        smallest = torch.finfo(images.dtype).eps
        failed, tried = -held, torch.full_like(held, math.log(start))
        for _ in range(steps):
            ball = Ball.of(images, tried.exp().to(images.dtype), norm, clip)
            holds = Bounded(graph, ball, relaxation, intermediate).least(functions).amin(dim=0) > 0
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


def certified_accuracy(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intermediate: Intermediate = "linear",
    clip: tuple[float, float] | None = None,
) -> float:
    """Share of images, in [0, 1], that are provably answered right all over the ball of radius epsilon around them."""
    with torch.no_grad():
        margins = margin_bounds(model, images, labels, epsilon, norm, relaxation, intermediate, clip)
        return float((margins > 0).all(dim=1).double().mean())


def random_targets(labels: Tensor, n_classes: int, generator: torch.Generator) -> Tensor:
    """(B,) for each image a class that is not its own, all as likely."""
    drawn = torch.randint(1, n_classes, labels.shape, generator=generator, device=generator.device).to(labels.device)
    return (labels + drawn) % n_classes


def _margins(labels: Tensor, n_logits: int, images: Tensor) -> Tensor:
    """(K - 1, B, K) functions of the logits."""
    _check(labels, n_logits, images)
    ranks = torch.arange(n_logits - 1, device=images.device)[:, None]
    others = ranks + (ranks >= labels).long()  # (K - 1, B) without the label
    return torch.cat([_one(labels, each, n_logits, images) for each in others])


def _one(labels: Tensor, targets: Tensor, n_logits: int, images: Tensor) -> Tensor:
    """(1, B, K) logit[label] - logit[target]."""
    _check(labels, n_logits, images)
    _check(targets, n_logits, images)
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
        logits: Tensor = model(images.clone())  # it may change them in place
    return logits


def _finite(values: Tensor, otherwise: float) -> Tensor:
    return torch.where(values.isfinite(), values, otherwise)
