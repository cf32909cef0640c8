"""Counting of errors: in float32, on clean or on attacked images."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from evonas.attacks import Attack
from evonas.data import DevicePart
from evonas.errors import DivergedError

__all__ = ["error_under", "first_images", "wrong_under"]

OnBatch = Callable[[int], None]
"""Called after every batch with the number of finished images."""


def wrong_under(
    network: nn.Module,
    part: Iterable[tuple[Tensor, Tensor]],
    attack: Attack | None = None,
    generator: torch.Generator | None = None,
    on_batch: OnBatch | None = None,
) -> Tensor:
    """(N,) bool on the CPU: True where a network misclassifies an image, under `attack` if there is one.

    Args:
        network: in eval mode on the device of the images.
        part: batches of (B, C, H, W) images in [0, 1] and (B,) labels.
        generator: on the same device, for attacks that are random.
    Raises:
        DivergedError: logits that are not finite.
    """
    wrong = []
    done = 0
    for images, labels in part:
        attacked = images if attack is None else attack(network, images, labels, generator)
        with torch.no_grad():
            logits = network(attacked)  # (B, K)
        if not bool(logits.isfinite().all()):
            raise DivergedError("training diverged: the network's logits are not finite")
        wrong.append((logits.argmax(dim=1) != labels).cpu())
        done += len(labels)
        if on_batch is not None:
            on_batch(done)
    return torch.cat(wrong)


def error_under(
    network: nn.Module,
    part: Iterable[tuple[Tensor, Tensor]],
    attack: Attack | None = None,
    generator: torch.Generator | None = None,
    on_batch: OnBatch | None = None,
) -> float:
    """Share of misclassified images, in [0, 1]; see `wrong_under`."""
    return wrong_under(network, part, attack, generator, on_batch).double().mean().item()


def first_images(part: DevicePart, n: int) -> DevicePart:
    """The first n images of a part, or all if there are fewer; not copied."""
    return DevicePart.of(part.images[:n], part.labels[:n])
