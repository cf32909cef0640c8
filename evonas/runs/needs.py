"""Options as leaves of nested dataclasses: their flags, their words, and what brings them into use."""

import ast
import inspect
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from functools import cache
from typing import Annotated, Any, NamedTuple, get_args, get_origin, get_type_hints

import tyro

from evonas.errors import ConfigurationError

__all__ = ["Needs", "Option", "documentation", "flag", "options_of", "refuse_unused"]


@dataclass(frozen=True)
class Needs:
    """Marks an option, or a group of them, that only another option brings into use.

    Args:
        option: its field name.
        values: it must have one of these, or hold one of them; none: it must be set.
        but: fields of the marked group that are in use anyway.
        instead: another option that brings it into use as well.
    """

    option: str
    values: tuple[Any, ...] = ()
    but: tuple[str, ...] = ()
    instead: "Needs | None" = None

    def met(self, values: Mapping[str, Any]) -> bool:
        value = values[self.option]
        found = {*value} if isinstance(value, tuple) else {value}
        met = bool(found & {*self.values}) if self.values else bool(value)
        return met or (self.instead is not None and self.instead.met(values))

    def __str__(self) -> str:
        words = f"--{flag(self.option)} {' or '.join(map(str, self.values))}".strip()
        return words if self.instead is None else f"{words}, or {self.instead}"


class Option(NamedTuple):
    """One leaf of nested options."""

    name: str
    value: Any
    """None where only the class was given."""
    hint: Any
    """Its type, with what annotates it."""
    owner: type
    """The dataclass that declares it."""
    needs: tuple[Needs, ...]
    """Conditions of its use; empty: it is always used."""


def options_of(given: Any) -> Iterator[Option]:
    """Leaves of nested options, those of a group where the group stands; hidden ones left out."""
    yield from _leaves(given, ())


def _leaves(given: Any, needs: tuple[Needs, ...]) -> Iterator[Option]:
    kind = given if isinstance(given, type) else type(given)
    hints = _hints(kind)
    for each in fields(kind):
        hint = hints[each.name]
        extras = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
        plain = get_args(hint)[0] if extras else hint
        if tyro.conf.Suppress in extras:
            continue
        own = (*needs, *(extra for extra in extras if isinstance(extra, Needs)))
        own = tuple(need for need in own if each.name not in need.but)
        if is_dataclass(plain):
            yield from _leaves(plain if given is kind else getattr(given, each.name), own)
        else:
            value = None if given is kind else getattr(given, each.name)
            yield Option(each.name, value, hint, kind, own)


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def flag(name: str) -> str:
    """Name of a field on the command line, without its dashes."""
    return {"asynchronous": "async", "from_": "from"}.get(name, name.replace("_", "-"))


def refuse_unused(options: Any, preset: Any = None) -> None:
    """ConfigurationError where an option differs from the preset's, or its default, although nothing reads it.

    Besides `Needs`, the method `unused` of the options, where they have one, names such options: field -> what would
    bring it into use.
    """
    values = {option.name: option.value for option in options_of(options)}
    usual = {option.name: option.value for option in options_of(preset)} if preset else _defaults(type(options))
    unused: dict[str, str] = options.unused() if hasattr(options, "unused") else {}
    for option in options_of(options):
        unmet = [str(need) for need in option.needs if not need.met(values)] + [
            text for name, text in unused.items() if name == option.name
        ]
        if unmet and option.value != usual[option.name]:
            raise ConfigurationError(
                f"expected options that this run uses, --{flag(option.name)} changes nothing without {unmet[0]}; "
                "leave it out, or change that"
            )


def _defaults(kind: Any) -> dict[str, Any]:
    return {each.name: each.default for each in fields(kind) if each.default is not MISSING}


@cache
def documentation(owner: type) -> Mapping[str, str]:
    """Field -> the text below it in the source, of a dataclass and of those that it extends."""
    found: dict[str, str] = {}
    for kind in reversed(owner.__mro__):
        if not is_dataclass(kind):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(kind))).body[0]
        assert isinstance(body, ast.ClassDef)
        for statement, following in zip(body.body, body.body[1:], strict=False):
            if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
                text = following.value.value if _is_text(following) else ""  # type: ignore[attr-defined]
                found[statement.target.id] = " ".join(str(text).split())
    return found


def _is_text(statement: ast.stmt) -> bool:
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return False
    return isinstance(statement.value.value, str)
