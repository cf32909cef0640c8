"""Values from the words of a command line, each read by the type of its option."""

import types
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from evonas.errors import ConfigurationError, choose
from evonas.files import expanded
from evonas.runs.needs import flag, options_of

__all__ = ["is_switch", "read_number", "read_words"]


def read_words(argv: Sequence[str], options: Any) -> dict[str, Any]:
    """Option name -> value, for every flag that is given; of one that is given twice the last counts.

    Names and numbers in a tuple are words, or one with commas; a tuple of fixed length is as many words. `none` is no
    value, but for a path, which is then called so.

    Args:
        argv: known flags, see `refuse_unknown`.
    Raises:
        ConfigurationError: a value is missing, or is none of its option; one line.
    """
    hints = {flag(option.name): (option.name, _plain(option.hint)) for option in options_of(options)}
    found: dict[str, Any] = {}
    words = list(argv)
    while words:
        given, equals, value = words.pop(0).partition("=")
        called = given.removeprefix("--").replace("_", "-")
        if not given.startswith("--"):
            raise ConfigurationError(f"expected a flag, got {given!r}")
        on = called in hints
        name, hint = hints[called] if on else hints[called.removeprefix("no-")]
        if is_switch(hint) and not equals:
            found[name] = on
            continue
        if is_switch(hint) or not on:
            raise ConfigurationError(f"expected {given} without a value, got {given}{equals}{value}")
        values = [value] if equals else []
        while len(values) < _n_words(hint, values) and words and not words[0].startswith("--"):
            values.append(words.pop(0))
        if len(values) < _n_words(hint, values):
            raise ConfigurationError(f"expected {_n_words(hint, values)} value(s) after --{called}, got {len(values)}")
        while _is_list(hint) and words and not words[0].startswith("--"):
            values.append(words.pop(0))
        found[name] = _value(f"--{called}", hint, [",".join(values)] if _is_list(hint) else values)
    return found


def read_number(called: str, word: str, whole: bool = False) -> Any:
    """An integer, or a float such as 0.1, 8/255 or inf; ConfigurationError for anything else."""
    try:
        if whole:
            return int(word)
        above, over, below = word.partition("/")
        return float(above) / float(below) if over else float(above)
    except (ValueError, ZeroDivisionError):
        kind = "a whole number" if whole else "a number, such as 0.1 or 8/255,"
        raise ConfigurationError(f"expected {kind} for {called}, got {word!r}") from None


def _value(called: str, hint: Any, words: Sequence[str]) -> Any:
    kinds = get_args(hint)
    if get_origin(hint) in (Union, types.UnionType):
        (kind,) = (each for each in kinds if each is not type(None))
        return None if words[0].lower() == "none" and kind is not Path else _value(called, kind, words)
    if get_origin(hint) is Literal:
        return choose({str(kind): kind for kind in kinds}, words[0], called)
    if get_origin(hint) is tuple:
        if kinds[1:] == (...,):
            words, kinds = [word for word in words[0].split(",") if word], kinds[:1]
            return tuple(_value(called, kinds[0], [word]) for word in words)
        return tuple(_value(called, kind, [word]) for kind, word in zip(kinds, words, strict=True))
    if hint in (int, float):
        return read_number(called, words[0], hint is int)
    if hint is Path and not words[0]:
        raise ConfigurationError(f"expected a path for {called}, got nothing")
    return expanded(words[0]) if hint is Path else words[0]


def _n_words(hint: Any, given: Sequence[str]) -> int:
    """Words of a value of this type."""
    kinds = get_args(hint)
    if type(None) in kinds:
        (kind,) = (each for each in kinds if each is not type(None))
        return 1 if given and given[0].lower() == "none" else _n_words(kind, given)
    return len(kinds) if get_origin(hint) is tuple and ... not in kinds else 1


def is_switch(hint: Any) -> bool:
    """Whether an option of this type is given without a value: --NAME or --no-NAME."""
    plain = _plain(hint)
    return plain is bool or bool in get_args(plain)


def _is_list(hint: Any) -> bool:
    """Whether it is a tuple of any length, or may be one."""
    return get_args(hint)[1:] == (...,) or any(get_args(each)[1:] == (...,) for each in get_args(hint))


def _plain(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint
