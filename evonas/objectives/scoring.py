"""Counting of errors: in float32, on clean or on attacked images."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn

from evonas.attacks import PGD, Attack
from evonas.data import DevicePart
from evonas.errors import DivergedError

__all__ = ["error_under", "errors_after", "first_images", "wrong_after", "wrong_under"]

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
    (wrong,) = _wrong(
        network,
        part,
        lambda images, labels: [images if attack is None else attack(network, images, labels, generator)],
        on_batch,
    )
    return wrong


def errors_after(
    network: nn.Module,
    part: Iterable[tuple[Tensor, Tensor]],
    attack: PGD,
    steps: Sequence[int],
    on_batch: OnBatch | None = None,
) -> list[float]:
    """Share of misclassified images after each number of steps of a `prefixed` attack; see `wrong_under`."""
    return [each.double().mean().item() for each in wrong_after(network, part, attack, steps, on_batch)]


def wrong_after(
    network: nn.Module,
    part: Iterable[tuple[Tensor, Tensor]],
    attack: PGD,
    steps: Sequence[int],
    on_batch: OnBatch | None = None,
) -> list[Tensor]:
    """`wrong_under` after each number of steps of a `prefixed` attack."""
    return _wrong(network, part, lambda images, labels: attack.after(network, images, labels, steps), on_batch)


def _wrong(
    network: nn.Module,
    part: Iterable[tuple[Tensor, Tensor]],
    attacked: Callable[[Tensor, Tensor], list[Tensor]],
    on_batch: OnBatch | None,
) -> list[Tensor]:
    """(N,) bool for each of the images that `attacked` makes of an image; see `wrong_under`."""
    wrong = []
    done = 0
    for images, labels in part:
        found = []
        for each in attacked(images, labels):
            with torch.no_grad():
                logits = network(each)  # (B, K)
            if not bool(logits.isfinite().all()):
                raise DivergedError("training diverged: the network's logits are not finite")
            found.append((logits.argmax(dim=1) != labels).cpu())
        wrong.append(found)
        done += len(labels)
        if on_batch is not None:
            on_batch(done)
    return [torch.cat(each) for each in zip(*wrong, strict=True)]


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
