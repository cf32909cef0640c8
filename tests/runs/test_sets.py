"""Sets of a run: built once, found again, refused where they do not fit; the command that builds one."""

import io
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console

from evonas.adversarial_sets import (
    SET_PRESETS,
    AdversarialSet,
    BuildPlan,
    SetSettings,
    card_markdown,
    load_adversarial_set,
    save_adversarial_set,
)
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, DataError, RunInUseError, RunMismatchError
from evonas.runs import BUILD_PRESETS, BuildSettings, command, parse, run_build
from evonas.runs.adversarial_sets import check_set, find_or_build, set_path
from evonas.runs.interrupt import Interrupted

TINY = SetSettings(
    targets=("LeNet",),
    widths=(0.5,),
    target_epochs=(4,),
    target_batch_size=20,
    target_lr=0.02,
    thresholds=(20,),
    attacked_images=20,
    attack_population=10,
    attack_generations=2,
)
BUILD = BuildSettings(data="digits", train_limit=100, settings=TINY, device="cpu", precision="fp32", threads=1)

MakeSet = Callable[[Dataset, Mapping[str, Sequence[int]]], AdversarialSet]


@pytest.fixture(scope="module", autouse=True)
def threads() -> Iterator[None]:
    """A build sets the threads of its process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets without a name go below the current folder."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "evonas.runs.adversarial_sets.build_adversarial_set", lambda *arguments: pytest.fail("it was built")
    )


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits", train_limit=100)


def plan(data: Dataset, **changes: Any) -> BuildPlan:
    given = {
        "split_seed": 0,
        "settings": TINY,
        "preset": "quick",
        "seed": 0,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    }
    return BuildPlan(data=data, **{**given, **changes})


def screen() -> Console:
    return Console(file=io.StringIO(), width=200)


def said(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """(the folder in which a set was built, what was on the screen)."""
    folder = tmp_path_factory.mktemp("built")
    console = screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_build(BUILD, console)
    return folder, said(console)


def test_a_build_tells_every_target_and_threshold_and_prints_its_card(built: tuple[Path, str]) -> None:
    folder, text = built
    (file,) = (folder / "adversarial_sets").glob("*.safetensors")
    assert file.name.startswith("digits-quick-")
    the_set = load_adversarial_set(file)
    lines = text.splitlines()
    assert f"adversarial set: none at adversarial_sets/{file.name} yet, building it: LeNet" in lines
    cells = {cell.attack: cell for cell in the_set.card.cells}
    for wanted in (
        f"  LeNet: trained, clean accuracy {the_set.card.targets[0].clean_accuracy:.1%}; ",
        f"  LeNet, L0 th 20: {cells['L0'].successful} fooled, 20 of 20 images; ",
        f"  LeNet, Linf th 20: {cells['Linf'].successful} fooled, 20 of 20 images; ",
        f"adversarial set: {the_set.card.name}, {len(the_set)} images, built in ",
    ):
        assert sum(line.startswith(wanted) for line in lines) == 1, wanted
    assert any(" elapsed, about " in line for line in lines)
    assert lines[-1].endswith(f", at adversarial_sets/{file.name}")
    assert card_markdown(the_set.card, the_set.fingerprint) in text
    assert f"> **Warning:** {the_set.card.warnings[0]}." in lines


def test_the_second_time_it_is_found(built: tuple[Path, str], no_building: None) -> None:
    folder, _ = built
    console = screen()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_build(BUILD, console)
    (file,) = (folder / "adversarial_sets").glob("*.safetensors")
    the_set, text = load_adversarial_set(file), said(console)
    assert card_markdown(the_set.card, the_set.fingerprint) in text
    assert text.endswith(
        f"adversarial set: {the_set.card.name}, {len(the_set)} images, found at adversarial_sets/{file.name}\n"
    )
    assert "building" not in text


def test_other_settings_make_another_file(built: tuple[Path, str], digits: Dataset) -> None:
    folder, _ = built
    (file,) = (folder / "adversarial_sets").glob("*.safetensors")
    assert set_path(plan(digits)) == Path("adversarial_sets") / file.name
    others = [plan(digits, seed=1), plan(digits, preset="paper"), plan(digits, settings=replace(TINY, thresholds=(3,)))]
    assert len({set_path(each).name for each in others} | {file.name}) == 4


@pytest.mark.parametrize("ending", ["", ".safetensors"])
def test_a_set_with_a_name_is_found_under_it(
    ending: str, built: tuple[Path, str], digits: Dataset, tmp_path: Path, no_building: None
) -> None:
    (file,) = (built[0] / "adversarial_sets").glob("*.safetensors")
    save_adversarial_set(tmp_path / "mine", load_adversarial_set(file))
    found, where = find_or_build(plan(digits), tmp_path / f"mine{ending}", screen())
    assert found == load_adversarial_set(file)
    assert where == f"found at {tmp_path}/mine.safetensors"


def test_another_set_under_that_name_is_refused_and_kept(
    digits_set: AdversarialSet, digits: Dataset, tmp_path: Path, no_building: None
) -> None:
    save_adversarial_set(tmp_path / "mine", digits_set)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(ConfigurationError, match=r"expected the set digits-quick-.* got by-hand, .* --out") as refused:
        find_or_build(plan(digits), tmp_path / "mine", screen())
    assert "\n" not in str(refused.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_damaged_set_is_not_built_over(
    built: tuple[Path, str], digits: Dataset, tmp_path: Path, no_building: None
) -> None:
    (file,) = (built[0] / "adversarial_sets").glob("*.safetensors")
    (tmp_path / "mine.safetensors").write_bytes(file.read_bytes()[:-1])
    with pytest.raises(DataError, match="expected an adversarial set in"):
        find_or_build(plan(digits), tmp_path / "mine", screen())


def test_an_interrupted_build_says_what_a_signal_says_and_goes_on(digits: Dataset, tmp_path: Path) -> None:
    """The signal comes while the first cell is attacked; what is finished is not made again."""
    path, seen = tmp_path / "mine.safetensors", []

    def kill(console: Console) -> None:
        write = console.out

        def out(line: str, **settings: Any) -> None:
            write(line, **settings)
            seen.append(line)
            if "trained" in line:
                signal.raise_signal(signal.SIGTERM)

        console.out = out  # type: ignore[method-assign]

    console = screen()
    kill(console)
    with pytest.raises(Interrupted) as stopped:
        find_or_build(plan(digits), path, console)
    assert stopped.value.exit_code == 143
    assert not path.exists()
    again = screen()
    the_set, where = find_or_build(plan(digits), path, again)
    assert where.startswith("built in ")
    assert where.endswith(f", at {path}")
    assert load_adversarial_set(path) == the_set
    assert "LeNet: trained, clean accuracy" in said(again)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.json", "mine.md", "mine.safetensors"]


# Whether a set fits the data of a run.


def test_a_set_of_the_same_parts_fits(digits_set: AdversarialSet, digits: Dataset) -> None:
    for data in (digits, load_data("digits"), load_data("digits", train_limit=50, val_limit=50)):
        check_set(digits_set, data)


def test_clean_twins_of_another_split_are_refused_with_the_seed_to_give(digits_set: AdversarialSet) -> None:
    other = load_data("digits", seed=3)
    seen = {each.tobytes() for part in (other.train, other.validation) for each in part.images}
    known = load_data("digits").adversarial.images[:12]
    twins = sum(image.tobytes() in seen for image in known)
    assert twins > 5
    with pytest.raises(ConfigurationError) as refused:
        check_set(digits_set, other)
    assert f"{twins} train or validation images are the clean ones behind by-hand" in str(refused.value)
    assert str(refused.value).endswith("give --split-seed 0")


def test_one_twin_in_the_validation_part_is_enough(make_set: MakeSet, digits: Dataset) -> None:
    other = load_data("digits", seed=3)
    ranked = {image.tobytes() for image in other.validation.images}
    trained = {image.tobytes() for image in other.train.images}
    images = digits.adversarial.images
    only = [i for i, image in enumerate(images) if image.tobytes() in ranked and image.tobytes() not in trained][:1]
    unseen = [i for i, image in enumerate(images) if image.tobytes() not in ranked | trained]
    with pytest.raises(ConfigurationError, match="1 train or validation images are"):
        check_set(make_set(digits, {"L0": [*only, *unseen]}), other)
    check_set(make_set(digits, {"L0": unseen}), other)  # nobody sees these


def test_sets_of_other_classes_or_another_size_are_refused(make_set: MakeSet, digits: Dataset) -> None:
    with pytest.raises(ConfigurationError, match="set of 10 classes and 32x32 images for digits, by-hand has 11"):
        check_set(make_set(replace(digits, n_classes=11), {"L0": [0]}), digits)
    half = {
        name: replace(part, images=np.ascontiguousarray(part.images[:, :, ::2, ::2]))
        for name, part in (("train", digits.train), ("adversarial", digits.adversarial))
    }
    with pytest.raises(ConfigurationError, match="by-hand has 10 and 16x16"):
        check_set(make_set(replace(digits, **half), {"L0": [0]}), digits)


# The command.


def test_the_presets_state_their_settings() -> None:
    assert parse(BUILD_PRESETS, []) == BUILD_PRESETS["quick"] == BuildSettings(settings=SET_PRESETS["quick"])
    assert parse(BUILD_PRESETS, ["--preset", "paper"]).settings == SetSettings()


def test_numbers_for_each_target_are_given_with_commas() -> None:
    words = [
        "--targets",
        "LeNet,ResNet",
        "--widths",
        "0.5,1",
        "--depths",
        "0,8",
        "--target-epochs",
        "3",
        "--thresholds",
        "1,3",
        "--set-attacks",
        "Linf",
        "--attacked-images",
        "None",
    ]
    settings = parse(BUILD_PRESETS, words).settings
    assert (settings.targets, settings.widths, settings.depths) == (("LeNet", "ResNet"), (0.5, 1.0), (0, 8))
    assert all(type(width) is float for width in settings.widths)
    assert (settings.target_epochs, settings.thresholds, settings.set_attacks) == ((3,), (1, 3), ("Linf",))
    assert settings.attacked_images is None


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--thresholds", "1,x"], "Error parsing --thresholds: invalid literal for int() with base 10: 'x'"),
        (["--thresholds", "1.5"], "invalid literal for int()"),
        (["--widths", "wide"], "could not convert string to float: 'wide'"),
        (["--thresholds", ""], "expected thresholds as one or more different values"),
        (["--targets", "LeNet,AlexNet"], "unknown target network 'AlexNet'; known: DenseNet, LeNet, ResNet, VGG-16"),
        (["--widths", "1,1"], "expected one value or 4, one a target, of widths, got 2"),
        (["--targets", "LeNet", "--widths", "1", "--depths", "10", "--target-epochs", "1"], "depth"),
        (["--attack-population", "3"], "expected"),
        (["--attacked-images", "3"], "at least one image a class"),
        (["--device", "tpu9"], "expected a device"),
        (["--threads", "0"], "expected threads >= 1, got 0"),
        (["--data", "npz:/no/such/file.npz"], "there is no file"),
        (["--train-limit", "3"], "at least one image a class"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_exit_code_2(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evonas.adversarial_sets.build.train_target", lambda *arguments: pytest.fail("trained"))
    small = ["--data", "digits", "--train-limit", "50", "--device", "cpu", "--threads", "1"]
    assert command(run_build, BUILD_PRESETS, [*small, *words]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert error in text


def test_two_processes_do_not_build_one_set(digits: Dataset, tmp_path: Path) -> None:
    from evonas.adversarial_sets.work import Work

    one = plan(digits)
    with Work(tmp_path / "mine.parts", one.identity), pytest.raises(RunInUseError, match="wait for it"):
        find_or_build(one, tmp_path / "mine", screen())
    with pytest.raises(RunMismatchError, match="--out"):
        find_or_build(plan(digits, seed=1), tmp_path / "mine", screen())
