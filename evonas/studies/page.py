"""Files that a study leaves: study.md, a file for each table and figure of the paper, and the rows behind them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from evonas.report import TextTable, duration, write_rows
from evonas.report.output import write_text
from evonas.report.text_table import write_page
from evonas.studies.study import Item, Studied, failed
from evonas.studies.tables import NOTE, PAIRED

__all__ = ["PAGE", "status_table", "write_study"]

PAGE = "study.md"
READING = (NOTE, PAIRED)
"""Notes of many tables, which stand once on the page, as that on the training does."""


def write_study(studied: Studied) -> Path:
    """Write rows.csv, table-*.md and .csv, figure-*.png and study.md from what is finished; returns the page.

    A figure that cannot be drawn any more is removed, as are rows that nothing is behind. Equal runs give equal files.

    Raises:
        StorageError: the folder cannot be written.
    """
    root = studied.root
    if studied.rows:
        write_rows(root / "rows.csv", studied.rows)
    else:
        (root / "rows.csv").unlink(missing_ok=True)
    parts = [_item(studied, item) for item in studied.study.items]
    write_text(
        root / PAGE,
        "\n".join([*_head(studied), *_findings(studied), *_index(studied, parts), *_body(studied, parts)]).rstrip()
        + "\n",
    )
    return root / PAGE


class _Part:
    """Files made of an item."""

    def __init__(self, item: Item, tables: Sequence[TextTable], files: Sequence[str]) -> None:
        self.item, self.tables, self.files = item, tables, files


def _item(studied: Studied, item: Item) -> _Part:
    trained = (studied.recipe.note,) if studied.recipe.name else ()
    tables = [replace(table, notes=(*table.notes, *trained)) for table in item.tables(studied)] if item.tables else []
    files = []
    if tables:
        write_page(studied.root / f"{item.stem}.md", tables)
        for place, table in enumerate(tables):
            name = f"{item.stem}{f'-{place + 1}' if len(tables) > 1 else ''}.csv"
            rows = [dict(zip(_unlike(table.header), line, strict=True)) for line in table.lines]
            write_rows(studied.root / name, rows, _unlike(table.header))
            files.append(name)
    if item.draw is not None:
        picture = studied.root / f"{item.stem}.png"
        if item.draw(studied, picture):
            files.append(picture.name)
        else:
            picture.unlink(missing_ok=True)
    return _Part(item, tables, files)


def _unlike(header: Sequence[str]) -> list[str]:
    """Headings, those that stand twice numbered."""
    return [
        f"{name} {header[: place + 1].count(name)}" if header.count(name) > 1 else name
        for place, name in enumerate(header)
    ]


def _head(studied: Studied) -> Iterator[str]:
    study, done = studied.study, len(studied.finished)
    yield f"# Study {study.name}, {studied.preset}\n"
    yield f"{study.paper}\n"
    yield f"{done} of {len(studied.cells)} runs with {studied.seeds} seed(s) are finished; all is made from these.\n"
    if studied.recipe.name:
        yield f"{studied.recipe.note}\n"
    if studied.source is not None:
        where = Path(os.path.relpath(studied.source, studied.root)).as_posix()
        yield f"Runs: those of the study {study.shares} in `{where}`.\n"
    for cell in studied.cells:
        found = studied.states[cell.folder]
        if found.status == "failed":
            yield f"- {cell.folder} failed: {found.about}"
    for folder, rows in studied.read.items():
        if count := sum(map(failed, rows)):
            yield f"- {folder}: {count} of {len(rows)} rows are of failed networks, and left out"
    for note in study.notes:
        yield f"{note}\n"
    yield "\n## How to read the tables\n"
    yield from (f"- {note}" for note in READING)


def _findings(studied: Studied) -> Iterator[str]:
    if studied.study.findings is not None:
        yield "\n## What the numbers say\n"
        yield from (f"- {line}" for line in studied.study.findings(studied))


def _index(studied: Studied, parts: Sequence[_Part]) -> Iterator[str]:
    yield "\n## Tables and figures of the paper\n"
    yield "| item | what | file | differs from the paper, and why |\n| --- | --- | --- | --- |"
    for part in parts:
        files = ", ".join(f"[{name}]({name})" for name in part.files) or "-"
        yield f"| {part.item.name} | {part.item.about} | {files} | {part.item.differs} |"


def _body(studied: Studied, parts: Sequence[_Part]) -> Iterator[str]:
    for part in parts:
        if part.item.tables is None and part.item.draw is None:
            continue
        yield f"\n## {part.item.name}\n"
        for table in part.tables:
            above = (*READING, studied.recipe.note)
            yield replace(table, notes=tuple(note for note in table.notes if note not in above)).markdown()
        for name in part.files:
            if name.endswith(".png"):
                yield f"![{part.item.name}]({name})"
        if not part.files:
            yield "No run behind it is finished."


def status_table(studied: Studied) -> TextTable:
    """One line a run: its folder, what became of it, how far it is or why it failed, how long it took."""
    lines = tuple(
        (cell.folder, found.status, found.about, duration(found.seconds) if found.seconds else "")
        for cell in studied.cells
        for found in [studied.states[cell.folder]]
    )
    counts = ", ".join(
        f"{number} {status}"
        for status in ("finished", "begun", "failed", "waiting")
        if (number := sum(found.status == status for found in studied.states.values()))
    )
    trained = f", trained by {studied.recipe.words}" if studied.recipe.name else ""
    title = f"Study {studied.study.name}, {studied.preset}{trained}: {counts}"
    return TextTable(title, ("Run", "State", "", "Time"), lines)
