"""The data sets that torchvision downloads and checks. Nothing else in the engine imports torchvision."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from evonas.data.dataset import ImageSource, Part, PartSizes
from evonas.errors import DataError

__all__ = ["TORCHVISION_SETS"]


def _load(name: str, class_name: str, root: Path, splits: tuple[dict[str, Any], dict[str, Any]]) -> tuple[Part, Part]:
    """Both splits of a torchvision data set, downloaded when missing; torchvision checks its files' MD5."""
    try:
        from torchvision import datasets
    except Exception as error:  # an operator that its binary lacks shows as RuntimeError
        raise DataError(
            f"{name} needs torchvision, which failed to import ({error}); install a torchvision built for your torch"
        ) from error
    try:
        train, test = (_part(getattr(datasets, class_name)(root=str(root), download=True, **s)) for s in splits)
    except Exception as error:  # torchvision lets errors of sockets, archives and files through as they come
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(
            f"{name} is not whole below {root} and could not be downloaded ({reason}); put torchvision's files there, "
            "name another folder with --data-root, or use --data digits"
        ) from error
    return train, test


def _part(loaded: Any) -> Part:
    """(N, 3, 32, 32) uint8 images: grey ones of 28x28 are padded by 2 and repeated."""
    images = np.asarray(loaded.data)
    labels = np.asarray(loaded.targets if hasattr(loaded, "targets") else loaded.labels, dtype=np.int64)
    if images.ndim == 3:  # (N, 28, 28)
        images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[:, None].repeat(3, axis=1)
    elif images.shape[-1] == 3:  # (N, 32, 32, 3)
        images = images.transpose(0, 3, 1, 2)
    return Part(np.ascontiguousarray(images), labels)


_BY_TRAIN: tuple[dict[str, Any], dict[str, Any]] = ({"train": True}, {"train": False})
_BY_SPLIT: tuple[dict[str, Any], dict[str, Any]] = ({"split": "train"}, {"split": "test"})


def _cifar10(root: Path) -> ImageSource:
    mean, deviation = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
    train, test = _load("cifar10", "CIFAR10", root, _BY_TRAIN)
    return ImageSource("cifar10", train, test, PartSizes(5000, 2500), flip=True, mean=mean, deviation=deviation)


def _other(
    name: str, class_name: str, flip: bool, splits: tuple[dict[str, Any], dict[str, Any]], root: Path
) -> ImageSource:
    train, test = _load(name, class_name, root, splits)
    return ImageSource(name, train, test, PartSizes(5000, 2500), flip=flip)


TORCHVISION_SETS: dict[str, Callable[[Path], ImageSource]] = {
    "cifar10": _cifar10,
    "cifar100": partial(_other, "cifar100", "CIFAR100", True, _BY_TRAIN),
    "fashion_mnist": partial(_other, "fashion_mnist", "FashionMNIST", True, _BY_TRAIN),
    "mnist": partial(_other, "mnist", "MNIST", False, _BY_TRAIN),
    "svhn": partial(_other, "svhn", "SVHN", False, _BY_SPLIT),
}
"""Name -> loader of (root)."""
