"""Errors that a user can cause. Each message is one line: what was expected, what came, what to do.

A command prints that line and exits with 2, or with 1 after a search in which everything failed. Any other exception
is a defect and shows its traceback.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import ClassVar, TypeVar

__all__ = [
    "ConfigurationError",
    "DataError",
    "DivergedError",
    "EvonasError",
    "ExecutionError",
    "RunInUseError",
    "RunMismatchError",
    "SearchFailedError",
    "StoppedEarly",
    "StorageError",
    "UnknownNameError",
    "check_name",
    "choose",
    "nearest",
]

T = TypeVar("T")


class EvonasError(Exception):
    """Base of all errors that a user can cause and resolve."""

    exit_code: ClassVar[int] = 2
    """Exit code of a command that ends with it."""


class ConfigurationError(EvonasError, ValueError):
    """An invalid setting."""


class UnknownNameError(EvonasError, KeyError):
    """A name that is not in its table."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the quoted repr


class DataError(EvonasError):
    """Data that are missing, damaged or of another shape."""


class StorageError(EvonasError):
    """A file or folder that cannot be read or written: a full disk, a read-only folder, a foreign file."""


class RunMismatchError(EvonasError):
    """A run folder that belongs to another configuration."""


class RunInUseError(EvonasError):
    """A run folder to which another process is writing."""


class SearchFailedError(EvonasError):
    """A search without one evaluation that succeeded."""

    exit_code = 1


class ExecutionError(EvonasError):
    """Workers that cannot be started, reached or set up, or a job that failed although all else needs it."""


class DivergedError(EvonasError, ArithmeticError):
    """Training or scoring with values that are not finite: ends one evaluation, never a search."""


class StoppedEarly(Exception):
    """The end of a training whose network cannot enter the front any more: no error, see `evonas.search.stopping`."""


def choose(table: Mapping[str, T], name: str, kind: str) -> T:
    """`table[name]`; UnknownNameError, with the known names, where it is missing.

    Args:
        kind: description of the table's entries, for the message.
    """
    check_name(table, name, kind)
    return table[name]


def check_name(table: Iterable[str], name: str, kind: str) -> None:
    """UnknownNameError, as `choose` raises it, for a name that a table lacks; nothing in it is loaded."""
    known = [*table]
    if name not in known:
        raise UnknownNameError(f"unknown {kind} {name!r}; {nearest(name, known)}known: {', '.join(sorted(known))}")


def nearest(name: str, known: Iterable[str]) -> str:
    """`did you mean NAME? ` with the nearest known name; empty where none is near."""
    near = difflib.get_close_matches(name, [*known], 1)
    return f"did you mean {near[0]}? " if near else ""
