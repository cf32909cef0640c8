"""Errors that a user can cause, each one line: what was expected, what came, what to do.

A command line prints that line and exits with 2; anything else that is raised is a defect and shows its traceback.
"""

from collections.abc import Mapping
from typing import TypeVar

__all__ = [
    "ConfigurationError",
    "DataError",
    "DivergedError",
    "EvonasError",
    "ExecutionError",
    "RunInUseError",
    "RunMismatchError",
    "StorageError",
    "UnknownNameError",
    "choose",
]

Part = TypeVar("Part")


class EvonasError(Exception):
    """Anything that a user can cause and mend."""


class ConfigurationError(EvonasError, ValueError):
    """A setting that makes no sense."""


class UnknownNameError(EvonasError, KeyError):
    """A name that no table has."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show the quoted repr


class DataError(EvonasError):
    """Images that are missing, damaged or of another shape."""


class StorageError(EvonasError):
    """A disk that is full, a folder that is read-only, a file that is not ours."""


class RunMismatchError(EvonasError):
    """A run folder that belongs to another configuration."""


class RunInUseError(EvonasError):
    """A run folder that another process is writing."""


class ExecutionError(EvonasError):
    """Workers that cannot be started, reached or set up."""


class DivergedError(EvonasError, ArithmeticError):
    """Training or scoring that left the finite numbers: ends one evaluation, never a search."""


def choose(table: Mapping[str, Part], name: str, kind: str) -> Part:
    """The part called `name`, or an error that lists the known names."""
    if name not in table:
        raise UnknownNameError(f"unknown {kind} {name!r}; known: {', '.join(sorted(table))}")
    return table[name]
