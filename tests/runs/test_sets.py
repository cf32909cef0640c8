"""Sets of a run: built once, found again, refused where they do not fit."""

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from evonas.adversarial_sets import (
    SET_PRESETS,
    AdversarialSet,
    BuildPlan,
    SetSettings,
    load_adversarial_set,
    save_adversarial_set,
)
from evonas.adversarial_sets.settings import EARLIER_PRESETS
from evonas.adversarial_sets.work import BuildWork
from evonas.data import Dataset, load_data
from evonas.errors import ConfigurationError, DataError, RunInUseError, RunMismatchError, StorageError
from evonas.executors import Job, LocalExecutor, Outcome
from evonas.files import waited_lock
from evonas.runs import Screen
from evonas.runs.interrupt import Interrupted, interruptible
from evonas.runs.sets import check_set, find_or_build, plan_as_begun, set_path
from evonas.types import Activity, Note

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

MakeSet = Callable[[Dataset, Mapping[str, Sequence[int]]], AdversarialSet]


@pytest.fixture
def no_building(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("evonas.runs.sets.build_adversarial_set", lambda *arguments: pytest.fail("it was built"))


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
    }
    return BuildPlan(data=data, **{**given, **changes})


def screen() -> Screen:
    return Screen(Console(file=io.StringIO(), width=200))


def shown(screen: Screen) -> str:
    assert isinstance(screen.console.file, io.StringIO)
    return screen.console.file.getvalue()


