"""Options of every method: flat JSON there and back, that of version 0.1.0, and options that need another one."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest

from evonas.errors import ConfigurationError
from evonas.methods import METHODS, method_module
from evonas.methods.roco import PRESETS, RocoOptions
from evonas.runs import AuditOptions, DataOptions, Needs
from evonas.runs.needs import Option, documentation, flag, options_of, refuse_unused
from evonas.runs.options import as_json, flat, from_json

EVERY = [(name, preset) for name in METHODS for preset in method_module(name).PRESETS]


class TestJson:
    @pytest.mark.parametrize(("name", "preset"), EVERY)
    def test_it_goes_there_and_back(self, name: str, preset: str) -> None:
        module = method_module(name)
        options = replace(module.PRESETS[preset], seed=3, out=Path("runs/mine").absolute())
        text = json.dumps(as_json(options), allow_nan=False)
        found = json.loads(text)
        assert not any(isinstance(value, dict) for value in found.values())
        assert (found["seed"], found["preset"]) == (3, preset)
        assert from_json(module.OPTIONS, found) == options

    def test_paths_do_not_depend_on_the_current_folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        options = replace(PRESETS["quick"], out=Path("run"), data=DataOptions(data_root=Path("~/data")))
        found = as_json(options)
        assert found["out"] == str(tmp_path / "run")
        assert found["data_root"] == str(Path.home() / "data")

    def test_what_is_missing_has_its_default_and_what_is_unknown_is_ignored(self) -> None:
        assert from_json(RocoOptions, {}) == RocoOptions()
        assert from_json(RocoOptions, {"phases": 2, "of_a_later_version": 1}) == RocoOptions(phases=2)

    def test_nested_objects_are_read_as_version_0_1_0_wrote_them(self) -> None:
        old = {
            "preset": "quick",
            "data": "digits",
            "data_root": None,
            "train_limit": 60,
            "val_limit": 50,
            "split_seed": None,
            "adversarial_set": "auto",
            "phases": 2,
            "nodes": 3,
            "channels": 2,
            "operators": "roco",
            "mutation_rate": None,
            "designs": ["chain"],
            "init_from": None,
            "training": {"epochs": 1, "batch_size": 30, "lr": 0.1, "precision": "fp32", "milestones": [3, 5]},
            "search": {"population": 4, "generations": 2, "objectives": ["clean_error", "macs"], "seed": 7},
            "execution": {"device": "cpu", "threads": 1},
            "attacks": {"attack_epsilon": 0.05, "attack_images": 20},
            "after": {"retrain": False, "top": 3, "suite": ["pgd"]},
            "out": "/runs/old",
            "retry_failed": True,
        }
        found = from_json(RocoOptions, old)
        assert found.seed == 7
        assert found.data == DataOptions(data="digits", train_limit=60, val_limit=50)
        assert (found.phases, found.nodes, found.channels, found.designs) == (2, 3, 2, ("chain",))
        assert (found.training.epochs, found.training.lr, found.training.milestones) == (1, 0.1, (3, 5))
        assert (found.search.population, found.search.objectives) == (4, ("clean_error", "macs"))
        assert (found.execution.device, found.execution.threads) == ("cpu", 1)
        assert (found.attacks.attack_epsilon, found.attacks.attack_images) == (0.05, 20)
        assert (found.after.top, found.after.suite) == (3, ("pgd",))
        assert (found.out, found.retry_failed) == (Path("/runs/old"), True)
        assert as_json(found) == as_json(from_json(RocoOptions, flat(old)))


class TestEveryOption:
    @pytest.mark.parametrize("name", METHODS)
    def test_its_name_is_its_own_and_it_has_a_text(self, name: str) -> None:
        """One flat list of flags, and one flat object in config.json."""
        options = list(options_of(method_module(name).OPTIONS))
        names = [option.name for option in options]
        assert len(set(names)) == len(names)
        assert len({flag(each) for each in names}) == len(names)
        for option in options:
            assert documentation(option.owner)[option.name].endswith((".", ")")), option.name

    @pytest.mark.parametrize("name", METHODS)
    def test_what_it_needs_and_what_the_short_help_shows_exist(self, name: str) -> None:
        kind = method_module(name).OPTIONS
        names = {option.name for option in options_of(kind)}
        for option in options_of(kind):
            for need in option.needs:
                for each in (need, need.instead):
                    assert each is None or each.option in names
        assert {*kind.short} <= names


# Options that only another option brings into use.

VALUES: dict[str, Any] = {
    "adversarial_set": "mine.safetensors",
    "against": "runs/other",
    "crossover_kind": "one_point",
    "designs": ["chain"],
    "finalise_milestones": [1, 2],
    "finalise_precision": "fp32",
    "finalise_recipe": "trades",
    "gpus_per_task": 0.5,
    "handmade": ["ResNet-18"],
    "handmade_steps": [7],
    "jacobian_q": 2.0,
    "lego_orders": ["reversed", "random"],
    "mutation_rate": 0.5,
    "ood_ratio": [1, 3],
    "operators": "nsganet",
    "published": ["PDARTS"],
    "ray_address": "auto",
    "retrain_precision": "fp32",
    "retrain_params": [0.5],
    "retrain_recipe": "trades",
    "robust_attacks": ["fgsm"],
    "second_set": "other.safetensors",
    "suite": ["bim"],
    "supernet_steps": 5,
    "sweep_L": [1.0, 2.0],
}
"""Option -> a value that is none of its defaults, where the type alone does not say one."""

UNMET: dict[str, Any] = {
    "finalise_recipe": "standard",
    "objectives": ["clean_error", "params"],
    "retrain_recipe": "standard",
    "space": "shuffle",
    "supernet_recipe": "standard",
}
"""Option -> a value that does not bring others into use, where the type alone does not say one."""

BESIDE: dict[str, dict[str, Any]] = {
    "random_orders": {"lego": True},
    "retrain_recipe_epsilon": {"retrain_recipe": "trades"},
    "size": {"L": 2.1},
}
"""Option -> others that it is only right with, besides those that it needs."""

OWN_WORDS = "only 'nsganet' has one"
"""Of an option whose need is checked by the space itself."""


def another(option: Option) -> Any:
    """A value that the option may have and has not."""
    if option.name in VALUES:
        return VALUES[option.name]
    kind = plain(option.hint)
    if get_origin(kind) is Literal:
        return next(each for each in get_args(kind) if each != option.value)
    if isinstance(option.value, bool):
        return not option.value
    if kind is int:
        return (option.value or 4) + 1
    if kind is float:
        return (option.value or 0.5) / 2
    assert get_origin(kind) is tuple, f"give {option.name} a value in VALUES"
    return [*(option.value or ()), "a" if get_args(kind)[0] is str else 3]


def plain(hint: Any) -> Any:
    """A type without annotation and None."""
    if get_origin(hint) is Annotated:
        hint = get_args(hint)[0]
    kinds = [each for each in get_args(hint) if each is not type(None)]
    return kinds[0] if len(kinds) < len(get_args(hint)) else hint


def meeting(need: Needs, option: Option) -> dict[str, Any]:
    """A value with which the need is met."""
    if need.values and isinstance(option.value, tuple):
        return {need.option: [*{**dict.fromkeys(option.value[:1]), need.values[0]: None}]}
    return {need.option: need.values[0] if need.values else option.value or another(option)}


def not_meeting(need: Needs, option: Option) -> dict[str, Any]:
    """A value with which the need is not met."""
    if need.option in UNMET:
        return {need.option: UNMET[need.option]}
    kind = plain(option.hint)
    if get_origin(kind) is Literal and need.values:
        return {need.option: next(each for each in get_args(kind) if each not in need.values)}
    return {need.option: type(option.value)() if option.value is not None else None}


def cases() -> Iterator[Any]:
    for name in METHODS:
        for option in options_of(method_module(name).PRESETS["paper"]):
            for number, need in enumerate(option.needs):
                if name == "tam" and "quick_robust_error" in need.values:
                    continue  # no objective of TAM-NAS, see test_tam.py
                yield pytest.param(name, option, need, id=f"{name}-{option.name}-{number}")


@pytest.mark.lengthy
@pytest.mark.parametrize(("name", "option", "need"), list(cases()))
def test_an_option_is_refused_without_what_it_needs_and_accepted_with_it(
    name: str, option: Option, need: Needs
) -> None:
    module = method_module(name)
    preset = module.PRESETS["paper"]
    every = {each.name: each for each in options_of(preset)}
    given = BESIDE.get(option.name, {})
    for each in (need, *every[need.option].needs, *option.needs):
        given = meeting(each, every[each.option]) | given
    values = {**as_json(preset), **given, option.name: another(option)}
    refuse_unused(from_json(module.OPTIONS, values), preset)
    unmet = not_meeting(need, every[need.option])
    unmet |= {each: every[each].value for each in given if need in every[each].needs}  # they would be refused as well
    with pytest.raises(ConfigurationError, match=f"--{flag(option.name)} changes nothing without |{OWN_WORDS}"):
        refuse_unused(from_json(module.OPTIONS, {**values, **unmet}), preset)


def test_another_option_may_do_instead() -> None:
    """A set is scored on after the search, too."""
    preset = PRESETS["quick"]
    baseline = replace(preset, search=replace(preset.search, objectives=("clean_error", "macs")))
    named = replace(baseline, adversarial_set="mine")
    with pytest.raises(ConfigurationError, match="without --objectives adversarial_set_error, or --retrain"):
        refuse_unused(named, preset)
    refuse_unused(replace(named, after=replace(named.after, retrain=True)), preset)


@pytest.mark.parametrize("name", ["roco", "tam", "darts"])
def test_other_images_need_somebody_who_looks_at_them(name: str) -> None:
    module = method_module(name)
    preset = module.PRESETS["quick"]
    given = replace(preset, data=replace(preset.data, ood_data="noise"))
    with pytest.raises(ConfigurationError, match="--ood-data changes nothing without --objectives ood_aupr"):
        refuse_unused(given, preset)
    values = as_json(given) | {"objectives": ["clean_error", "ood_aupr"], "finalise": "", "layers_top": 10}
    refuse_unused(from_json(module.OPTIONS, values), from_json(module.OPTIONS, as_json(preset) | {"finalise": ""}))


def test_the_second_version_of_e2rnas_trains_on_other_images() -> None:
    module = method_module("e2rnas")
    preset = module.PRESETS["quick"]
    given = replace(preset, data=replace(preset.data, ood_data="noise"))
    refuse_unused(given, preset)
    with pytest.raises(ConfigurationError, match="--ood-data changes nothing"):
        refuse_unused(replace(given, version=1), preset)


@dataclass(frozen=True)
class Lamp:
    """A lamp."""

    on: bool = False
    """Whether it shines."""
    colour: Annotated[str, Needs("on")] = "white"
    """Of its light."""


def test_without_a_preset_the_defaults_are_usual() -> None:
    refuse_unused(Lamp())
    refuse_unused(Lamp(on=True, colour="red"))
    with pytest.raises(ConfigurationError, match="--colour changes nothing without --on"):
        refuse_unused(Lamp(colour="red"))


def test_texts_are_those_below_the_fields_those_of_a_base_too() -> None:
    @dataclass(frozen=True)
    class Other(DataOptions):
        """Nothing of its own."""

    assert documentation(Lamp) == {"on": "Whether it shines.", "colour": "Of its light."}
    assert documentation(Other)["train_limit"] == "Size of a class-balanced subset to train on."


@pytest.mark.parametrize("name", ["audit_top", "audit_epochs", "audit_images"])
def test_numbers_of_an_audit_are_at_least_one(name: str) -> None:
    values: dict[str, Any] = {name: 0}
    with pytest.raises(ConfigurationError, match=f"expected {name} >= 1, got 0"):
        AuditOptions(**values)


def test_hints_are_those_of_the_fields() -> None:
    """What the command line and the help make of an option follows from its type."""
    hints = get_type_hints(DataOptions, include_extras=True)
    for option in options_of(DataOptions):
        assert option.hint == hints[option.name]
        assert option.owner is DataOptions
