"""The text of --help: grouped options, the usual ones first; --help-all shows every one."""

import inspect
import re
import shutil
import textwrap
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from evonas.runs.needs import Option, documentation, flag, options_of

__all__ = ["example_lines", "help_text", "metavar"]

INDENT = 26
WORDS = {int: "INT", float: "NUMBER", str: "TEXT", Path: "PATH"}
MANY = {int: "INT,INT,...", float: "NUMBER,NUMBER,...", str: "NAME,NAME,..."}


def help_text(program: str, options: Any, everything: bool) -> str:
    """Help for options, with the values of `options` as defaults, no wider than the terminal or 100 columns.

    Args:
        everything: show all options; else those that the class names as `short`.
    """
    width = min(shutil.get_terminal_size().columns, 100)
    every = list(options_of(options))
    short = getattr(type(options), "short", ())
    shown = every if everything or not short else [option for option in every if option.name in short]
    lines = [f"usage: {program} [OPTIONS]", "", *_wrapped(_summary(type(options)), width, "")]
    for owner in dict.fromkeys(option.owner for option in shown):
        title = "options" if isinstance(options, owner) else re.split(r"[.;:]|, and| \(", _summary(owner))[0]
        lines += ["", *_wrapped(f"{title}:", width, "")]
        for option in shown:
            if option.owner is owner:
                lines += _described(option, width)
    lines += ["", *_described_flag("--help", "Show this help.", width)]
    if len(shown) < len(every):
        lines += _described_flag("--help-all", f"Show all {len(every)} options.", width)
    lines += example_lines(type(options))
    return "\n".join(lines)


def example_lines(kind: type) -> list[str]:
    """Last lines of a help text: the `example` of a class of options or of a command, unbroken, to be pasted."""
    example = getattr(kind, "example", "")
    return ["", f"example: {example}"] if example else []


def metavar(hint: Any) -> str:
    """Placeholder for a value of this type."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kinds = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        return metavar(next(kind for kind in kinds if kind is not type(None)))
    if get_origin(hint) is Literal:
        return "|".join(str(kind) for kind in kinds if kind != "")
    if get_origin(hint) is tuple:
        return MANY[kinds[0]] if kinds[1:] == (...,) else " ".join(metavar(kind) for kind in kinds)
    return "" if hint is bool else WORDS.get(hint, "VALUE")


def _described(option: Option, width: int) -> list[str]:
    name = flag(option.name)
    value, text = option.value, documentation(option.owner).get(option.name, "")
    word = metavar(option.hint)
    called = f"--{name} {word}" if word else f"--{'no-' if value is True else ''}{name}"
    default = _default(value)
    needs = f"With {option.needs[-1]}: " if option.needs else ""
    return _described_flag(called, f"{needs}{text}{f' [{default}]' if default else ''}", width)


def _default(value: Any) -> str:
    if value is None or value is True or value is False or value in ("", ()):
        return ""
    if isinstance(value, tuple):
        return ",".join(map(_default, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _described_flag(called: str, text: str, width: int) -> list[str]:
    lines = list(_wrapped(text, width, " " * INDENT))
    if len(called) + 4 > INDENT:
        return [f"  {called}", *lines]
    first = lines[0].strip() if lines else ""
    return [f"  {called:<{INDENT - 2}}{first}".rstrip(), *lines[1:]]


def _summary(kind: type) -> str:
    return " ".join((inspect.getdoc(kind) or "").split("\n\n")[0].split())


def _wrapped(text: str, width: int, indent: str) -> Iterator[str]:
    yield from textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_long_words=False)
