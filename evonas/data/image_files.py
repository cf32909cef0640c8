"""Image files, read and decoded batch by batch."""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from evonas.data.batches import epoch_order
from evonas.errors import DataError
from evonas.files import decoding, open_regular
from evonas.seeding import derive_seed

__all__ = ["FileImages", "FilePart", "scoring_transform", "torchvision_module", "training_transform"]

Transform = Callable[[Any], Any]
"""PIL image -> PIL image of the networks' input size."""


@dataclass(frozen=True, eq=False)
class FileImages:
    """Files of images and their classes."""

    folder: Path
    names: npt.NDArray[np.bytes_]
    """(N,) paths below the folder, in one array that worker processes share."""
    labels: npt.NDArray[np.int64]
    """(N,)"""

    def __len__(self) -> int:
        return len(self.labels)

    def path(self, index: int) -> Path:
        return self.folder / os.fsdecode(bytes(self.names[index]))

    def take(self, indices: npt.NDArray[np.int64]) -> "FileImages":
        """The files at these indices, in their order."""
        return FileImages(self.folder, self.names[indices], self.labels[indices])


def torchvision_module() -> Any:
    """torchvision with its data sets and transforms; DataError where it cannot be imported."""
    try:
        import torchvision
        import torchvision.datasets
        import torchvision.transforms.v2
    except Exception as error:  # an operator that its binary lacks shows as RuntimeError
        raise DataError(
            f"images in folders need torchvision, which failed to import ({error}); "
            "install a torchvision built for your torch"
        ) from error
    return torchvision


def training_transform(size: int) -> Transform:
    """Augmentation of DARTS on ImageNet: random resized crop to `size`, random flip, colour jitter."""
    v2 = torchvision_module().transforms.v2
    made: Transform = v2.Compose(
        [
            v2.RandomResizedCrop(size),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.2),
        ]
    )
    return made


def scoring_transform(size: int) -> Transform:
    """Resize the short side to size / 0.875 (256 for 224), then crop the centre."""
    v2 = torchvision_module().transforms.v2
    made: Transform = v2.Compose([v2.Resize(round(size / 0.875)), v2.CenterCrop(size)])
    return made


class FilePart:
    """Files as an `ImagePart`: uint8 batches on a device, decoded by worker processes.

    The random transforms of an image depend on the epoch's seed and the image's index alone, so batches are the same
    for any number of workers. torch's global generators stay as they are.

    Args:
        workers: processes that decode; 0: this one. They send batches through shared memory (/dev/shm), about 20 MB
            for 128 images of 224x224; each holds two.
        size: height and width of the networks' input.
    """

    def __init__(self, files: FileImages, device: torch.device, workers: int = 0, size: int = 224) -> None:
        self.files = files
        self.device = device
        self.workers = workers
        self.size = size

    def __len__(self) -> int:
        return len(self.files)

    def shuffled(self, batch_size: int, generator: torch.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        order = [chosen.tolist() for chosen in epoch_order(len(self), batch_size, generator)]
        seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
        return self._read(training_transform(self.size), order, seed)

    def ordered(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        order = [list(range(first, min(first + batch_size, len(self)))) for first in range(0, len(self), batch_size)]
        return self._read(scoring_transform(self.size), order, 0)

    def _read(self, transform: Transform, order: list[list[int]], seed: int) -> Iterator[tuple[Tensor, Tensor]]:
        cuda = self.device.type == "cuda"
        loader: DataLoader[Any] = DataLoader(
            _Decoded(self.files, transform, seed),
            batch_sampler=order,
            num_workers=self.workers,
            collate_fn=_collated,
            pin_memory=cuda,
            generator=torch.Generator().manual_seed(seed),  # else it draws from torch's global one
        )
        for batch in loader:
            if isinstance(batch, str):
                raise DataError(batch)
            images, labels = batch
            yield images.to(self.device, non_blocking=cuda), labels.to(self.device, non_blocking=cuda)


class _Decoded(TorchDataset[Any]):
    """Images by index: ((H, W, 3) uint8, label), or an error message as a string, since workers garble exceptions."""

    def __init__(self, files: FileImages, transform: Transform, seed: int) -> None:
        self.files = files
        self.transform = transform
        self.seed = seed

    def __getitem__(self, index: int) -> tuple[Tensor, int] | str:
        path = self.files.path(index)
        try:
            with decoding(f"expected an image in {path}", "replace or remove it"), open_regular(path) as file:
                image = _read_rgb(file)
        except DataError as error:
            return str(error)
        state = torch.default_generator.get_state()
        try:
            torch.default_generator.manual_seed(derive_seed(self.seed, index))  # torchvision's transforms draw from it
            pixels = np.array(self.transform(image))
        finally:
            torch.default_generator.set_state(state)
        return torch.from_numpy(pixels), int(self.files.labels[index])


def _read_rgb(file: IO[bytes]) -> Any:
    """A PIL image of 8 bits a channel; 16 bits are scaled, where PIL itself would cut them off.

    Raises:
        DataError: pixels of 32 bits, or floats, whose range nothing says.
    """
    from PIL import Image

    with Image.open(file) as opened:
        of_16_bits = opened.mode.startswith("I;16") or (opened.mode == "I" and opened.format in ("PNG", "PPM"))
        if not of_16_bits:
            if opened.mode[0] in "IF":
                kind = "floats" if opened.mode == "F" else "integers of 32 bits"
                raise DataError(f"its pixels are {kind}, of no known range; save it with 8 or 16 bits")
            return opened.convert("RGB")
        levels = np.rint(np.asarray(opened).astype(np.float64) / 257)
    return Image.fromarray(levels.astype(np.uint8)).convert("RGB")


def _collated(samples: list[tuple[Tensor, int] | str]) -> tuple[Tensor, Tensor] | str:
    read = [sample for sample in samples if not isinstance(sample, str)]
    if len(read) < len(samples):
        return next(sample for sample in samples if isinstance(sample, str))
    images, labels = zip(*read, strict=True)
    return torch.stack(images), torch.tensor(labels)
