"""Plans of shuffle networks: blocks to choose from, widths and depths (TAM-NAS, III-B); no torch."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

__all__ = ["BLOCKS", "BlockKind", "Place", "ShufflePlan", "Unit", "squeezed"]


class BlockKind(NamedTuple):
    """One of the 22 choices of Table VII."""

    main: Literal["S", "SX", ""]
    """Main branch: ShuffleNetV2, its Xception variant, or none (a pure robust block)."""
    kernel: int
    """Kernel size of the depthwise convolutions; 0 without any."""
    non_local: Literal["NE", "NG", ""] = ""
    """Non-local part: embedded Gaussian, Gaussian, or none."""
    batch_norm: bool = True
    """Whether batch normalisation follows the last convolution of the non-local part."""

    @property
    def name(self) -> str:
        parts = [self.main, self.non_local, "BN" if not self.main and self.batch_norm else "", "SE"]
        return "+".join(filter(None, parts)) + (f" k{self.kernel}" if self.kernel else "")


BLOCKS: tuple[BlockKind, ...] = (
    *(BlockKind(main, k, non_local) for non_local in ("", "NE", "NG") for main in ("S", "SX") for k in (3, 5, 7)),
    *(BlockKind("", 0, non_local, batch_norm) for non_local in ("NE", "NG") for batch_norm in (True, False)),
)
"""Choices 0 to 21 (Table VII): 0-5 tiny, 6-17 tiny robust, 18-21 pure robust."""


class Unit(NamedTuple):
    """A chosen block: its kind, and the channels inside it, which the search chooses, too."""

    kind: BlockKind
    mid: int
    """Channels between the pointwise convolutions of the branch; in a pure robust block, of the non-local part."""


@dataclass(frozen=True)
class ShufflePlan:
    """Widths and depths of a network (Table I)."""

    stem: int = 24
    stages: tuple[tuple[int, int], ...] = ((48, 4), (96, 8), (192, 4))
    """(channels, blocks) of every stage; the first block of a stage has stride 2."""
    head: tuple[int, int] = (920, 1024)
    """Channels of the head's two 1x1 convolutions."""

    @property
    def places(self) -> tuple["Place", ...]:
        """The place of each choice block."""
        found, width, size = [], self.stem, 1
        for channels, blocks in self.stages:
            size *= 2
            for number in range(blocks):
                found.append(Place(width, channels, 1 if number else 2, size))
                width = channels
        return tuple(found)


class Place(NamedTuple):
    """Channels, stride and size of a choice block in its plan."""

    in_channels: int
    out_channels: int
    stride: int
    reduction: int
    """Factor between the height and width of the image and of the block's output, which round up."""

    @property
    def branch(self) -> int:
        """Output channels of the main branch."""
        return self.out_channels - self.in_channels if self.stride == 2 else self.out_channels // 2


def squeezed(channels: int) -> int:
    """Hidden width of squeeze-and-excitation: channels // 4 to the nearest multiple of 8, at least 8, and rounded up
    where rounding down loses more than a tenth."""
    wanted = channels // 4
    rounded = max(8, (wanted + 4) // 8 * 8)
    return rounded + 8 if 10 * rounded < 9 * wanted else rounded
