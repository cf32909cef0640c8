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
from evonas.audit.slopes import false_slopes
from evonas.data import Dataset, DevicePart, batches
from evonas.objectives import Candidate
from evonas.objectives.scoring import wrong_under
from evonas.types import Report

__all__ = ["CHECKED", "GRADIENT_CHECK", "RUNGS", "GradientCheck", "check_gradients"]

GRADIENT_CHECK = "gradient_check"
"""Name, and beginning of every column."""

CHECKED = 200
"""Test images that it is made on."""

RUNGS = (
    *("clean", "fgsm", "pgd", "pgd_wide", "pgd_one", "noise", "square", "random"),
    *("not_finite", "slope", "grain"),
)
"""Ends of the further columns: the error on clean images; under FGSM, PGD and random signs within epsilon; under PGD
within `wide` and within 1; under PGD or, where that fails, a random search of squares within epsilon, which costs most
and says nothing new of an image that PGD fools; the share of images that get other logits when shown again; that of
images whose gradient is not finite, and whose gradient is not that of the network, see `false_slopes`; and the error
under random signs of a quarter of a grey level."""

GRAIN = 0.25 / 255
"""Change of a value that no file of 8 bits keeps."""

AT_ONCE = 25
"""Images that are shown again together: a network that draws once a batch draws more often."""


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
    repeats: int = 9

    def __call__(self, candidate: Candidate, tested: Dataset, batch_size: int, report: Report) -> dict[str, float]:
        part = DevicePart(tested.validation, candidate.device)
        reporting(report, candidate, GRADIENT_CHECK, len(part))
        shown = [(images, labels) for images, labels in batches(part, batch_size)]
        settings = {"steps": self.steps, "queries": self.queries, "repeats": self.repeats}
        return check_gradients(candidate.attacked, shown, candidate.generator, self.epsilon, **settings)


def check_gradients(
    network: nn.Module,
    shown: Iterable[tuple[Tensor, Tensor]],
    generator: torch.Generator,
    epsilon: float = 8 / 255,
    *,
    steps: int = 20,
    queries: int = 300,
    repeats: int = 9,
) -> dict[str, float]:
    """`gradient_check` and the further columns of `RUNGS`.

    `gradient_check` is the share of images that the network gets right and whose gradient is zero or not finite: to
    fool it with the others, no attack needs one.

    Any network that takes images in [0, 1], also one that torch cannot differentiate through: PGD then finds nothing.

    Args:
        shown: batches of (B, C, H, W) images and (B,) labels on the network's device.
        generator: on the same device, for noise and squares.
        epsilon: L-inf radius on the [0, 1] scale.
        steps, queries: of PGD, of the random search.
        repeats: times that every image is shown again.
    Raises:
        DivergedError: logits that are not finite.
    """
    shown = list(shown)
    with frozen(network):
        lost, infinite, differentiable = _lost_gradients(network, shown)
        random = _answers_differ(network, shown, repeats)
        false = [false_slopes(network, *batch) for batch in shown] if differentiable else [lost & False]

    def wrong(attack: Attack | None) -> Tensor:
        return wrong_under(network, shown, attack, generator)  # (N,) bool

    clean = wrong(None)
    found = {name: wrong(attack) if differentiable else clean for name, attack in _by_gradients(epsilon, steps)}
    found |= {"clean": clean, "noise": wrong(SignNoise(epsilon=epsilon))}
    found["square"], left = found["pgd"].clone(), list(_without(shown, found["pgd"]))
    if left:
        squares = SquareSearch(epsilon=epsilon, queries=queries)
        found["square"][~found["pgd"]] = wrong_under(network, left, squares, generator)
    found |= {"random": random, "not_finite": infinite, "slope": torch.cat(false)}
    found["grain"] = wrong(SignNoise(epsilon=GRAIN))
    every = {GRADIENT_CHECK: lost.cpu() & ~clean, **{f"{GRADIENT_CHECK}_{name}": found[name] for name in RUNGS}}
    return {name: each.double().mean().item() for name, each in every.items()}


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


def _lost_gradients(network: nn.Module, shown: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor, bool]:
    """(N,) bool, whether an image's gradient is zero everywhere or not finite; whether it is not finite; and whether
    there are gradients at all."""
    flats = []
    for images, labels in shown:
        with torch.inference_mode(False), torch.enable_grad():
            leaf = images.detach().clone().requires_grad_()
            logits = network(leaf)
            loss = nn.functional.cross_entropy(logits, labels.clone(), reduction="sum")
            (gradient,) = torch.autograd.grad(loss, leaf, allow_unused=True) if logits.requires_grad else (None,)
        if gradient is None:
            every = torch.ones(sum(len(labels) for _, labels in shown), dtype=torch.bool, device=images.device)
            return every, ~every, False
        flats.append(gradient.flatten(1))
    flat = torch.cat(flats)
    infinite = ~flat.isfinite().all(dim=1)
    return infinite | (flat == 0).all(dim=1), infinite, True


def _answers_differ(network: nn.Module, shown: list[tuple[Tensor, Tensor]], repeats: int) -> Tensor:
    """(N,) bool, whether the logits of an image are others at one of several further times."""
    differ = []
    with torch.no_grad():
        for few in (each for images, _ in shown for each in images.split(AT_ONCE)):
            first = network(few)
            again = [(network(few) != first).any(dim=1) for _ in range(repeats)]
            differ.append(torch.stack(again).any(dim=0))
    return torch.cat(differ)
