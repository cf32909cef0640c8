"""A command line from a settings dataclass, and one clear line for whatever the user can cause."""

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from evonas.errors import EvonasError
from evonas.runs.interrupt import Interrupted

__all__ = ["command", "guarded", "parse"]

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
        print(
            "stopped: every finished evaluation is in the journal; the same command continues the run", file=sys.stderr
        )
        return interrupted.exit_code
    return 0


def parse(presets: Mapping[str, Settings], argv: Sequence[str]) -> Settings:
    """Settings from a command line; exits with 2 where it has something unknown, with 0 after --help.

    Names in a tuple are given as one word with commas: `--objectives clean_error,macs`.
    """
    name = _preset(argv, next(iter(presets)))
    default = presets.get(name, next(iter(presets.values())))  # an unknown one is refused below, by its field's type
    registry = ConstructorRegistry()
    registry.primitive_rule(_comma_separated)
    with registry:
        return tyro.cli(
            type(default), default=default, args=list(argv), config=(tyro.conf.OmitArgPrefixes,),
            description="Flags override the preset.",
        )  # fmt: skip


def _preset(argv: Sequence[str], default: str) -> str:
    for word, following in zip(argv, [*argv[1:], default], strict=True):
        if word == "--preset":
            return following
        if word.startswith("--preset="):
            return word.removeprefix("--preset=")
    return default


def _comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type != tuple[str, ...]:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="NAME,NAME,...",
        instance_from_str=lambda words: tuple(word for word in words[0].split(",") if word),
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(word, str) for word in value),
        str_from_instance=lambda value: [",".join(value)],
    )
