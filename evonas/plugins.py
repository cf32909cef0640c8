"""Parts from files of the user's own: they run only when they are named, and their hashes belong to a run."""

import hashlib
import importlib
import importlib.util
import shlex
import sys
from collections.abc import Iterable, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from evonas.errors import ConfigurationError
from evonas.files import expanded

__all__ = ["TABLES", "load_plugins", "plugin_identity", "refuse_without_plugins"]

TABLES = {
    "SPACES": "evonas.spaces",
    "OBJECTIVES": "evonas.objectives",
    "RECIPES": "evonas.training",
    "ATTACKS": "evonas.attacks",
    "MEASUREMENTS": "evonas.audit",
}
"""Name of a table -> the room that has it; a plugin's table of that name joins it."""

_loaded: dict[Path, str] = {}
"""File -> hash of what was executed."""


def load_plugins(files: Iterable[str]) -> None:
    """Execute the files and let their tables join evonas's own; each once in a process.

    Raises:
        ConfigurationError: a file is missing, cannot be executed, has no table, or takes a name that is in use.
    """
    for given in files:
        path = expanded(given).resolve()
        content = _content(path)
        if _loaded.get(path, content) != content:
            raise ConfigurationError(f"{path} has changed since this process loaded it; begin a new process")
        if path in _loaded:
            continue
        module = _executed(path)
        try:
            tables = _tables(module, path)
        except ConfigurationError:
            _forget(path)
            raise
        for name, table in tables.items():
            table.update(getattr(module, name))
        _loaded[path] = content


def plugin_identity(files: Iterable[str]) -> dict[str, str]:
    """File name -> SHA-256 of its content, 16 hexadecimal digits: part of the identity of a run that uses it."""
    return {Path(given).name: _content(expanded(given).resolve()) for given in files}


def plugin_flag(stored: Mapping[str, Any]) -> str:
    """` --plugin FILE` for a command on a stored run; empty where it was begun without."""
    begun, known = stored.get("identity", {}).get("plugins", {}), stored.get("settings", {}).get("plugin", [])
    paths = ",".join(path for path in known if Path(path).name in begun)
    return f" --plugin {shlex.quote(paths or 'FILE')}" if begun else ""


def refuse_without_plugins(stored: Mapping[str, Any], files: Iterable[str]) -> None:
    """ConfigurationError where a stored run was begun with plugins that are not named now, or are other ones."""
    begun, given = stored.get("identity", {}).get("plugins", {}), plugin_identity(files)
    missing = [name for name in begun if name not in given]
    if missing:
        raise ConfigurationError(
            f"expected the plugin that this run was begun with, {', '.join(missing)}, which runs only when it is "
            f"named; give{plugin_flag(stored)}"
        )
    changed = [name for name in begun if given[name] != begun[name]]
    if changed:
        raise ConfigurationError(
            f"expected {changed[0]} as this run was begun with ({begun[changed[0]]}), got another content "
            f"({given[changed[0]]}); restore it, or name another folder with --out"
        )


def _content(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except OSError as error:
        raise ConfigurationError(f"expected a Python file with --plugin, got {path}: {error.strerror}") from error


def _executed(path: Path) -> Any:
    """The module, under the name of its file, so that workers that are handed its parts can import it, too."""
    if "." in path.stem or path.stem in sys.modules or _is_another(path):
        raise ConfigurationError(
            f"expected a plugin with a name of its own, {path.stem} is a module already or has a dot; rename it"
        )
    sys.path.append(str(path.parent))
    importlib.invalidate_caches()  # the file may be newer than this process
    try:
        return importlib.import_module(path.stem)
    except (Exception, SystemExit) as error:
        _forget(path)
        raise ConfigurationError(f"{path} cannot be executed: {type(error).__name__}: {error}") from error


def _is_another(path: Path) -> bool:
    """Whether another file has the module's name."""
    found = importlib.util.find_spec(path.stem)
    return found is not None and (found.origin is None or Path(found.origin).resolve() != path)


def _tables(module: Any, path: Path) -> dict[str, dict[str, Any]]:
    """Tables of evonas that the module's own can join. ConfigurationError where there are none."""
    joined = [name for name in TABLES if isinstance(getattr(module, name, None), Mapping)]
    if not joined:
        raise ConfigurationError(f"expected a table of {', '.join(TABLES)} in {path}, such as SPACES = {{...}}")
    tables = {name: getattr(importlib.import_module(TABLES[name]), name) for name in joined}
    for name, table in tables.items():
        _check_entries(name, getattr(module, name), path)
        taken = [each for each in getattr(module, name) if each in table]
        if taken:
            raise ConfigurationError(
                f"expected names of its own in {name} of {path}, {', '.join(taken)} is in use; rename it"
            )
    return tables


def _check_entries(table: str, entries: Mapping[Any, Any], path: Path) -> None:
    """ConfigurationError where a name cannot be given on a command line, or a value is no part of this kind."""
    for name, value in entries.items():
        if not isinstance(name, str) or not name or "," in name:
            raise ConfigurationError(f"expected names without commas in {table} of {path}, got {name!r}")
        if table == "MEASUREMENTS":
            fits, expected = isinstance(value, tuple), "a tuple of measurements"
        elif table == "SPACES":
            fits, expected = is_dataclass(value), "a dataclass"
        else:
            fits, expected = callable(value), "a class or a function"
        if not fits:
            raise ConfigurationError(f"expected {expected} as {table}[{name!r}] of {path}, got {value!r}")


def _forget(path: Path) -> None:
    sys.modules.pop(path.stem, None)
    sys.path.remove(str(path.parent))
