"""A set built from end to end with tiny targets: what is in it, the same twice, and the same after interruptions."""

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.adversarial_sets import (
    ATTACK_NAMES,
    BuildPlan,
    SetSettings,
    build_adversarial_set,
    load_adversarial_set,
    set_work,
)
from evonas.adversarial_sets.jobs import attacked_blocks
from evonas.adversarial_sets.targets import build_target, correct
from evonas.adversarial_sets.work import BuildWork
from evonas.attacks import PixelAttack, ThresholdAttack
from evonas.costs import count_macs, count_params
from evonas.data import Dataset, DeviceData, DevicePart, Part, load_data
from evonas.errors import ConfigurationError, DataError, DivergedError, EvonasError, RunInUseError, RunMismatchError

pytestmark = pytest.mark.lengthy

TINY = SetSettings(
    targets=("LeNet", "ResNet"),
    widths=(0.5, 0.25),
    depths=(0, 8),
    target_epochs=(4, 4),
    target_batch_size=20,
    target_lr=0.02,
    thresholds=(3, 20),
    attacked_images=40,
    attack_population=10,
    attack_generations=2,
    attack_block=16,
)
"""Networks that know so little that few trials fool them."""

PARTS = 2 * (1 + 4 * 3)
"""Two targets, each trained and attacked in four cells, whose forty images are three blocks."""


class Stop(Exception):
    """What a signal does."""


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", train_limit=100, val_limit=50)


def plan(data: Dataset, settings: SetSettings = TINY, **changes: Any) -> BuildPlan:
    given = {"split_seed": 0, "preset": "tiny", "seed": 0, "device": "cpu", "precision": "fp32"}
    return BuildPlan(data=data, settings=settings, **{**given, **changes})


class Built:
    """A set that nothing disturbed, and all that was reported meanwhile."""

    def __init__(self, data: Dataset, folder: Path) -> None:
        self.path = folder / "set.safetensors"
        self.told: list[tuple[str, str]] = []
        self.parts: list[Path] = []
        self.weights: dict[str, dict[str, Tensor]] = {}
        self.plan = plan(data)
        self.the_set = build_adversarial_set(self.plan, self.path, told=self.tell)

    def tell(self, key: str, line: str) -> None:
        self.told.append((key, line))
        self.parts = sorted((self.path.parent / "set.parts").iterdir())
        if key.endswith("training"):
            with pytest.raises(RunInUseError), BuildWork(self.path.parent / "set.parts", self.plan.identity):
                pass


