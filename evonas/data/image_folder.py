"""ImageNet, or any folder with one folder of images per class; files are streamed instead of held in memory.

ROOT/train/CLASS/*.JPEG is the train part; a few images of each class are held out as the validation part.
ROOT/val/CLASS/*.JPEG is the test part, never seen by a search.
"""

import hashlib
import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from evonas.data.image_files import FileImages, torchvision_module
from evonas.errors import DataError
from evonas.files import expanded
from evonas.seeding import generator

__all__ = ["ImageFolderSet", "load_image_folder"]

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Moments of ImageNet's training images, per channel on the [0, 1] scale."""


@dataclass(frozen=True, eq=False)
class ImageFolderSet:
    """Three disjoint parts of a folder of images; compares by fingerprint."""

    name: str
    classes: tuple[str, ...]
    """Names of the class folders, sorted; labels are indices of these."""
    train: FileImages
    validation: FileImages
    """Held out of train/, equally many images of each class."""
    test: FileImages
    """All of val/."""
    mean: tuple[float, ...] = MEAN
    deviation: tuple[float, ...] = DEVIATION

    @property
    def n_classes(self) -> int:
        return len(self.classes)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.deviation

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, classes, normalisation, and each file's path, class and size; pixels are not read."""
        digest = hashlib.sha256(repr((self.name, self.classes, self.mean, self.deviation)).encode())
        for part in (self.train, self.validation, self.test):
            try:
                sizes = np.array([part.path(index).stat().st_size for index in range(len(part))], dtype=np.int64)
            except OSError as error:
                raise DataError(f"expected the files of {part.folder} to stay, one cannot be read ({error})") from error
            digest.update(b"\0".join([b"%d files" % len(part), *part.names.tolist()]))
            digest.update(part.labels.tobytes() + sizes.tobytes())
        return digest.hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ImageFolderSet) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)


def load_image_folder(
    root: Path, seed: int = 0, validation_per_class: int = 10, name: str = "imagenet"
) -> ImageFolderSet:
    """The files below ROOT/train and ROOT/val; the same seed holds out the same files.

    Args:
        validation_per_class: images of each class held out of train/ to rank candidates (10,000 in all for ImageNet),
            at most a quarter of the smallest class; 0: no validation part.
    Raises:
        DataError: a folder is missing or empty, or the classes of train/ and val/ differ.
    """
    if validation_per_class < 0:
        raise DataError(f"expected validation_per_class >= 0, got {validation_per_class}")
    (classes, train), (test_classes, test) = (_scanned(expanded(root) / part) for part in ("train", "val"))
    if classes != test_classes:
        differences = [_only(classes, test_classes, "train"), _only(test_classes, classes, "val")]
        got = " and ".join(filter(None, differences))
        raise DataError(f"expected the same class folders in train/ and val/ below {root}, got {got}")
    counts = np.bincount(train.labels)
    if validation_per_class and counts.min() < 4:
        raise DataError(
            f"expected at least 4 images of each class in {train.folder}, "
            f"got {counts.min()} of {classes[counts.argmin()]!r}"
        )
    share = min(validation_per_class, int(counts.min()) // 4)
    held = np.zeros(len(train), dtype=bool)
    rng = generator("image folder", seed)
    for label in range(len(classes)):
        held[rng.permutation(np.flatnonzero(train.labels == label))[:share]] = True
    return ImageFolderSet(name, classes, train.take(np.flatnonzero(~held)), train.take(np.flatnonzero(held)), test)


def _scanned(folder: Path) -> tuple[tuple[str, ...], FileImages]:
    """Class names, and all images in order of class, then path."""
    image_folder = torchvision_module().datasets.ImageFolder
    try:
        found = image_folder(str(folder))
    except OSError as error:  # also where there is no class folder, or one without images
        reason = textwrap.shorten(str(error), 200, placeholder=" ...")
        raise DataError(
            f"expected a folder with images of each class (CLASS/*.JPEG, *.png) at {folder}, got another ({reason}); "
            "name the folder that holds train/ and val/"
        ) from error
    names = [os.fsencode(path.removeprefix(f"{folder}{os.sep}")) for path, _ in found.samples]
    return tuple(found.classes), FileImages(folder, np.array(names), np.array(found.targets, dtype=np.int64))


def _only(classes: Sequence[str], other_classes: Sequence[str], where: str) -> str:
    extra = sorted(set(classes) - set(other_classes))
    return f"{len(extra)} only in {where}/, such as {extra[0]!r}" if extra else ""
