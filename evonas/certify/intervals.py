"""Interval bounds: elementwise boxes, propagated from the images to the logits."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from evonas.certify.affine import Affine
from evonas.certify.ball import Ball
from evonas.certify.graph import Box, Graph
from evonas.certify.recording import Model, outside_inference_mode, record
from evonas.certify.rounding import nudged, rounded_down, widened
from evonas.certify.rules import RULES
from evonas.certify.settings import Rounding
from evonas.devices import float32
from evonas.errors import choose

__all__ = ["exact_nodes", "interval_bounds", "propagate", "recorded", "without_nan"]


@float32()
@outside_inference_mode()
def interval_bounds(
    model: Model,
    images: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    clip: tuple[float, float] | None = None,
    rounding: Rounding = "nearest",
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds (B, K) of the logits over a ball around each image, by interval arithmetic.

    Sound up to rounding, or without exception if rounded outwards, and fast: two forward passes. Dependencies between
    values are lost in every layer, so bounds are loose in deep networks; see `linear_bounds`. Differentiable in weights
    and in everything else that the model computes with. Weighted sums of pixels, such as the outputs of a first
    convolution, have exact bounds, also in l2.

    Args:
        model: a module, bounded in eval mode and restored afterwards, or a function of images.
        images: (B, C, H, W).
        epsilon: radius in units of the images' pixel values; one for all images, or (B,).
        norm: linf or l2.
        clip: range of valid pixels, such as (0.0, 1.0), to which the ball is clipped.
        rounding: as for `linear_bounds`.
    Raises:
        ConfigurationError (a ValueError): an operation without bounds, or arguments that define no ball.
    """
    graph, ball = recorded(model, images, epsilon, norm, clip, rounding)
    box = propagate(graph, ball, outward=rounding == "outward")[len(graph.nodes) - 1]
    lower, upper = without_nan(box.lower, box.upper)
    return rounded_down(lower, images.dtype), -rounded_down(-upper, images.dtype)


def recorded(
    model: Model,
    images: Tensor,
    epsilon: float | Tensor,
    norm: str,
    clip: tuple[float, float] | None,
    rounding: Rounding,
) -> tuple[Graph, Ball]:
    """The graph and the ball: in float64 where bounds are rounded outwards, else in the precision of the images."""
    outward = choose({"outward": True, "nearest": False}, rounding, "rounding")
    precision = torch.float64 if outward else None
    graph = record(model, images, RULES, precision)
    return graph, Ball.of(images if precision is None else images.to(precision), epsilon, norm, clip)


def without_nan(lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
    """Bounds with NaN, from overflow, replaced by minus infinity and infinity."""
    return (torch.where(lower.isnan(), -torch.inf, lower), torch.where(upper.isnan(), torch.inf, upper))


Tighten = Callable[[int, Mapping[int, Box]], Mapping[int, Box]]
"""(number of a node with a non-affine operation, boxes so far) -> tighter boxes of its input nodes."""


class _Pixels(NamedTuple):
    """A node in which every value depends on a different pixel: its values at the centre of the ball, and the absolute
    derivative of each by its pixel."""

    centre: Tensor
    gain: Tensor


def propagate(graph: Graph, ball: Ball, tighten: Tighten | None = None, outward: bool = False) -> dict[int, Box]:
    """Boxes of all nodes by number; `tighten`, if given, is called before every non-affine operation.

    Args:
        outward: make room for rounding errors.
    """
    boxes: dict[int, Box] = {0: nudged(ball.box) if outward else ball.box}
    pixels = {0: _Pixels(ball.images, torch.ones_like(ball.images))}
    for number, node in enumerate(graph.nodes):
        operation = node.operation
        if operation is None:
            continue
        if tighten is not None and not isinstance(operation, Affine):
            boxes.update(tighten(number, boxes))
        box = operation.interval([boxes[each] for each in node.inputs])
        seen = pixels.get(node.inputs[0]) if len(node.inputs) == 1 else None
        if seen is not None and isinstance(operation, Affine) and (operation.distinct or ball.norm == "l2"):
            constant = operation.constant()
            centre = operation.linear(seen.centre)
            centre = centre if constant is None else centre + constant
            if operation.distinct:
                pixels[number] = _Pixels(centre, operation.linear(seen.gain, power=1))
            else:
                box = _within(box, centre, ball, operation.linear(seen.gain.square(), power=2))
        boxes[number] = widened(operation, [boxes[each] for each in node.inputs], box) if outward else box
    return boxes


def exact_nodes(graph: Graph) -> frozenset[int]:
    """Numbers of the nodes with elementwise exact boxes, in l-inf and in l2 without `clip`."""
    exact, pixels = {0}, {0}
    for number, node in enumerate(graph.nodes):
        operation, inputs = node.operation, node.inputs
        if isinstance(operation, Affine):
            if operation.distinct and inputs[0] in pixels:
                pixels.add(number)
            if (len(inputs) == 1 and inputs[0] in pixels) or (operation.moves and exact.issuperset(inputs)):
                exact.add(number)
    return frozenset(exact)


def _within(box: Box, centre: Tensor, ball: Ball, squares: Tensor) -> Box:
    """Intersection of a box with centre +- epsilon * sqrt(squares), the range of sums of pixels over an l2 ball."""
    length = torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
    radius = ball.epsilon.reshape(-1, *(1,) * (length.ndim - 1)) * length
    return Box(torch.maximum(box.lower, centre - radius), torch.minimum(box.upper, centre + radius))
