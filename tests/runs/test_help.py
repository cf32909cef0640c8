"""Help: few flags at first, all of them on demand, no line wider than the terminal."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest

from evonas.cli import main
from evonas.methods import METHODS, method_module
from evonas.runs import Needs
from evonas.runs.help import help_text, metavar
from evonas.runs.needs import flag, options_of

SHORT = 41
"""Flags that a short help shows at most."""


def flags(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines() if line.startswith("  --")]


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("columns", [80, 200])
def test_short_help_of_every_method_fits(
    name: str, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    text = capsys.readouterr().out
    assert text.startswith(f"usage: evonas {name} [OPTIONS]\n")
    assert max(map(len, text.splitlines())) <= min(columns, 100)
    kind = method_module(name).OPTIONS
    short = [f"--{flag(each)}" for each in kind.short]
    assert len(short) <= SHORT
    shown = [each.replace("--no-", "--") for each in flags(text)]
    assert sorted(shown) == sorted([*short, "--help", "--help-all"])
    assert "--preset" in shown


@pytest.mark.parametrize("name", METHODS)
def test_help_all_shows_every_option_with_its_text(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        main([name, "--preset", "paper", "--help-all"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 80
    options = list(options_of(method_module(name).PRESETS["paper"]))
    shown = [each.replace("--no-", "--") for each in flags(text)]
    assert sorted(shown) == sorted([*(f"--{flag(option.name)}" for option in options), "--help"])
    blocks = text.split("\n  --")
    assert len(blocks) == len(options) + 2
    for block in blocks[1:]:  # a flag, what stands for its value, and a text
        words = " ".join(block.split("\n\n")[0].split())
        assert words.endswith((".", "]", ")")), words


def test_defaults_are_those_of_the_preset(capsys: pytest.CaptureFixture[str]) -> None:
    for words, population in ((["--help"], "[8]"), (["--preset", "paper", "--help"], "[40]"), (["-h"], "[8]")):
        with pytest.raises(SystemExit):
            main(["roco", *words])
        text = capsys.readouterr().out
        assert population in text.split("--population INT")[1].split("--")[0]


@dataclass(frozen=True)
class Small:
    """A few options of every kind. More on them.

    And more.
    """

    names: tuple[str, ...] = ("a",)
    """Names."""
    whole: tuple[int, ...] = (1, 2)
    """Whole numbers."""
    real: tuple[float, ...] = ()
    """Real numbers."""
    pair: tuple[float, float] | None = None
    """Two numbers."""
    word: Literal["", "one", "two"] = ""
    """A choice."""
    on: bool = False
    """A switch."""
    off: bool = True
    """Another one."""
    path: Path | None = None
    """A path."""
    size: Annotated[float, Needs("on")] = 8 / 255
    """A size."""


def test_the_text_of_options_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    expected = """\
usage: small [OPTIONS]

A few options of every kind. More on them.

options:
  --names NAME,NAME,...   Names. [a]
  --whole INT,INT,...     Whole numbers. [1,2]
  --real NUMBER,NUMBER,...
                          Real numbers.
  --pair NUMBER NUMBER    Two numbers.
  --word one|two          A choice.
  --on                    A switch.
  --no-off                Another one.
  --path PATH             A path.
  --size NUMBER           With --on: A size. [0.0313725]

  --help                  Show this help."""
    assert help_text("small", Small(), everything=False) == expected
    assert help_text("small", Small(), everything=True) == expected


@pytest.mark.parametrize(
    ("hint", "word"),
    [
        (int, "INT"),
        (float | None, "NUMBER"),
        (str, "TEXT"),
        (Path | None, "PATH"),
        (bool, ""),
        (Literal["a", "b"] | None, "a|b"),
        (tuple[int, ...], "INT,INT,..."),
        (tuple[str, ...] | None, "NAME,NAME,..."),
        (tuple[int, float], "INT NUMBER"),
        (Annotated[int | None, Needs("on")], "INT"),
    ],
)
def test_what_stands_for_a_value(hint: Any, word: str) -> None:
    assert metavar(hint) == word