@pytest.fixture(scope="module")
def built(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Built:
    return Built(digits, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="module")
def networks(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> dict[str, nn.Module]:
    """The targets with the weights that an interrupted build keeps: the build is stopped before it ends."""
    path = tmp_path_factory.mktemp("kept") / "set"
    interrupted(digits, path, PARTS)
    found = {}
    data = DeviceData(digits, torch.device("cpu"))
    with BuildWork(path.parent / "set.parts", plan(digits).identity) as work:
        for target in TINY.each_target():
            kept = work.get(f"target-{target.name}")
            assert kept is not None
            network = build_target(target, data, seed=99)
            network.load_state_dict({name: torch.from_numpy(array) for name, array in kept[1].items()})
            found[target.name] = network.eval()
    return found


def interrupted(data: Dataset, path: Path, after: int, settings: SetSettings = TINY, **changes: Any) -> None:
    """Build until so many parts are finished."""
    seen = 0

    def told(key: str, line: str) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise Stop

    with pytest.raises(Stop):
        build_adversarial_set(plan(data, settings, **changes), path, told=told)


def as_images(images: Any) -> Tensor:
    return torch.tensor(images).float() / 255


# What is in a set.


def test_each_record_is_a_success(built: Built, digits: Dataset, networks: dict[str, nn.Module]) -> None:
    """Within th of its clean image, which the target gets right while it gets this one wrong."""
    the_set = built.the_set
    clean_part = digits.adversarial
    for row, target, attack, threshold, source in the_set.records.tolist():
        image, clean = the_set.images[row], clean_part.images[source]
        change = np.abs(image.astype(int) - clean.astype(int))  # (3, H, W)
        assert change.max() > 0
        if ATTACK_NAMES[attack] == "L0":
            assert (change.max(axis=0) > 0).sum() <= threshold
        else:
            assert change.max() <= threshold
        assert the_set.labels[row] == clean_part.labels[source]
        network = networks[TINY.targets[target]]
        before, after = (int(network(as_images(each)[None]).argmax()) for each in (clean, image))
        assert before == the_set.labels[row] != after
    assert len(the_set.records) >= 10  # enough to say something
    assert {tuple(each) for each in the_set.records[:, 1:4].tolist()} >= {(0, 0, 3), (0, 0, 20), (0, 1, 20), (1, 0, 20)}


def test_every_success_is_kept_and_counted(built: Built, digits: Dataset, networks: dict[str, nn.Module]) -> None:
    """Tried are the chosen images that a target gets right; the rest of the card follows from the arrays."""
    the_set, card = built.the_set, built.the_set.card
    assert [(cell.target, cell.attack, cell.threshold) for cell in card.cells] == [
        (target, attack, threshold) for target in TINY.targets for attack in ATTACK_NAMES for threshold in (3, 20)
    ]
    part = DevicePart(digits.adversarial, torch.device("cpu"))
    right = {name: correct(network, part) for name, network in networks.items()}
    tried = {name: {cell.tried for cell in card.cells if cell.target == name} for name in TINY.targets}
    assert all(len(each) == 1 for each in tried.values())
    for target in card.targets:
        assert target.adversarial_part_accuracy == right[target.name].double().mean()
        validation = DevicePart(digits.validation, torch.device("cpu"))
        assert target.clean_accuracy == correct(networks[target.name], validation).double().mean()
        assert target.params == count_params(networks[target.name])
        assert target.macs == count_macs(networks[target.name], (3, 32, 32))
        assert (target.epochs, target.batch_size, target.train_images) == (
            dict(zip(TINY.targets, TINY.target_epochs, strict=True))[target.name],
            20,
            100,
        )
    for cell in card.cells:
        rows = the_set.records[
            (the_set.records[:, 1] == TINY.targets.index(cell.target))
            & (the_set.records[:, 2] == ATTACK_NAMES.index(cell.attack))
            & (the_set.records[:, 3] == cell.threshold)
        ]
        assert cell.successful == len(rows) <= cell.tried <= 40
        assert bool(right[cell.target][rows[:, 4]].all())
        difference = np.abs(the_set.images[rows[:, 0]].astype(int) - digits.adversarial.images[rows[:, 4]].astype(int))
        if cell.attack == "L0":
            changes = (difference.max(axis=1) > 0).sum(axis=(1, 2)).astype(float)
        else:
            changes = difference.max(axis=(1, 2, 3)) / 255
        assert cell.epsilon_used == changes.max(initial=0)
        assert cell.epsilon_mean == pytest.approx(changes.mean() if len(rows) else 0, abs=1e-12)
        assert (cell.algorithm, cell.generations) == ("de" if cell.attack == "L0" else "cma", 2)
        assert cell.evaluations >= 10 * cell.tried > 0  # a population each, at least


def test_images_are_chosen_equally_from_each_class(digits: Dataset, built: Built) -> None:
    """Forty of ten classes: four each at most, whatever fooled."""
    chosen = set(built.the_set.records[:, 4].tolist())
    labels = Counter(digits.adversarial.labels[sorted(chosen)].tolist())
    assert max(labels.values()) <= 4


def test_a_second_set_is_made_of_other_images(digits: Dataset) -> None:
    first = attacked_blocks(plan(digits, replace(TINY, attacked_images=20)))
    second = attacked_blocks(plan(digits, replace(TINY, attacked_images=20, skip_images=20), seed=1))
    rest = attacked_blocks(plan(digits, replace(TINY, attacked_images=None, skip_images=20), seed=1))
    taken, other = set(np.concatenate(first).tolist()), set(np.concatenate(second).tolist())
    assert (len(taken), len(other)) == (20, 20)
    assert not taken & other
    assert taken | set(np.concatenate(rest).tolist()) == set(range(len(digits.adversarial)))


def test_the_card_says_how_it_was_made(built: Built, digits: Dataset) -> None:
    card = built.the_set.card
    assert (card.name, card.preset, card.seed, card.device, card.precision, card.threads) == (
        built.plan.name,
        "tiny",
        0,
        "cpu",
        "fp32",
        1,
    )
    assert card.data.train_fingerprint == digits.train.fingerprint
    assert card.data.adversarial_fingerprint == digits.adversarial.fingerprint
    assert (card.data.split_seed, card.data.n_classes, card.data.image_size) == (0, 10, 32)
    assert (card.data.train_images, card.data.adversarial_images) == (100, 150)
    assert (card.data.mean, card.data.deviation) == digits.normalization
    assert {"python", "evonas", "torch", "numpy"} <= card.versions.keys()
    assert any("more than 0.5%" in warning for warning in card.warnings)
    assert card.targets[0].recipe.startswith("SGD, momentum 0.9, weight decay 0.0005, cosine, crop")


def test_no_candidate_trains_on_a_clean_twin(built: Built, digits: Dataset) -> None:
    the_set = built.the_set
    assert the_set.count_clean_twins(digits.train.images) == the_set.count_clean_twins(digits.validation.images) == 0
    assert the_set.count_clean_twins(digits.adversarial.images) == the_set.card.sources


def test_the_file_is_the_set_and_nothing_else_is_left(built: Built) -> None:
    assert sorted(path.name for path in built.path.parent.iterdir()) == ["set.json", "set.md", "set.safetensors"]
    assert load_adversarial_set(built.path) == built.the_set
    assert built.path.with_suffix(".md").read_text().startswith(f"# {built.plan.name}")


def test_what_is_told_meanwhile(built: Built) -> None:
    """Every job once it is finished, with a line for every target and for every attack at a threshold."""
    cells = {(cell.target, cell.attack, cell.threshold): cell for cell in built.the_set.card.cells}
    accuracy = {target.name: target.clean_accuracy for target in built.the_set.card.targets}
    expected = [(f"{name}, training", f"{name}: trained, clean accuracy {accuracy[name]:.1%}") for name in TINY.targets]
    for target, attack, th in cells:
        fooled = f"{target}, {attack} th {th}: {cells[target, attack, th].successful} fooled, of 40 images"
        blocks = [f"{target}, {attack} th {th}, block {block}" for block in (1, 2, 3)]
        expected += zip(blocks, ("", "", fooled), strict=True)
    assert built.told == expected
    assert list(set_work(built.plan)) == [
        key for key, _ in sorted(expected, key=lambda each: each[0].startswith("ResNet"))
    ]
    assert len(built.parts) == 1 + PARTS  # the ledger, and a file a part


# The same again.


def test_the_same_plan_gives_the_same_set(built: Built, digits: Dataset, tmp_path: Path) -> None:
    again = build_adversarial_set(plan(digits), tmp_path / "again")
    assert again == built.the_set
    for name in ("images", "labels", "records", "sources", "source_index"):
        assert np.array_equal(getattr(again, name), getattr(built.the_set, name))
    assert (tmp_path / "again.safetensors").exists()  # the ending is added where it is not given


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"seed": 1}, {"settings": replace(TINY, thresholds=(5, 20))}])
def test_another_plan_gives_another_set(changes: Any, built: Built, digits: Dataset, tmp_path: Path) -> None:
    assert build_adversarial_set(plan(digits, **changes), tmp_path / "other") != built.the_set


