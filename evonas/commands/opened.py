"""Runs and tables as the commands show them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from evonas.errors import ConfigurationError

if TYPE_CHECKING:
    from evonas.report import JointRun, TextTable
    from evonas.runs.result import Result

__all__ = ["File", "Folder", "Folders", "joint_runs", "opened", "print_json", "print_table", "say"]

Folder = Annotated[Path, tyro.conf.Positional]
Folders = Annotated[tuple[Path, ...], tyro.conf.Positional]
File = Annotated[Path, tyro.conf.Positional]


def opened(path: Path, plugin: tuple[str, ...], data: str = "", quiet: bool = False) -> Result:
    """A stored run; says where lines of its journal are lost, unless it is to be quiet."""
    from evonas.methods.stored import open_run

    result = open_run(path, plugin, data)
    if result.folder.damage and not quiet:
        say(result.folder.damage)
    return result


def joint_runs(paths: Sequence[Path]) -> tuple[list[JointRun], list[str]]:
    """Runs as read from their folders, named by these or, where two are called alike, by their paths; and lost lines.

    Raises:
        ConfigurationError: a folder that is no run, or is given twice.
    """
    from evonas.runs.folder import RunFolder, joint_run

    if len({path.resolve() for path in paths}) < len(paths):
        raise ConfigurationError(f"expected every run once, got {', '.join(map(str, paths))}")
    names = [path.resolve().name for path in paths]
    runs: list[JointRun] = []
    damages: list[str] = []
    for path, name in zip(paths, names, strict=True):
        folder = RunFolder(path)
        runs.append(joint_run(folder, name if names.count(name) == 1 else str(path)))
        damages += [folder.damage] if folder.damage else []
    return runs, damages


def print_json(value: Mapping[str, Any]) -> None:
    """One JSON object on standard output; ValueError for NaN and infinities."""
    print(json.dumps(value, indent=2, allow_nan=False))


def say(line: str) -> None:
    """A line for people, broken at words where the terminal is narrow."""
    from rich.console import Console

    from evonas.runs.screen import Screen

    Screen(Console()).say(line)


def print_table(table: TextTable, kept: int) -> None:
    """The table in parts that the terminal is wide enough for, each with the first `kept` columns."""
    from rich.console import Console

    from evonas.report import folded
    from evonas.runs.screen import Screen

    screen = Screen(Console())
    screen.tables(folded(table, screen.console.width, kept))
