"""A data set in memory: four disjoint parts of uint8 images, and a fingerprint of exactly these images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from evonas.data.arrays import array_source, torch_arrays
from evonas.data.source import Images, ImageSource, Part, draw, equal_shares
from evonas.errors import DataError
from evonas.seeding import generator
from evonas.types import TrainOn

if TYPE_CHECKING:
    from torch.utils.data import Dataset as TorchDataset

__all__ = ["Dataset", "split"]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Four disjoint parts of one data set; compares by fingerprint."""

    name: str
    n_classes: int
    train: Part
    validation: Part
    adversarial: Part
    test: Part = field(repr=False)
    """Never seen by a search."""
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    flip: bool
    chosen_because: str = ""
    """One line where `auto` chose the data set; never part of a run's identity."""
    converted: str = ""
    """One line where images or labels were taken as others than they are: the fingerprint is of what they became."""
    by_content: bool = False
    """The name, that of a file, is no part of the fingerprint."""

    @classmethod
    def from_arrays(
        cls,
        x_train: npt.ArrayLike,
        y_train: npt.ArrayLike,
        x_test: npt.ArrayLike,
        y_test: npt.ArrayLike,
        *,
        name: str,
        seed: int = 0,
        train_limit: int | None = None,
        val_limit: int | None = None,
    ) -> Dataset:
        """Your own images, copied and split exactly as an npz file of the same arrays.

        Args:
            x_train, x_test: square uint8 images, or floats in [0, 1] or numbers in [0, 255], which are rounded to 8
                bits; (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); grey ones are repeated to three channels.
            y_train, y_test: (N,) integer labels 0..K-1, or 1..K, or one-hot rows; at least 4 training images of each
                of two or more classes.
            name: part of a run's identity, with the fingerprint.
            seed: seed of the split and of the limits.
            train_limit, val_limit: sizes of class-balanced subsets of these parts; None: all.
        Raises:
            DataError: another shape, dtype or label; training and test images of different sizes.
        """
        source = array_source(x_train, y_train, x_test, y_test, name, name)
        return cls.from_source(source, seed, train_limit, val_limit)

    @classmethod
    def from_torch(
        cls,
        train: TorchDataset[Any],
        test: TorchDataset[Any],
        *,
        name: str,
        seed: int = 0,
        train_limit: int | None = None,
        val_limit: int | None = None,
    ) -> Dataset:
        """The images of two map-style torch data sets, read once into memory; else as `from_arrays`.

        Args:
            train, test: yield (image, label): a tensor or array of uint8 or of floats in [0, 1], or a PIL image, and
                an integer. Leave random transforms and normalisation out: augmentation is drawn anew in each epoch,
                and networks normalise in their first layer.
        Raises:
            DataError: anything else, or images of different sizes.
        """
        arrays = (*torch_arrays(train, f"{name}, train"), *torch_arrays(test, f"{name}, test"))
        return cls.from_source(array_source(*arrays, name, name), seed, train_limit, val_limit)

    @classmethod
    def from_source(
        cls, source: ImageSource, seed: int = 0, train_limit: int | None = None, val_limit: int | None = None
    ) -> Dataset:
        """The four parts of `source`, the same for the same seed; limits take class-balanced subsets."""
        return split(source, generator("split", seed)).limited(train_limit, val_limit, generator("limit", seed))

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[-1])

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.deviation

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, normalisation, images and labels of every part: other images, other fingerprint."""
        name = "npz" if self.by_content else self.name
        digest = hashlib.sha256(repr((name, self.n_classes, self.mean, self.deviation, self.flip)).encode())
        for part in (self.train, self.validation, self.adversarial, self.test):
            digest.update(repr(part.images.shape).encode())
            digest.update(np.ascontiguousarray(part.images).data)
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()[:32]

    def identity(self) -> dict[str, Any]:
        """The data set's share of a run's identity, as plain values."""
        return {
            "name": self.name,
            "fingerprint": self.fingerprint,
            "n_classes": self.n_classes,
            "train": len(self.train),
            "validation": len(self.validation),
            "mean": list(self.mean),
            "deviation": list(self.deviation),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def trained_on(self, which: TrainOn) -> Part:
        """Images of a training to the end: the train part, or all parts but the test part, in that order."""
        if which == "train":
            return self.train
        parts = (self.train, self.validation, self.adversarial)
        return Part(np.concatenate([part.images for part in parts]), np.concatenate([part.labels for part in parts]))

    def limited(self, train: int | None, validation: int | None, rng: np.random.Generator) -> Dataset:
        """Class-balanced subsets of the train and validation parts; None: all."""
        return replace(
            self,
            train=self.train.limited(train, self.n_classes, rng),
            validation=self.validation.limited(validation, self.n_classes, rng),
        )


def split(source: ImageSource, rng: np.random.Generator) -> Dataset:
    """Four disjoint parts, drawn at random with equally many images of each class in every held-out part."""
    labels = source.train.labels
    n_classes = int(labels.max()) + 1
    if n_classes > len(labels):
        raise DataError(
            f"expected at least 4 training images of each class in {source.name}, "
            f"got a label {labels.max()} among {len(labels)} images"
        )
    if n_classes < 2:
        raise DataError(f"expected at least 2 classes in {source.name}, all {len(labels)} training labels are 0")
    counts = np.bincount(labels, minlength=n_classes)
    if counts.min() < 4:
        raise DataError(
            f"expected at least 4 training images of each class in {source.name}, "
            f"got {counts.min()} of class {counts.argmin()}; number the classes 0 to K-1 and leave out rare ones"
        )
    wanted = (source.sizes.validation, source.sizes.adversarial, source.sizes.test)
    shares = [equal_shares(counts // 4, size) for size in wanted]  # no part takes more than a quarter of a class
    *held, rest = draw(labels, *shares, rng=rng)
    validation, adversarial, held_test, train = (source.train.take(np.sort(chosen)) for chosen in (*held, rest))
    test = held_test if source.test is None else source.test
    if len(test) and test.labels.max() >= n_classes:
        raise DataError(
            f"expected test labels 0 to {n_classes - 1} in {source.name}, as in training; got {test.labels.max()}"
        )
    mean, deviation = source.mean, source.deviation
    if mean is None or deviation is None:
        mean, deviation = _moments(train.images)
    return Dataset(
        name=source.name,
        n_classes=n_classes,
        train=train,
        validation=validation,
        adversarial=adversarial,
        test=test,
        mean=mean,
        deviation=deviation,
        flip=source.flip,
        converted=source.converted,
    )


def _moments(images: Images) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel on the [0, 1] scale, exact from counts of pixel values, to 6 digits."""
    values = np.arange(256) / 255
    means, deviations = [], []
    for channel in range(images.shape[1]):
        share = np.bincount(images[:, channel].ravel(), minlength=256) / images[:, channel].size
        mean = float(share @ values)
        means.append(round(mean, 6))
        deviations.append(round(max(float(share @ (values - mean) ** 2) ** 0.5, 1e-3), 6))
    return tuple(means), tuple(deviations)
