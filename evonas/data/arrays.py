"""Arrays and torch data sets of a user's own -> an `ImageSource`, checked and converted."""

import operator
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.data.source import Images, ImageSource, Labels, Part, PartSizes
from evonas.errors import DataError

__all__ = ["array_source", "torch_arrays"]


def array_source(
    x_train: npt.ArrayLike, y_train: npt.ArrayLike, x_test: npt.ArrayLike, y_test: npt.ArrayLike, name: str, where: str
) -> ImageSource:
    """Square images, grey or colour, channels first or last; labels 0..K-1.

    Images are (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); all are copied, and grey ones are repeated to three
    channels. Floats in [0, 1] are taken times 255, and they and other numbers in [0, 255] are rounded to 8 bits. Labels
    1..K and one-hot rows become 0..K-1. `converted` says what was done. 10% of the training images are the validation
    part, 5% the adversarial part. Mirrored images are not assumed to keep their class.

    Args:
        name: name of the data set.
        where: origin of the arrays, for error messages.
    Raises:
        DataError: another shape, dtype or label; training and test images of different sizes.
    """
    places = f"{where}, train", f"{where}, test"
    images, of_images = _eight_bits([_images(x, at) for x, at in zip((x_train, x_test), places, strict=True)], where)
    counts = [len(each) for each in images]
    labels, of_labels = _classes(
        [_labels(y, count, at) for y, count, at in zip((y_train, y_test), counts, places, strict=True)]
    )
    train, test = (_part(*each) for each in zip(images, labels, places, strict=True))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"expected training and test images of one size in {where}, "
            f"got {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    sizes = PartSizes(validation=max(len(train) // 10, 1), adversarial=len(train) // 20)
    notes = "; ".join(filter(None, (of_images, of_labels)))
    return ImageSource(name, train, test, sizes, flip=False, converted=f"data: {notes}" if notes else "")


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
    from torch.utils.data import IterableDataset

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


def _images(values: npt.ArrayLike, where: str) -> npt.NDArray[Any]:
    """Numbers (N, H, W[, C]), at least one pixel."""
    images = _array(values, f"images in {where}")
    numbers = np.issubdtype(images.dtype, np.floating) or np.issubdtype(images.dtype, np.integer)
    if not numbers or images.ndim not in (3, 4) or images.size == 0:
        raise DataError(f"expected uint8 images (N, H, W[, C]) in {where}, got {images.dtype} {images.shape}")
    return images


def _eight_bits(parts: list[npt.NDArray[Any]], where: str) -> tuple[list[Images], str]:
    """All images as uint8, on one scale, and a few words where that changed them."""
    kinds = " and ".join(dict.fromkeys(str(part.dtype) for part in parts))
    if kinds == "uint8":
        return parts, ""
    low, high = min(part.min() for part in parts), max(part.max() for part in parts)
    whole = any(np.issubdtype(part.dtype, np.integer) for part in parts)
    either = not whole and 1 < high < 16  # images in [0, 1] that overshoot would turn black as ones in [0, 255]
    if not (low >= 0 and high <= 255) or either or (whole and (high <= 1 or " and " in kinds)):  # NaN is neither
        raise DataError(
            f"expected uint8 images in {where}, or all of them as floats in [0, 1] or as numbers in [0, 255], got "
            f"{kinds} from {low:g} to {high:g}; scale them, without normalisation: the network's first layer does it"
        )
    if high <= 1:
        return [_rounded(part, 255) for part in parts], f"{kinds} images in [0, 1] taken times 255, as 8 bits"
    return [_rounded(part, 1) for part in parts], f"{kinds} images in [0, 255] taken as 8 bits"


def _rounded(images: npt.NDArray[Any], factor: int) -> Images:
    """The nearest 8-bit levels, a few images at a time."""
    levels = np.empty(images.shape, dtype=np.uint8)
    for first in range(0, len(images), 1024):
        levels[first : first + 1024] = np.rint(images[first : first + 1024].astype(np.float64) * factor)
    return levels


def _labels(values: npt.ArrayLike, count: int, where: str) -> npt.NDArray[Any]:
    """(count,) integers >= 0, or (count, K) one-hot rows."""
    labels = _array(values, f"labels in {where}")
    if labels.shape[:1] != (count,):
        raise DataError(f"expected {count} integer labels >= 0 in {where}, got {labels.dtype} of shape {labels.shape}")
    if labels.shape == (count, 1):
        labels = labels[:, 0]
    number = labels.dtype == np.bool_ or np.issubdtype(labels.dtype, np.number)
    if number and labels.ndim == 2 and np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all():
        return labels
    if (
        not np.issubdtype(labels.dtype, np.integer)
        or labels.shape != (count,)
        or not 0 <= int(labels.min()) <= int(labels.max()) < 2**31
    ):
        raise DataError(
            f"expected {count} integer labels >= 0 in {where}, or one-hot rows, got {labels.dtype} of shape "
            f"{labels.shape}; number the classes 0 to K-1"
        )
    return labels.astype(np.int64)


def _classes(parts: list[npt.NDArray[Any]]) -> tuple[list[Labels], str]:
    """Labels 0..K-1 of training and test, and a few words where that changed them."""
    notes = []
    if any(part.ndim == 2 for part in parts):
        parts = [part.argmax(axis=1) if part.ndim == 2 else part for part in parts]
        notes.append("one-hot labels taken as numbers of their columns")
    train, last = parts[0], int(parts[0].max())
    if min(part.min() for part in parts) == 1 and np.unique(train).tolist() == [*range(1, min(last, len(train)) + 1)]:
        parts = [part - 1 for part in parts]
        notes.append(f"labels 1 to {last} taken as 0 to {last - 1}")
    return [part.astype(np.int64) for part in parts], "; ".join(notes)


def _part(images: Images, labels: Labels, where: str) -> Part:
    if images.ndim == 3:
        images = images[:, None]
    elif images.shape[-1] in (1, 3) and images.shape[1] not in (1, 3):
        images = images.transpose(0, 3, 1, 2)
    if images.shape[1] not in (1, 3) or images.shape[2] != images.shape[3]:
        raise DataError(
            f"expected square images with 1 or 3 channels in {where}, got {images.shape[1:]}; crop or pad them"
        )
    colour = images if images.shape[1] == 3 else images.repeat(3, axis=1)
    return Part(np.array(colour, dtype=np.uint8, order="C"), labels)


def _array(values: npt.ArrayLike, what: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(values)
    except (ValueError, TypeError) as error:  # ragged lists, tensors on a GPU
        raise DataError(f"expected an array of {what}, got {type(values).__name__} ({error})") from error


def _eight_bit(image: Any, where: str) -> Images:
    """The image's pixels as uint8, in its own layout; a PIL image becomes (H, W, 3)."""
    from torch import Tensor

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
