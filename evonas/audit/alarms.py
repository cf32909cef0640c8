"""Signs of masked gradients: attacks that fail because they cannot find what is there (Athalye et al., 2018).

Carlini et al. (2019), "On evaluating adversarial robustness", 3.3 and 4. Each alarm compares shares of the same images;
a difference counts from two standard errors on.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from evonas.audit.gradient_check import GRADIENT_CHECK, RUNGS, check_gradients, wide

__all__ = ["ALARMS", "Alarm", "alarms", "masked_gradients"]

MANY = 0.1
"""Share of images without a usable gradient, or with a false one, from which on it is an alarm."""

ALARMS = {
    "black-box": "an attack that sees no gradients does better than PGD",
    "epsilon": "a larger epsilon does not hurt more",
    "one-step": "one step does better than many",
    "noise": "noise does better than PGD",
    "epsilon-1": "PGD that may change every pixel to anything does not reach the error of guessing",
    "gradients": "gradients are zero or not finite on many images that are classified right",
    "not-finite": "gradients are no finite numbers on some images",
    "slope": "logits do not change as gradients say",
    "grain": "changes of a quarter of a grey level make errors",
    "random": "the same image gets other logits when it is shown again",
}
"""Kind -> what is wrong."""


class Alarm(NamedTuple):
    """One sign, and a line with its numbers."""

    kind: str
    """Key of `ALARMS`."""
    line: str


def masked_gradients(
    network: nn.Module,
    shown: Iterable[tuple[Tensor, Tensor]],
    n_classes: int,
    generator: torch.Generator,
    epsilon: float = 8 / 255,
) -> list[Alarm]:
    """Alarms of any network; see `check_gradients`.

    Args:
        shown: batches of (B, C, H, W) images in [0, 1] and (B,) labels on the network's device; some 200 images.
        generator: on the same device.
    """
    shown = list(shown)
    values = check_gradients(network, shown, generator, epsilon)
    return alarms(values, sum(len(labels) for _, labels in shown), n_classes, epsilon)


def alarms(values: Mapping[str, Any], images: int, n_classes: int, epsilon: float = 8 / 255) -> list[Alarm]:
    """Alarms of what `check_gradients` gave; none where a value is missing or None.

    Args:
        images: that the values are shares of.
        epsilon: that they were measured with.
    """
    names = [f"{GRADIENT_CHECK}_{name}" for name in RUNGS]
    if any(values.get(name) is None for name in (GRADIENT_CHECK, *names)):
        return []
    rungs = {name: values[column] for name, column in zip(RUNGS, names, strict=True)}
    found = _found(values[GRADIENT_CHECK], rungs, images, n_classes, epsilon)
    return [Alarm(kind, f"{ALARMS[kind]}: {numbers}") for kind, numbers in found]


def _found(
    lost: float, rungs: Mapping[str, float], images: int, n_classes: int, epsilon: float
) -> Iterator[tuple[str, str]]:
    """(kind, its numbers) of every alarm."""
    pgd, larger, chance = rungs["pgd"], rungs["pgd_wide"], 1 - 1 / n_classes
    below_chance = pgd < chance - 2 * _deviation(chance, None, images)
    within, of_images = f"within {_pixels(epsilon)}", f"of {images} images"
    for kind, name, words in (
        ("black-box", "square", "PGD or Square"),
        ("one-step", "fgsm", "FGSM"),
        ("noise", "noise", "random signs"),
    ):
        if rungs[name] - pgd > 2 * _deviation(rungs[name], pgd, images):
            yield kind, f"{words} {_percent(rungs[name])}, PGD {_percent(pgd)}, {within} on {images} images"
    if larger <= pgd and below_chance and epsilon < wide(epsilon):
        yield "epsilon", f"PGD {_percent(pgd)} {within}, {_percent(larger)} within {_pixels(wide(epsilon))}"
    if rungs["pgd_one"] < chance - 2 * _deviation(chance, None, images):
        yield "epsilon-1", f"PGD {_percent(rungs['pgd_one'])} within 1, guessing {_percent(chance)}"
    if lost > MANY and below_chance:
        yield "gradients", f"{_percent(lost)} {of_images}"
    if rungs["not_finite"] > 0:
        yield "not-finite", f"{_percent(rungs['not_finite'])} {of_images}"
    if rungs["slope"] > MANY:
        yield "slope", f"on {_percent(rungs['slope'])} {of_images}"
    if rungs["grain"] - rungs["clean"] > 2 * _deviation(rungs["grain"], rungs["clean"], images):
        yield "grain", f"{_percent(rungs['grain'])} wrong, clean {_percent(rungs['clean'])}, {of_images}"
    if rungs["random"] > 0:
        yield "random", f"{_percent(rungs['random'])} {of_images}"


def _deviation(first: float, second: float | None, images: int) -> float:
    """Standard error of a share, or of the difference of two."""
    return math.sqrt(sum(each * (1 - each) for each in (first, second) if each is not None) / images)


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _pixels(epsilon: float) -> str:
    return f"{255 * epsilon:.4g}/255"
