"""Images of a user's own: one npz file with x_train, y_train, x_test, y_test."""

import math
import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evonas.data.arrays import array_source
from evonas.data.source import ImageSource
from evonas.errors import DataError
from evonas.files import decoding, open_regular

__all__ = ["load_npz"]

KEYS = ("x_train", "y_train", "x_test", "y_test")

LARGEST_ARRAY = 2**36
"""Limit in bytes on one array, whatever its header says."""

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def load_npz(path: Path) -> ImageSource:
    """The arrays of an npz file, as `array_source` takes them; nothing is unpickled.

    No more memory is asked for than the file can fill.

    Raises:
        DataError: there is no such file, it is damaged, or it holds something else.
    """
    remedy = "write it with np.savez(PATH, x_train=..., y_train=..., x_test=..., y_test=...)"
    with decoding(f"expected an npz file of plain arrays in {path}", remedy):
        try:
            file = open_regular(path)
        except FileNotFoundError as error:
            raise DataError("there is no such file") from error
        with file, zipfile.ZipFile(file) as archive:
            missing = [key for key in KEYS if f"{key}.npy" not in archive.namelist()]
            if missing:
                raise DataError(f"it lacks {', '.join(missing)}")
            arrays = {key: _array(archive, key) for key in KEYS}
    return array_source(**arrays, name=f"npz:{path.name}", where=str(path))


def _array(archive: zipfile.ZipFile, key: str) -> npt.NDArray[np.generic]:
    """An array of the archive, once its header promises as many bytes as there are."""
    entry = archive.getinfo(f"{key}.npy")
    if entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{key} is compressed in a way that NumPy never writes")
    if entry.file_size > min(1040 * entry.compress_size + 1024, LARGEST_ARRAY):  # deflate makes at most 1032 of one
        raise DataError(f"{key} promises {entry.file_size} bytes, more than the file can hold")
    with archive.open(entry) as member:
        version = np.lib.format.read_magic(member)
        if version not in _HEADERS:
            raise DataError(f"{key} has the unknown version {version} of its header")
        shape, _, dtype = _HEADERS[version](member)
        promised, left = math.prod(shape) * dtype.itemsize, entry.file_size - member.tell()
    if dtype.hasobject or promised != left:
        raise DataError(f"the header of {key} promises {promised} bytes of {dtype}, there are {left}")
    with archive.open(entry) as member:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
    return array
