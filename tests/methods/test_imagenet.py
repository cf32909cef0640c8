"""Found cells on a folder of images, from end to end with a tiny network: files, continuing, refusing."""

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import torch
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from evonas.data import Dataset, FilePart, Part, load_image_folder
from evonas.data.out_of_distribution import resolve_ood_data
from evonas.errors import ConfigurationError, DataError, RunMismatchError, UnknownNameError
from evonas.methods import imagenet
from evonas.methods.imagenet import PRESETS, ImagenetOptions
from evonas.methods.imagenet_cells import cells_label, read_cells
from evonas.methods.imagenet_scores import ATTACK, _aupr, attacked_files, ood_files, top_errors
from evonas.networks.darts import GENOTYPES, DartsNetwork, Genotype
from evonas.runs import command
from evonas.training import (
    IMAGENET_CELLS,
    CellPreset,
    CellTraining,
    Training,
    TrainingConfig,
    load_checkpoint,
    recipe_within,
    stored_identity,
)

RECIPE = CellTraining(drop_path=0.1, label_smoothing=0.1)
TRAINING = TrainingConfig(epochs=3, batch_size=4, lr=0.05, weight_decay=3e-5, lr_decay=0.97, precision="fp32")
TINY = ImagenetOptions(
    network=CellPreset(channels=4, layers=3, training=TRAINING, recipe=RECIPE),
    test_limit=2,
    ood_data="noise",
    device="cpu",
    threads=1,
)
WORDS = [
    "--channels=4",
    "--layers=3",
    "--epochs=3",
    "--batch-size=4",
    "--lr=0.05",
    "--lr-decay=0.97",
    "--precision=fp32",
    "--drop-path=0.1",
    "--test-limit=2",
    "--ood-data=noise",
    "--device=cpu",
    "--threads=1",
]


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def write_images(folder: Path, counts: dict[str, int]) -> None:
    for seed, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = np.random.default_rng([seed, number]).integers(256, size=(40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data")
    write_images(root / "imagenet" / "train", {"bee": 4, "cat": 4})
    write_images(root / "imagenet" / "val", {"bee": 4, "cat": 2})
    return root


def run(options: ImagenetOptions) -> str:
    """Lines on the screen."""
    screen = io.StringIO()
    imagenet.run(options, Console(file=screen, width=300))
    return screen.getvalue()


@pytest.fixture(scope="module")
def finished(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    threads, out = torch.get_num_threads(), tmp_path_factory.mktemp("runs") / "whole"
    run(replace(TINY, data_root=root, out=out))
    torch.set_num_threads(threads)
    return out


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(file)]


def weights(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    with safetensors.safe_open(folder / "weights.safetensors", "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["evonas"])  # noqa: SIM118


def checkpoint(folder: Path) -> dict[str, Any]:
    path = folder / "training.pt"
    content = load_checkpoint(path, stored_identity(path, "a training"), "a training")
    assert content is not None
    return content


def test_presets_are_what_the_papers_state() -> None:
    paper = PRESETS["paper"]
    assert paper.network == IMAGENET_CELLS
    training, recipe = paper.network.training, paper.network.recipe
    assert (paper.network.channels, paper.network.layers, training.epochs, training.batch_size) == (48, 14, 250, 128)
    assert (training.lr, training.lr_decay, training.weight_decay, training.momentum) == (0.1, 0.97, 3e-5, 0.9)
    assert (recipe.auxiliary_weight, recipe.label_smoothing, recipe.drop_path) == (0.4, 0.1, 0.0)
    quick = PRESETS["quick"].network
    assert (quick.channels, quick.recipe) == (16, recipe)
    assert (paper.ood_data, paper.ood_ratio) == ("svhn", (1, 5))


@pytest.mark.lengthy
def test_what_a_run_leaves(finished: Path, root: Path) -> None:
    assert [row["epoch"] for row in rows(finished / "training.csv")] == ["1", "2", "3"]
    (row,) = rows(finished / "results.csv")
    assert (row["cells"], row["images"], row["attacked_images"]) == ("DARTS_V2", "6", "2")
    assert float(row["top5_error"]) == 0  # of two classes
    assert float(row["top1_error"]) * 6 % 1 == pytest.approx(0, abs=1e-9)
    assert float(row["pgd_error"]) in (0, 0.5, 1)
    assert float(row["ood_aupr"]) in [pytest.approx(1 / rank) for rank in range(1, 7)]  # one image among five own ones
    tensors, about = weights(finished)
    assert not any(name.startswith("auxiliary") for name in tensors)
    network = DartsNetwork(
        Genotype(**about["genotype"]),
        channels=4,
        layers=3,
        n_classes=2,
        normalization=about["normalization"],
        stem="imagenet",
    )
    network.load_state_dict(tensors)
    assert int(row["params"]) == sum(each.numel() for each in network.parameters())
    part = FilePart(load_image_folder(root / "imagenet").test, torch.device("cpu"))
    assert top_errors(network.eval(), part) == {"top1_error": float(row["top1_error"]), "top5_error": 0.0}
    config = json.loads((finished / "config.json").read_text())
    assert config["identity"]["data"]["train"] == 8  # nothing is held out
    assert config["settings"]["epochs"] == 3
    assert "torch" in config["versions"]


@pytest.mark.lengthy
def test_a_finished_run_trains_and_scores_nothing_again(finished: Path, root: Path) -> None:
    kept = {name: (finished / name).read_bytes() for name in ("training.pt", "training.csv", "results.csv")}
    for name in ("training.csv", "results.csv"):
        (finished / name).unlink()
    text = run(replace(TINY, data_root=root, out=finished))
    assert "found at" in text
    assert "scoring" not in text
    assert {name: (finished / name).read_bytes() for name in kept} == kept
    tensors, _ = weights(finished)
    stored = checkpoint(finished)["state"]["network"]
    assert all(torch.equal(value, stored[name]) for name, value in tensors.items())


@pytest.mark.lengthy
def test_further_attacks_are_scored_on_the_trained_network(finished: Path, root: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "run"))
    text = run(replace(TINY, robust_attacks=("fgsm", "pgd10"), data_root=root, out=folder))
    assert text.count("scoring 2 images") == 2
    (row,), (before,) = rows(folder / "results.csv"), rows(finished / "results.csv")
    assert {name: row[name] for name in before} == before
    assert {float(row[name]) for name in ("fgsm_error", "pgd10_error")} <= {0.0, 0.5, 1.0}


@pytest.mark.lengthy
def test_cells_are_trained_by_another_recipe(finished: Path, root: Path, tmp_path: Path) -> None:
    """Its loss of both heads, with labels as they are; the folder of a clean training is not gone on with."""
    options = replace(TINY, data_root=root, recipe="fast_adversarial", recipe_epsilon=4 / 255)
    expected = CellTraining(drop_path=0.1, robust=recipe_within("fast_adversarial", 4 / 255))
    assert options.plan == replace(TINY.network, recipe=expected)
    assert TINY.plan is TINY.network
    with pytest.raises(RunMismatchError, match="robust"):
        run(replace(options, out=shutil.copytree(finished, tmp_path / "clean")))
    shown = run(replace(options, out=tmp_path / "robust"))
    assert "2 classes, fast_adversarial within 4/255" in shown
    identity = json.loads((tmp_path / "robust" / "config.json").read_text())["identity"]
    assert identity["recipe"]["robust"]["name"] == "fast_adversarial"
    assert identity["recipe"]["label_smoothing"] == 0
    clean, robust = weights(finished)[0], weights(tmp_path / "robust")[0]
    assert clean.keys() == robust.keys()
    assert any(not torch.equal(clean[name], robust[name]) for name in clean)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--recipe=tradez",), "unknown recipe 'tradez'; did you mean trades?"),
        (("--recipe=cells",), "expected a recipe for networks without an auxiliary head, got cells"),
        (
            ("--recipe-epsilon=0.1",),
            "--recipe-epsilon changes nothing without a robust recipe, such as --recipe trades",
        ),
    ],
)
def test_senseless_recipes_are_one_line(
    words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(imagenet.run, PRESETS, words) == 2
    assert message in capsys.readouterr().err


def test_further_attacks_need_images() -> None:
    with pytest.raises(ConfigurationError, match="expected images to attack with --robust-attacks fgsm, got none"):
        ImagenetOptions(robust_attacks=("fgsm",))
    with pytest.raises(ConfigurationError, match="every one of --robust-attacks once"):
        ImagenetOptions(robust_attacks=("fgsm", "fgsm"), pgd=True)
    with pytest.raises(UnknownNameError, match="fgsn"):
        _ = ImagenetOptions(robust_attacks=("fgsn",), pgd=True).attacks


@pytest.mark.slow
def test_killed_after_an_epoch_it_goes_on_bit_for_bit(finished: Path, root: Path, tmp_path: Path) -> None:
    script = "import sys; from evonas.methods import imagenet as m; from evonas.runs import command; "
    script += "sys.exit(command(m.run, m.PRESETS))"
    command_line = [sys.executable, "-c", script, *WORDS, "--data-root", str(root), "--out", str(tmp_path)]
    process = subprocess.Popen(command_line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 100
    while process.poll() is None and not (tmp_path / "training.pt").exists():
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    begun = checkpoint(tmp_path)["state"]["epoch"]
    assert begun < 3
    assert not (tmp_path / "results.csv").exists()
    text = run(replace(TINY, data_root=root, out=tmp_path))
    assert f"continued after epoch {begun}" in text
    for name in ("training.csv", "results.csv"):
        assert rows(tmp_path / name) == rows(finished / name)
    (tensors, about), (expected, expected_about) = weights(tmp_path), weights(finished)
    assert about == expected_about
    assert all(torch.equal(tensors[name], value) for name, value in expected.items())


@pytest.mark.lengthy
@pytest.mark.parametrize("known", [["clean"], ["clean", "pgd"], []])
def test_a_trained_folder_of_version_0_1_0_is_only_scored_further(
    known: list[str], finished: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was scored is taken as it is, so made-up scores stay; what was not is scored."""
    monkeypatch.setattr(Training, "run_epoch", lambda *arguments: pytest.fail("trained again"))
    now = checkpoint(finished)
    made_up = {
        "clean": ("clean", {"top1_error": 0.125, "top5_error": 0.0625}),
        "pgd": (f"{ATTACK!r}, 2 images of seed 0", {"pgd_error": 0.375}),
    }
    old = {
        "identity": now["identity"],
        "training": now["state"],
        "rows": [[row["epoch"], row["loss"], row["seconds"]] for row in now["rows"]],
        "scores": dict(made_up[each] for each in known),
    }
    torch.save(old, tmp_path / "training.pt")
    text = run(replace(TINY, data_root=root, out=tmp_path))
    assert text.count("scoring ") == 3 - len(known)
    (expected,) = rows(finished / "results.csv")
    for each in known:
        expected |= {column: str(value) for column, value in made_up[each][1].items()}
    assert rows(tmp_path / "results.csv") == [expected]
    assert rows(tmp_path / "training.csv") == rows(finished / "training.csv")
    assert (tmp_path / "weights.safetensors").read_bytes() == (finished / "weights.safetensors").read_bytes()
    assert "scoring" not in run(replace(TINY, data_root=root, out=tmp_path))  # now it is kept


@pytest.mark.lengthy
def test_a_folder_keeps_the_versions_and_the_precision_that_it_began_with(
    finished: Path, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr("evonas.runs.folder.versions", lambda: {"torch": "99"})
    auto = replace(TINY.network, training=replace(TRAINING, precision="auto"))
    text = run(replace(TINY, network=auto, data_root=root, out=tmp_path, threads=None, device="auto"))
    assert "precision: fp32, as this run was started with" in text
    config, begun = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path, finished))
    assert config["identity"] == begun["identity"]
    assert (config["versions"], config["continued_with"]) == (begun["versions"], {"torch": "99"})


@pytest.mark.lengthy
def test_another_run_in_the_same_folder_is_refused_with_the_difference(
    finished: Path, root: Path, tmp_path: Path
) -> None:
    here, before = replace(TINY, data_root=root, out=finished), (finished / "config.json").read_bytes()
    with pytest.raises(RunMismatchError, match="seed is 0 there, 1 here"):
        run(replace(here, seed=1))
    assert (finished / "config.json").read_bytes() == before
    (tmp_path / "config.json").write_text('{"settings": {}, "identity": {"method": "darts"}}')
    with pytest.raises(RunMismatchError, match="method is darts there, imagenet-cells here"):
        run(replace(here, out=tmp_path))


def test_cells_by_name_and_from_a_file(tmp_path: Path) -> None:
    assert read_cells("PDARTS") == GENOTYPES["PDARTS"]
    path = tmp_path / "darts-digits-quick-seed0" / "genotype-L2.json"
    path.parent.mkdir()
    path.write_text(json.dumps(asdict(GENOTYPES["DARTS_V1"])))
    assert read_cells(str(path)) == GENOTYPES["DARTS_V1"]
    assert (cells_label("PDARTS"), cells_label(str(path))) == ("PDARTS", "darts-digits-quick-seed0-L2")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        ("[]", "JSON object"),
        ("no", "expected JSON"),
        ('{"normal": []}', "expected normal, normal_concat, reduce, reduce_concat in it, got normal"),
        (
            '{"normal": [["fly", 0], ["skip_connect", 1]], "normal_concat": [2], "reduce": [], "reduce_concat": []}',
            "expected an operation of .* got 'fly'",
        ),
        (
            '{"normal": [["skip_connect", 0], ["skip_connect", 1]], "normal_concat": [[2]], "reduce": [], '
            '"reduce_concat": []}',
            "normal_concat to be different nodes of 2 to 2",
        ),
        (
            '{"normal": [["skip_connect", 0], ["skip_connect", 1]], "normal_concat": [2.0], "reduce": [], '
            '"reduce_concat": []}',
            r"normal_concat to be different nodes of 2 to 2, got \[2.0\]",
        ),
    ],
)
def test_other_cells_are_refused_in_one_line(content: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "genotype.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_cells(str(path))
    assert str(caught.value).startswith("expected cells of DARTS_V1")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("--channels=5", "an even number of channels"),
        ("--layers=1", "layers >= 2"),
        ("--workers=-1", "workers >= 0"),
        ("--test-limit=0", "test_limit >= 1"),
        ("--cells=DARTS_V3", "expected cells of"),
    ],
)
def test_senseless_settings_are_one_line(word: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(imagenet.run, PRESETS, [*WORDS, word]) == 2
    text = capsys.readouterr().err
    assert message in text
    assert text.count("\n") == 1


def test_a_missing_folder_is_one_line_on_standard_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(imagenet.run, PRESETS, [*WORDS, "--data-root", str(tmp_path)]) == 2
    text = capsys.readouterr().err
    assert text.startswith("error: expected a folder with images of each class")
    assert str(tmp_path / "imagenet" / "train") in text
    assert text.count("\n") == 1


def test_one_class_is_refused_before_anything_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "val"):
        write_images(tmp_path / "imagenet" / part, {"bee": 4})
    assert command(imagenet.run, PRESETS, [*WORDS, f"--data-root={tmp_path}", f"--out={tmp_path / 'run'}"]) == 2
    assert "expected at least 2 class folders in" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_attacked_images_are_balanced_and_stay_the_same(root: Path) -> None:
    data = load_image_folder(root / "imagenet")
    four = attacked_files(data, 4, False, 0)
    assert four.labels.tolist() == [0, 0, 1, 1]
    assert attacked_files(data, 4, False, 0).names.tolist() == four.names.tolist()
    assert attacked_files(data, 5, False, 0).labels.tolist() == [0, 0, 0, 1, 1]
    counts = [
        len(attacked_files(data, limit, pgd, 0)) for limit, pgd in ((None, False), (None, True), (2, True), (99, False))
    ]
    assert counts == [0, 6, 2, 6]
    with pytest.raises(DataError, match=r"at least one image a class \(2\), got 1"):
        attacked_files(data, 1, False, 0)


def test_aupr_by_hand(root: Path) -> None:
    """White images of another data set among five dark ones of val/: more white is less sure, so that they come first
    for a network that is sure of black, and last for one that is sure of white."""
    data = load_image_folder(root / "imagenet")
    white = np.full((3, 3, 32, 32), 255, dtype=np.uint8)
    part = Part(white, np.zeros(3, dtype=np.int64))
    other = Dataset("white", 1, part, part, part, part, (0.0,) * 3, (1.0,) * 3, flip=False)
    found = ood_files(data, other, (1, 5), 0)
    assert (len(found.ood), len(found.own)) == (1, 5)
    assert ood_files(data, other, (1, 5), 0).own.names.tolist() == found.own.names.tolist()
    with pytest.raises(DataError, match="expected at least 1 OoD and 7 validation images"):
        ood_files(data, other, (1, 7), 0)

    class ByBrightness(nn.Module):
        def __init__(self, sign: float) -> None:
            super().__init__()
            self.sign = sign

        def forward(self, images: Tensor) -> Tensor:
            assert images.shape[1:] == (3, 224, 224)
            brightness = images.mean(dim=(1, 2, 3))
            return torch.stack([1 + self.sign * brightness, torch.zeros_like(brightness)], dim=1)

    own = FilePart(found.own, torch.device("cpu"))
    assert _aupr(ByBrightness(-1.0), own, found.ood) == {"ood_aupr": 1.0}
    assert _aupr(ByBrightness(1.0), own, found.ood) == {"ood_aupr": pytest.approx(1 / 6)}


def test_images_that_show_imagenets_classes_are_not_out_of_its_distribution(tmp_path: Path) -> None:
    for name in ("cifar10", "cifar100", "fashion_mnist"):
        with pytest.raises(ConfigurationError, match="of other classes than those of imagenet"):
            resolve_ood_data(name, "imagenet", tmp_path)
    assert resolve_ood_data("svhn", "imagenet", tmp_path) == ("svhn", "")


def test_top_errors_by_hand(root: Path) -> None:
    """Class 0 has four images, class 1 two. The logits put class 0 sixth, and class 1 second."""

    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([0.0, 5.0, 6.0, 4.0, 3.0, 2.0]).expand(len(images), 6)

    part = FilePart(load_image_folder(root / "imagenet").test, torch.device("cpu"))
    assert top_errors(Fixed(), part) == {"top1_error": 1.0, "top5_error": 4 / 6}
