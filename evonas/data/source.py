"""Images as their authors publish them, before they are split, and the table entry that reads them."""

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evonas.errors import DataError, StorageError
from evonas.files import exists, storage_errors, waited_lock

__all__ = ["DataSetEntry", "ImageSource", "Images", "Labels", "Part", "PartSizes", "draw", "equal_shares"]

DOWNLOADING = ".downloading.lock"
"""File below a data root, while something is downloaded there."""

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Images and their classes; compares by fingerprint.

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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Part) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def take(self, indices: npt.NDArray[np.int64]) -> "Part":
        """The images at these indices, in their order."""
        return Part(np.ascontiguousarray(self.images[indices]), self.labels[indices])

    def limited(self, limit: int | None, n_classes: int, rng: np.random.Generator) -> "Part":
        """A class-balanced subset of at most `limit` images; None: all."""
        return self if limit is None or limit >= len(self) else self.take(self.balanced(limit, n_classes, rng))

    def balanced(self, limit: int | None, n_classes: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
        """(n,) ascending indices of a class-balanced subset of at most `limit` images; None: all.

        A class with too few images gives all of them, and the other classes make up for it.
        """
        if limit is None or limit >= len(self):
            return np.arange(len(self))
        if limit < n_classes:
            raise DataError(f"expected a limit of at least one image a class ({n_classes}), got {limit}")
        counts = np.bincount(self.labels, minlength=n_classes)
        return np.sort(draw(self.labels, equal_shares(counts, limit), rng=rng)[0])


@dataclass(frozen=True)
class PartSizes:
    """Images held out of the training images; the rest is the train part."""

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
    converted: str = ""
    """One line where images or labels were taken as others than they are."""


@dataclass(frozen=True)
class DataSetEntry:
    """A line of the table of data sets: the function that reads one, and the files it reads."""

    load: Callable[[Path], ImageSource]
    """Data root -> images; may download what is missing."""
    files: tuple[str, ...] = ()
    """Paths below the data root; empty where the images are embedded in a package."""
    terms: str = ""
    """Licence or terms of use, as the authors state them."""

    def __call__(self, root: Path, say: Callable[[str], object] = print) -> ImageSource:
        """The images below `root`; only one process at a time downloads there.

        Args:
            say: called with a line where this one waits for another.
        """
        lock = root / DOWNLOADING
        if not self.files or (self.found(root) and not lock.exists()):
            return self.load(root)
        with contextlib.ExitStack() as held:
            with contextlib.suppress(StorageError):  # where nothing can be written, `load` says what is missing
                held.enter_context(
                    waited_lock(lock, lambda: say(f"data: another process is downloading below {root}; waiting for it"))
                )
            return self.load(root)

    def found(self, root: Path) -> bool:
        """Whether all of its files lie below `root`; False for a data set without files.

        Raises:
            StorageError: `root` cannot be read.
        """
        with storage_errors(f"read {root}"):
            return bool(self.files) and all(exists(root / file) for file in self.files)


def equal_shares(counts: npt.NDArray[np.int64], total: int) -> list[int]:
    """Number of images to take of each class, as equal as possible, `total` in sum or all where there are fewer."""
    shares = np.zeros(len(counts), dtype=np.int64)
    missing = min(total, int(counts.sum()))
    while missing:
        open_classes = np.flatnonzero(shares < counts)
        step = max(missing // len(open_classes), 1)
        for label in open_classes[:missing]:
            shares[label] += min(step, counts[label] - shares[label])
        missing = min(total, int(counts.sum())) - int(shares.sum())
    return shares.tolist()


def draw(labels: Labels, *shares: list[int], rng: np.random.Generator) -> list[npt.NDArray[np.int64]]:
    """Disjoint random indices, `shares[k][c]` of class c in the k-th; the last array holds the rest."""
    groups: list[list[npt.NDArray[np.int64]]] = [[] for _ in range(len(shares) + 1)]
    for label in range(len(shares[0])):
        shuffled = rng.permutation(np.flatnonzero(labels == label))
        cuts = np.cumsum([share[label] for share in shares])
        for group, chosen in zip(groups, np.split(shuffled, cuts), strict=True):
            group.append(chosen)
    return [np.concatenate(group) for group in groups]
