"""A data set in memory: four disjoint parts of uint8 images, and a fingerprint of exactly these images."""

import hashlib
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from evonas.errors import DataError

__all__ = ["Dataset", "ImageSource", "Part", "PartSizes", "split"]

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their classes.

    images: (N, 3, H, W) uint8; labels: (N,) int64.
    """

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over these images and labels, 32 hexadecimal digits."""
        digest = hashlib.sha256(repr(self.images.shape).encode())
        digest.update(np.ascontiguousarray(self.images).data)
        digest.update(np.ascontiguousarray(self.labels).data)
        return digest.hexdigest()[:32]

    def take(self, indices: npt.NDArray[np.int64]) -> "Part":
        """The images at these indices, in their order."""
        return Part(np.ascontiguousarray(self.images[indices]), self.labels[indices])

    def limited(self, limit: int | None, n_classes: int, rng: np.random.Generator) -> "Part":
        """At most `limit` images, as equally many of each class as there are; None: all."""
        return self if limit is None or limit >= len(self) else self.take(self.balanced(limit, n_classes, rng))

    def balanced(self, limit: int | None, n_classes: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n,) ascending indices of at most `limit` images, as equally many of each class as there are; None: all."""
        if limit is None or limit >= len(self):
            return np.arange(len(self))
        if limit < n_classes:
            raise DataError(f"expected a limit of at least one image a class ({n_classes}), got {limit}")
        counts = np.bincount(self.labels, minlength=n_classes)
        return np.sort(_draw(self.labels, _equal_shares(counts, limit), rng=rng)[0])


@dataclass(frozen=True)
class PartSizes:
    """Images held out of the training images; what remains is the train part."""

    validation: int
    """Ranks candidates."""
    adversarial: int
    """Adversarial sets are made from these; nothing is trained on them."""
    test: int = 0
    """Only where the data set has no test images of its own."""


@dataclass(frozen=True, eq=False)
class ImageSource:
    """A data set as its authors publish it.

    mean, deviation: per channel on the [0, 1] scale; None: measured on the train part.
    """

    name: str
    train: Part
    test: Part | None
    sizes: PartSizes
    flip: bool
    """Whether a mirrored image still shows its class."""
    mean: tuple[float, ...] | None = None
    deviation: tuple[float, ...] | None = None


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
    """One line where the data set was chosen by us, not by name; never part of a run's identity."""

    @property
    def image_size(self) -> int:
        return int(self.train.images.shape[-1])

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return self.mean, self.deviation

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over name, normalisation, images and labels of every part: other images, other fingerprint."""
        digest = hashlib.sha256(repr((self.name, self.n_classes, self.mean, self.deviation, self.flip)).encode())
        for part in (self.train, self.validation, self.adversarial, self.test):
            digest.update(repr(part.images.shape).encode())
            digest.update(np.ascontiguousarray(part.images).data)
            digest.update(np.ascontiguousarray(part.labels).data)
        return digest.hexdigest()[:32]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def limited(self, train: int | None, validation: int | None, rng: np.random.Generator) -> "Dataset":
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
    counts = np.bincount(labels, minlength=n_classes)
    if counts.min() < 4:
        raise DataError(
            f"expected at least 4 training images of each class in {source.name}, "
            f"got {counts.min()} of class {counts.argmin()}"
        )
    wanted = (source.sizes.validation, source.sizes.adversarial, source.sizes.test)
    shares = [_equal_shares(counts // 4, size) for size in wanted]  # no part takes more than a quarter of a class
    *held, rest = _draw(labels, *shares, rng=rng)
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


def _equal_shares(counts: npt.NDArray[np.int64], total: int) -> list[int]:
    """How many images of each class make `total` (less where there are not so many), as equal as possible."""
    shares = np.zeros(len(counts), dtype=np.int64)
    left = min(total, int(counts.sum()))
    while left:
        open_classes = np.flatnonzero(shares < counts)
        step = max(left // len(open_classes), 1)
        for label in open_classes[:left]:
            shares[label] += min(step, counts[label] - shares[label])
        left = min(total, int(counts.sum())) - int(shares.sum())
    return shares.tolist()


def _draw(labels: Labels, *shares: list[int], rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Disjoint random indices, `shares[k][c]` of class c in the k-th; the last array holds all that remain."""
    groups: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(len(shares) + 1)]
    for label in range(len(shares[0])):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum([share[label] for share in shares])
        for group, chosen in zip(groups, np.split(shuffled, cuts), strict=True):
            group.append(chosen)
    return [np.concatenate(group) for group in groups]