def test_the_order_of_targets_changes_no_image(built: Built, digits: Dataset, tmp_path: Path) -> None:
    """What is drawn for a cell depends on its name alone; ResNet alone, after nothing, is as it was after LeNet."""
    alone = replace(TINY, targets=("ResNet",), widths=(0.25,), depths=(8,), target_epochs=(4,))
    found = build_adversarial_set(plan(digits, alone), tmp_path / "alone")
    rows = built.the_set.records[built.the_set.records[:, 1] == 1]
    assert found.records[:, 2:].tolist() == rows[:, 2:].tolist()
    assert np.array_equal(found.images[found.records[:, 0]], built.the_set.images[rows[:, 0]])


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 3, 14, PARTS])
def test_an_interrupted_build_goes_on_to_the_same_set(
    after: int, built: Built, digits: Dataset, tmp_path: Path
) -> None:
    path = tmp_path / "set.safetensors"
    interrupted(digits, path, after)
    assert [each.name for each in tmp_path.iterdir()] == ["set.parts"]
    kept = {file.name: file.stat().st_mtime_ns for file in (tmp_path / "set.parts").glob("*.safetensors")}
    assert len(kept) == after
    seen: list[dict[str, int]] = []

    def told(key: str, line: str) -> None:
        seen.append({name: (tmp_path / "set.parts" / name).stat().st_mtime_ns for name in kept})

    again = build_adversarial_set(plan(digits), path, told=told)
    assert again == built.the_set
    assert all(each == kept for each in seen)  # nothing finished was made again
    assert again.card.targets == built.the_set.card.targets
    timeless = [[replace(cell, seconds=0.0) for cell in each.card.cells] for each in (again, built.the_set)]
    assert timeless[0] == timeless[1]


