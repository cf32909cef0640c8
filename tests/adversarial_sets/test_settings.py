"""Settings of a set: one value for all targets or one each, what makes no sense, and the presets."""

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from evonas.adversarial_sets import ATTACK_NAMES, SET_PRESETS, BuildPlan, SetSettings
from evonas.adversarial_sets.settings import TargetSettings
from evonas.adversarial_sets.targets import build_target, correct, train_target
from evonas.attacks import PixelAttack, ThresholdAttack
from evonas.data import Dataset, DeviceData, load_data
from evonas.errors import ConfigurationError, UnknownNameError
from evonas.networks import VICTIMS
from evonas.seeding import derive_seed


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", train_limit=40, val_limit=20)


def plan(**changes: Any) -> BuildPlan:
    given = {
        "split_seed": 0,
        "settings": SetSettings(),
        "preset": "tiny",
        "seed": 0,
        "device": "cpu",
        "precision": "fp32",
    }
    return BuildPlan(**{**given, **changes})


def test_the_paper_preset_is_table_i() -> None:
    paper = SET_PRESETS["paper"]
    assert paper == SetSettings()
    assert set(paper.targets) == {"LeNet", "VGG-16", "ResNet", "DenseNet"}
    assert (paper.set_attacks, paper.thresholds, paper.attacked_images) == (ATTACK_NAMES, (1, 3, 5, 10), 1000)
    assert (paper.attack_population, paper.attack_generations, paper.linf_algorithm) == (400, 100, "cma")
    assert {(target.width, target.depth) for target in paper.each_target()} == {(1.0, None)}


def test_the_quick_preset_attacks_some_of_the_same_cells_with_less() -> None:
    quick, paper = SET_PRESETS["quick"], SET_PRESETS["paper"]
    assert set(quick.targets) < set(paper.targets)
    assert set(quick.thresholds) < set(paper.thresholds)
    assert quick.set_attacks == paper.set_attacks
    for field in ("attacked_images", "attack_population", "attack_generations"):
        assert getattr(quick, field) < getattr(paper, field)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", SET_PRESETS)
def test_every_target_of_a_preset_can_be_built(name: str, digits: Dataset) -> None:
    data = DeviceData(digits, torch.device("cpu"))
    for target in SET_PRESETS[name].each_target():
        network = build_target(target, data, 0)
        with torch.no_grad():
            assert network.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 10)


def test_one_value_stands_for_all_targets() -> None:
    settings = SetSettings(targets=("LeNet", "VGG-16"), widths=(0.5,), target_epochs=(7,))
    assert settings.each_target() == (
        TargetSettings(name="LeNet", width=0.5, depth=None, epochs=7),
        TargetSettings(name="VGG-16", width=0.5, depth=None, epochs=7),
    )


def test_each_target_may_have_its_own_values() -> None:
    settings = SetSettings(
        targets=("ResNet", "DenseNet", "LeNet"), widths=(0.25, 0.5, 1.0), depths=(8, 10, 0), target_epochs=(1, 2, 3)
    )
    assert settings.each_target() == (
        TargetSettings(name="ResNet", width=0.25, depth=8, epochs=1),
        TargetSettings(name="DenseNet", width=0.5, depth=10, epochs=2),
        TargetSettings(name="LeNet", width=1.0, depth=None, epochs=3),
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"targets": ()}, "expected targets as one or more different values"),
        ({"targets": ("LeNet", "LeNet")}, "expected targets as one or more different values"),
        ({"thresholds": ()}, "expected thresholds as one or more different values"),
        ({"thresholds": (3, 3)}, "expected thresholds as one or more different values, got (3, 3)"),
        ({"thresholds": (1, 0)}, "expected thresholds >= 1, got 0"),
        ({"set_attacks": ()}, "expected set_attacks as one or more different values"),
        ({"widths": (1.0, 0.5)}, "expected one value of widths, or 4, one per target, got 2"),
        ({"depths": ()}, "expected one value of depths, or 4, one per target, got 0"),
        ({"target_epochs": (1,) * 5}, "expected one value of target_epochs, or 4, one per target, got 5"),
        ({"target_epochs": (0,)}, "expected target_epochs >= 1, got 0"),
        ({"depths": (-1,)}, "expected depths >= 0, got -1"),
        ({"linf_algorithm": "pso"}, "expected linf_algorithm of cma, de, got 'pso'"),
        ({"attack_population": 0}, "population >= 5"),
        ({"attack_population": 4}, "population >= 5"),  # differential evolution needs five
        ({"attack_generations": 0}, "generations >= 1"),
        ({"attacked_images": 0}, "expected attacked_images >= 1, got 0"),
        ({"widths": (0.0,)}, "widths > 0"),
        ({"depths": (0, 0, 9, 0)}, "expected a depth of 6 n + 2"),
        ({"depths": (10,)}, "expected depth 0 for LeNet, which has only one, got 10"),
        ({"target_lr": 0.0}, "expected target_lr > 0, got 0.0"),
        ({"target_batch_size": 0}, "expected target_batch_size >= 2, got 0"),
        ({"target_weight_decay": -1.0}, "weight_decay >= 0"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        SetSettings(**settings)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"targets": ("AlexNet",)},
            "unknown target network 'AlexNet'; did you mean LeNet? known: DenseNet, LeNet, ResNet, VGG-16",
        ),
        ({"set_attacks": ("L0", "L2")}, "unknown attack of a set 'L2'; known: L0, Linf"),
    ],
)
def test_unknown_names_come_with_the_known_ones(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(UnknownNameError, match="unknown") as refused:
        SetSettings(**settings)
    assert str(refused.value) == said


def test_budgets_reach_both_attacks() -> None:
    settings = SetSettings(attack_population=6, attack_generations=2, linf_algorithm="de")
    assert settings.attack("L0", 3, "bf16") == PixelAttack(threshold=3, population=6, generations=2, precision="bf16")
    assert settings.attack("Linf", 5) == ThresholdAttack(threshold=5, algorithm="de", population=6, generations=2)


def test_checking_settings_draws_nothing_and_takes_no_memory_for_weights() -> None:
    state = torch.get_rng_state()
    SetSettings()
    assert torch.equal(torch.get_rng_state(), state)


def test_a_target_follows_from_its_seed_and_name(digits: Dataset) -> None:
    data = DeviceData(digits, torch.device("cpu"))
    target = TargetSettings(name="LeNet", width=1.0, depth=None, epochs=1)
    state = torch.get_rng_state()
    first, again, other = (build_target(target, data, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    for a, b, c in zip(first.parameters(), again.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
        assert a.ndim == 1 or not torch.equal(a, c)  # He's initialisation has zero biases
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "target", "LeNet", "weights"))
        expected = VICTIMS["LeNet"](10, 1.0, digits.normalization)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), expected.parameters(), strict=True))


