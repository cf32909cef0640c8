"""Norms of the Jacobian of the logits by the image (DSRNA, Hosseini et al., 2021, 3.1.2)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from evonas.certify.recording import in_eval_mode, refuse_inference_weights
from evonas.devices import float32
from evonas.errors import ConfigurationError, DataError

__all__ = ["jacobian_norm_bound", "squared_jacobian_norm"]


@float32()
def jacobian_norm_bound(model: Callable[[Tensor], Tensor], images: Tensor, q: float) -> Tensor:
    """Mean over images of (1/K) sum_k ||J_k||_q, J_k the gradient of logit k: DSRNA's Eq. 15 without its -delta.

    To first order, a perturbation of dual norm delta changes a logit by at most delta times this, averaged over logits
    and images. A module is evaluated in eval mode, since batch statistics would couple the images, and the mode of
    every submodule is restored; any other callable is used as it is. One backward pass per class.

    With gradients enabled, the result is differentiable in everything except the images that the logits depend on, such
    as weights and architecture variables, also where a row is 0; with gradients disabled, no graph is kept.

    Args:
        model: from images to (B, K) logits, each image independently.
        images: (B, ...) floating-point, at least one.
        q: order of the norm, >= 1 or infinite: 1 for perturbations in the l-inf ball, 2 for the l2 ball.
    Returns:
        () >= 0, to be minimised; DSRNA's R is minus this.
    Raises:
        ConfigurationError: q < 1; logits of another shape or without dependence on the images; batch normalisation
            without running statistics.
        DataError: no images, or not floating-point.
    """
    if not q >= 1:
        raise ConfigurationError(f"expected q >= 1, got {q}")
    with _differentiable(model, images) as at:
        n_classes = at.logits.shape[1]
        norms = [torch.linalg.vector_norm(at.gradient(k), q, dim=1) for k in range(n_classes)]  # K times (B,)
    return torch.stack(norms).mean()


@float32()
def squared_jacobian_norm(
    model: Callable[[Tensor], Tensor],
    images: Tensor,
    projections: int | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Mean over images of ||J||_F^2, the sum of squares of the logits' Jacobian.

    With `projections`, an unbiased estimate (Hoffman et al., 2019): the mean of K ||J^T v||^2 over that number of
    independent random unit vectors v per image, one backward pass each. The paper's loss is half of this. Otherwise
    exact, with one backward pass per class. Modes, gradients and errors as in `jacobian_norm_bound`.

    Args:
        model: from images to (B, K) logits, each image independently.
        images: (B, ...) floating-point, at least one.
        projections: number of random directions, >= 1; None: exact.
        generator: draws the directions, on the images' device; required with `projections`.
    Returns:
        () >= 0, to be minimised.
    """
    if projections is not None and projections < 1:
        raise ConfigurationError(f"expected projections >= 1, or None for the exact norm, got {projections}")
    if projections is not None and generator is None:
        raise ConfigurationError("expected a torch.Generator for random projections, got None")
    with _differentiable(model, images) as at:
        n_classes = at.logits.shape[1]
        if projections is None:
            squares = [at.gradient(k).square().sum(dim=1) for k in range(n_classes)]  # K times (B,)
            return torch.stack(squares).sum(dim=0).mean()
        squares = []
        for _ in range(projections):
            drawn = torch.randn(at.logits.shape, generator=generator, device=images.device, dtype=at.logits.dtype)
            direction = drawn / torch.linalg.vector_norm(drawn, dim=1, keepdim=True)  # (B, K)
            squares.append(n_classes * at.gradient(direction).square().sum(dim=1))
        return torch.stack(squares).mean()


class _Differentiable(NamedTuple):
    """Logits, and the images to differentiate them by."""

    images: Tensor
    """(B, ...), a leaf."""
    logits: Tensor
    """(B, K)"""
    keep_graph: bool

    def gradient(self, of: int | Tensor) -> Tensor:
        """(B, D) gradient by each image of its logit number `of`, or of its logits' inner product with (B, K) `of`."""
        scalar = (self.logits[:, of] if isinstance(of, int) else self.logits * of).sum()
        (found,) = torch.autograd.grad(
            scalar, self.images, create_graph=self.keep_graph, retain_graph=True, allow_unused=True
        )
        if found is None:
            raise _unconnected()
        return found.flatten(1)


@contextmanager
def _differentiable(model: Callable[[Tensor], Tensor], images: Tensor) -> Iterator[_Differentiable]:
    """Context with the logits of images and the graph between them, also where gradients are disabled outside."""
    if images.ndim < 2 or len(images) < 1 or not images.is_floating_point():
        raise DataError(f"expected (B, ...) floating-point images, B >= 1, got {tuple(images.shape)} {images.dtype}")
    keep_graph = torch.is_grad_enabled()
    with torch.inference_mode(False), torch.enable_grad(), _independent_images(model), _TwiceDifferentiable():
        leaf = images.detach().clone().requires_grad_()
        logits = model(leaf)
        if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != len(images):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise ConfigurationError(f"expected logits of shape ({len(images)}, K) from the model, got {got}")
        if not logits.requires_grad:
            raise _unconnected()
        yield _Differentiable(leaf, logits, keep_graph)


@contextmanager
def _independent_images(model: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Context in which a module is in eval mode; refuses batch normalisation without running statistics."""
    if not isinstance(model, nn.Module):
        yield
        return
    refuse_inference_weights(model)
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is None:
            raise ConfigurationError(
                f"expected batch normalisation with running statistics, got {name or 'a layer'} without; "
                "its batch statistics couple the images"
            )
    with in_eval_mode(model):
        yield


class _TwiceDifferentiable(TorchFunctionMode):
    """Context in which hard sigmoid can be differentiated twice, unlike PyTorch's own."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is functional.hardsigmoid:
            return (args[0] + 3).clamp(0, 6) / 6
        return func(*args, **(kwargs or {}))


def _unconnected() -> ConfigurationError:
    return ConfigurationError(
        "expected logits that are differentiable by the images, got constant ones; does the model detach them?"
    )
