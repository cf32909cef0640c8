"""Images in folders: which file is in which part, what is read of it, and one clear line for everything else."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import rng
from PIL import Image
from torch import Tensor

from evonas.data import Augmentation, FilePart, batches, load_image_folder, training_batches
from evonas.data.image_files import FileImages, scoring_transform, training_transform
from evonas.errors import DataError
from evonas.networks.blocks import seeded
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.objectives.scoring import error_under
from evonas.training import IMAGENET_CELLS, train

CPU = torch.device("cpu")
CLASSES = ("bee", "cat", "fox")
TRAIN, TEST = 9, 2
"""Images of each class."""

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")  # fewer cores than workers


def write(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """A random image of so many rows and columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(256, size=(*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """train/ with PNG and JPEG images in turn, val/ with PNG images."""
    root = tmp_path_factory.mktemp("imagenet")
    for label, name in enumerate(CLASSES):
        for number in range(TRAIN):
            suffix = "JPEG" if number % 2 else "png"
            write(root / "train" / name / f"{name}_{number}.{suffix}", 100 * label + number, (40 + number, 30))
        for number in range(TEST):
            write(root / "val" / name / f"{name}_{number}.png", 1000 + 100 * label + number)
    return root


@pytest.fixture
def root(original: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(original, tmp_path / "imagenet")


def names(files: FileImages) -> list[str]:
    return [str(files.path(index).relative_to(files.folder.parent)) for index in range(len(files))]


def part(root: Path, workers: int = 0, size: int = 16) -> FilePart:
    return FilePart(load_image_folder(root, validation_per_class=0).train, CPU, workers, size)


def test_parts_are_disjoint_balanced_and_val_is_the_test_part(original: Path) -> None:
    data = load_image_folder(original, validation_per_class=2)
    assert (data.name, data.classes, data.n_classes) == ("imagenet", CLASSES, 3)
    everything = {str(path.relative_to(original)) for path in original.rglob("*.*")}
    train, validation, test = (names(files) for files in (data.train, data.validation, data.test))
    assert sorted(train + validation + test) == sorted(everything)  # each file once
    assert all(name.startswith("train/") for name in train + validation)
    assert all(name.startswith("val/") for name in test)
    for files, each in ((data.train, TRAIN - 2), (data.validation, 2), (data.test, TEST)):
        assert np.bincount(files.labels).tolist() == [each] * 3
        for name, label in zip(names(files), files.labels, strict=True):
            assert name.split("/")[1] == CLASSES[label]
    assert data.normalization == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_parts_follow_from_the_seed(original: Path) -> None:
    first, again, other = (load_image_folder(original, seed, validation_per_class=2) for seed in (1, 1, 2))
    assert names(first.validation) == names(again.validation) != names(other.validation)
    assert first == again != other
    assert first.fingerprint == again.fingerprint
    assert len({first, again, other}) == 2


def test_no_more_than_a_quarter_of_a_class_is_held_out(original: Path) -> None:
    assert len(load_image_folder(original).validation) == 3 * (TRAIN // 4)
    assert len(load_image_folder(original, validation_per_class=0).validation) == 0


CHANGES: dict[str, Callable[[Path], Any]] = {
    "another name": lambda root: (root / "train/cat/cat_0.png").rename(root / "train/cat/new.png"),
    "another class": lambda root: (root / "train/cat/cat_0.png").rename(root / "train/bee/cat_0.png"),
    "one more": lambda root: write(root / "val/fox/more.png", 5),
    "another size": lambda root: (root / "val/fox/fox_0.png").write_bytes(b"0"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_other_files_give_another_fingerprint(change: str, root: Path, original: Path) -> None:
    before = load_image_folder(original, validation_per_class=0)
    assert load_image_folder(root, validation_per_class=0) == before  # wherever the folder lies
    CHANGES[change](root)
    assert load_image_folder(root, validation_per_class=0) != before


def test_scored_images_are_the_middle_in_order(tmp_path: Path) -> None:
    """Of 16x20 for a size of 14: the short side is 16 already, so that nothing is interpolated."""
    for folder in ("train", "val"):
        for number in range(5):
            write(tmp_path / folder / "only" / f"{number}.png", number, (16, 20))
    files = load_image_folder(tmp_path).test
    found = list(batches(FilePart(files, CPU, size=14), 2))
    assert [len(labels) for _, labels in found] == [2, 2, 1]
    pixels = torch.cat([images for images, _ in found])
    for number in range(5):
        whole = np.random.default_rng(number).integers(256, size=(16, 20, 3), dtype=np.uint8)
        middle = torch.from_numpy(whole[1:15, 3:17]).permute(2, 0, 1)
        assert torch.equal(pixels[number], middle.float() / 255)
    assert pixels.dtype == torch.float32
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in found)


def test_transforms_are_darts() -> None:
    from torchvision.transforms import v2

    crop, flip, colours = training_transform(224).transforms  # type: ignore[attr-defined]
    assert isinstance(crop, v2.RandomResizedCrop)
    assert (list(crop.size), list(crop.scale), list(crop.ratio)) == ([224, 224], [0.08, 1.0], [3 / 4, 4 / 3])
    assert isinstance(flip, v2.RandomHorizontalFlip)
    assert flip.p == 0.5
    assert isinstance(colours, v2.ColorJitter)
    assert list(colours.brightness) == list(colours.contrast) == list(colours.saturation) == [0.6, 1.4]
    assert list(colours.hue) == [-0.2, 0.2]
    resize, middle = scoring_transform(224).transforms  # type: ignore[attr-defined]
    assert isinstance(resize, v2.Resize)
    assert isinstance(middle, v2.CenterCrop)
    assert (list(resize.size), list(middle.size)) == ([256], [224, 224])


def test_an_epoch_holds_each_image_once_at_the_size_asked_for(original: Path) -> None:
    placed = part(original)
    assert len(placed) == 27
    found = list(training_batches(placed, 13, Augmentation(padding=0), rng()))
    assert [tuple(images.shape) for images, _ in found] == [(13, 3, 16, 16)] * 2  # a last one of one image is left out
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in found)
    assert all(labels.dtype == torch.int64 for _, labels in found)
    labels = torch.cat([labels for _, labels in training_batches(placed, 9, Augmentation(padding=0), rng())])
    assert labels.bincount().tolist() == [9, 9, 9]
    assert labels.tolist() != sorted(labels.tolist())


def epoch(root: Path, workers: int, generator: torch.Generator) -> list[tuple[Tensor, Tensor]]:
    return list(part(root, workers).shuffled(6, generator))


@pytest.mark.lengthy
def test_batches_are_the_same_with_any_number_of_workers(original: Path) -> None:
    state = torch.default_generator.get_state()
    epochs = [epoch(original, workers, rng(3)) for workers in (0, 1, 2)]
    for other in epochs[1:]:
        for (images, labels), (same, alike) in zip(epochs[0], other, strict=True):
            assert torch.equal(images, same)
            assert torch.equal(labels, alike)
    assert torch.equal(torch.default_generator.get_state(), state)
    torch.rand(3)
    assert all(torch.equal(one, two) for (one, _), (two, _) in zip(epochs[0], epoch(original, 0, rng(3)), strict=True))


def test_every_epoch_and_every_image_is_drawn_anew(tmp_path: Path) -> None:
    for number in range(8):
        write(tmp_path / "train" / "only" / f"{number}.png", 0)  # all of them alike
        write(tmp_path / "val" / "only" / f"{number}.png", 0)
    placed, generator = part(tmp_path), rng()
    views = [
        image.numpy().tobytes() for _ in range(3) for images, _ in placed.shuffled(4, generator) for image in images
    ]
    assert len(set(views)) == 24
    other = next(placed.shuffled(4, rng(1)))[0]
    assert other[0].numpy().tobytes() not in views


def test_cutout_comes_after_reading(original: Path) -> None:
    data = load_image_folder(original)
    train_part = FilePart(data.train, CPU, size=16)
    mean = torch.tensor(data.mean).view(3, 1, 1)
    ((whole, _),) = training_batches(train_part, 30, Augmentation(padding=0), rng(2))
    ((cut, _),) = training_batches(train_part, 30, Augmentation(padding=0, cutout=6, mean=data.mean), rng(2))
    hole = (cut == mean).all(dim=1, keepdim=True)
    assert hole.flatten(1).any(dim=1).all()
    assert torch.equal(torch.where(hole, mean, whole), cut)


def test_only_the_files_of_a_batch_are_read(root: Path) -> None:
    placed = part(root)
    order = [label for _, labels in placed.shuffled(4, rng()) for label in labels.tolist()]
    read = placed.shuffled(4, rng())
    first = next(read)
    for path in (root / "train").rglob("*.*"):
        path.write_bytes(b"no image any more")
    assert first[1].tolist() == order[:4]
    with pytest.raises(DataError, match="expected an image in"):
        next(read)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1", "LA", "I;16"])
def test_every_kind_of_image_becomes_rgb(mode: str, root: Path) -> None:
    suffix = "jpg" if mode == "CMYK" else "png"
    grey = Image.fromarray(np.full((20, 20), 200, dtype=np.uint8))
    path = root / "val" / "bee" / f"a.{suffix}"  # first in order
    (Image.fromarray(np.full((20, 20), 200, dtype=np.uint16)) if mode == "I;16" else grey.convert(mode)).save(path)
    files = load_image_folder(root).test
    (images, _), *_ = FilePart(files, CPU, size=8).ordered(1)
    assert images.shape == (1, 8, 8, 3)
    assert images.dtype == torch.uint8
    if mode in ("L", "RGBA", "LA"):
        assert bool((images == 200).all())


LEVELS = np.array([0, 100, 257, 51_400, 65_535], dtype=np.uint16)
"""Levels of 65,535; the nearest 8-bit ones are 0, 0, 1, 200 and 255."""


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_images_of_16_bits_are_scaled(suffix: str, root: Path) -> None:
    for name, level in zip("abcde", LEVELS, strict=True):
        Image.fromarray(np.full((20, 20), level)).save(root / "val" / "bee" / f"a{name}.{suffix}")
    (images, _), *_ = FilePart(load_image_folder(root).test, CPU, size=8).ordered(5)
    assert [image.unique().tolist() for image in images] == [[0], [0], [1], [200], [255]]


@pytest.mark.parametrize(("kind", "words"), [(np.int32, "integers of 32 bits"), (np.float32, "floats")])
def test_images_of_unknown_range_are_one_clear_line(kind: type, words: str, root: Path) -> None:
    path = root / "val" / "bee" / "a.tiff"
    Image.fromarray(np.full((20, 20), 0.5).astype(kind)).save(path)
    with pytest.raises(DataError, match=rf"in {path}: its pixels are {words}, of no known range; save it with 8 or 16"):
        list(FilePart(load_image_folder(root).test, CPU, size=8).ordered(4))


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("content", [b"", b"no image", "truncated"])
def test_a_broken_image_is_one_clear_line(workers: int, content: bytes | str, root: Path) -> None:
    path = root / "val" / "cat" / "cat_0.png"
    path.write_bytes(path.read_bytes()[:800] if isinstance(content, str) else content)
    files = load_image_folder(root).test
    with pytest.raises(DataError) as raised:
        list(FilePart(files, CPU, workers, size=8).ordered(4))
    assert str(raised.value).startswith(f"expected an image in {path}: ")
    assert str(raised.value).endswith("; replace or remove it")
    assert "\n" not in str(raised.value)


def empty_class(root: Path) -> None:
    for path in (root / "val" / "cat").iterdir():
        path.unlink()


def no_classes(root: Path) -> None:
    for name in CLASSES:
        shutil.rmtree(root / "train" / name)


def a_file(root: Path) -> None:
    shutil.rmtree(root / "train")
    (root / "train").touch()


def flat(root: Path) -> None:
    """As the archive of ImageNet's validation images unpacks."""
    for path in (root / "val").rglob("*.png"):
        path.rename(root / "val" / path.name)
    for name in CLASSES:
        (root / "val" / name).rmdir()


def few(root: Path) -> None:
    for number in range(3, TRAIN):
        next((root / "train" / "cat").glob(f"cat_{number}.*")).unlink()


BROKEN: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no folder": (
        shutil.rmtree,
        r"expected a folder with images of each class \(CLASS/\*\.JPEG, \*\.png\) at .*/train",
    ),
    "no val": (lambda root: shutil.rmtree(root / "val"), "expected a folder with images of each class .* at .*/val"),
    "an empty folder": (
        no_classes,
        "expected a folder with images of each class .* at .*/train, got another .*; name the folder that holds train/",
    ),
    "an empty class": (empty_class, "expected a folder with images of each class .* at .*/val, got another .*cat"),
    "no classes": (flat, "expected a folder with images of each class .* at .*/val, got another"),
    "a file": (
        a_file,
        "expected a folder with images of each class .* at .*/train, got another",
    ),
    "a class less": (
        lambda root: shutil.rmtree(root / "val" / "cat"),
        "expected the same class folders in train/ and val/ below .*, got 1 only in train/, such as 'cat'$",
    ),
    "other classes": (
        lambda root: (root / "val" / "cat").rename(root / "val" / "dog"),
        "got 1 only in train/, such as 'cat' and 1 only in val/, such as 'dog'$",
    ),
    "a small class": (few, "expected at least 4 images of each class in .*/train, got 3 of 'cat'$"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_cannot_be_used_is_one_clear_line(name: str, root: Path) -> None:
    breaks, message = BROKEN[name]
    breaks(root)
    with pytest.raises(DataError, match=message) as raised:
        load_image_folder(root)
    assert "\n" not in str(raised.value)


def test_a_negative_number_of_images_is_refused(original: Path) -> None:
    with pytest.raises(DataError, match="expected validation_per_class >= 0, got -1"):
        load_image_folder(original, validation_per_class=-1)


@pytest.mark.lengthy
def test_a_network_for_imagenet_trains_an_epoch_on_eight_images(tmp_path: Path) -> None:
    """The preset's loss and schedule, at 224x224, through the one training loop."""
    for name in ("bee", "cat"):
        for number in range(5):
            write(tmp_path / "train" / name / f"{number}.JPEG", number, (250, 300))
        for number in range(2):
            write(tmp_path / "val" / name / f"{number}.JPEG", 10 + number, (250, 300))
    data = load_image_folder(tmp_path, validation_per_class=1)
    train_part, validation_part = FilePart(data.train, CPU), FilePart(data.validation, CPU)
    assert (len(train_part), len(validation_part)) == (8, 2)

    def trained() -> dict[str, Tensor]:
        network = seeded(
            lambda: DartsNetwork(
                GENOTYPES["PC_DARTS_image"],
                16,
                3,
                data.n_classes,
                auxiliary=True,
                normalization=data.normalization,
                stem="imagenet",
            ),
            0,
        )
        before = {name: value.clone() for name, value in network.named_parameters()}
        config = replace(IMAGENET_CELLS.training, epochs=1, batch_size=4, precision="fp32")
        train(network, train_part, Augmentation(padding=0), config, IMAGENET_CELLS.recipe, rng(1))
        assert all(not torch.equal(value, before[name]) for name, value in network.named_parameters())
        error = error_under(network, batches(validation_part, 2), None, rng(), lambda done: None)
        assert error in (0.0, 0.5, 1.0)
        return network.state_dict()

    first, again = trained(), trained()
    assert all(bool(value.isfinite().all()) for value in first.values())
    assert all(torch.equal(first[name], again[name]) for name in first)
