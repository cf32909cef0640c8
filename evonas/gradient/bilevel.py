"""Gradients of upper-level losses with respect to the architecture, through one step of the weights below (DARTS)."""

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
"""A forward pass with the weights and the architecture as they now are: () -> () loss, in a graph of its own."""

MaybeTensors = Sequence[Tensor | None]
"""One entry a weight or architecture parameter; None without a gradient or momentum."""

RADIUS = 0.01
"""Length of the step in the weights that the finite difference takes to each side (DARTS, 2.3)."""


@dataclass(frozen=True, eq=False)
class UpperGradients:
    """What a step of the architecture needs of each of m losses."""

    losses: Tensor
    """(m,) where the gradients were taken: at the stepped weights, if they were unrolled."""
    gradients: Tensor
    """(m, n) with respect to all architecture parameters, each raveled, one after another."""


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
    """Gradients of every upper loss at the weights that one step of SGD on `train_loss` would give (DARTS, 2.3).

    With theta' = theta - rate (momentum buffer + dL_train + weight_decay theta), it is the whole derivative of
    L(theta'(alpha), alpha): the direct gradient minus rate times the mixed second derivative of L_train, times
    v = dL/dtheta'. A loss that does not depend on the weights costs no such product.

    No copy of the model is made: the weights are stepped in place and put back bit for bit, and so are `buffers`, also
    where a loss raises; no `.grad` is read or written. Graphs through the weights that are older than the call cannot
    be gone backward through afterwards.

    Args:
        train_loss: called once, and twice more for each product (finite), or once more (exact). Every time it must be
            the same function: the same batch and the same random numbers.
        upper_losses: each called once, at theta'.
        weights: leaves, none twice. One that `train_loss` does not use stays where it is, as with torch's SGD.
        architecture: leaves, apart from `weights`, of one type.
        rate: learning rate of the weights; at 0 it is `direct_gradient`.
        momentum_buffers: one for each weight, None where there is none yet: see `momentum_buffers_of`.
        hessian: finite: by a central difference at theta +- R v, R = 0.01 / |v|; `train_loss` must then be computed in
            float32 at least (in bfloat16 the product points elsewhere). exact: by differentiating twice, which takes
            more memory, and layers that can be. Where ReLU or max-pooling bends L_train between the two ends the two
            differ, in small networks much: the difference sees these bends, the derivative at a point does not.
        buffers: what the losses write to, e.g. all `.buffers()` of the supernet: running statistics.
    Returns:
        The losses, and their gradients, detached.
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
    with _kept(buffers), _kept(weights) as before, torch.enable_grad():
        with _frozen(architecture):
            slope = _gradients(_value(train_loss), weights)
        _step(weights, slope, moments, rate, momentum, weight_decay)
        losses, direct, slopes = [], [], []
        for each in upper_losses:
            loss = _value(each)
            found = _gradients(loss, [*architecture, *weights])
            losses.append(loss.detach())
            direct.append(_flat(found[: len(architecture)], architecture))
            slopes.append(found[len(architecture) :])
        _put_back(weights, before)
        product = _finite_products if hessian == "finite" else _exact_products
        bent = product(train_loss, slopes, weights, architecture, before)
    return UpperGradients(torch.stack(losses), torch.stack(direct).sub_(torch.stack(bent), alpha=rate))


def direct_gradient(
    upper_losses: Sequence[Loss],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    buffers: Sequence[Tensor] = (),
) -> UpperGradients:
    """Gradients of every upper loss at the weights as they are: DARTS's first order, `unrolled_gradient` at rate 0.

    No gradients of the weights are computed: they do not require any while the losses are called.

    Args:
        upper_losses, weights, architecture, buffers: as `unrolled_gradient` takes them.
    """
    losses, direct = [], []
    with _kept(buffers), _frozen(weights), torch.enable_grad():
        for each in upper_losses:
            loss = _value(each)
            direct.append(_flat(_gradients(loss, architecture), architecture))
            losses.append(loss.detach())
    return UpperGradients(torch.stack(losses), torch.stack(direct))


def momentum_buffers_of(optimiser: torch.optim.Optimizer, weights: Sequence[Tensor]) -> list[Tensor | None]:
    """The momentum that torch's SGD keeps of each weight; None before its first step."""
    return [optimiser.state.get(weight, {}).get("momentum_buffer") for weight in weights]


