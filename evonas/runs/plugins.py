"""Parts from files of the user's own: they run only when they are named, and their hashes belong to a run."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from evonas.errors import ConfigurationError

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
        path = Path(given).expanduser().resolve()
        content = _content(path)
        if _loaded.get(path) == content:
            continue
        module = _executed(path)
        joined = [name for name in TABLES if isinstance(getattr(module, name, None), Mapping)]
        if not joined:
            raise ConfigurationError(f"expected a table of {', '.join(TABLES)} in {path}, such as SPACES = {{...}}")
        for name in joined:
            _join(getattr(importlib.import_module(TABLES[name]), name), getattr(module, name), f"{name} of {path}")
        _loaded[path] = content


def plugin_identity(files: Iterable[str]) -> dict[str, str]:
    """File name -> SHA-256 of its content, 16 hexadecimal digits: part of the identity of a run that uses it."""
    return {Path(given).name: _content(Path(given).expanduser().resolve()) for given in files}


def refuse_without_plugins(stored: Mapping[str, Any], files: Iterable[str]) -> None:
    """ConfigurationError where a stored run was begun with plugins that are not named now, or are other ones."""
    begun, given = stored.get("identity", {}).get("plugins", {}), plugin_identity(files)
    missing = [name for name in begun if name not in given]
    if missing:
        known = stored.get("settings", {}).get("plugin", [])
        flags = " ".join(f"--plugin {path}" for path in known if Path(path).name in missing)
        raise ConfigurationError(
            f"expected the plugin that this run was begun with, {', '.join(missing)}, which runs only when it is "
            f"named; give {flags or '--plugin FILE'}"
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
    if path.stem in sys.modules or importlib.util.find_spec(path.stem) is not None:
        raise ConfigurationError(
            f"expected a plugin with a name of its own, {path.stem} is a module already; rename it"
        )
    sys.path.append(str(path.parent))
    try:
        return importlib.import_module(path.stem)
    except Exception as error:
        sys.modules.pop(path.stem, None)
        sys.path.remove(str(path.parent))
        raise ConfigurationError(f"{path} cannot be executed: {type(error).__name__}: {error}") from error


def _join(table: dict[str, Any], more: Mapping[str, Any], what: str) -> None:
    taken = [name for name in more if name in table]
    if taken:
        raise ConfigurationError(f"expected names of its own in {what}, {', '.join(taken)} is in use; rename it")
    table.update(more)
