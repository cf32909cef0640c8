"""Names that are imported when they are first used, so that a command loads only what it runs."""

import ast
import inspect
import sys
from collections.abc import Iterator, Mapping, MutableMapping
from importlib import import_module
from types import ModuleType
from typing import Any, TypeVar

__all__ = ["Table", "import_lazily"]

T = TypeVar("T")


def import_lazily(module: str) -> None:
    """Make the names that a module imports below `if TYPE_CHECKING:` there at run time, too, each when first asked for.

    Called at the end of a room's `__init__.py`: type checkers see plain imports, and importing the room costs nothing.
    """
    loaded = sys.modules[module]
    loaded.__dict__["__lazy__"] = {
        alias.asname or alias.name: (str(statement.module), alias.name)
        for block in ast.parse(inspect.getsource(loaded)).body
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for statement in block.body
        if isinstance(statement, ast.ImportFrom)
        for alias in statement.names
    }
    loaded.__class__ = _LazyModule


class _LazyModule(ModuleType):
    """A module with names that are imported when they are first used."""

    __lazy__: Mapping[str, tuple[str, str]]
    """Name -> module, and name there."""

    def __getattr__(self, name: str) -> Any:
        if name not in self.__lazy__:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        module, there = self.__lazy__[name]
        value = getattr(import_module(module), there)
        self.__dict__[name] = value
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        """Leave a name to what it stands for where Python would hide that behind the file of the same name."""
        if not (name in self.__lazy__ and isinstance(value, ModuleType)):
            super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return import_module, (self.__name__,)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *self.__lazy__})


class Table(MutableMapping[str, T]):
    """A dictionary whose values may be given as "module:name" and are then imported when they are first asked for.

    "module:name()" is a class or function that is called without arguments. The keys are known without any import.
    """

    def __init__(self, entries: Mapping[str, Any]) -> None:
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> T:
        value = self._entries[name]
        if isinstance(value, str):
            module, there = value.removesuffix("()").split(":")
            value = getattr(import_module(module), there)
            value = self._entries[name] = value() if self._entries[name].endswith("()") else value
        found: T = value
        return found

    def __setitem__(self, name: str, value: T) -> None:
        self._entries[name] = value

    def __delitem__(self, name: str) -> None:
        del self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __len__(self) -> int:
        return len(self._entries)

    def copy(self) -> "Table[T]":
        """A table of its own."""
        return Table(self._entries)

    __copy__ = copy

    def __or__(self, other: Mapping[str, T]) -> "Table[T]":
        added = other._entries if isinstance(other, Table) else other
        return Table({**self._entries, **added})

    def __repr__(self) -> str:
        return f"Table({', '.join(self._entries)})"
