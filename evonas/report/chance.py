"""Results that are no better than guessing, called that in tables and pictures."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from evonas.report.units import axis_scale, is_error, shown

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Chance", "chance_notes", "draw_chance", "marked"]

NEAR = 0.8
"""A picture shows chance level where some error is at least this part of it."""


@dataclass(frozen=True)
class Chance:
    """Error of guessing one of the classes, and how many images errors are shares of."""

    n_classes: int
    images: int
    others: Mapping[str, int] = field(default_factory=dict, hash=False)
    """Column -> its own number of images, where that is another one."""

    @classmethod
    def of(cls, n_classes: int, images: int, measured: Mapping[str, Mapping[str, Any]]) -> Self | None:
        """Chance level with the number of images of every column that states one, such as an attack on 100.

        None for 0 images, such as those of a table: how many there were is unknown.
        """
        if not images:
            return None
        counts = {name: about.get("images") for name, about in measured.items()}
        return cls(n_classes, images, {name: count for name, count in counts.items() if isinstance(count, int)})

    @property
    def error(self) -> float:
        return 1 - 1 / self.n_classes

    def reached(self, column: str, value: float) -> bool:
        """Whether a value is an error that is not below that of guessing by more than two standard errors."""
        margin = 2 * math.sqrt(self.error * (1 - self.error) / self.others.get(column, self.images))
        return is_error(column) and value >= self.error - margin

    def mark(self, column: str, value: float) -> str:
        """`*` for what `reached` says of, else nothing."""
        return "*" if self.reached(column, value) else ""

    @property
    def note(self) -> str:
        """Meaning of the mark, in a line."""
        others = ", ".join(f"{name}: {count}" for name, count in self.others.items())
        return (
            f"*: chance level; guessing one of {self.n_classes} classes errs on {100 * self.error:.1f}%, and on "
            f"{self.images} images{f' ({others})' if others else ''} this is no better, by two standard errors."
        )


def marked(row: Mapping[Any, Any], names: Iterable[str], chance: Chance | None) -> Iterator[str]:
    """Values of a row with their units, and a mark where they are at chance level."""
    for name in names:
        yield shown(name, row[name]) + ("" if chance is None else chance.mark(name, row[name]))


def chance_notes(
    lines: Iterable[Iterable[str]], chance: Chance | None, columns: Iterable[str] | None = None
) -> tuple[str, ...]:
    """Meaning of the mark, where a cell of a table ends with it.

    Args:
        columns: of the table; the note leaves out what it says of others. None: all.
    """
    marked = chance is not None and any(cell.endswith("*") for line in lines for cell in line)
    if chance is None or not marked:
        return ()
    shown = set(chance.others if columns is None else columns)
    return (replace(chance, others={name: n for name, n in chance.others.items() if name in shown}).note,)


def draw_chance(axes: Axes, horizontal: str, vertical: str, chance: Chance | None) -> None:
    """Draw a dotted line at chance level across every axis of errors that come near to it."""
    if chance is None:
        return
    label = "chance"
    for column, line, limits in ((horizontal, axes.axvline, axes.get_xlim), (vertical, axes.axhline, axes.get_ylim)):
        level = chance.error * axis_scale(column)
        if is_error(column) and limits()[1] >= NEAR * level:
            line(level, color="0.45", linewidth=1, linestyle=":", label=label, zorder=1)
            label = ""  # one entry in the legend
