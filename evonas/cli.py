"""`evonas`: begin searches, build adversarial sets, look at runs, compare and check them, and check the machine."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from typing import get_args

import tyro

from evonas._version import __version__
from evonas.commands import COMMANDS
from evonas.errors import ConfigurationError, nearest
from evonas.methods import METHODS, method_module
from evonas.runs.command_line import command, flags_of, guarded, one_line, refuse_unknown
from evonas.runs.help import example_lines
from evonas.runs.interrupt import interruptible
from evonas.runs.needs import flag, options_of

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """The command line `evonas`; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] == ["--version"]:
        return guarded(lambda: print(f"evonas {__version__}"))
    if words[:1] == ["--print-completion"]:
        return guarded(lambda: print(_completion(words[1:]), end=""))
    if words and words[0] in METHODS:
        method = method_module(words[0])
        return command(method.run, method.PRESETS, words[1:], f"evonas {words[0]}")
    return guarded(lambda: _run(words))


def _run(words: list[str]) -> None:
    chosen = _parse(words)
    with interruptible():
        chosen()


def _completion(words: list[str]) -> str:
    """Script that completes the command line in a shell, from the tables of commands and options."""
    from evonas.completion import SHELLS, completion

    if len(words) != 1 or words[0] not in SHELLS:
        raise ConfigurationError(f"expected one of {', '.join(SHELLS)} after --print-completion, got {words}")
    flags = {
        name: [
            *(flag(each.name) for each in options_of(kind) if tyro.conf.Positional not in get_args(each.hint)),
            "help",
        ]
        for name, kind in COMMANDS.items()
    }
    for name in METHODS:
        flags[name] = [*flags_of(next(iter(method_module(name).PRESETS.values()))), "help", "help-all"]
    dashed = {name: sorted(f"--{each}" for each in given) for name, given in flags.items()}
    of_networks = [
        name for name, kind in COMMANDS.items() if {each.name for each in fields(kind)} & {"arch", "archs", "networks"}
    ]
    return completion(words[0], dashed, of_networks)


@contextlib.contextmanager
def _example(words: list[str]) -> Iterator[None]:
    """Within, the help of a command ends with its example."""
    try:
        yield
    except SystemExit as ended:
        if not ended.code and words and words[0] in COMMANDS:
            print("\n".join(example_lines(COMMANDS[words[0]])))
        raise


def _parse(words: list[str]) -> Callable[[], None]:
    names = [*COMMANDS, *METHODS]
    if words and not words[0].startswith("-") and words[0] not in names:
        hint = nearest(words[0], names).strip() or f"known: {', '.join(sorted(names))}"
        raise ConfigurationError(f"unknown command {words[0]!r}; {hint}")
    if words and words[0] in COMMANDS:
        refuse_unknown(
            words[1:], ["help", *(flag(each.name) for each in options_of(COMMANDS[words[0]]))], all_by="--help"
        )
    with _example(words), one_line():
        chosen: Callable[[], None] = tyro.extras.subcommand_cli_from_dict(
            {**COMMANDS},
            prog="evonas",
            description="Look at a run, several, a set or the machine and check it; to start one: evonas "
            f"{', '.join(f'{name} --help' for name in METHODS)}. "
            "Also: evonas --version; evonas --print-completion bash, or zsh.",
            args=words,
        )
    return chosen


if __name__ == "__main__":
    sys.exit(main())
