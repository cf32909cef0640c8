"""Checks of an exported network: the same logits and labels as the network's, on real images."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from evonas.data import DevicePart, batches
from evonas.data.source import Part
from evonas.errors import ConfigurationError, DivergedError
from evonas.seeding import generator

__all__ = ["TOLERANCE", "Parity", "answers", "check_export", "labelled_images"]

TOLERANCE = 1e-4
"""Largest difference of a logit."""

BATCHES = (1, 128)


@dataclass(frozen=True)
class Parity:
    """How far an exported network's answers are from the network's own."""

    images: int
    largest: Mapping[int, float]
    """Images of a batch -> largest difference of a logit."""
    changed: Mapping[int, int]
    """Images of a batch -> images with another label."""
    scale: float
    """Largest logit, without its sign."""

    def __str__(self) -> str:
        logits = ", ".join(f"{value:.1e} in batches of {batch}" for batch, value in self.largest.items())
        return f"{self.images} images: logits differ by at most {logits}; {max(self.changed.values())} labels differ"

    @property
    def held(self) -> bool:
        return all(value <= TOLERANCE for value in self.largest.values()) and not any(self.changed.values())


def check_export(network: nn.Module, exported: nn.Module, images: Tensor, name: str) -> Parity:
    """The parity of an exported network with the network, in batches of 1 and of 128.

    Args:
        images: (N, 3, H, W) in [0, 1].
        name: of the file, for the message.
    Raises:
        ConfigurationError: a logit differs by more than 1e-4, or a label differs.
        DivergedError: logits that are not finite.
    """
    expected = answers(network, images, BATCHES[-1])
    if not bool(expected.isfinite().all()):
        raise DivergedError(f"expected finite logits to export {name}, got some that are not; choose another network")
    found = {batch: answers(exported, images, batch) for batch in BATCHES}
    parity = Parity(
        len(images),
        {batch: float((each - expected).abs().nan_to_num(torch.inf).max()) for batch, each in found.items()},
        {batch: int((each.argmax(1) != expected.argmax(1)).sum()) for batch, each in found.items()},
        float(expected.abs().max()),
    )
    if not parity.held:
        raise ConfigurationError(
            f"expected logits of {name} within {TOLERANCE:g} of the network's and the same labels, got on {parity} "
            f"(the largest logit is {parity.scale:.3g}); it was not written"
        )
    return parity


@torch.no_grad()
def answers(network: nn.Module, images: Tensor, batch: int) -> Tensor:
    """(N, K) float32 logits, on the CPU."""
    return torch.cat([network(each).float().cpu() for each in images.split(batch)])


def labelled_images(part: Part, limit: int, n_classes: int, purpose: str) -> tuple[Tensor, Tensor]:
    """(N, 3, H, W) images in [0, 1] and (N,) labels: a class-balanced subset of a part, the same for each purpose."""
    chosen = part.limited(max(limit, n_classes), n_classes, generator(purpose, 0))
    found = [*batches(DevicePart(chosen, torch.device("cpu")), 256)]
    images, labels = (torch.cat(each) for each in zip(*found, strict=True))
    return images.contiguous(), labels
