"""A ladder of attacks that shows whether a network's gradients lead anywhere; `alarms` reads it.

The attacks see few images, and are compared with each other alone: their errors are no measure of robustness.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from evonas.attacks import FGSM, PGD, Attack, SquareSearch
from evonas.attacks.attack import frozen
from evonas.audit.images import reporting
from evonas.data import Dataset, DevicePart, batches
from evonas.objectives import Candidate
from evonas.objectives.scoring import wrong_under
from evonas.types import Report

__all__ = ["CHECKED", "GRADIENT_CHECK", "RUNGS", "GradientCheck", "check_gradients"]

GRADIENT_CHECK = "gradient_check"
"""Name, and beginning of every column."""

CHECKED = 200
"""Test images that it is made on."""

RUNGS = ("clean", "fgsm", "pgd", "pgd_wide", "pgd_one", "noise", "square", "random")
"""Ends of the further columns: the error on clean images; under FGSM, PGD and random signs within epsilon; under PGD
within `wide` and within 1; under PGD or, where that fails, a random search of squares within epsilon, which costs most
and says nothing new of an image that PGD fools; and the share of images that get other logits when shown again."""


@dataclass(frozen=True, kw_only=True)
class SignNoise:
    """Every value moves by epsilon, up or down by chance: L-inf noise that knows nothing of the model."""

    name: ClassVar[str] = "sign_noise"
    norm: ClassVar[str] = "linf"
    epsilon: float

    @property
    def radius(self) -> float:
        return self.epsilon

    def __call__(
        self, model: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        signs = torch.randint(2, images.shape, generator=generator, device=images.device).to(images.dtype) * 2 - 1
        return (images + self.epsilon * signs).clamp(0, 1)


@dataclass(frozen=True)
class GradientCheck:
    """`check_gradients` of a candidate."""

    epsilon: float = 8 / 255
    steps: int = 20
    queries: int = 300

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        part = DevicePart(tested.validation, candidate.device)
        reporting(report, candidate, GRADIENT_CHECK, len(part))
        shown = [(images, labels) for images, labels in batches(part, batch_size)]
        return check_gradients(
            candidate.attacked, shown, candidate.generator, self.epsilon, steps=self.steps, queries=self.queries
        )


def check_gradients(
    network: nn.Module,
    shown: Iterable[tuple[Tensor, Tensor]],
    generator: torch.Generator,
    epsilon: float = 8 / 255,
    *,
    steps: int = 20,
    queries: int = 300,
) -> dict[str, float]:
    """`gradient_check`, the share of images whose gradient is zero or not finite, and the further columns of `RUNGS`.

    Any network that takes images in [0, 1], also one that torch cannot differentiate through: PGD then finds nothing.

    Args:
        shown: batches of (B, C, H, W) images and (B,) labels on the network's device.
        generator: on the same device, for noise and squares.
        epsilon: L-inf radius on the [0, 1] scale.
        steps, queries: of PGD, of the random search.
    Raises:
        DivergedError: logits that are not finite.
    """
    shown = list(shown)
    with frozen(network):
        lost, differentiable = _lost_gradients(network, shown)
        random = _answers_differ(network, shown)

    def wrong(attack: Attack | None) -> Tensor:
        return wrong_under(network, shown, attack, generator)  # (N,) bool

    clean = wrong(None)
    found = {name: wrong(attack) if differentiable else clean for name, attack in _by_gradients(epsilon, steps)}
    found |= {"clean": clean, "noise": wrong(SignNoise(epsilon=epsilon))}
    found["square"], left = found["pgd"].clone(), list(_without(shown, found["pgd"]))
    if left:
        squares = SquareSearch(epsilon=epsilon, queries=queries)
        found["square"][~found["pgd"]] = wrong_under(network, left, squares, generator)
    shares = {name: found[name].double().mean().item() for name in RUNGS if name in found}
    rungs = {f"{GRADIENT_CHECK}_{name}": value for name, value in {**shares, "random": random}.items()}
    return {GRADIENT_CHECK: lost, **rungs}


def _by_gradients(epsilon: float, steps: int) -> Iterator[tuple[str, Attack]]:
    """Rungs of the attacks that follow gradients."""
    yield "fgsm", FGSM(epsilon=epsilon)
    for name, radius in (("pgd", epsilon), ("pgd_wide", wide(epsilon)), ("pgd_one", 1.0)):
        step = min(1.0, 2.5 * radius / steps)
        yield name, PGD(epsilon=radius, step_size=step, steps=steps, stop_when_fooled=True)


def _without(shown: list[tuple[Tensor, Tensor]], fooled: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of the images that are not fooled.

    Args:
        fooled: (N,) bool, for all batches together.
    """
    for (images, labels), gone in zip(shown, fooled.split([len(labels) for _, labels in shown]), strict=True):
        left = torch.nonzero(~gone).squeeze(1).to(labels.device)
        if len(left):
            yield images[left], labels[left]


def wide(epsilon: float) -> float:
    """The larger radius: four times epsilon, and a quarter of the range at least, where nothing honest holds out."""
    return min(1.0, max(4 * epsilon, 0.25))


def _lost_gradients(network: nn.Module, shown: list[tuple[Tensor, Tensor]]) -> tuple[float, bool]:
    """Share of images whose gradient is zero everywhere or not finite, and whether there are gradients at all."""
    lost, total = 0, 0
    for images, labels in shown:
        total += len(labels)
        with torch.inference_mode(False), torch.enable_grad():
            leaf = images.detach().clone().requires_grad_()
            logits = network(leaf)
            if not logits.requires_grad:
                return 1.0, False
            loss = nn.functional.cross_entropy(logits, labels.clone(), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        if gradient is None:
            return 1.0, False
        flat = gradient.flatten(1)
        lost += int((~flat.isfinite().all(dim=1) | (flat == 0).all(dim=1)).sum())
    return lost / total, True


def _answers_differ(network: nn.Module, shown: list[tuple[Tensor, Tensor]]) -> float:
    """Share of images whose logits are others the second time."""
    with torch.no_grad():
        differ = [(network(images) != network(images)).any(dim=1) for images, _ in shown]
    return torch.cat(differ).double().mean().item()
