"""TAM-NAS's Table I: the layers of the supernet, from the first to the last, beside those that the paper prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from evonas.report import TextTable

__all__ = ["layer_lines", "layers_table"]

IMAGE_SIZE, COLOURS, CLASSES = 32, 3, 10
REPORTED = """
3x3 Conv | 32^2 x 3   | 24   | 1 | 1
BN       | 32^2 x 24  | 24   | 1 |
CB       | 32^2 x 24  | 48   | 1 | 2
CB       | 16^2 x 48  | 48   | 3 | 1
CB       | 16^2 x 48  | 96   | 1 | 2
CB       | 8^2 x 96   | 96   | 7 | 1
CB       | 8^2 x 96   | 192  | 1 | 2
CB       | 4^2 x 192  | 192  | 3 | 1
1x1 Conv | 4^2 x 192  | 176  | 1 | 1
BN       | 4^2 x 176  | 176  | 1 |
Pooling  | 1^2 x 176  | 176  | 1 |
SE       | 1^2 x 176  | 920  | 1 |
1x1 Conv | 1^2 x 920  | 1024 | 1 | 1
FC       | 1^2 x 1024 | 10   | 1 | 1
"""
"""Block, shape of its input, output channels, repeats, stride."""


class Plan(Protocol):
    """Widths and depths of a supernet."""

    @property
    def stem(self) -> int: ...
    @property
    def stages(self) -> Sequence[tuple[int, int]]: ...
    @property
    def head(self) -> tuple[int, int]: ...


def layer_lines(plan: Plan) -> Iterator[tuple[str, str, str, str, str]]:
    """Block, shape of its input, output channels, repeats and stride of every layer that Table I has."""
    size = IMAGE_SIZE

    def line(
        block: str, inner: int, channels: int, repeat: int = 1, stride: str = ""
    ) -> tuple[str, str, str, str, str]:
        return block, f"{size}^2 x {inner}", str(channels), str(repeat), stride

    width, (middle, last) = plan.stem, plan.head
    yield line("3x3 Conv", COLOURS, width, stride="1")
    yield line("BN", width, width)
    for channels, blocks in plan.stages:
        yield line("CB", width, channels, stride="2")
        size, width = (size + 1) // 2, channels
        yield line("CB", width, width, blocks - 1, "1")
    yield line("1x1 Conv", width, middle, stride="1")
    yield line("BN", middle, middle)
    yield line("Pooling", middle, middle)
    size = 1
    yield line("SE", middle, middle)
    yield line("1x1 Conv", middle, last, stride="1")
    yield line("FC", last, CLASSES, stride="1")


def layers_table(plan: Plan) -> TextTable:
    """Every layer in its place, and what the paper prints there."""
    reported = (tuple(cell.strip() for cell in line.split("|")) for line in REPORTED.strip().splitlines())
    lines = tuple((*own, *paper[1:]) for own, paper in zip(layer_lines(plan), reported, strict=True))
    columns = ("Input shape", "Channels", "Repeat", "Stride")
    return TextTable(
        "Table I: the supernet's layers", ("Block", *columns, *(f"{each} as reported" for each in columns)), lines
    )
