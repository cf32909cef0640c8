"""Gradients of upper-level losses with respect to the architecture, through one step of the weights (DARTS)."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from evonas.errors import ConfigurationError
from evonas.gradient.derive import derive_genotype

__all__ = ["Loss", "UpperGradients", "derive_genotype", "direct_gradient", "momentum_buffers_of", "unrolled_gradient"]

Loss = Callable[[], Tensor]
"""() -> () loss, in a graph of its own, with the current weights and architecture."""

MaybeTensors = Sequence[Tensor | None]
"""One entry for each parameter; None for a parameter without gradient or momentum."""

RADIUS = 0.01
"""Length of the finite difference's step in the weights to each side (DARTS, 2.3)."""


@dataclass(frozen=True, eq=False)
class UpperGradients:
    """Values and gradients of m upper-level losses, for one step of the architecture."""

    losses: Tensor
    """(m,) at the weights of the gradients: after the step if they were unrolled."""
    gradients: Tensor
    """(m, n) with respect to all architecture parameters, flattened and concatenated."""


def unrolled_gradient(
    train_loss: Loss,
    upper_losses: Sequence[Loss],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    rate: float,
    momentum_buffers: MaybeTensors | None = None,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    hessian: Literal["finite", "exact"] = "finite",
    buffers: Sequence[Tensor] = (),
) -> UpperGradients:
    """Gradients of every upper loss at the weights after one SGD step on `train_loss` (DARTS, 2.3).

    With theta' = theta - rate (momentum buffer + dL_train + weight_decay theta), the total derivative of
    L(theta'(alpha), alpha): the direct gradient minus rate times the mixed second derivative of L_train, times
    v = dL/dtheta'. A loss that does not depend on the weights costs no such product.

    Makes no copy of the model: steps the weights in place and restores them and `buffers` bit for bit, also if a loss
    raises; neither reads nor writes `.grad`. Invalidates older graphs through the weights: a backward pass through them
    fails afterwards.

    Args:
        train_loss: called once, and twice more for each product (finite), or once more (exact). Must be the same
            function every time: the same batch and the same random numbers.
        upper_losses: each called once, at theta'.
        weights: distinct leaves. A weight that `train_loss` does not use does not move, as with torch's SGD.
        architecture: leaves of one dtype, disjoint from `weights`.
        rate: learning rate of the weights; 0 gives `direct_gradient`.
        momentum_buffers: one for each weight, None before its first step: see `momentum_buffers_of`.
        hessian: finite: by a central difference at theta +- R v, R = 0.01 / |v|; `train_loss` must then be computed in
            float32 at least (in bfloat16 the product points elsewhere). exact: by double differentiation, which takes
            more memory and twice differentiable layers. The two differ where ReLU or max-pooling bends L_train between
            the ends of the difference, in small networks considerably: only the difference sees these bends.
        buffers: tensors the losses write to, e.g. all `.buffers()` of the supernet: running statistics.
    Returns:
        Losses and gradients, detached.
    """
    if hessian not in ("finite", "exact"):
        raise ConfigurationError(f"expected a hessian 'finite' or 'exact', got {hessian!r}")
    if not rate >= 0:
        raise ConfigurationError(f"expected a rate >= 0, got {rate}")
    moments = momentum_buffers if momentum_buffers is not None else [None] * len(weights)
    if len(moments) != len(weights):
        raise ConfigurationError(f"expected {len(weights)} momentum buffers, one for each weight, got {len(moments)}")
    if rate == 0:
        return direct_gradient(upper_losses, weights, architecture, buffers)
    with _restored(buffers), _restored(weights) as before, torch.enable_grad():
        with _frozen(architecture):
            slope = _gradients(_value(train_loss), weights)
        _step(weights, slope, moments, rate, momentum, weight_decay)
        losses, direct, slopes = [], [], []
        for upper_loss in upper_losses:
            loss = _value(upper_loss)
            gradients = _gradients(loss, [*architecture, *weights])
            losses.append(loss.detach())
            direct.append(_flat(gradients[: len(architecture)], architecture))
            slopes.append(gradients[len(architecture) :])
        _put_back(weights, before)
        products_of = _finite_products if hessian == "finite" else _exact_products
        products = products_of(train_loss, slopes, weights, architecture, before)
    return UpperGradients(torch.stack(losses), torch.stack(direct).sub_(torch.stack(products), alpha=rate))


def direct_gradient(
    upper_losses: Sequence[Loss],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    buffers: Sequence[Tensor] = (),
) -> UpperGradients:
    """Gradients of every upper loss at the current weights: DARTS of first order, `unrolled_gradient` at rate 0.

    Computes no gradients of the weights, which do not require any while the losses are called.

    Args:
        upper_losses, weights, architecture, buffers: as `unrolled_gradient` takes them.
    """
    losses, direct = [], []
    with _restored(buffers), _frozen(weights), torch.enable_grad():
        for upper_loss in upper_losses:
            loss = _value(upper_loss)
            direct.append(_flat(_gradients(loss, architecture), architecture))
            losses.append(loss.detach())
    return UpperGradients(torch.stack(losses), torch.stack(direct))


