"""Batches from uint8 tensors that live on the training device; augmentation is tensor arithmetic there."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from evonas.data.dataset import Dataset, Part

__all__ = ["Augmentation", "DeviceData", "DevicePart", "batches", "training_batches"]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random crop of the zero-padded image, then a random mirror image: what torchvision's transforms draw."""

    padding: int = 4
    flip: bool = False

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, H, W, C) images -> the same shape, each image with its own crop and flip; `generator` lives there too."""
        n, height, width, _ = images.shape
        device = images.device
        top, left = torch.randint(2 * self.padding + 1, (2, n, 1), generator=generator, device=device)
        rows = top + torch.arange(height, device=device)  # (B, H)
        columns = torch.arange(width, device=device).expand(n, width)
        if self.flip:
            mirrored = torch.rand(n, 1, generator=generator, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        padded = torch.nn.functional.pad(images, (0, 0, *(self.padding,) * 4))
        each = torch.arange(n, device=device)[:, None, None]
        return padded[each, rows[:, :, None], (left + columns)[:, None, :]]


class DevicePart:
    """A part of a data set on a device.

    images: (N, H, W, C) uint8, so that a batch is channels_last without a copy; labels: (N,) int64.
    """

    def __init__(self, part: Part, device: torch.device) -> None:
        self.images = torch.tensor(part.images.transpose(0, 2, 3, 1)).contiguous().to(device)
        self.labels = torch.tensor(part.labels).to(device)

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> "DevicePart":
        """A part of what is on the device already: (N, H, W, C) uint8 images and (N,) labels, not copied."""
        part = cls.__new__(cls)
        part.images, part.labels = images, labels
        return part

    def __len__(self) -> int:
        return len(self.labels)


def training_batches(
    part: DevicePart, batch_size: int, augmentation: Augmentation, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: (B, C, H, W) float images in [0, 1], channels_last, and (B,) labels.

    The last batch may be smaller; one of a single image is left out, since batch statistics need two.

    Args:
        generator: on the device of `part`.
    """
    order = torch.randperm(len(part), generator=generator, device=part.labels.device)
    for chosen in torch.split(order, batch_size):
        if len(chosen) > 1 or len(part) == 1:
            images = augmentation(part.images[chosen], generator)
            yield _pixels(images), part.labels[chosen]


def batches(part: DevicePart, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order: (B, C, H, W) float images in [0, 1], channels_last, and (B,) labels."""
    for images, labels in zip(torch.split(part.images, batch_size), torch.split(part.labels, batch_size), strict=True):
        yield _pixels(images), labels


def _pixels(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().div_(255)


class DeviceData:
    """What a search may see of a data set, on the device it trains on: never the test part.

    Attributes:
        train, validation: `DevicePart`s.
        augmentation: padding 4 everywhere, mirror images where they keep their class.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        self.name = dataset.name
        self.n_classes = dataset.n_classes
        self.normalization = dataset.normalization
        self.augmentation = Augmentation(flip=dataset.flip)
        self.train = DevicePart(dataset.train, device)
        self.validation = DevicePart(dataset.validation, device)
