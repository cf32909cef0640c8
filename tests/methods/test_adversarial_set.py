"""The command that builds an adversarial set: its options, its lines on the screen, the set found again."""

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from evonas.adversarial_sets import SET_PRESETS, AdversarialSet, SetSettings, card_markdown, load_adversarial_set
from evonas.methods.adversarial_set import PRESETS, BuildExecution, BuildOptions, run
from evonas.runs import Screen, command, parse

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
BUILD = BuildOptions(
    data="digits", train_limit=100, settings=TINY, execution=BuildExecution(device="cpu"), precision="fp32"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder in which sets without a name are kept."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EVONAS_CACHE", str(folder))
        yield folder / "adversarial_sets"


def build() -> tuple[AdversarialSet, str]:
    """(the set, text on the screen)."""
    screen = io.StringIO()
    return run(BUILD, Console(file=screen, width=200)), screen.getvalue()


@pytest.fixture(scope="module")
def built(folder: Path) -> tuple[AdversarialSet, str]:
    return build()


@pytest.mark.lengthy
def test_a_build_tells_every_target_and_threshold_and_prints_its_card(
    folder: Path, built: tuple[AdversarialSet, str]
) -> None:
    the_set, text = built
    (file,) = folder.glob("*.safetensors")
    assert file.name == f"{the_set.card.name}.safetensors"
    assert file.name.startswith("digits-quick-")
    assert load_adversarial_set(file) == the_set
    lines = text.splitlines()
    assert f"adversarial set: none at {file} yet, building it: LeNet" in lines
    cells = {cell.attack: cell for cell in the_set.card.cells}
    for wanted in (
        f"  LeNet: trained, clean accuracy {the_set.card.targets[0].clean_accuracy:.1%}",
        f"  LeNet, L0 th 20: {cells['L0'].successful} fooled, of 20 images",
        f"  LeNet, Linf th 20: {cells['Linf'].successful} fooled, of 20 images",
        f"adversarial set: {the_set.card.name}, {len(the_set)} images, built in ",
    ):
        assert sum(line.startswith(wanted) for line in lines) == 1, wanted
    assert lines[-1].endswith(f", at {file}")
    assert card_markdown(the_set.card, the_set.fingerprint) in text
    assert f"> **Warning:** {the_set.card.warnings[0]}." in lines


def test_a_path_is_printed_as_it_is() -> None:
    screen = io.StringIO()
    Screen(Console(file=screen, width=20)).say("found at sets/:key:/[red]/mine.safetensors")
    assert screen.getvalue() == "found at sets/:key:/[red]/mine.safetensors\n"


def test_the_second_time_it_is_found_from_any_folder(
    folder: Path, built: tuple[AdversarialSet, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("evonas.runs.sets.build_adversarial_set", lambda *arguments: pytest.fail("it was built"))
    the_set, text = build()
    assert the_set == built[0]
    assert card_markdown(the_set.card, the_set.fingerprint) in text
    assert text.endswith(f", {len(the_set)} images, found at {folder}/{the_set.card.name}.safetensors\n")
    assert "building" not in text


def test_the_presets_state_their_settings() -> None:
    assert parse(PRESETS, []) == PRESETS["quick"] == BuildOptions(settings=SET_PRESETS["quick"])
    assert parse(PRESETS, ["--preset", "paper"]).settings == SetSettings()


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
    settings = parse(PRESETS, words).settings
    assert (settings.targets, settings.widths, settings.depths) == (("LeNet", "ResNet"), (0.5, 1.0), (0, 8))
    assert all(type(width) is float for width in settings.widths)
    assert (settings.target_epochs, settings.thresholds, settings.set_attacks) == ((3,), (1, 3), ("Linf",))
    assert settings.attacked_images is None


@pytest.mark.slow
def test_workers_build_the_same_set_and_a_deadline_ends_it(
    built: tuple[AdversarialSet, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "set"
    words = "--data digits --train-limit 100 --device cpu --precision fp32 --targets LeNet --widths 0.5 --depths 0 "
    words += "--target-epochs 4 --target-batch-size 20 --target-lr 0.02 --thresholds 20 --attacked-images 20 "
    words += f"--attack-population 10 --attack-generations 2 --out {out} --workers 2"
    assert command(run, PRESETS, [*words.split(), "--timeout", "0.01"]) == 2
    assert capsys.readouterr().err == (
        "error: expected every part of the set, LeNet, training failed: it took longer than its 0.01 seconds; "
        "mend that and run the same command again (everything finished is kept)\n"
    )
    assert command(run, PRESETS, words.split()) == 0
    note = "executor: process (--workers); device: cpu, 2 processes, threads of an evaluation: 1\n"
    assert note in capsys.readouterr().out
    assert load_adversarial_set(out) == built[0]


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (["--workers", "2", "--ray-address", "here:1"], "expected --workers or --ray-address, got both"),
        (["--executor", "local", "--timeout", "3"], "--timeout changes nothing without --executor process"),
        (["--attack-block", "0"], "expected"),
        (["--thresholds", "1,x"], "expected a whole number for --thresholds, got 'x'"),
        (["--thresholds", "1.5"], "expected a whole number for --"),
        (["--widths", "wide"], "expected a number, such as 0.1 or 8/255, for --widths, got 'wide'"),
        (["--thresholds", ""], "expected thresholds as one or more different values"),
        (
            ["--targets", "LeNet,AlexNet"],
            "unknown target network 'AlexNet'; did you mean LeNet? known: DenseNet, LeNet, ResNet, VGG-16",
        ),
        (["--widths", "1,1"], "expected one value of widths, or 3, one per target, got 2"),
        (["--targets", "LeNet", "--widths", "1", "--depths", "10", "--target-epochs", "1"], "depth"),
        (["--attack-population", "3"], "expected"),
        (["--attacked-images", "3"], "at least one image a class"),
        (["--device", "tpu9"], "expected a device"),
        (["--threads", "1"], "unknown option --threads"),
        (["--data", "npz:/no/such/file.npz"], "there is no such file"),
        (["--train-limit", "3"], "at least one image a class"),
    ],
)
def test_what_a_user_can_cause_is_one_line_and_exit_code_2(
    words: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evonas.adversarial_sets.jobs.train_target", lambda *arguments: pytest.fail("trained"))
    small = ["--data", "digits", "--train-limit", "50", "--device", "cpu"]
    assert command(run, PRESETS, [*small, *words]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: ")
    assert text.count("\n") == 1
    assert error in text