def momentum_buffers_of(optimiser: torch.optim.Optimizer, weights: Sequence[Tensor]) -> list[Tensor | None]:
    """Momentum of each weight in torch's SGD; None before its first step."""
    return [optimiser.state.get(weight, {}).get("momentum_buffer") for weight in weights]


@torch.no_grad()
def _step(
    weights: Sequence[Tensor],
    slope: MaybeTensors,
    moments: MaybeTensors,
    rate: float,
    momentum: float,
    weight_decay: float,
) -> None:
    for weight, gradient, moment in zip(weights, slope, moments, strict=True):
        if gradient is not None:
            change = torch.add(gradient, weight, alpha=weight_decay)
            if moment is not None:
                change.add_(moment, alpha=momentum)
            weight.sub_(change, alpha=rate)


def _finite_products(
    train_loss: Loss,
    slopes: Sequence[MaybeTensors],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    before: Sequence[Tensor],
) -> list[Tensor]:
    """(n,) for each v: d/dalpha of <dL_train/dtheta, v>, as a central difference of dL_train/dalpha."""
    products = []
    for slope in slopes:
        norm = _norm([part for part in slope if part is not None])
        if isinstance(norm, float) and norm == 0:
            products.append(_flat([None] * len(architecture), architecture))
            continue
        ends = []
        for side in (RADIUS / norm, -RADIUS / norm):
            for weight, value, direction in zip(weights, before, slope, strict=True):
                if direction is not None:
                    _move(weight, value, direction, side)
            with _frozen(weights):
                ends.append(_flat(_gradients(_value(train_loss), architecture), architecture))
        _put_back(weights, before)
        products.append((ends[0] - ends[1]) * (norm / (2 * RADIUS)))
    return products


@torch.no_grad()
def _move(weight: Tensor, start: Tensor, direction: Tensor, by: float | Tensor) -> None:
    weight.copy_(start)
    if isinstance(by, float):
        weight.add_(direction, alpha=by)
    else:
        weight.add_(direction * by)


def _norm(parts: Sequence[Tensor]) -> float | Tensor:
    """Length of all parts together; on a device that is waited for, a () tensor there.

    The latter is at least 1e-30, so that a quotient by it is a finite float32.
    """
    if not parts:
        return 0.0
    norm = torch.stack([torch.linalg.vector_norm(part, dtype=torch.float64) for part in parts]).norm()
    return float(norm) if norm.device.type == "cpu" else norm.clamp(min=1e-30)


def _exact_products(
    train_loss: Loss,
    slopes: Sequence[MaybeTensors],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    before: Sequence[Tensor],
) -> list[Tensor]:
    """(n,) for each v: d/dalpha of <dL_train/dtheta, v>, by double differentiation."""
    products = []
    if not any(direction is not None for slope in slopes for direction in slope):
        return [_flat([None] * len(architecture), architecture) for _ in slopes]
    gradients = _gradients(_value(train_loss), weights, create_graph=True)
    for slope in slopes:
        pairs = [
            (gradient, direction)
            for gradient, direction in zip(gradients, slope, strict=True)
            if gradient is not None and gradient.requires_grad and direction is not None
        ]
        product: MaybeTensors = [None] * len(architecture)
        if pairs:
            outputs, directions = zip(*pairs, strict=True)
            product = torch.autograd.grad(outputs, architecture, directions, retain_graph=True, allow_unused=True)
        products.append(_flat(product, architecture))
    return products


def _gradients(loss: Tensor, inputs: Sequence[Tensor], create_graph: bool = False) -> MaybeTensors:
    """Gradients of the inputs, leaving `.grad` alone; None for an input that the loss does not depend on."""
    if not loss.requires_grad:
        return [None] * len(inputs)
    return torch.autograd.grad(loss, inputs, create_graph=create_graph, allow_unused=True)


def _value(evaluate: Loss) -> Tensor:
    torch.clear_autocast_cache()  # it may hold casts of earlier weights
    loss = evaluate()
    if loss.numel() != 1:
        raise ValueError(f"expected a loss of one number, got shape {tuple(loss.shape)}; take its mean")
    return loss.reshape(())


def _flat(parts: MaybeTensors, like: Sequence[Tensor]) -> Tensor:
    filled = (torch.zeros_like(shape) if part is None else part for part, shape in zip(parts, like, strict=True))
    return torch.cat([part.detach().reshape(-1) for part in filled])


@torch.no_grad()
def _put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


@contextmanager
def _restored(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """A context that yields copies of the tensors, and restores their values on exit, also by an error."""
    values = [tensor.detach().clone() for tensor in tensors]
    try:
        yield values
    finally:
        _put_back(tensors, values)


@contextmanager
def _frozen(tensors: Sequence[Tensor]) -> Iterator[None]:
    """A context in which the tensors require no gradients, so layers neither store nor compute anything for them."""
    required = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(False)
        yield
    finally:
        for tensor, value in zip(tensors, required, strict=True):
            tensor.requires_grad_(value)
