"""The interface of attacks, their input checks, and a context that leaves a model unchanged."""

import contextlib
from collections.abc import Callable, Iterator
from typing import ClassVar, Protocol

import torch
from torch import Tensor, nn

from evonas.devices import float32
from evonas.errors import ConfigurationError, DivergedError

__all__ = [
    "Attack",
    "check_differentiable",
    "check_inputs",
    "check_logits",
    "frozen",
    "laid_out_as",
    "logits_of",
    "margins",
    "needs_generator",
    "toward",
    "under_attack",
]


class Attack(Protocol):
    """A frozen value that changes images until a model gets them wrong: `attack(model, images, labels)`.

    `model` maps (B, C, H, W) images in [0, 1] to (B, K) logits; labels: (B,) int64, the true classes. The result has
    the shape, dtype, device and layout of `images` and lies in [0, 1] and in the ball of `radius` around them. The
    model's weights, modes and flags stay as they were. float32 is IEEE's on every device, whatever the process has
    chosen. `generator`, on the device of `images`, is required by attacks that draw random numbers.
    """

    name: ClassVar[str]
    """Its name in `ATTACKS`."""

    @property
    def norm(self) -> str:
        """Norm of `radius`: l0 (changed pixels), l2 or linf (both on the [0, 1] scale)."""
        ...

    @property
    def radius(self) -> float:
        """Largest distance of a result from its clean image; infinite without a bound."""
        ...

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor: ...


def check_inputs(images: Tensor, labels: Tensor) -> None:
    """ConfigurationError unless images are (B, C, H, W) floats in [0, 1] and labels (B,) int64 classes."""
    if not isinstance(images, Tensor) or images.ndim != 4 or not images.is_floating_point():
        raise ConfigurationError(
            f"expected images as a (B, C, H, W) floating-point tensor in [0, 1], got {_described(images)}; "
            "divide 8-bit images by 255"
        )
    if not isinstance(labels, Tensor) or labels.dtype != torch.int64 or labels.shape != images.shape[:1]:
        raise ConfigurationError(
            f"expected labels as a ({len(images)},) int64 tensor of classes, got {_described(labels)}"
        )
    if images.device != labels.device:
        raise ConfigurationError(f"expected images and labels on one device, got {images.device} and {labels.device}")
    if not len(images):
        return
    if not bool(((images >= 0) & (images <= 1)).all()):  # NaN is neither
        raise ConfigurationError(
            f"expected images in [0, 1], got values from {float(images.min())} to {float(images.max())}; "
            "normalisation belongs into the model's first layer"
        )
    if int(labels.min()) < 0:
        raise ConfigurationError(f"expected labels >= 0, got {int(labels.min())}")


