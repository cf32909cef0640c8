"""Scores of individuals that were scored before."""

import torch
from torch import Tensor

__all__ = ["KEY_BITS", "ScoreCache"]

KEY_BITS = 40
"""Keys are in [0, 2^40)."""
SLOT_BITS = 16
"""Every image has 2^16 slots, some 0.8 MB; a newer individual takes the slot of an older one."""
GOLDEN = -7046029254386353131  # 2^64 divided by the golden ratio, as int64: spreads keys over the slots


class ScoreCache:
    """For each of B images a table from keys to scores. It may forget; what it gives is exact.

    Once a population has closed in on a pixel, many of its individuals decode to what was scored before.
    """

    def __init__(self, images: int, device: torch.device) -> None:
        self._keys = torch.full((images, 2**SLOT_BITS), -1, dtype=torch.int64, device=device)
        self._scores = torch.zeros((images, 2**SLOT_BITS), device=device)

    def get(self, owner: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
        """(n,) image indices and keys -> (n,) scores and a (n,) mask of those that are known."""
        slots = _slots(keys)
        return self._scores[owner, slots], self._keys[owner, slots] == keys

    def put(self, owner: Tensor, keys: Tensor, scores: Tensor) -> None:
        """Remember (n,) scores; no pair of image and key comes twice."""
        slots = _slots(keys)
        self._keys[owner, slots] = keys
        won = self._keys[owner, slots] == keys  # of several in one slot
        self._scores[owner[won], slots[won]] = scores[won]

    def keep(self, images: Tensor) -> None:
        """Go on with the images of a (B,) mask alone."""
        self._keys, self._scores = self._keys[images], self._scores[images]


def _slots(keys: Tensor) -> Tensor:
    spread = (keys * GOLDEN) >> (64 - SLOT_BITS)
    return spread.bitwise_and(2**SLOT_BITS - 1)
