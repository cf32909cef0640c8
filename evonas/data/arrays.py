"""Arrays and torch data sets of a user's own -> an `ImageSource`, checked and converted."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from torch.utils.data import IterableDataset

from evonas.data.source import Images, ImageSource, Labels, Part, PartSizes
from evonas.errors import DataError

__all__ = ["array_source", "torch_arrays"]


def array_source(
    x_train: npt.ArrayLike, y_train: npt.ArrayLike, x_test: npt.ArrayLike, y_test: npt.ArrayLike, name: str, where: str
) -> ImageSource:
    """Square uint8 images, grey or colour, channels first or last; integer labels 0..K-1.

    Images are (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); all are copied, and grey ones are repeated to three
    channels. 10% of the training images are the validation part, 5% the adversarial part. Mirrored images are not
    assumed to keep their class.

    Args:
        name: name of the data set.
        where: origin of the arrays, for error messages.
    Raises:
        DataError: another shape, dtype or label; training and test images of different sizes.
    """
    train, test = _part(x_train, y_train, f"{where}, train"), _part(x_test, y_test, f"{where}, test")
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"expected training and test images of one size in {where}, "
            f"got {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    sizes = PartSizes(validation=max(len(train) // 10, 1), adversarial=len(train) // 20)
    return ImageSource(name, train, test, sizes, flip=False)


def torch_arrays(dataset: Any, where: str) -> tuple[Images, Labels]:
    """All items of a map-style torch data set: (N, ...) uint8 images in the layout of its items, and (N,) labels.

    Args:
        dataset: has a length, and yields (image, label) at 0, 1, ...: a tensor or array of uint8 or of floats in
            [0, 1], or a PIL image, and an integer. Floats are rounded to the nearest 8-bit level, which restores what
            torchvision's ToTensor was given.
        where: origin of the images, for error messages.
    Raises:
        DataError: anything else, or images of different shapes.
    """
    if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__len__"):
        raise DataError(
            f"expected a map-style data set with a length in {where}, got {type(dataset).__name__}; "
            "collect its images in arrays and use Dataset.from_arrays"
        )
    n = len(dataset)
    images, labels = np.empty((n, 0), dtype=np.uint8), np.empty(n, dtype=np.int64)
    for index in range(n):
        item = dataset[index]
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) != 2:
            raise DataError(f"expected a pair (image, label) at {index} in {where}, got {type(item).__name__}")
        pixels = _eight_bit(item[0], f"{index} in {where}")
        if index == 0:
            images = np.empty((n, *pixels.shape), dtype=np.uint8)
        if pixels.shape != images.shape[1:]:
            raise DataError(
                f"expected images of one size in {where}, got {images.shape[1:]} at 0 and {pixels.shape} at {index}; "
                "resize them in the data set's transform"
            )
        images[index] = pixels
        labels[index] = _label(item[1], f"{index} in {where}")
    return images, labels


def _part(images: npt.ArrayLike, labels: npt.ArrayLike, where: str) -> Part:
    images, labels = _array(images, f"images in {where}"), _array(labels, f"labels in {where}")
    if images.dtype != np.uint8 or images.ndim not in (3, 4) or len(images) == 0:
        raise DataError(f"expected uint8 images (N, H, W[, C]) in {where}, got {images.dtype} {images.shape}")
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise DataError(f"expected square images with 1 or 3 channels in {where}, got {images.shape[1:]}")
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or labels.shape != (len(images),)
        or not 0 <= int(labels.min()) <= int(labels.max()) < 2**31
    ):
        raise DataError(
            f"expected {len(images)} integer labels >= 0 in {where}, got {labels.dtype} of shape {labels.shape}"
        )
    colour = images if images.shape[1] == 3 else images.repeat(3, axis=1)
    return Part(np.array(colour, dtype=np.uint8, order="C"), labels.astype(np.int64))


def _array(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # ragged lists, tensors on a GPU
        raise DataError(f"expected an array of {what}, got {type(values).__name__} ({error})") from error


def _eight_bit(image: Any, where: str) -> Images:
    """The image's pixels as uint8, in its own layout; a PIL image becomes (H, W, 3)."""
    if hasattr(image, "convert"):  # PIL
        image = image.convert("RGB")
    if isinstance(image, Tensor):
        image = image.detach().cpu()
        image = image.float() if image.is_floating_point() else image  # NumPy has no bfloat16
    pixels = np.asarray(image)
    if pixels.dtype == np.uint8:
        return pixels
    if not np.issubdtype(pixels.dtype, np.floating):
        raise DataError(f"expected an image of uint8 or of floats in [0, 1] at {where}, got {pixels.dtype}")
    if pixels.size and not (pixels.min() >= 0 and pixels.max() <= 1):  # NaN is neither
        raise DataError(
            f"expected an image in [0, 1] at {where}, got values from {pixels.min():g} to {pixels.max():g}; "
            "leave normalisation out of the transform, the network's first layer does it"
        )
    return np.rint(pixels.astype(np.float64) * 255).astype(np.uint8)


def _label(label: Any, where: str) -> int:
    try:
        value = operator.index(label)
    except TypeError:
        raise DataError(f"expected an integer label at {where}, got {type(label).__name__}") from None
    if not 0 <= value < 2**31:
        raise DataError(f"expected a label >= 0 at {where}, got {value}")
    return value
