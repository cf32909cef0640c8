"""A user's own images: one npz file with x_train, y_train, x_test, y_test."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evonas.data.dataset import ImageSource, Part, PartSizes
from evonas.errors import DataError

__all__ = ["load_npz"]

KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path) -> ImageSource:
    """Square uint8 images, grey or colour, channels first or last; integer labels 0..K-1; nothing is unpickled.

    Images are (N, H, W), (N, H, W, 1 or 3) or (N, 1 or 3, H, W); grey ones are repeated to three channels. 10% of the
    training images rank candidates, 5% are set aside for adversarial sets. Mirrored images are not assumed to keep
    their class.
    """
    try:
        with open(path, "rb") as handle, zipfile.ZipFile(handle) as archive:
            missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
            if missing:
                raise DataError(f"expected the arrays {', '.join(KEYS)} in {path}, missing {', '.join(missing)}")
            arrays = {key: _array(archive, key) for key in KEYS}
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}; --data npz:PATH names your own images") from error
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(f"expected an npz file of plain arrays, {path} is not one ({error})") from error
    train, test = (_part(arrays[f"x_{s}"], arrays[f"y_{s}"], f"{path}, {s}") for s in ("train", "test"))
    if train.images.shape[1:] != test.images.shape[1:]:
        raise DataError(
            f"expected training and test images of one size in {path}, "
            f"got {train.images.shape[1:]} and {test.images.shape[1:]}"
        )
    sizes = PartSizes(validation=max(len(train) // 10, 1), adversarial=len(train) // 20)
    return ImageSource(f"npz:{path.name}", train, test, sizes, flip=False)


def _array(archive: zipfile.ZipFile, key: str) -> npt.NDArray[np.generic]:
    with archive.open(f"{key}.npy") as member:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
    return array


def _part(images: npt.NDArray[np.generic], labels: npt.NDArray[np.generic], where: str) -> Part:
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
    return Part(np.ascontiguousarray(colour, dtype=np.uint8), labels.astype(np.int64))
