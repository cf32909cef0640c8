"""Tables for people: as Markdown, or folded for a narrow terminal."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from evonas.report.output import write_text

__all__ = ["TextTable", "diverged_note", "folded", "write_page"]


@dataclass(frozen=True)
class TextTable:
    """Cells as text, with a title above and notes below."""

    title: str
    header: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    notes: tuple[str, ...] = ()

    def markdown(self) -> str:
        ruled = ["---"] * len(self.header)
        lines = ["| " + " | ".join(cells) + " |" for cells in (self.header, ruled, *self.lines)]
        return "\n\n".join([f"**{self.title}**", "\n".join(lines), *self.notes]) + "\n"

    def part(self, columns: Sequence[int], notes: tuple[str, ...] = ()) -> "TextTable":
        """These columns alone, their header broken at spaces."""
        header = tuple(self.header[at].replace(" ", "\n") for at in columns)
        return TextTable(self.title, header, tuple(tuple(line[at] for at in columns) for line in self.lines), notes)


def folded(table: TextTable, width: int, kept: int) -> list[TextTable]:
    """The table in parts no wider than a terminal of `width` characters, with fewer columns each.

    Header cells break at their spaces; the last part has the notes. A part has at least one column of its own.

    Args:
        kept: number of leading columns that every part begins with.
    """
    cells = [[*name.split(), *(line[at] for line in table.lines)] for at, name in enumerate(table.header)]
    wide = [max(map(len, column)) + 3 for column in cells]
    first = list(range(kept))
    parts: list[list[int]] = [first[:]]
    for column in range(kept, len(table.header)):
        if len(parts[-1]) > kept and 1 + sum(wide[at] for at in [*parts[-1], column]) > width:
            parts.append(first[:])
        parts[-1].append(column)
    *others, last = parts
    return [*(table.part(columns) for columns in others), table.part(last, table.notes)]


def diverged_note(names: Iterable[str]) -> tuple[str, ...]:
    """One note that names networks without scores; empty where there are none."""
    listed = ", ".join(names)
    return (f"Left out, because training or scoring diverged: {listed}.",) if listed else ()


def write_page(path: Path, tables: Iterable[TextTable], notes: Iterable[str] = ()) -> None:
    """Write tables as Markdown, with a list of notes below."""
    parts = [*(table.markdown() for table in tables), *(f"- {note}" for note in notes)]
    write_text(path, "\n".join(parts).rstrip() + "\n")
