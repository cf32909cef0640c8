"""Runs and tables as the commands show them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from evonas.report import TextTable
    from evonas.runs.result import Result

__all__ = ["File", "Folder", "Folders", "opened", "print_table"]

Folder = Annotated[Path, tyro.conf.Positional]
Folders = Annotated[tuple[Path, ...], tyro.conf.Positional]
File = Annotated[Path, tyro.conf.Positional]


def opened(path: Path, plugin: tuple[str, ...], data: str = "") -> Result:
    """A stored run; says where lines of its journal are lost."""
    from evonas.methods.stored import open_run

    result = open_run(path, plugin, data)
    if result.folder.damage:
        print(result.folder.damage)
    return result


def print_table(table: TextTable, kept: int) -> None:
    """The table in parts that the terminal is wide enough for, each with the first `kept` columns."""
    from rich.console import Console

    from evonas.report import folded
    from evonas.runs.screen import Screen

    screen = Screen(Console())
    screen.tables(folded(table, screen.console.width, kept))
