"""Batches from uint8 tensors that live on the training device; augmentation is tensor arithmetic there."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from evonas.data.dataset import Dataset
from evonas.data.source import Part
from evonas.devices import filled
from evonas.errors import ConfigurationError

__all__ = [
    "Augmentation",
    "DeviceData",
    "DevicePart",
    "ImagePart",
    "augmented",
    "batches",
    "epoch_order",
    "training_batches",
]


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Random crop of the zero-padded image, then a random flip, distributed as torchvision's transforms.

    With `cutout`, then a square hole in each image (DeVries and Taylor, 2017).
    """

    padding: int = 4
    flip: bool = False
    cutout: int = 0
    """Side of the square hole in pixels (16 in DARTS); its centre is uniform, so it may extend over the border."""
    mean: tuple[float, ...] = ()
    """Fill of the hole: the data's mean of each channel on the [0, 1] scale; required with cutout."""

    def __post_init__(self) -> None:
        if self.padding < 0 or self.cutout < 0:
            raise ConfigurationError(f"expected padding and cutout >= 0, got {self.padding} and {self.cutout}")
        if self.cutout and not self.mean:
            raise ConfigurationError("expected the data's mean of each channel for cutout, got none")

    def __call__(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """(B, H, W, C) images -> the same shape, each image with its own crop and flip; `generator` on their device."""
        n, height, width, _ = images.shape
        device = images.device
        top, left = torch.randint(2 * self.padding + 1, (2, n, 1), generator=generator, device=device)
        rows = top + torch.arange(height, device=device)  # (B, H)
        columns = torch.arange(width, device=device).expand(n, width)
        if self.flip:
            mirrored = torch.rand(n, 1, generator=generator, device=device) < 0.5
            columns = torch.where(mirrored, width - 1 - columns, columns)
        if not self.padding and not self.flip:
            return images
        padded = torch.nn.functional.pad(images, (0, 0, *(self.padding,) * 4))
        each = torch.arange(n, device=device)[:, None, None]
        return padded[each, rows[:, :, None], (left + columns)[:, None, :]]

    def cut_out(self, pixels: Tensor, generator: torch.Generator) -> Tensor:
        """(B, C, H, W) images in [0, 1] -> the same, channels_last, each with its own hole; draws only with `cutout`.

        A first layer that normalises maps the hole to exactly 0; 8-bit images could not hold such a fill.
        """
        if not self.cutout:
            return pixels
        n, _, height, width = pixels.shape
        device = pixels.device
        centres = (torch.randint(size, (n, 1), generator=generator, device=device) for size in (height, width))
        rows, columns = (
            torch.arange(size, device=device) - (centre - self.cutout // 2)  # (B, size), 0 where the hole starts
            for size, centre in zip((height, width), centres, strict=True)
        )
        hole = ((rows >= 0) & (rows < self.cutout))[:, :, None] & ((columns >= 0) & (columns < self.cutout))[:, None, :]
        mean = filled(self.mean, pixels)
        return torch.where(hole[..., None], mean, pixels.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class ImagePart(Protocol):
    """A source of batches for training and scoring: a `DevicePart`, or files that are read on demand."""

    @property
    def device(self) -> torch.device: ...
    def __len__(self) -> int: ...
    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """One epoch in the order of `epoch_order`: (B, H, W, C) uint8 images and (B,) int64 labels on the device."""
        ...

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in stored order, for scoring; batches as those of `shuffled`."""
        ...


class DevicePart:
    """A part of a data set on a device.

    images: (N, H, W, C) uint8, so that a batch is channels_last without a copy; labels: (N,) int64.
    """

    def __init__(self, part: Part, device: torch.device) -> None:
        self.images = torch.tensor(part.images.transpose(0, 2, 3, 1)).contiguous().to(device)
        self.labels = torch.tensor(part.labels).to(device)

    @classmethod
    def of(cls, images: Tensor, labels: Tensor) -> "DevicePart":
        """A part from tensors that are on the device already: (N, H, W, C) uint8 images and (N,) labels, not copied."""
        part = cls.__new__(cls)
        part.images, part.labels = images, labels
        return part

    @property
    def device(self) -> torch.device:
        return self.labels.device

    def __len__(self) -> int:
        return len(self.labels)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        for chosen in epoch_order(len(self), batch_size, generator):
            yield self.images[chosen], self.labels[chosen]

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        return zip(torch.split(self.images, batch_size), torch.split(self.labels, batch_size), strict=True)


def epoch_order(n: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Indices of `n` images in random order, (B,) int64 on the generator's device for each batch.

    The last batch may be smaller; a last batch of a single image is dropped, since batch statistics need two.
    """
    order = torch.randperm(n, generator=generator, device=generator.device)
    for chosen in torch.split(order, batch_size):
        if len(chosen) > 1 or n == 1:
            yield chosen


def training_batches(
    part: ImagePart, batch_size: int, augmentation: Augmentation, generator: torch.Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch in random order: (B, C, H, W) float images in [0, 1], channels_last, and (B,) labels.

    The last batch may be smaller; a last batch of a single image is dropped, since batch statistics need two.

    Args:
        generator: on the device of `part`.
    """
    for images, labels in part.shuffled(batch_size, generator):
        yield augmented(images, augmentation, generator), labels


def augmented(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """(B, H, W, C) uint8 images of a part -> (B, C, H, W) float images in [0, 1], channels_last.

    Args:
        generator: on their device.
    """
    return augmentation.cut_out(_pixels(augmentation(images, generator)), generator)


def batches(part: ImagePart, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """All images in order: (B, C, H, W) float images in [0, 1], channels_last, and (B,) labels."""
    for images, labels in part.ordered(batch_size):
        yield _pixels(images), labels


def _pixels(images: Tensor) -> Tensor:
    return images.permute(0, 3, 1, 2).float().div_(255)


class DeviceData:
    """The parts of a data set that a search may see, on its training device: never the test part.

    Attributes:
        train, validation: `DevicePart`s.
        augmentation: crops with padding 4, flips where a mirrored image keeps its class, and the data's mean.
    """

    def __init__(self, dataset: Dataset, device: torch.device) -> None:
        self.device = device
        self.name = dataset.name
        self.n_classes = dataset.n_classes
        self.normalization = dataset.normalization
        self.augmentation = Augmentation(flip=dataset.flip, mean=dataset.mean)
        self.train = DevicePart(dataset.train, device)
        self.validation = DevicePart(dataset.validation, device)
