"""scikit-learn's 1,797 handwritten digits; its package holds them, so nothing is downloaded."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np

from evonas.data.source import ImageSource, Part, PartSizes
from evonas.errors import DataError

__all__ = ["load_digits"]


def load_digits(root: Path) -> ImageSource:
    """8x8 grey images of 0 to 16, scaled to 0..255, enlarged to 32x32 (nearest), repeated to three channels."""
    found = find_spec("sklearn")
    if found is None or not found.submodule_search_locations:
        raise DataError("expected scikit-learn, which holds the digits, it is not installed; pip install scikit-learn")
    file = Path(found.submodule_search_locations[0], "datasets", "data", "digits.csv.gz")
    if not file.exists():
        raise DataError(f"expected scikit-learn's digits in {file}, this version keeps them elsewhere; install another")
    table = np.loadtxt(file, delimiter=",")
    images, labels = table[:, :-1], table[:, -1]  # as sklearn.datasets.load_digits, whose import takes a second
    pixels = np.rint(images.reshape(-1, 1, 8, 8) / 16 * 255).astype(np.uint8)
    enlarged = pixels.repeat(4, axis=2).repeat(4, axis=3).repeat(3, axis=1)
    return ImageSource(
        "digits", Part(enlarged, labels.astype(np.int64)), None, PartSizes(250, 150, test=300), flip=False
    )