def test_training_a_target_is_what_the_settings_say(digits: Dataset) -> None:
    settings = SetSettings(target_lr=0.03, target_batch_size=7, target_weight_decay=1e-3)
    target = TargetSettings(name="LeNet", width=0.5, depth=None, epochs=3)
    training = settings.training_of(target, "fp32")
    assert (training.epochs, training.lr, training.batch_size, training.weight_decay, training.precision) == (
        3,
        0.03,
        7,
        1e-3,
        "fp32",
    )
    data = DeviceData(digits, torch.device("cpu"))
    trained = []
    for seed in (0, 0, 1):
        network = build_target(target, data, 0)
        before = [p.detach().clone() for p in network.parameters()]
        train_target(network, target, data, training, seed)
        assert not network.training
        assert not any(torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True))
        trained.append([p.detach() for p in network.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(trained[0], trained[1], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(trained[0], trained[2], strict=True))


@pytest.mark.parametrize("batch_size", [1, 7, 500])
def test_correct_answers_are_counted_per_image(batch_size: int, digits: Dataset) -> None:
    class Three(torch.nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.eye(10)[3].expand(len(images), 10)

    part = DeviceData(digits, torch.device("cpu")).validation
    found = correct(Three(), part, batch_size)
    assert found.dtype == torch.bool
    assert found.tolist() == [label == 3 for label in digits.validation.labels.tolist()]


# A plan's identity and name.


def test_everything_that_decides_a_set_is_in_its_identity(digits: Dataset) -> None:
    base = plan(data=digits)
    assert base.name == plan(data=load_data("digits", train_limit=40, val_limit=20)).name
    assert base.name.startswith("digits-tiny-")
    assert len(base.name.removeprefix("digits-tiny-")) == 12
    other = load_data("digits", train_limit=40, val_limit=20, seed=1)
    changes: list[dict[str, Any]] = [
        {"seed": 1},
        {"precision": "bf16"},
        {"device": "cuda:1"},
        {"data": other},
        {"data": load_data("digits", train_limit=50, val_limit=20)},
        {"data": replace(digits, mean=(0.0,) * 3)},
        *({"settings": changed} for changed in each_setting_changed()),
    ]
    names = {base.name, *(plan(**{"data": digits, **change}).name for change in changes)}
    assert len(names) == 1 + len(changes)
    same: list[dict[str, Any]] = [{"data": load_data("digits", train_limit=40, val_limit=30)}, {"split_seed": 5}]
    for change in same:  # images that rank candidates decide nothing, nor does a seed whose parts are the same
        assert plan(**{"data": digits, **change}).name == base.name
    assert plan(data=digits, device="cuda:0").name == plan(data=digits, device="cuda:1").name


def each_setting_changed() -> list[SetSettings]:
    other: dict[str, Any] = {
        "targets": ("LeNet",),
        "widths": (0.5,),
        "depths": (0, 0, 0, 0),
        "target_epochs": (3,),
        "target_lr": 0.01,
        "target_batch_size": 16,
        "target_weight_decay": 0.0,
        "set_attacks": ("L0",),
        "thresholds": (1,),
        "attacked_images": None,
        "attack_population": 50,
        "attack_generations": 3,
        "linf_algorithm": "de",
        "attack_block": 32,
        "attack_chunk": 64,
        "skip_images": 10,
    }
    assert other.keys() == {field.name for field in fields(SetSettings)}
    return [replace(SetSettings(), **{name: value}) for name, value in other.items()]
