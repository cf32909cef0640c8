"""Plugin files, and commands with them as in a new process."""

import contextlib
import itertools
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import own_parts
import pytest

from evonas import plugins
from evonas.cli import main

NUMBERS = itertools.count()


@contextlib.contextmanager
def process() -> Iterator[None]:
    """As a new process: no plugin is loaded, and nothing of one stays behind in tables, modules and paths."""
    tables = {name: getattr(import_module(room), name) for name, room in plugins.TABLES.items()}
    before = {name: dict(table) for name, table in tables.items()}
    modules, paths = set(sys.modules), list(sys.path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plugins, "_loaded", {})
        patch.setattr(sys, "dont_write_bytecode", True)
        for name in ("plot_front", "plot_history"):
            patch.setattr(f"evonas.runs.folder.{name}", lambda *arguments: None)
        try:
            yield
        finally:
            for name, table in tables.items():
                table.clear()
                table.update(before[name])
            for name in set(sys.modules) - modules:
                if name.startswith("plugin"):
                    del sys.modules[name]
            sys.path[:] = paths


def call(*words: str) -> int:
    """The exit code of `evonas WORDS` in a new process."""
    with process():
        return main(words)


def new_plugin(folder: Path, text: str = "") -> Path:
    """A plugin of a name of its own; `own_parts.py` by default."""
    path = folder / f"plugin_{next(NUMBERS)}.py"
    path.write_text(text or Path(own_parts.__file__).read_text())
    return path
