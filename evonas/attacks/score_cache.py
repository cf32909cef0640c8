"""A cache of the scores of individuals."""

import torch
from torch import Tensor

__all__ = ["KEY_BITS", "ScoreCache"]

KEY_BITS = 40
"""Keys are in [0, 2^40)."""
SLOT_BITS = 16
"""Every image has 2^16 slots, about 0.8 MB; a newer individual replaces an older one in its slot."""
GOLDEN = -7046029254386353131
"""2^64 divided by the golden ratio, as int64; multiplication by it spreads keys over the slots."""


class ScoreCache:
    """A table from keys to scores for each of B images. Entries may be lost; returned scores are exact.

    Once a population has converged on a pixel, many individuals decode to a change that was scored before.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self._keys = torch.full((images, 2**SLOT_BITS), -1, dtype=torch.int64, device=device)
        self._scores = torch.zeros((images, 2**SLOT_BITS), dtype=torch.float32, device=device)

    def get(self, owner: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) image indices and keys -> (n,) scores and a (n,) mask of the valid ones."""
        slots = _slots(keys)
        return self._scores[owner, slots], self._keys[owner, slots] == keys

    def put(self, owner: Tensor, keys: Tensor, scores: Tensor) -> None:
        """Store (n,) scores; pairs of image and key must be distinct."""
        slots = _slots(keys)
        self._keys[owner, slots] = keys
        won = self._keys[owner, slots] == keys  # one of several keys in the same slot
        self._scores[owner[won], slots[won]] = scores[won]

    def keep(self, images: Tensor) -> None:
        """Drop all images outside a (B,) mask."""
        self._keys, self._scores = self._keys[images], self._scores[images]


def _slots(keys: Tensor) -> Tensor:
    spread = (keys * GOLDEN) >> (64 - SLOT_BITS)
    return spread.bitwise_and(2**SLOT_BITS - 1)
