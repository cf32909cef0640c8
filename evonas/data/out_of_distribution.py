"""Images that show none of the classes: another data set with disjoint labels, or noise."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from evonas.data.dataset import Dataset, split
from evonas.data.loader import DATA_SETS, data_root, load_data
from evonas.data.source import ImageSource, Part, PartSizes
from evonas.errors import ConfigurationError, choose
from evonas.seeding import generator

__all__ = ["NOISE", "load_ood_data", "load_small_ood_data", "resolve_ood_data"]

NOISE = "noise"
"""Name of generated images: smooth coloured noise."""

SAME_LABELS = (
    {"digits", "mnist", "svhn"},
    *({"imagenet", other} for other in ("cifar10", "cifar100", "fashion_mnist")),
)
"""Groups of data sets that show the same classes, or some of them."""


def resolve_ood_data(name: str, data_name: str, root: Path | str | None = None) -> tuple[str, str]:
    """The data set that is out of distribution for `data_name`, and for `auto` one line that says which and why.

    `auto` is SVHN if its files are below the data root, as in E2RNAS; else the first other data set of `DATA_SETS` that
    is there and has disjoint labels; else noise. Nothing is downloaded for `auto`.

    Raises:
        ConfigurationError: the labels are not disjoint.
        UnknownNameError: there is no such data set.
    """
    candidates = [other for other, entry in DATA_SETS.items() if entry.files and _disjoint(other, data_name)]
    if name != "auto":
        if name != NOISE:
            choose({**DATA_SETS, NOISE: None, "auto": None}, name, "out-of-distribution data set")
        if not _disjoint(name, data_name):
            raise ConfigurationError(
                f"expected out-of-distribution images of other classes than those of {data_name}, got {name}; "
                f"give --ood-data {', '.join(candidates)} or {NOISE}"
            )
        return name, ""
    folder = data_root(root)
    for candidate in candidates:
        if DATA_SETS[candidate].found(folder):
            missing = "" if candidate == "svhn" or "svhn" not in candidates else ", because SVHN is not there"
            return candidate, f"out-of-distribution images: {candidate}, found below {folder}{missing}"
    return NOISE, f"out-of-distribution images: smooth noise, because no other data set is below {folder}"


def load_ood_data(
    name: str,
    data: Dataset,
    root: Path | str | None = None,
    seed: int = 0,
    say: Callable[[str], object] = print,
) -> Dataset:
    """Images that are out of distribution for `data`, of the same size, split in four parts of their own.

    Args:
        name: as `resolve_ood_data` returns it. The number of noise images follows from `data`.
        seed: seed of the split and of noise.
        say: as of `load_data`.
    Raises:
        ConfigurationError: images of another size.
        DataError: the files are missing and cannot be downloaded.
    """
    drawn = name == NOISE
    ood_data = _noise(len(data.train), data.image_size, seed) if drawn else load_data(name, root, seed, say=say)
    if ood_data.image_size != data.image_size:
        raise ConfigurationError(
            f"expected out-of-distribution images of {data.image_size} pixels, as those of {data.name}, "
            f"got {ood_data.image_size} of {name}"
        )
    return ood_data


def _disjoint(name: str, data_name: str) -> bool:
    return name != data_name and not any({name, data_name} <= group for group in SAME_LABELS)


def load_small_ood_data(
    name: str, root: Path | str | None = None, seed: int = 0, say: Callable[[str], object] = print
) -> Dataset:
    """Images of a data set by its name, or noise, of 32 pixels: for networks whose own images are files.

    Args:
        say: as of `load_data`.
    """
    return _noise(5000, 32, seed) if name == NOISE else load_data(name, root, seed, say=say)


def _noise(count: int, size: int, seed: int) -> Dataset:
    """`count` images, within 200 to 5,000; blobs of random size, sharpness and colour."""
    rng, count = generator(seed, "noise"), min(5000, max(200, count))
    coarse = rng.random((count, 3, size // 4, size // 4))
    smooth = coarse.repeat(4, axis=2).repeat(4, axis=3)
    mixed = smooth + rng.uniform(0, 0.7, (count, 1, 1, 1)) * rng.standard_normal((count, 3, size, size))
    low, high = (side(mixed, axis=(1, 2, 3), keepdims=True) for side in (np.min, np.max))
    images = np.round(255 * (mixed - low) / (high - low)).astype(np.uint8)
    part = Part(images, np.arange(count, dtype=np.int64) % 4)  # labels only balance the parts
    return split(ImageSource(NOISE, part, None, PartSizes(count // 8, 4, count // 8), flip=True), rng)
