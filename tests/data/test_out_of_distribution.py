"""Images of other classes: which data set is chosen, and what is refused."""

from pathlib import Path

import numpy as np
import pytest

from evonas.data import DATA_SETS, Dataset, load_data
from evonas.data.out_of_distribution import NOISE, load_ood_data, resolve_ood_data
from evonas.errors import ConfigurationError, UnknownNameError


def put(root: Path, *names: str) -> None:
    """Empty files where the data sets' own would be."""
    for name in names:
        for file in DATA_SETS[name].files:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).touch()


@pytest.mark.parametrize(
    ("data", "there", "chosen"),
    [
        ("cifar10", (), NOISE),
        ("cifar10", ("cifar10",), NOISE),
        ("cifar10", ("cifar10", "mnist"), "mnist"),
        ("cifar10", ("mnist", "cifar100"), "cifar100"),
        ("cifar10", ("mnist", "cifar100", "fashion_mnist"), "fashion_mnist"),
        ("cifar10", ("mnist", "cifar100", "fashion_mnist", "svhn"), "svhn"),
        ("digits", ("mnist", "svhn"), NOISE),
        ("mnist", ("svhn", "cifar10"), "cifar10"),
        ("svhn", ("svhn", "mnist", "cifar100"), "cifar100"),
    ],
)
def test_auto_takes_the_first_one_there_with_other_classes(
    data: str, there: tuple[str, ...], chosen: str, tmp_path: Path
) -> None:
    put(tmp_path, *there)
    name, note = resolve_ood_data("auto", data, tmp_path)
    assert name == chosen
    assert str(tmp_path) in note
    assert ("because SVHN is not there" in note) == (data == "cifar10" and chosen not in (NOISE, "svhn"))


def test_auto_never_starts_a_download_for_files_that_are_not_all_there(tmp_path: Path) -> None:
    put(tmp_path, "svhn", "mnist")
    (tmp_path / "test_32x32.mat").unlink()
    (tmp_path / "MNIST" / "raw" / "t10k-labels-idx1-ubyte").unlink()
    assert resolve_ood_data("auto", "cifar10", tmp_path)[0] == NOISE


def test_a_name_stands_for_itself() -> None:
    assert resolve_ood_data("svhn", "cifar10") == ("svhn", "")
    assert resolve_ood_data(NOISE, "cifar10") == (NOISE, "")


def test_the_same_classes_are_refused_with_the_names_that_would_do() -> None:
    with pytest.raises(ConfigurationError) as caught:
        resolve_ood_data("mnist", "digits")
    assert str(caught.value) == (
        "expected out-of-distribution images of other classes than those of digits, got mnist; "
        "give --ood-data fashion_mnist, cifar10, cifar100 or noise"
    )
    with pytest.raises(ConfigurationError, match="got cifar10"):
        resolve_ood_data("cifar10", "cifar10")


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"known: auto, cifar10, cifar100, digits, .*noise, svhn"):
        resolve_ood_data("imagenet", "cifar10")


def small(size: int = 32) -> Dataset:
    images = np.zeros((40, size, size), dtype=np.uint8)
    return Dataset.from_arrays(images, np.arange(40) % 2, images[:2], [0, 1], name="small")


def test_noise_has_the_size_of_the_data_and_is_seeded() -> None:
    noise, again, other = (load_ood_data(NOISE, small(8), seed=seed) for seed in (0, 0, 1))
    assert noise == again != other
    assert noise.image_size == 8
    assert sum(len(getattr(noise, part)) for part in ("train", "validation", "adversarial", "test")) == 200
    assert (noise.test.images.min(axis=(1, 2, 3)) == 0).all()  # each image has the whole range of pixels
    assert (noise.test.images.max(axis=(1, 2, 3)) == 255).all()


def test_another_data_set_must_have_images_of_the_same_size() -> None:
    assert load_ood_data("digits", small(), seed=1) == load_data("digits", seed=1)
    with pytest.raises(ConfigurationError, match="images of 8 pixels, as those of small, got 32 of digits"):
        load_ood_data("digits", small(8))
