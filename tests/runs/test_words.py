"""Words of command lines: paths that begin with ~, names and numbers that are none, images of another size."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.cli import main
from evonas.files import expanded
from evonas.methods import method_module


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def small_images(tmp_path: Path) -> Path:
    """A file of 28x28 images, the size of MNIST's own files."""
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for name, count in (("train", 200), ("test", 50)):
        parts[f"x_{name}"] = rng.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        parts[f"y_{name}"] = np.arange(count) % 10
    np.savez(tmp_path / "small.npz", **parts)
    return tmp_path / "small.npz"


class TestPaths:
    def test_they_expand_however_they_are_joined(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        began: list[Any] = []
        monkeypatch.setattr(method_module("roco"), "run", began.append)
        for words in (["--out=~/x", "--data-root=~/data"], ["--out", "~/x", "--data-root", "~/data"]):
            assert main(["roco", *words]) == 0
        assert {(options.out, options.data.data_root) for options in began} == {(home / "x", home / "data")}

    def test_none_is_a_folder_like_any_other(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        began: list[Any] = []
        monkeypatch.setattr(method_module("roco"), "run", began.append)
        assert main(["roco", "--out", "none", "--val-limit", "none"]) == 0
        assert (began[0].out, began[0].data.val_limit) == (Path("none"), None)

    @pytest.mark.parametrize("words", [["show", "~/x"], ["verify", "~/x"], ["front", "~/x", "--out=~/y"]])
    def test_other_commands_do_as_well(self, words: list[str], home: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(words) == 2
        assert f"{home / 'x'} is none" in capsys.readouterr().err
        assert not Path("~").exists()

    @pytest.mark.parametrize(
        "words",
        [
            "roco --out=~nobody-here/x",
            "roco --data-root ~nobody-here/x",
            "roco --data npz:~nobody-here/x.npz",
            "roco --data digits --adversarial-set ~nobody-here/x",
            "roco --data digits --init-from ~nobody-here/x --objectives clean_error,macs",
            "roco --plugin ~nobody-here/x.py",
            "darts --out ~nobody-here/x",
            "tam --out ~nobody-here/x",
            "imagenet --cells ~nobody-here/genotype.json",
            "build-set --data digits --out ~nobody-here/x",
            "show ~nobody-here/x",
            "export ~nobody-here/x",
            "front ~nobody-here/x --out ~nobody-here/y",
            "set ~nobody-here/x --picture ~nobody-here/y",
            "doctor --out ~nobody-here/x",
        ],
    )
    @pytest.mark.usefixtures("home")
    def test_a_user_without_a_home_is_one_line(self, words: str, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(words.split()) == 2
        error = capsys.readouterr().err
        assert "~nobody-here has no home" in error
        assert error.count("\n") == 1

    def test_a_path_without_a_home_is_left_alone(self) -> None:
        assert expanded("a/~/b") == Path("a/~/b")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("roco --population abc", "expected a whole number for --population, got 'abc'"),
        ("roco --population 8/2", "expected a whole number for --population, got '8/2'"),
        ("roco --lr fast", "expected a number, such as 0.1 or 8/255, for --lr, got 'fast'"),
        ("tam --window 1e6", "expected 2 value(s) after --window, got 1"),
        ("roco --executor proces", "unknown --executor 'proces'; did you mean process?"),
        ("darts --order 3", "unknown --order '3'; known: 1, 2"),
        ("roco --retrain=yes", "expected --retrain without a value, got --retrain=yes"),
        ("roco --no-seed", "unknown option --no-seed"),
        ("roco 3", "expected a flag, got '3'"),
        ("dsrna --baselines pcdart", "did you mean pcdarts?"),
        ("roco --precision fp23", "did you mean fp32?"),
        ("dsrna --norm linff", "did you mean linf?"),
    ],
)
def test_words_that_are_no_value_are_told_what_is(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words.split()) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1


def test_images_of_another_size_are_told_the_objectives_that_work(
    small_images: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["roco", "--data", f"npz:{small_images}", "--out", str(home)]) == 2
    error = capsys.readouterr().err
    assert "expected images of 32x32 pixels for an adversarial set" in error
    assert "of 28x28: pad them, or search without a set, --objectives clean_error,macs" in error
    assert error.count("\n") == 1
    assert not home.exists()


@pytest.mark.lengthy
def test_they_are_searched_and_trained_again_without_a_set(small_images: Path, home: Path) -> None:
    words = (
        "--objectives clean_error,macs --population 2 --generations 0 --epochs 1 --channels 2 --phases 1 --nodes 2 "
        "--retrain --retrain-epochs 1 --retrain-channels 2 --suite fgsm --device cpu --threads 1"
    )
    assert main(["roco", "--data", f"npz:{small_images}", "--out", str(home), *words.split()]) == 0
    header = (home / "retrained" / "retrained.csv").read_text().splitlines()[0].split(",")
    assert "clean_error" in header
    assert "adversarial_set_error" not in header
