"""Images of none of the classes: another data set whose labels are disjoint, or noise."""

from pathlib import Path

import numpy as np

from evonas.data.dataset import Dataset, ImageSource, Part, PartSizes, split
from evonas.data.loader import DATA_SETS, data_root, load_data
from evonas.errors import ConfigurationError, choose
from evonas.seeding import generator

__all__ = ["NOISE", "load_ood_data", "resolve_ood_data"]

NOISE = "noise"
"""Name of images that are drawn: smooth coloured noise."""

SAME_LABELS = ({"digits", "mnist", "svhn"},)
"""Data sets that show the same things."""

MARKERS = {
    "svhn": ("train_32x32.mat", "test_32x32.mat"),
    "fashion_mnist": ("FashionMNIST/raw",),
    "cifar10": ("cifar-10-batches-py",),
    "cifar100": ("cifar-100-python",),
    "mnist": ("MNIST/raw",),
}
"""What lies below a data root where a data set is there, in the order in which `auto` looks."""


def resolve_ood_data(name: str, data_name: str, root: Path | str | None = None) -> tuple[str, str]:
    """The data set that is out of distribution for `data_name`, and for `auto` one line that says which and why.

    `auto` is SVHN where it is there, as in E2RNAS; else the first other one that is there and whose labels are
    disjoint; else noise. Nothing is downloaded for `auto`.

    Raises:
        ConfigurationError: the labels are not disjoint.
        UnknownNameError: there is no such data set.
    """
    if name != "auto":
        if name != NOISE:
            choose({**DATA_SETS, NOISE: None, "auto": None}, name, "out-of-distribution data set")
        if not _disjoint(name, data_name):
            raise ConfigurationError(
                f"expected out-of-distribution images of other classes than those of {data_name}, got {name}; "
                f"give --ood-data {', '.join(other for other in MARKERS if _disjoint(other, data_name))} or {NOISE}"
            )
        return name, ""
    folder = data_root(root)
    for other, markers in MARKERS.items():
        if _disjoint(other, data_name) and all((folder / marker).exists() for marker in markers):
            missing = "" if other == "svhn" or not _disjoint("svhn", data_name) else ", because SVHN is not there"
            return other, f"out-of-distribution images: {other}, found below {folder}{missing}"
    return NOISE, f"out-of-distribution images: smooth noise, because no other data set is below {folder}"


def load_ood_data(name: str, data: Dataset, root: Path | str | None = None, seed: int = 0) -> Dataset:
    """Images that are out of distribution for `data`, in parts of their own and of the same size.

    Args:
        name: as `resolve_ood_data` gives it. The number of noise images follows from `data`.
        seed: of the parts, and of noise.
    Raises:
        ConfigurationError: images of another size.
        DataError: the data set is not to be had.
    """
    ood_data = _noise(data, seed) if name == NOISE else load_data(name, root, seed)
    if ood_data.image_size != data.image_size:
        raise ConfigurationError(
            f"expected out-of-distribution images of {data.image_size} pixels, as those of {data.name}, "
            f"got {ood_data.image_size} of {name}"
        )
    return ood_data


def _disjoint(name: str, data: str) -> bool:
    return name != data and not any({name, data} <= family for family in SAME_LABELS)


def _noise(data: Dataset, seed: int) -> Dataset:
    """As many images as `data` has in training; blobs of random size, sharpness and colour."""
    rng, size = generator(seed, "noise"), data.image_size
    count = min(5000, max(200, len(data.train)))
    coarse = rng.random((count, 3, size // 4, size // 4))
    smooth = coarse.repeat(4, axis=2).repeat(4, axis=3)
    mixed = smooth + rng.uniform(0, 0.7, (count, 1, 1, 1)) * rng.standard_normal((count, 3, size, size))
    low, high = (side(mixed, axis=(1, 2, 3), keepdims=True) for side in (np.min, np.max))
    images = np.round(255 * (mixed - low) / (high - low)).astype(np.uint8)
    part = Part(images, np.arange(count, dtype=np.int64) % 4)  # labels are not read; parts are drawn by class
    return split(ImageSource(NOISE, part, None, PartSizes(count // 8, 4, count // 8), flip=True), rng)
