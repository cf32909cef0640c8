"""Linear bounds of a network's logits over a ball around each image."""

import torch
from torch import Tensor

from evonas.certify.intervals import propagate, recorded, without_nan
from evonas.certify.linear import Bounded
from evonas.certify.recording import Model, outside_inference_mode
from evonas.certify.rounding import rounded_down
from evonas.certify.settings import Intermediate, RelaxationName, Rounding
from evonas.devices import float32

__all__ = ["linear_bounds"]


@float32()
@outside_inference_mode()
def linear_bounds(
    model: Model,
    images: Tensor,
    epsilon: float | Tensor,
    norm: str = "linf",
    relaxation: RelaxationName = "adaptive",
    intersect: bool = False,
    clip: tuple[float, float] | None = None,
    intermediate: Intermediate = "linear",
    rounding: Rounding = "nearest",
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds (B, K) of the logits over a ball around each image, by backward linear bounds.

    Sound up to rounding, or without exception if rounded outwards. Differentiable in weights and in everything else
    that the model computes with. Softmax and products of two matrices that depend on the image are bounded by
    intervals, everything else by planes.

    Args:
        model, images, epsilon, norm, clip: as for `interval_bounds`.
        relaxation: lower line of a ReLU whose input may have either sign: `adaptive`, slope 1 or 0, whichever leaves
            less area; `same_slope`, the slope of the upper line (Fast-Lin), so that bounds are differentiable nearly
            everywhere.
        intersect: return the tighter of these bounds and interval bounds, elementwise.
        intermediate: bounds of the values inside the network, on which planes depend: `linear`, backward bounds of
            every layer, or intervals where they are tighter; `signs`, the same, but each only as far down as it takes
            to know the sign of a ReLU's input, several times faster and nearly as tight; `interval`, one forward pass
            of intervals, far faster.
        rounding: `outward` makes room for the errors of this computation, so that the bounds hold for the network in
            exact arithmetic; `nearest` does not.
    Raises:
        ConfigurationError (a ValueError): an operation without bounds, or arguments that define no ball.
    """
    graph, ball = recorded(model, images, epsilon, norm, clip, rounding)
    bounded = Bounded(graph, ball, relaxation, intermediate, images.dtype if rounding == "outward" else None)
    lower, upper = bounded.least(bounded.logits).t(), -bounded.least(-bounded.logits).t()
    if intersect:
        box = propagate(graph, ball, outward=rounding == "outward")[len(graph.nodes) - 1]
        lower, upper = torch.maximum(lower, box.lower), torch.minimum(upper, box.upper)
    lower, upper = without_nan(lower, upper)
    return rounded_down(lower, images.dtype), -rounded_down(-upper, images.dtype)
