"""Errors with their uncertainty: the images that are wrong, drawn again with replacement."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from evonas.errors import StorageError

__all__ = ["Bits", "Floats", "drawn_errors", "packed", "unpacked"]

Bits = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


def packed(bits: Bits) -> list[Any]:
    """(N,) bool as JSON: their number, and the bits in hexadecimal digits."""
    return [len(bits), np.packbits(bits).tobytes().hex()]


def unpacked(value: Any) -> Bits:
    """Bits that `packed` gave. StorageError for anything else."""
    try:
        count, digits = value
        array = np.frombuffer(bytes.fromhex(digits), dtype=np.uint8)
        if not 0 < count <= 8 * len(array) < count + 8:
            raise ValueError
        return np.unpackbits(array, count=count).astype(bool)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"expected [number, hexadecimal digits] of images in a record of the audit, got {value!r:.60}; remove it"
        ) from error


def drawn_errors(wrong: Sequence[Sequence[Bits]], draws: int, rng: np.random.Generator) -> Floats:
    """(draws, networks) errors on images that are drawn with replacement, the same ones for every network.

    Args:
        wrong: of each network, for each seed of its training, (N,) bool; seeds are drawn with replacement as well.
    """
    images = len(wrong[0][0])
    counts = rng.multinomial(images, [1 / images] * images, size=draws)  # (draws, N)
    columns = []
    for seeds in wrong:
        errors = counts @ np.stack(seeds).T.astype(np.float64) / images  # (draws, seeds)
        chosen = rng.integers(len(seeds), size=(draws, len(seeds)))
        columns.append(np.take_along_axis(errors, chosen, axis=1).mean(axis=1))
    return np.stack(columns, axis=1)
