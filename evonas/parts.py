"""Identities: plain values that tell a part, or a whole run, from every other one of its kind."""

import hashlib
import inspect
import json
import types
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

from evonas.errors import ConfigurationError, RunMismatchError

__all__ = ["as_plain", "digest", "fits", "part_identity", "part_name", "refuse_another_run"]


CHANGED_DEFAULTS = {
    "combine.applied_to": "weights-on",
    "bilevel.order": "order",
}
"""End of a name in an identity, whose default has been another one -> the flag that still gives it."""


def part_name(part: Any) -> str:
    """Name of a part: its `name`, else that of the function or class."""
    name = part.__name__ if inspect.isroutine(part) else getattr(part, "name", type(part).__name__)
    if name == "<lambda>":
        raise ConfigurationError("expected a function with a name of its own, got a lambda; write it with def")
    return str(name)


def part_identity(part: Any) -> dict[str, Any]:
    """Plain values for JSON that are equal for equal parts and differ for different ones.

    `part.identity()` if there is one; else `{"fingerprint": ...}` of a part that holds arrays; else the fields of a
    dataclass. A field that holds a part becomes its name and its identity, a function its name.

    Args:
        part: an objective, recipe, space, attack, ...: a frozen dataclass, an object with `identity()` or
            `fingerprint`, or a function.
    Raises:
        ConfigurationError: a lambda, or an object that none of these rules covers.
    """
    if inspect.isroutine(part):
        return {"name": part_name(part)}
    if callable(getattr(part, "identity", None)):
        return dict(part.identity())
    if hasattr(part, "fingerprint"):
        return {"fingerprint": part.fingerprint}
    if is_dataclass(part) and not isinstance(part, type):
        return {field.name: _plain(getattr(part, field.name)) for field in fields(part)}
    raise ConfigurationError(
        f"expected a frozen dataclass, or an object with identity() or a fingerprint, got {part!r}; "
        "a run recognises its parts by these"
    )


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, tuple | list):
        values = [_plain(each) for each in value]
        return tuple(values) if isinstance(value, tuple) else values
    if isinstance(value, dict):
        return {key: _plain(each) for key, each in value.items()}
    if inspect.isroutine(value):
        return part_name(value)
    identity = part_identity(value)
    return identity if identity.keys() == {"fingerprint"} else {"name": part_name(value), **identity}


def as_plain(identity: Mapping[str, Any]) -> dict[str, Any]:
    """An identity as it comes back from a JSON file: tuples are lists, keys are text, infinity is "Infinity"."""
    return dict(json.loads(json.dumps(identity), parse_constant=str))


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of JSON can stand for one of an annotated type: a list for a tuple, text for a path.

    Args:
        hint: as `get_type_hints` gives it; a class that JSON does not know is not checked.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return any(type(value) is type(each) and value == each for each in arguments)
    if origin is tuple and arguments[1:] != (...,):
        return isinstance(value, list | tuple) and len(value) == len(arguments) and all(map(fits, value, arguments))
    if origin in (tuple, list):
        return isinstance(value, list | tuple) and all(fits(each, arguments[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(fits(each, arguments[1]) for each in value.values())
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    if hint is types.NoneType:
        return value is None
    if hint in (str, Path):
        return isinstance(value, str)
    return hint is not bool or isinstance(value, bool)


def digest(identity: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of SHA-256 over an identity."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, allow_nan=False).encode()).hexdigest()[:16]


def refuse_another_run(path: Path, stored: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """RunMismatchError, with the difference, where the run at `path` has another identity."""
    difference = list(_differences(stored, identity))
    if difference:
        there = (f"{name} is {_short(recorded)} there, {_short(given)} here" for name, recorded, given in difference)
        flags = dict.fromkeys(
            f"--{flag} {recorded}"
            for name, recorded, _ in difference
            for end, flag in CHANGED_DEFAULTS.items()
            if name.endswith(end)
        )
        settings = f"the same settings ({' '.join(flags)})" if flags else "the same settings"
        raise RunMismatchError(
            f"{path} belongs to another run: {'; '.join(there)}; give {settings}, or name another folder"
        )


def _differences(recorded: Any, given: Any, name: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(name, recorded, given) of every leaf in which two identities differ."""
    if isinstance(recorded, Mapping) and isinstance(given, Mapping):
        for key in [*recorded, *(key for key in given if key not in recorded)]:
            inner = f"{name}.{key}" if name and key else name or str(key)
            yield from _differences(recorded.get(key, "nothing"), given.get(key, "nothing"), inner)
    elif _of_mappings(recorded) and _of_mappings(given) and len(recorded) == len(given):
        for number, pair in enumerate(zip(recorded, given, strict=True)):
            yield from _differences(*pair, f"{name}.{number}")
    elif recorded != given:
        yield name, recorded, given


def _of_mappings(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value)


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
