"""Every number on every command line, at its worst: refused in one line before anything begins, or right."""

import json
from collections.abc import Iterator
from typing import Any, NamedTuple, get_args, get_origin

import pytest

from evonas.cli import main
from evonas.commands import COMMANDS
from evonas.methods import METHODS, method_module
from evonas.ranges import Range
from evonas.runs.needs import Option, flag, options_of
from evonas.runs.options import as_json, from_json

WORST = ("inf", "-inf", "nan", "0", "-1", "1e308", "-1e308", "1" + 21 * "0")
NAMES = {"handmade": "ResNet-18", "robust_attacks": "fgsm", "ood_data": "noise"}
"""Values for options that have to be set, and are not by a preset, before another one is used."""


class Case(NamedTuple):
    """A number, or some, on a method's command line."""

    method: str
    option: Option
    words: tuple[str, ...]
    """Flags that bring it into use."""


BESIDE = {"average_decay": ("--average=ema",), "average_from": ("--average=swa",)}
"""Option -> words that bring it into use, where its settings decide that themselves."""


def parts(hint: Any) -> set[Any]:
    """Everything that a type is made of, itself included."""
    return {hint}.union(*map(parts, [each for each in get_args(hint) if isinstance(each, type) or get_args(each)]))


def is_number(hint: Any) -> bool:
    return bool(parts(hint) & {int, float})


def in_use(option: Option, hints: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    yield from BESIDE.get(option.name, ())
    for need in option.needs:
        if not need.met(values):
            value = NAMES.get(need.option) or next(iter(need.values), "")
            if need.option == "objectives":
                value = f"clean_error,{value}"
            elif not value and bool not in parts(hints[need.option]):
                value = max(get_args(hints[need.option]), key=len)
            yield f"--{flag(need.option)}{f'={value}' if value else ''}"


def cases() -> Iterator[Case]:
    """Every declared number once, with the first method that has it."""
    seen = set()
    for method in METHODS:
        module = method_module(method)
        preset = next(iter(module.PRESETS.values()))
        values = {option.name: option.value for option in options_of(preset)}
        hints = {option.name: option.hint for option in options_of(preset)}
        for option in options_of(preset):
            if is_number(option.hint) and (option.owner, option.name) not in seen:
                seen.add((option.owner, option.name))
                yield Case(method, option, tuple(in_use(option, hints, values)))


def stated(option: Option) -> list[Range]:
    return [extra for extra in get_args(option.hint)[1:] if isinstance(extra, Range)]


@pytest.mark.lengthy
def test_every_number_is_refused_or_right(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """In place of the method itself stands a list: what is refused never gets there."""
    began: list[Any] = []
    for method in METHODS:
        monkeypatch.setattr(method_module(method), "run", began.append)
    wrong, refused = [], 0
    for method, option, words in cases():
        name = f"--{flag(option.name)}"
        pair = any(get_origin(each) is tuple and ... not in get_args(each) for each in parts(option.hint))
        for value in WORST:
            began.clear()
            given = [name, "1", value] if pair else [f"{name}={value}"]
            code, said = main([method, *words, *given]), capsys.readouterr()
            line = f"{method} {' '.join((*words, *given))}: {code} {said.err or began}"
            if code == 2:
                refused += 1
                one = said.err.startswith("error: expected") and said.err.count("\n") == 1
                named = option.name in said.err or flag(option.name) in said.err
                if began or said.out or not one or not named or "changes nothing" in said.err:
                    wrong.append(line)
            elif code != 0 or len(began) != 1 or not is_right(method, option, value, began[0]):
                wrong.append(line)
    assert wrong == []
    assert refused > 500


def is_right(method: str, option: Option, word: str, options: Any) -> bool:
    """A value that was taken is in its stated range, and comes back from config.json as it was given."""
    (value,) = (each.value for each in options_of(options) if each.name == option.name)
    (number,) = value if isinstance(value, tuple) else (value,)
    text = json.dumps(as_json(options), allow_nan=False)
    again = from_json(method_module(method).OPTIONS, json.loads(text))
    return number == float(word) and number in stated(option)[0] and again == options


def command_numbers() -> list[tuple[str, Option]]:
    """(command on what is there, number on its command line)."""
    every = ((name, option) for name, command in COMMANDS.items() for option in options_of(command))
    return [(name, option) for name, option in every if is_number(option.hint)]


def test_every_number_states_its_range() -> None:
    assert [case.option.name for case in cases() if len(stated(case.option)) != 1] == []
    assert [(name, option.name) for name, option in command_numbers() if len(stated(option)) != 1] == []


@pytest.mark.lengthy
def test_every_number_of_a_command_is_refused_before_it_looks_at_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = []
    for name, option in command_numbers():
        for value in WORST:
            code, said = main([name, "nowhere", f"--{flag(option.name)}={value}"]), capsys.readouterr()
            right = float(value) in stated(option)[0] and (float in parts(option.hint) or value.lstrip("-").isdigit())
            named = "nowhere" if right else option.name.split("_")[0]
            if code != 2 or said.out or said.err.count("\n") != 1 or named not in said.err:
                wrong.append(f"{name} --{flag(option.name)}={value}: {code} {said}")
    assert wrong == []


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("roco", "--objectives clean_error,pgd_error --attack-epsilon 8"),
        ("roco", "--objectives clean_error,certified_accuracy --certified-epsilon 8"),
        ("tam", "--supernet-epsilon 8"),
        ("tam", "--finalise scratch --finalise-epsilon 8"),
        ("e2rnas", "--search-epsilon 8"),
        ("dsrna", "--retrain --test-epsilon 8"),
        ("dsrna", "--retrain --fgsm-epsilon 8"),
        ("dsrna", "--epsilon-max 8"),
    ],
)
def test_a_radius_in_grey_levels_is_told_its_scale(method: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([method, *words.split()]) == 2
    assert "got 8.0: it is on the [0, 1] scale; 8/255?" in capsys.readouterr().err


def test_a_fraction_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    began: list[Any] = []
    monkeypatch.setattr(method_module("roco"), "run", began.append)
    words = "--objectives clean_error,pgd_error --attack-epsilon 4/255 --attack-step-size=1/255 --lr 1/8"
    assert main(["roco", *words.split()]) == 0
    attacks = began[0].attacks
    assert (attacks.attack_epsilon, attacks.attack_step_size) == (4 / 255, 1 / 255)
    assert began[0].training.lr == 0.125