@pytest.fixture(scope="module")
def built(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """File of a set."""
    path = tmp_path_factory.mktemp("built") / "set.safetensors"
    find_or_build(plan(digits), path, screen())
    return path


@pytest.mark.lengthy
def test_other_settings_make_another_file(built: Path, digits: Dataset) -> None:
    cache = Path(os.environ["EVONAS_CACHE"])
    assert set_path(plan(digits)) == cache / f"adversarial_sets/{load_adversarial_set(built).card.name}.safetensors"
    others = [plan(digits, seed=1), plan(digits, preset="paper"), plan(digits, settings=replace(TINY, thresholds=(3,)))]
    assert len({set_path(each) for each in others} | {set_path(plan(digits))}) == 4


def test_sets_without_a_name_lie_in_one_cache_wherever_the_command_runs(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    name = f"adversarial_sets/{plan(digits).name}.safetensors"
    monkeypatch.delenv("EVONAS_CACHE")
    monkeypatch.chdir(tmp_path)
    assert set_path(plan(digits)) == tmp_path / "home/.cache/evonas" / name
    monkeypatch.setenv("EVONAS_CACHE", "~/elsewhere")
    assert set_path(plan(digits)) == tmp_path / "home/elsewhere" / name
    monkeypatch.setenv("EVONAS_CACHE", "~nobody-of-this-name/sets")
    with pytest.raises(StorageError, match="~nobody-of-this-name has no home"):
        set_path(plan(digits))


def test_sets_of_an_earlier_version_are_found_below_the_current_folder(
    built: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_building: None
) -> None:
    """It named the folder so, and its sets after the number of threads that had computed them, too."""
    by_one = load_adversarial_set(built)
    four = list(plan(digits).earlier_names)[2]
    by_four = replace(by_one, labels=(by_one.labels + 1) % 10, card=replace(by_one.card, name=four, threads=4))
    identity = {**plan(digits).identity, "threads": 4}
    assert four == f"digits-quick-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"
    monkeypatch.setenv("EVONAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    save_adversarial_set(f"adversarial_sets/{four}", by_four)
    assert set_path(plan(digits)) == tmp_path / f"cache/adversarial_sets/{by_one.card.name}.safetensors"
    path = set_path(plan(digits), by_four.fingerprint, four)  # a run goes on with its own
    where = f"found at adversarial_sets/{four}.safetensors, made by version 0.1.0"
    assert find_or_build(plan(digits), path, screen()) == (by_four, where)
    save_adversarial_set(f"adversarial_sets/{by_one.card.name}", by_one)
    for each in (by_one, by_four):
        assert load_adversarial_set(set_path(plan(digits), each.fingerprint, each.card.name)) == each
    path = set_path(plan(digits))  # as it would be computed now
    assert find_or_build(plan(digits), path, screen())[1] == f"found at {path}, made by version 0.1.0"
    save_adversarial_set(tmp_path / "cache" / "adversarial_sets" / by_one.card.name, by_one)
    assert set_path(plan(digits)).is_relative_to(tmp_path / "cache")
    Path(f"adversarial_sets/{four}.safetensors").unlink()
    with pytest.raises(ConfigurationError, match=f"{four}.*several threads.*cannot be built again; put it back"):
        set_path(plan(digits), by_four.fingerprint, four)
    assert set_path(plan(digits), "another", by_one.card.name).exists()  # and is then refused with the difference


def test_a_run_goes_on_with_a_set_of_the_presets_earlier_settings(
    built: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, no_building: None
) -> None:
    """A new run does not take it, nor one that was begun with another set."""
    now = replace(plan(digits), settings=SET_PRESETS["quick"])
    before = replace(now, settings=EARLIER_PRESETS["quick"])
    monkeypatch.setenv("EVONAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    of_then = load_adversarial_set(built)
    for name in (before.name, list(before.earlier_names)[2]):  # of one thread, and of four
        file = tmp_path / "adversarial_sets" / f"{name}.safetensors"
        then = replace(of_then, card=replace(of_then.card, name=name))
        save_adversarial_set(file, then)
        found, path = plan_as_begun(now, then.fingerprint)
        assert found == before
        assert find_or_build(found, path, screen())[0] == then
        for wanted in (None, "0" * 64):
            assert plan_as_begun(now, wanted) == (now, set_path(now))
        other = replace(plan(digits), settings=replace(now.settings, attacked_images=9))
        assert plan_as_begun(other, then.fingerprint) == (other, set_path(other))
        file.unlink()


@pytest.mark.lengthy
def test_a_set_of_the_earlier_settings_that_is_gone_is_built_again(
    built: Path, digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread has computed it, so that it comes out the same; the run knows it by its name."""
    monkeypatch.setitem(SET_PRESETS, "quick", replace(TINY, attack_generations=1))
    monkeypatch.setitem(EARLIER_PRESETS, "quick", TINY)
    monkeypatch.setenv("EVONAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    gone, now = load_adversarial_set(built), plan(digits, settings=SET_PRESETS["quick"])
    before, path = plan_as_begun(now, gone.fingerprint, gone.card.name)
    assert (before, path.exists()) == (plan(digits), False)
    again, where = find_or_build(before, path, screen())
    assert (again, again.fingerprint) == (gone, gone.fingerprint)
    assert where.startswith("built in ")
    assert plan_as_begun(now, gone.fingerprint, gone.card.name) == (before, path)  # found, by its fingerprint now
    assert plan_as_begun(now, "0" * 64, "another")[0] == now


@pytest.mark.parametrize("ending", ["", ".safetensors"])
def test_a_set_with_a_name_is_found_under_it(
    ending: str, built: Path, digits: Dataset, tmp_path: Path, no_building: None
) -> None:
    save_adversarial_set(tmp_path / "mine", load_adversarial_set(built))
    found, where = find_or_build(plan(digits), tmp_path / f"mine{ending}", screen())
    assert found == load_adversarial_set(built)
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


def test_a_damaged_set_is_not_built_over(built: Path, digits: Dataset, tmp_path: Path, no_building: None) -> None:
    (tmp_path / "mine.safetensors").write_bytes(built.read_bytes()[:-1])
    with pytest.raises(DataError, match="expected an adversarial set in"):
        find_or_build(plan(digits), tmp_path / "mine", screen())


def test_a_set_that_is_only_looked_at_is_not_built(digits: Dataset, tmp_path: Path, no_building: None) -> None:
    with pytest.raises(DataError, match=r"mine\.safetensors"):
        find_or_build(plan(digits), tmp_path / "mine", screen(), build=False)
    assert not [*tmp_path.iterdir()]


def test_an_interrupted_build_is_continued(digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The signal comes once the target is trained; it is not trained again."""
    path = tmp_path / "mine.safetensors"

    class Interrupting(Screen):
        def say(self, text: str, whole: bool = False) -> None:
            super().say(text, whole)
            if "trained" in text:
                signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as stopped, interruptible() as interruption:
        find_or_build(plan(digits), path, Interrupting(screen().console, interruption.check))
    assert stopped.value.exit_code == 143
    assert not path.exists()
    monkeypatch.setattr("evonas.adversarial_sets.jobs.train_target", lambda *arguments: pytest.fail("trained again"))
    again = screen()
    the_set, where = find_or_build(plan(digits), path, again)
    assert where.startswith("built in ")
    assert where.endswith(f", at {path}")
    assert load_adversarial_set(path) == the_set
    assert "LeNet: trained, clean accuracy" in shown(again)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["mine.json", "mine.md", "mine.safetensors"]


class Talking(LocalExecutor):
    """Says what an executor says whose worker died."""

    def next_finished(self) -> tuple[Job, Outcome]:
        self._report(Activity(running=2, waiting=1, slots=2, retries=1))
        self._report(Note(f"{self._jobs[0].key}: its worker process was killed; it runs again"))
        return super().next_finished()


def test_the_screen_says_what_runs_what_waits_and_what_was_lost(
    digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evonas.runs.screen.PLAIN_SECONDS", 0.0)
    talking = screen()
    find_or_build(plan(digits), tmp_path / "mine", talking, executor=Talking)
    lines = shown(talking).splitlines()
    assert "LeNet, training: its worker process was killed; it runs again" in lines
    busy = "done, 2 of 2 slots busy, 1 waiting, 1 retried, "
    assert any(line.startswith("  LeNet, training epoch 4/4, loss ") and f"; 0/3 {busy}" in line for line in lines)
    attacking = [line for line in lines if line.startswith(f"  LeNet, Linf th 20, block 1 20 images; 2/3 {busy}")]
    assert attacking
    assert all(" elapsed, about " in line for line in attacking)


def test_an_executor_is_made_only_for_a_set_that_is_missing(built: Path, digits: Dataset, tmp_path: Path) -> None:
    save_adversarial_set(tmp_path / "mine", load_adversarial_set(built))
    find_or_build(plan(digits), tmp_path / "mine", screen(), executor=lambda: pytest.fail("one was made"))


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
    half: dict[str, Any] = {
        name: replace(part, images=np.ascontiguousarray(part.images[:, :, ::2, ::2]))
        for name, part in (("train", digits.train), ("adversarial", digits.adversarial))
    }
    with pytest.raises(ConfigurationError, match="by-hand has 10 and 16x16"):
        check_set(make_set(replace(digits, **half), {"L0": [0]}), digits)


BUILDING = """
import sys
from pathlib import Path
from evonas.files import waited_lock
from evonas.runs import Screen
from evonas.runs.sets import find_or_build
from test_sets import plan
from evonas.data import load_data
found, where = find_or_build(plan(load_data("digits", train_limit=100)), Path(sys.argv[1]), Screen())
print(found.fingerprint, where.split()[0])
"""


@pytest.mark.slow
def test_of_three_processes_that_begin_together_one_builds_and_two_wait(tmp_path: Path, built: Path) -> None:
    path = tmp_path / "set.safetensors"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    command = [sys.executable, "-c", BUILDING, str(path)]
    with waited_lock(tmp_path / "set.lock", lambda: pytest.fail("nobody is there yet")):
        processes = [
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        for each in processes:  # all of them are there before the first one builds
            assert each.stdout is not None
            assert each.stdout.readline() == (f"adversarial set: another process is building {path}; waiting for it\n")
    said = [each.communicate(timeout=300) for each in processes]
    assert [(each.returncode, err) for each, (_, err) in zip(processes, said, strict=True)] == [(0, "")] * 3
    last = sorted(out.splitlines()[-1] for out, _ in said)
    fingerprint = load_adversarial_set(built).fingerprint
    assert last == [f"{fingerprint} built", *[f"{fingerprint} found"] * 2]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["set.json", "set.md", "set.safetensors"]


def test_two_processes_do_not_build_one_set(digits: Dataset, tmp_path: Path) -> None:
    one = plan(digits)
    with BuildWork(tmp_path / "mine.parts", one.identity), pytest.raises(RunInUseError, match="wait for it"):
        find_or_build(one, tmp_path / "mine", screen())
    with pytest.raises(RunMismatchError, match="--out"):
        find_or_build(plan(digits, seed=1), tmp_path / "mine", screen())