def logits_of(model: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """The tensor that a model answers with; every attack calls its model here, with a copy that it may change.

    Raises:
        ConfigurationError: the model answers with something else, cannot take images of this type, or has weights
            that torch cannot differentiate through.
    """
    try:
        logits = model(images.clone())
    except RuntimeError:
        weights = list(model.parameters()) if isinstance(model, nn.Module) else []
        if torch.is_grad_enabled() and any(each.is_inference() for each in weights):
            raise ConfigurationError(
                "expected weights made outside torch.inference_mode(), got some made in it; "
                "build or load the network outside"
            ) from None
        types = {_name(each.dtype) for each in weights if each.is_floating_point()}
        if not types or _name(images.dtype) in types:
            raise
        wanted = " or ".join(sorted(types))
        raise ConfigurationError(
            f"expected images of the model's type {wanted}, got {_name(images.dtype)}; "
            f"pass images.to(torch.{min(types)})"
        ) from None
    if not isinstance(logits, Tensor):
        raise ConfigurationError(
            f"expected a tensor of (B, K) logits from the model, got {_described(logits)}; "
            "wrap it in a module that returns its logits alone"
        )
    return logits


def check_logits(logits: Tensor, labels: Tensor) -> None:
    """ConfigurationError unless logits are (B, K >= 2) and labels below K; DivergedError unless they are finite."""
    if logits.ndim != 2 or len(logits) != len(labels):
        raise ConfigurationError(f"expected ({len(labels)}, K) logits from the model, got {tuple(logits.shape)}")
    if logits.shape[1] < 2:
        raise ConfigurationError(
            f"expected a model of at least 2 classes, got {logits.shape[1]}; give a single logit z as the two [0, z]"
        )
    if len(labels) and int(labels.max()) >= logits.shape[1]:
        raise ConfigurationError(f"expected labels below the {logits.shape[1]} classes, got {int(labels.max())}")
    if not bool(logits.isfinite().all()):
        raise DivergedError("the network's logits are not finite")


def check_differentiable(logits: Tensor) -> None:
    """ConfigurationError unless logits depend on something that requires gradients, for attacks along gradients."""
    if not logits.requires_grad:
        raise ConfigurationError(
            "expected logits that are differentiable by the images, got constant ones; does the model detach them?"
        )


def needs_generator(generator: torch.Generator | None, what: str) -> torch.Generator:
    """`generator`; ConfigurationError where it is None.

    Args:
        what: the random part of the attack, for the message.
    """
    if generator is None:
        raise ConfigurationError(f"expected a torch.Generator for {what}, got None; pass generator=...")
    return generator


@contextlib.contextmanager
def frozen(model: nn.Module) -> Iterator[nn.Module]:
    """Context in which the model is in eval mode and no parameter requires gradients; both are restored at the end.

    ConfigurationError where it is no module.
    """
    if not isinstance(model, nn.Module):
        raise ConfigurationError(
            f"expected a torch.nn.Module as the model, got {type(model).__name__}; call it in a module's forward"
        )
    modes = [(module, module.training) for module in model.modules()]
    flags = [(each, each.requires_grad) for each in model.parameters() if not each.is_inference()]
    try:
        model.eval()
        for parameter, _ in flags:
            parameter.requires_grad_(False)
        yield model
    finally:
        for module, training in modes:
            module.training = training
        for parameter, flag in flags:
            parameter.requires_grad_(flag)


@contextlib.contextmanager
def under_attack(model: nn.Module) -> Iterator[nn.Module]:
    """`frozen`, and float32 is IEEE's whatever this process has chosen, TF32 on CUDA, for instance."""
    with float32(), frozen(model):
        yield model


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """(B,) float32: logit of the true class minus the largest other logit; negative only where the model is wrong."""
    scores = logits.float()
    true = scores.gather(1, labels[:, None])  # (B, 1)
    largest_other = scores.scatter(1, labels[:, None], -torch.inf).amax(dim=1)
    return true.squeeze(1) - largest_other


def toward(clean: Tensor, changed: Tensor) -> Tensor:
    """`changed` (float32) in the dtype of `clean`, rounded so that no value moves farther from `clean`.

    Plain rounding to half precision could leave the ball. All values are >= 0, so the neighbour of a float has the
    next integer as its bits.
    """
    if clean.dtype == changed.dtype:
        return changed
    if clean.dtype not in (torch.float16, torch.bfloat16):
        return changed.to(clean.dtype)
    rounded = changed.to(clean.dtype)
    farther = (rounded.float() - clean.float()).abs() > (changed - clean.float()).abs()
    step = torch.where(farther, torch.sign(clean.float() - rounded.float()), 0.0)
    return (rounded.contiguous().view(torch.int16) + step.to(torch.int16)).view(clean.dtype)


def laid_out_as(images: Tensor, changed: Tensor) -> Tensor:
    """`changed` with the strides of `images`, so that channels_last images come back as such."""
    return changed if changed.stride() == images.stride() else torch.empty_like(images).copy_(changed)


def _described(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a {tuple(value.shape)} tensor of {_name(value.dtype)}"
    return type(value).__name__


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
