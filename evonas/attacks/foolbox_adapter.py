"""Adapter for attacks of other libraries.

The library is imported when the attack is called, sees a frozen float32 model, and its result is checked and projected
into the ball.
"""

import contextlib
import importlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from evonas.attacks.attack import (
    check_differentiable,
    check_inputs,
    check_logits,
    laid_out_as,
    logits_of,
    toward,
    under_attack,
)
from evonas.errors import ConfigurationError
from evonas.ranges import check_radius

__all__ = ["Float32Model", "adapted", "as_foolbox_model", "check_bound", "into_ball", "library", "radius_of"]

LibraryAttack = Callable[["Float32Model", Tensor, Tensor], Tensor]
"""(model, images (B, C, H, W) float32, labels (B,)) -> images; called only with images that the model gets right."""


def library(name: str) -> Any:
    """The module `name` of the extra `audit`; where it is missing, a ConfigurationError says how to install it."""
    with warnings.catch_warnings(), _without_git():
        warnings.filterwarnings("ignore", message=".*scipy.ndimage", category=DeprecationWarning)  # foolbox 3.3.4
        try:
            return importlib.import_module(name)
        except ImportError as error:
            cause = str(error).strip().partition("\n")[0]
            raise ConfigurationError(
                f"expected {name} for this attack, got: {cause}; pip install 'evonas[audit]'"
            ) from None


@contextlib.contextmanager
def _without_git() -> Iterator[None]:
    """Context in which GitPython, which foolbox imports, does not fail on a machine without git."""
    name = "GIT_PYTHON_REFRESH"
    before = os.environ.get(name)
    os.environ[name] = "quiet"
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


class Float32Model(nn.Module):
    """A wrapper as libraries expect it: float32 images to float32 logits, in eval mode.

    The model is not a submodule, so that changes which a library makes to the wrapper do not reach it.

    Args:
        dtype: precision of the model; images are rounded to it first.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.default = torch.get_default_dtype()
        self.wrapped: tuple[Callable[[Tensor], Tensor]] = (model,)
        self.dtype = dtype
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        with _default_type(self.default):
            return logits_of(self.wrapped[0], images.to(self.dtype)).float()


@contextlib.contextmanager
def _default_type(dtype: torch.dtype) -> Iterator[None]:
    """Context with another type for tensors that are made without one, which libraries expect to be float32."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def as_foolbox_model(model: Float32Model, device: torch.device) -> Any:
    """`model` as a foolbox model, for images in [0, 1]."""
    return library("foolbox").PyTorchModel(model, bounds=(0, 1), device=device)


def adapted(
    attack: LibraryAttack,
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    norm: str,
    epsilon: float | None,
    needs_gradients: bool = True,
) -> Tensor:
    """(B, C, H, W) images after a library's attack, in the ball and in [0, 1], in the dtype of `images`.

    Only images that the model gets right are attacked. The result is the clean image for all others, and where the
    library returns values that are not finite. A model of half precision is called in half precision; everything else
    is computed in float32.

    Args:
        norm, epsilon: the ball (l2 or linf); None: no bound; 0: the model is not called.
        needs_gradients: whether the attack needs logits that are differentiable by the images.
    Raises:
        ConfigurationError: `check_inputs` refuses the arguments, `check_logits` the model's answer, or the logits are
            not differentiable.
    """
    check_inputs(images, labels)
    if epsilon == 0 or not len(images):
        return images.detach().clone()
    with under_attack(model), torch.inference_mode(False), torch.enable_grad():
        images, labels = images.detach().clone(), labels.clone()
        wrapper = Float32Model(model, images.dtype)
        clean = images.float().contiguous()
        with torch.no_grad():
            logits = wrapper(clean)
        check_logits(logits, labels)
        right = torch.nonzero(logits.argmax(dim=1) == labels).squeeze(1)
        result = clean.clone()
        if len(right):
            if needs_gradients:
                check_differentiable(wrapper(clean[right[:1]].requires_grad_()))
            with _default_type(torch.float32):
                found = attack(wrapper, clean[right], labels[right]).detach()
            result[right] = into_ball(clean[right], found, norm, radius_of(epsilon))
        attacked = torch.where(result == clean, images, _rounded(images, result, norm, radius_of(epsilon)))
        return laid_out_as(images, attacked)


def _rounded(images: Tensor, result: Tensor, norm: str, radius: float) -> Tensor:
    """`result` in the dtype of `images`: to nearest, as the model saw it; where that leaves the ball, see `toward`."""
    nearest = result.to(images.dtype)
    inside = _lengths(nearest.float() - images.float(), norm) <= radius
    return torch.where(inside, nearest, toward(images, result))


def into_ball(clean: Tensor, found: Tensor, norm: str, radius: float) -> Tensor:
    """`found` clipped to the ball (linf) or scaled back to it (l2), then clipped to [0, 1].

    An image with a value that is not finite is replaced by the clean one.
    """
    finite = found.flatten(1).isfinite().all(dim=1).view(-1, 1, 1, 1)
    found = torch.where(finite, found, clean).clamp(0.0, 1.0)
    change = found - clean
    outside = _lengths(change, norm) > radius
    clipped = change.clamp(-radius, radius) if norm == "linf" else change * (radius / _lengths(change, norm))
    return torch.where(outside, (clean + clipped).clamp(0.0, 1.0), found)


def _lengths(change: Tensor, norm: str) -> Tensor:
    """(B, 1, 1, 1) length of each image's change."""
    order = math.inf if norm == "linf" else 2.0
    lengths: Tensor = torch.linalg.vector_norm(change.flatten(1), order, dim=1)
    return lengths.view(-1, 1, 1, 1)


def radius_of(epsilon: float | None) -> float:
    return math.inf if epsilon is None else epsilon


def check_bound(epsilon: float | None, norm: str) -> None:
    """ConfigurationError unless it is None, which is no bound, or the radius of a ball around images in [0, 1]."""
    if epsilon is not None:
        check_radius(epsilon, norm)