@pytest.mark.slow
def test_damage_to_kept_parts_is_made_good(built: Built, digits: Dataset, tmp_path: Path) -> None:
    interrupted(digits, tmp_path / "set", 18)
    parts = tmp_path / "set.parts"
    cut = parts / "target-LeNet.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    (parts / "attack-LeNet-Linf-20-1.safetensors").unlink()
    ledger = (parts / "ledger.jsonl").read_bytes()
    (parts / "ledger.jsonl").write_bytes(ledger.replace(b'"attack-ResNet-L0-3-0"', b'"attack-ResNet-L0-4-0"')[:-5])
    assert build_adversarial_set(plan(digits), tmp_path / "set") == built.the_set


def test_a_resumed_target_answers_to_the_last_bit_as_the_trained_one(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else an image at the very border is a success in one of the two builds alone."""
    images, answers = as_images(digits.validation.images), []
    run = PixelAttack.run

    def looking(attack: PixelAttack, model: nn.Module, *arguments: Any) -> Any:
        with torch.no_grad():
            answers.append(model(images))
        return run(attack, model, *arguments)

    monkeypatch.setattr(PixelAttack, "run", looking)
    only = replace(
        TINY,
        targets=("ResNet",),
        widths=(0.25,),
        depths=(8,),
        target_epochs=(4,),
        set_attacks=("L0",),
        thresholds=(20,),
        attacked_images=10,
    )
    build_adversarial_set(plan(digits, only), tmp_path / "whole")
    interrupted(digits, tmp_path / "set", 1, only)
    build_adversarial_set(plan(digits, only), tmp_path / "set")
    assert len(answers) == 2
    assert torch.equal(answers[0], answers[1])


def test_a_half_built_set_of_another_plan_is_refused(digits: Dataset, tmp_path: Path) -> None:
    interrupted(digits, tmp_path / "set", 1)
    before = {path.name: path.read_bytes() for path in (tmp_path / "set.parts").iterdir()}
    with pytest.raises(RunMismatchError, match="begun with another seed; name another file"):
        build_adversarial_set(plan(digits, seed=1), tmp_path / "set")
    assert {path.name: path.read_bytes() for path in (tmp_path / "set.parts").iterdir()} == before


# What cannot be built.


@pytest.mark.parametrize(
    "settings",
    [
        {"attack_population": 4},  # differential evolution needs five
        {"target_lr": 0.0},
        {"target_batch_size": 0},
        {"target_weight_decay": -1.0},
        {"widths": (0.0,)},
        {"attacked_images": 0},
        {"targets": ("LeNet",), "depths": (10,)},  # it has one depth
        {"targets": ("ResNet",), "depths": (9,)},
    ],
    ids=lambda settings: "-".join(settings),
)
def test_what_can_be_known_to_fail_fails_before_anything_is_begun(
    settings: dict[str, Any], digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not cost the time of training a target, nor leave a half-built set that refuses the mended settings."""
    monkeypatch.setattr("evonas.adversarial_sets.jobs.train_target", lambda *arguments: pytest.fail("trained"))
    small = {"targets": ("LeNet",), "widths": (0.5,), "depths": (0,), "target_epochs": (1,), **settings}
    with pytest.raises(EvonasError, match="expected") as refused:
        build_adversarial_set(plan(digits, replace(TINY, **small)), tmp_path / "set")
    assert "\n" not in str(refused.value)
    assert list(tmp_path.iterdir()) == []


def test_data_without_an_adversarial_part(digits: Dataset, tmp_path: Path) -> None:
    none = Part(digits.adversarial.images[:0], digits.adversarial.labels[:0])
    with pytest.raises(DataError, match="expected images in the adversarial part of digits, got none"):
        build_adversarial_set(plan(replace(digits, adversarial=none)), tmp_path / "set")
    assert list(tmp_path.iterdir()) == []


def test_images_that_no_target_can_read(digits: Dataset, tmp_path: Path) -> None:
    small: dict[str, Any] = {
        name: Part(part.images[:, :, ::2, ::2].copy(), part.labels)
        for name, part in (
            ("train", digits.train),
            ("validation", digits.validation),
            ("adversarial", digits.adversarial),
        )
    }
    with pytest.raises(
        ConfigurationError, match="expected images of 32x32 pixels for an adversarial set, got digits of 16"
    ):
        build_adversarial_set(plan(replace(digits, **small)), tmp_path / "set")


def test_targets_that_nothing_fools(digits: Dataset, tmp_path: Path) -> None:
    """Black images, of which one level of one value changes nothing that LeNet sees after one step of training."""
    weak = replace(
        TINY,
        targets=("LeNet",),
        widths=(0.5,),
        depths=(0,),
        target_epochs=(1,),
        target_lr=1e-9,
        thresholds=(1,),
        set_attacks=("Linf",),
        attack_generations=1,
    )
    with pytest.raises(DataError, match="expected at least one successful attack, got none"):
        build_adversarial_set(plan(digits, weak), tmp_path / "set")
    assert not (tmp_path / "set.safetensors").exists()


def test_training_that_diverges(digits: Dataset, tmp_path: Path) -> None:
    wild = replace(TINY, target_lr=1e30)
    with pytest.raises(DivergedError, match="diverged"):
        build_adversarial_set(plan(digits, wild), tmp_path / "set")
    assert not (tmp_path / "set.safetensors").exists()


def test_a_build_is_one_threads_work_and_leaves_torch_as_it_was(digits: Dataset, tmp_path: Path) -> None:
    one = replace(TINY, targets=("LeNet",), widths=(0.5,), depths=(0,), target_epochs=(4,), thresholds=(20,))
    torch.set_num_threads(2)
    state = torch.get_rng_state()
    threads: set[int] = set()
    told = lambda key, line: threads.add(torch.get_num_threads())  # noqa: E731
    build_adversarial_set(plan(digits, one), tmp_path / "set", told=told)
    assert threads == {1}
    assert torch.get_num_threads() == 2
    assert torch.equal(torch.get_rng_state(), state)
    assert json.loads((tmp_path / "set.json").read_text())["threads"] == 1


def test_every_part_draws_from_a_seed_of_its_own(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two attacks from one seed would try the same changes."""
    seeds: list[int] = []
    for kind in (PixelAttack, ThresholdAttack):

        def run(attack: Any, model: Any, images: Tensor, labels: Tensor, rng: Any, of: Any = kind.run) -> Any:
            seeds.append(rng.initial_seed())
            return of(attack, model, images, labels, rng)

        monkeypatch.setattr(kind, "run", run)
    build_adversarial_set(plan(digits), tmp_path / "set")
    assert len(seeds) == PARTS - 2  # in two the targets are trained
    assert len(set(seeds)) == len(seeds)
