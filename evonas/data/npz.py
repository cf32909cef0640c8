"""Images of a user's own: one npz file with x_train, y_train, x_test, y_test."""

import zipfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from evonas.data.arrays import array_source
from evonas.data.source import ImageSource
from evonas.errors import DataError

__all__ = ["load_npz"]

KEYS = ("x_train", "y_train", "x_test", "y_test")


def load_npz(path: Path) -> ImageSource:
    """The arrays of an npz file, as `array_source` takes them; nothing is unpickled."""
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
    return array_source(**arrays, name=f"npz:{path.name}", where=str(path))


def _array(archive: zipfile.ZipFile, key: str) -> npt.NDArray[np.generic]:
    with archive.open(f"{key}.npy") as member:
        array: npt.NDArray[np.generic] = np.lib.format.read_array(member, allow_pickle=False)
    return array
