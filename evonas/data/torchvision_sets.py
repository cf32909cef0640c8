"""The data sets that torchvision downloads and checks. Nothing else in the engine reads them from torchvision."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evonas.data.source import DataSetEntry, ImageSource, Part, PartSizes
from evonas.errors import DataError

__all__ = ["TORCHVISION_SETS"]

Moments = tuple[tuple[float, ...], tuple[float, ...]]
"""Mean and deviation of each channel on the [0, 1] scale."""


def _entry(
    name: str,
    class_name: str,
    files: tuple[str, ...],
    *,
    flip: bool,
    split_argument: tuple[str, Any, Any] = ("train", True, False),
    moments: Moments | None = None,
    terms: str,
) -> DataSetEntry:
    """The table entry of a class of torchvision.datasets.

    Args:
        split_argument: keyword of the class, its value for the training images and its value for the test images.
        moments: None: measured on the train part.
        terms: of use, as the authors state them.
    """
    return DataSetEntry(partial(_load, name, class_name, flip, split_argument, moments), files, terms)


def _load(
    name: str, class_name: str, flip: bool, split_argument: tuple[str, Any, Any], moments: Moments | None, root: Path
) -> ImageSource:
    """Both splits, downloaded where they are missing; torchvision checks the MD5 of its files."""
    try:
        from torchvision import datasets
    except Exception as error:  # an operator that its binary lacks shows as RuntimeError
        raise DataError(
            f"{name} needs torchvision, which failed to import ({error}); install a torchvision built for your torch"
        ) from error
    keyword, *values = split_argument
    read = partial(getattr(datasets, class_name), root=str(root), download=True)
    try:
        train, test = (_part(read(**{keyword: value})) for value in values)
    except Exception as error:  # torchvision passes on errors of sockets, archives and files as they come
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} is not whole below {root} and could not be downloaded ({reason}); put torchvision's files there, "
            "name another folder with --data-root, or use --data digits"
        ) from error
    mean, deviation = moments or (None, None)
    return ImageSource(name, train, test, PartSizes(5000, 2500), flip=flip, mean=mean, deviation=deviation)


def _part(loaded: Any) -> Part:
    """(N, 3, 32, 32) uint8 images: grey ones of 28x28 are padded by 2 and repeated."""
    images = np.asarray(loaded.data)
    labels = np.asarray(loaded.targets if hasattr(loaded, "targets") else loaded.labels, dtype=np.int64)
    if images.ndim == 3:  # (N, 28, 28)
        images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None].repeat(3, axis=1)
    elif images.shape[-1] == 3:  # (N, 32, 32, 3)
        images = images.transpose(0, 3, 1, 2)
    return Part(np.ascontiguousarray(images), labels)


def _in(folder: str, *names: str) -> tuple[str, ...]:
    return tuple(f"{folder}/{name}" for name in names)


_IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
_CIFAR10_BATCHES = (*(f"data_batch_{number}" for number in range(1, 6)), "test_batch", "batches.meta")
_CIFAR_TERMS = (
    "No licence is stated: its authors ask to cite Krizhevsky (2009); the images are from the 80 million tiny images, "
    "which were withdrawn in 2020."
)
_CIFAR10_MOMENTS = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)

TORCHVISION_SETS = {
    "svhn": _entry(
        "svhn",
        "SVHN",
        ("train_32x32.mat", "test_32x32.mat"),
        flip=False,
        split_argument=("split", "train", "test"),
        terms="For non-commercial use only, say its authors (Netzer et al., 2011).",
    ),
    "fashion_mnist": _entry(
        "fashion_mnist",
        "FashionMNIST",
        _in("FashionMNIST/raw", *_IDX),
        flip=True,
        terms="MIT licence (Zalando, Xiao et al., 2017).",
    ),
    "cifar10": _entry(
        "cifar10",
        "CIFAR10",
        _in("cifar-10-batches-py", *_CIFAR10_BATCHES),
        flip=True,
        moments=_CIFAR10_MOMENTS,
        terms=_CIFAR_TERMS,
    ),
    "cifar100": _entry(
        "cifar100", "CIFAR100", _in("cifar-100-python", "train", "test", "meta"), flip=True, terms=_CIFAR_TERMS
    ),
    "mnist": _entry(
        "mnist",
        "MNIST",
        _in("MNIST/raw", *_IDX),
        flip=False,
        terms="CC BY-SA 3.0, as its copies state (LeCun et al., 1998; from NIST's Special Databases 1 and 3).",
    ),
}
"""Name -> entry, in the order in which `--ood-data auto` looks for them."""