@torch.no_grad()
def _step(
    weights: Sequence[Tensor], slope: MaybeTensors, moments: MaybeTensors, rate: float, momentum: float, weight_decay: float
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
    """(n,) for each v: d/dalpha of <dL_train/dtheta, v>, by a central difference of dL_train/dalpha."""
    products = []
    for slope in slopes:
        norms = [torch.linalg.vector_norm(each, dtype=torch.float64) for each in slope if each is not None]
        norm = float(torch.stack(norms).norm()) if norms else 0.0
        if norm == 0:
            products.append(_flat([None] * len(architecture), architecture))
            continue
        ends = []
        for side in (RADIUS / norm, -RADIUS / norm):
            with torch.no_grad():
                for weight, kept, along in zip(weights, before, slope, strict=True):
                    if along is not None:
                        weight.copy_(kept).add_(along, alpha=side)
            with _frozen(weights):
                ends.append(_flat(_gradients(_value(train_loss), architecture), architecture))
        _put_back(weights, before)
        products.append((ends[0] - ends[1]) * (norm / (2 * RADIUS)))
    return products


def _exact_products(
    train_loss: Loss,
    slopes: Sequence[MaybeTensors],
    weights: Sequence[Tensor],
    architecture: Sequence[Tensor],
    before: Sequence[Tensor],
) -> list[Tensor]:
    """(n,) for each v: d/dalpha of <dL_train/dtheta, v>, differentiated twice."""
    products = []
    if not any(along is not None for slope in slopes for along in slope):
        return [_flat([None] * len(architecture), architecture) for _ in slopes]
    gradients = _gradients(_value(train_loss), weights, create_graph=True)
    for slope in slopes:
        pairs = [
            (gradient, along)
            for gradient, along in zip(gradients, slope, strict=True)
            if gradient is not None and gradient.requires_grad and along is not None
        ]
        bent: MaybeTensors = [None] * len(architecture)
        if pairs:
            outputs, along = zip(*pairs, strict=True)
            bent = torch.autograd.grad(outputs, architecture, along, retain_graph=True, allow_unused=True)
        products.append(_flat(bent, architecture))
    return products


def _gradients(loss: Tensor, inputs: Sequence[Tensor], create_graph: bool = False) -> MaybeTensors:
    """Of the inputs alone; None where the loss does not depend on one."""
    if not loss.requires_grad:
        return [None] * len(inputs)
    return torch.autograd.grad(loss, inputs, create_graph=create_graph, allow_unused=True)


def _value(evaluate: Loss) -> Tensor:
    torch.clear_autocast_cache()  # it may hold casts of the weights as they were
    loss = evaluate()
    if loss.numel() != 1:
        raise ValueError(f"expected a loss of one number, got shape {tuple(loss.shape)}; take its mean")
    return loss.reshape(())


def _flat(parts: MaybeTensors, like: Sequence[Tensor]) -> Tensor:
    filled = (torch.zeros_like(whole) if part is None else part for part, whole in zip(parts, like, strict=True))
    return torch.cat([part.detach().reshape(-1) for part in filled])


@torch.no_grad()
def _put_back(tensors: Sequence[Tensor], values: Sequence[Tensor]) -> None:
    for tensor, value in zip(tensors, values, strict=True):
        tensor.copy_(value)


@contextmanager
def _kept(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """Copies of the tensors, which have these values again at the end, whatever happens."""
    values = [tensor.detach().clone() for tensor in tensors]
    try:
        yield values
    finally:
        _put_back(tensors, values)


@contextmanager
def _frozen(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Without gradients of the tensors: layers then neither keep nor compute what those alone need."""
    required = [tensor.requires_grad for tensor in tensors]
    try:
        for tensor in tensors:
            tensor.requires_grad_(False)
        yield
    finally:
        for tensor, value in zip(tensors, required, strict=True):
            tensor.requires_grad_(value)
