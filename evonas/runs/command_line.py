"""A command line from a settings dataclass, and one clear line for whatever the user can cause."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from evonas.errors import ConfigurationError, EvonasError
from evonas.runs.interrupt import Interrupted

__all__ = ["command", "guarded", "one_line", "parse"]

Settings = TypeVar("Settings")


def command(run: Callable[[Settings], None], presets: Mapping[str, Settings], argv: Sequence[str] | None = None) -> int:
    """Parse the command line, run, and return the exit code: 0, 2 for anything to mend, 130 or 143 for a signal.

    Args:
        presets: name -> settings; the first is the default, `--preset NAME` takes another, further flags override.
    """
    return guarded(lambda: run(parse(presets, sys.argv[1:] if argv is None else argv)))


def guarded(run: Callable[[], None]) -> int:
    """The exit code of `run`; an error that a user can mend is one line on standard error."""
    try:
        run()
    except EvonasError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except Interrupted as interrupted:
        print("stopped: everything finished is kept; the same command goes on from there", file=sys.stderr)
        return interrupted.exit_code
    except BrokenPipeError:  # whoever read what is printed has gone, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    except KeyboardInterrupt:
        print("stopped before anything was evaluated; the same command starts again", file=sys.stderr)
        return 130
    return 0


def parse(presets: Mapping[str, Settings], argv: Sequence[str]) -> Settings:
    """Settings from a command line; exits with 0 after --help.

    Raises:
        ConfigurationError: something unknown or senseless was given; one line.

    Names in a tuple are given as one word with commas: `--objectives clean_error,macs`.
    """
    name = _preset(argv, next(iter(presets)))
    default = presets.get(name, next(iter(presets.values())))  # an unknown one is refused below, by its field's type
    registry = ConstructorRegistry()
    registry.primitive_rule(_comma_separated)
    with registry, one_line():
        return tyro.cli(
            type(default),
            default=default,
            args=list(argv),
            config=(tyro.conf.OmitArgPrefixes,),
            description="Flags override the preset.",
        )


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Within, what tyro says about wrong arguments is raised as a ConfigurationError of one line."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as ended:
        if ended.code:
            _refuse(said.getvalue())
        raise


def _refuse(said: str) -> NoReturn:
    """The text of tyro's box: after its title, until the first rule."""
    lines = [line.strip("│|╭╮╰╯ ") for line in said.splitlines()]
    message: list[str] = []
    for line in lines[1:]:
        if re.fullmatch(r"[─-]{3,}", line):
            if message:
                break
            continue
        message.append(line)
    text = re.sub(r"^Error parsing (?!-)\S+: ", "", " ".join(" ".join(message).split()))  # ours explain themselves
    raise ConfigurationError(f"{text.rstrip('.')}; --help lists all options")


def _preset(argv: Sequence[str], default: str) -> str:
    """The last one counts, as with every other flag."""
    name = default
    for word, following in zip(argv, [*argv[1:], default][: len(argv)], strict=True):
        if word == "--preset":
            name = following
        elif word.startswith("--preset="):
            name = word.removeprefix("--preset=")
    return name


def _comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A tuple of words or numbers is one word with commas."""
    kinds = get_args(info.type)
    if get_origin(info.type) is not tuple or kinds not in ((str, ...), (int, ...), (float, ...)):
        return None
    kind = kinds[0]
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar={str: "NAME,NAME,...", int: "INT,INT,...", float: "NUMBER,NUMBER,..."}[kind],
        instance_from_str=lambda words: tuple(kind(word) for word in words[0].split(",") if word),
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(each, kind) for each in value),
        str_from_instance=lambda value: [",".join(map(str, value))],
    )
