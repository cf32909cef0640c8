"""A command line from an options dataclass, and one clear line for whatever the user can cause."""

import contextlib
import io
import os
import re
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from evonas.errors import ConfigurationError, EvonasError, nearest
from evonas.files import expanded
from evonas.plugins import load_plugins
from evonas.runs.execution import warm_up_early
from evonas.runs.help import MANY, WORDS, help_text
from evonas.runs.interrupt import Interrupted
from evonas.runs.needs import flag, options_of, refuse_unused
from evonas.runs.options import changed
from evonas.runs.streams import LOST, LastingOutput, drop, tell
from evonas.runs.words import is_switch, read_number, read_words

__all__ = ["command", "flags_of", "guarded", "one_line", "parse", "refuse_unknown"]

Options = TypeVar("Options")


def command(
    run: Callable[[Options], Any],
    presets: Mapping[str, Options],
    argv: Sequence[str] | None = None,
    program: str | None = None,
) -> int:
    """Parse the command line, run, and return the exit code.

    0; 1 for a search in which everything failed; 2 for anything to mend; 129, 130 or 143 for a signal.

    Args:
        presets: name -> options; the first is the default, `--preset NAME` takes another, further flags override.
        program: its name in the help; that of the script by default.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    return guarded(lambda: _run(run, presets, words, program or os.path.basename(sys.argv[0])))


def guarded(run: Callable[[], object]) -> int:
    """The exit code of `run`; an error that a user can mend is one line on standard error."""
    try:
        run()
        if sys.stdout is not None:  # it was closed before Python began
            sys.stdout.flush()
    except EvonasError as error:
        tell(f"error: {_one_line(str(error))}")
        return error.exit_code
    except Interrupted as interrupted:
        tell("stopped: everything finished is kept; the same command goes on from there")
        return interrupted.exit_code
    except BrokenPipeError:  # whoever read what is printed has gone, such as `head`
        drop(sys.stdout)
        return 141
    except OSError as error:
        if error.filename is not None or error.errno not in LOST:
            raise
        drop(sys.stdout)
        tell(f"error: could not write to standard output: {error.strerror}; make room, or send the output elsewhere")
        return 2
    except KeyboardInterrupt:
        tell("stopped before anything was evaluated; the same command starts again")
        return 130
    return 0


def _one_line(text: str) -> str:
    """Text whose line breaks and other control characters, as of a name that was given, are written out."""
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)


def parse(presets: Mapping[str, Options], argv: Sequence[str], program: str = "evonas") -> Options:
    """Options from a command line, their plugins loaded; exits with 0 after --help and --help-all.

    Raises:
        ConfigurationError: something unknown, senseless or without effect was given; one line.

    Names in a tuple are given as one word with commas: `--objectives clean_error,macs`.
    """
    preset = presets.get(_last(argv, "preset"), next(iter(presets.values())))  # an unknown one is refused by its type
    if {"--help", "-h", "--help-all"} & {*argv}:
        print(help_text(program, preset, "--help-all" in argv))
        sys.exit(0)
    refuse_unknown(argv, flags_of(preset), getattr(preset, "renamed", {}))
    load_plugins(each for each in _last(argv, "plugin").split(",") if each)  # options may be checked by their names
    options: Options = changed(preset, read_words(argv, preset))
    refuse_unused(options, preset)
    return options


def flags_of(options: Any) -> list[str]:
    """Names of the flags of options, without their dashes; a switch has one for off, too."""
    every = list(options_of(options))
    off = [f"no-{flag(option.name)}" for option in every if is_switch(option.hint)]
    return [*(flag(option.name) for option in every), *off]


def refuse_unknown(
    argv: Sequence[str], names: Iterable[str], renamed: Mapping[str, str] | None = None, all_by: str = "--help-all"
) -> None:
    """ConfigurationError for the first flag that is not among these names, with the nearest one that is.

    Args:
        renamed: name in an earlier version -> name now.
        all_by: flag that lists all of them.
    """
    known = [f"--{name}" for name in names]
    for word in argv:
        given = word.split("=")[0].replace("_", "-")
        if word.startswith("--") and given not in known:
            now = (renamed or {}).get(given.removeprefix("--"))
            near = f"did you mean --{now}?" if now else nearest(given, known).strip()
            hint = near or f"{all_by} lists all options"
            raise ConfigurationError(f"unknown option {given}; {hint}")


@contextlib.contextmanager
def one_line() -> Iterator[None]:
    """Within, tyro reads names from one word with commas, expands paths, and refuses in one line."""
    message, registry = io.StringIO(), ConstructorRegistry()
    registry.primitive_rule(_comma_separated)
    registry.primitive_rule(_path)
    registry.primitive_rule(_number)
    try:
        with registry, contextlib.redirect_stderr(message):
            yield
    except SystemExit as ended:
        if ended.code:
            _refuse(message.getvalue())
        raise


def _run(run: Callable[[Options], Any], presets: Mapping[str, Options], argv: Sequence[str], program: str) -> None:
    options = parse(presets, argv, program)
    if sys.stdout is not None:  # it was closed before Python began
        first = LastingOutput()
        first.write(f"{program}: loading torch\n")
        first.flush()
    warm_up_early(options)
    run(options)


def _refuse(message: str) -> NoReturn:
    """The text of tyro's box: after its title, until the first rule."""
    lines = [line.strip("│|╭╮╰╯ ") for line in message.splitlines()]
    text: list[str] = []
    for line in lines[1:]:
        if re.fullmatch(r"[─-]{3,}", line):
            if text:
                break
            continue
        text.append(line)
    joined = re.sub(r"^Error parsing (?!-)\S+: ", "", " ".join(" ".join(text).split()))  # ours explain themselves
    raise ConfigurationError(f"{joined.rstrip('.')}; --help lists the options")


def _last(argv: Sequence[str], name: str) -> str:
    """The value of a flag before it is parsed; the last one counts, as with every other flag."""
    value = ""
    for word, following in pairwise([*argv, ""]):
        if word == f"--{name}":
            value = following
        elif word.startswith(f"--{name}="):
            value = word.removeprefix(f"--{name}=")
    return value


def _comma_separated(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """Names are one word with commas."""
    if info.type != tuple[str, ...]:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=MANY[str],
        instance_from_str=lambda words: tuple(word for word in words[0].split(",") if word),
        is_instance=lambda value: isinstance(value, tuple) and all(isinstance(each, str) for each in value),
        str_from_instance=lambda value: [",".join(value)],
    )


def _number(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A float may be a fraction, such as 8/255."""
    if info.type is not float:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=WORDS[float],
        instance_from_str=_as_number,
        is_instance=lambda value: isinstance(value, float),
        str_from_instance=lambda value: [str(value)],
    )


def _as_number(words: list[str]) -> Any:
    try:
        return read_number("it", words[0])
    except ConfigurationError as error:
        raise ValueError(str(error)) from error


def _path(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    if info.type is not Path:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=WORDS[Path],
        instance_from_str=lambda words: expanded(words[0]),
        is_instance=lambda value: isinstance(value, Path),
        str_from_instance=lambda value: [str(value)],
    )
