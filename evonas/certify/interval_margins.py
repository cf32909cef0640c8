"""Margins by interval arithmetic, with the affine operations behind the last other one taken together."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from evonas.certify.affine import Affine
from evonas.certify.graph import Box, Graph
from evonas.certify.intervals import propagate, recorded
from evonas.certify.recording import Model, outside_inference_mode
from evonas.certify.rounding import SAFETY, gamma, magnitude, rounded_down
from evonas.certify.settings import Rounding
from evonas.devices import float32
from evonas.errors import ConfigurationError

__all__ = ["differences", "interval_margin_bounds"]


@float32()
@outside_inference_mode()
def interval_margin_bounds(
    model: Model,
    images: Tensor,
    labels: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    clip: tuple[float, float] | None = None,
    rounding: Rounding = "nearest",
) -> Tensor:
    """Lower bounds (B, K - 1) of logit[label] - logit[other] by intervals, other classes ascending.

    Boxes reach to the last operation that is not affine. What follows it, such as pooling and the last layer, is one
    affine function of its outputs together with the difference of two logits, and has its exact minimum over their box
    (elision of the last layer: Gowal et al., 2018, 3). Never below the difference of `interval_bounds`, but for
    rounding. The bounds that IBP trains; differentiable as they are.

    Args:
        labels: (B,) int64 in [0, K).
        model, images, epsilon, norm, clip, rounding: as for `interval_bounds`.
    Raises:
        ConfigurationError (a ValueError): as `interval_bounds`; labels of another shape, dtype or range.
    """
    graph, ball = recorded(model, images, epsilon, norm, clip, rounding)
    outward, wanted = rounding == "outward", differences(labels, graph.nodes[-1].shape[0], ball.images)
    number, functions, added, behind = _pulled_back(graph, wanted)
    box = propagate(graph, ball, outward=outward)[number]
    least = (ball.least(functions) if number == 0 else _least(functions, box)) + added
    if outward:
        reach = ball.epsilon.reshape(-1, 1, 1, 1) if number == 0 else 0.0
        least = least - _rounding(behind, magnitude(box) + reach, wanted)
    return rounded_down(torch.where(least.isnan(), -torch.inf, least).t(), images.dtype)


def _pulled_back(graph: Graph, functions: Tensor) -> tuple[int, Tensor, Tensor, list[Affine]]:
    """Functions (S, B, K) of the logits as functions of the last node before the affine ones: its number, coefficients
    (S, B, *shape), constants (S, B), and the affine operations behind it in the order of computation."""
    number, added, behind = len(graph.nodes) - 1, functions.new_zeros(functions.shape[:2]), list[Affine]()
    while True:
        node = graph.nodes[number]
        if not isinstance(node.operation, Affine) or len(node.inputs) != 1:
            return number, functions, added, behind
        (parts, constant), (source,) = node.operation.substitute(functions), node.inputs
        if parts[0] is None:
            return number, functions, added, behind
        number, functions, added, behind = source, parts[0], added + constant, [node.operation, *behind]


def _rounding(behind: Sequence[Affine], sizes: Tensor, functions: Tensor) -> Tensor:
    """(S, B) error at most of functions (S, B, K) of the logits, pulled back to values (B, *shape) of these sizes."""
    count = SAFETY + sizes[0].numel()
    for operation in behind:
        constant = operation.constant_terms()
        count += SAFETY + sizes[0].numel()
        sizes = operation.linear(sizes, power=1) + (0.0 if constant is None else constant)
    return (gamma(count, sizes.dtype) * (functions.abs() * sizes).sum(dim=2)).detach()


def _least(functions: Tensor, box: Box) -> Tensor:
    """(S, B) minima over a box of sums of (S, B, *shape) coefficients times its values."""
    ends = functions * box.middle - functions.abs() * box.radius
    return ends.flatten(2).sum(dim=2)


def differences(labels: Tensor, n_logits: int, images: Tensor) -> Tensor:
    """(K - 1, B, K) coefficients of logit[label] - logit[other] for every other class."""
    if labels.shape != (len(images),) or labels.dtype != torch.int64:
        raise ConfigurationError(
            f"expected ({len(images)},) int64 classes of the images, got {tuple(labels.shape)} {labels.dtype}"
        )
    if n_logits < 2 or not bool(((labels >= 0) & (labels < n_logits)).all()):
        raise ConfigurationError(f"expected at least two classes, and labels in [0, {n_logits}), got {labels.tolist()}")
    ranks = torch.arange(n_logits - 1, device=images.device)[:, None]
    others = ranks + (ranks >= labels).long()  # (K - 1, B)
    return (functional.one_hot(labels, n_logits) - functional.one_hot(others, n_logits)).to(images.dtype)
