"""Jacobians of piecewise linear networks by backward linear bounds, which are exact over a single point."""

from torch import Tensor

from evonas.certify.affine import Affine
from evonas.certify.ball import Ball
from evonas.certify.joint import MaxPool
from evonas.certify.linear import Bounded
from evonas.certify.lines import ReLU
from evonas.certify.recording import Model, outside_inference_mode, record
from evonas.certify.rules import RULES
from evonas.devices import float32
from evonas.errors import ConfigurationError

__all__ = ["piecewise_jacobian"]


@float32()
@outside_inference_mode()
def piecewise_jacobian(model: Model, images: Tensor) -> Tensor:
    """(B, K, C, H, W) derivatives of logits by pixels, for networks of affine operations, ReLUs and max pooling.

    Equal to differentiation by autograd, and differentiable in weights and in everything else that the network computes
    with. That gradient needs no second derivatives of convolutions, which are slow on a CPU for depthwise ones.

    Args:
        model: as for `linear_bounds`.
        images: (B, C, H, W).
    Raises:
        ConfigurationError (a ValueError): another kind of operation.
    """
    graph = record(model, images, RULES)
    for node in graph.nodes:
        if not (node.operation is None or isinstance(node.operation, Affine | ReLU | MaxPool)):
            raise ConfigurationError(
                f"expected a network of affine operations, ReLUs and max pooling, {node.layer or 'it'} has "
                f"{type(node.operation).__name__}; jacobian_norm_bound takes any network"
            )
    bounded = Bounded(graph, Ball.of(images, 0.0), "adaptive", "interval")
    slopes, _ = bounded.pulled_back(len(graph.nodes) - 1, bounded.logits)
    none = images.new_zeros(len(images), *graph.nodes[-1].shape, *images.shape[1:])
    return none if slopes is None else slopes.transpose(0, 1)
