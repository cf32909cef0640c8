"""The real images, where EVONAS_DATA has them: sizes, balance, and agreement with torchvision's own data sets."""

import hashlib
import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evonas.data import Dataset, Part, load_data

ROOT = Path(os.environ.get("EVONAS_DATA") or "data").expanduser()
PARTS = ("train", "validation", "adversarial", "test")


def needs(folder: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (ROOT / folder).is_dir(), reason=f"no {folder} below EVONAS_DATA ({ROOT})")


def original(class_name: str, train: bool) -> Any:
    from torchvision import datasets

    return getattr(datasets, class_name)(root=str(ROOT), train=train, download=False)


def hashes(images: np.ndarray, labels: np.ndarray | list[int]) -> Counter[bytes]:
    return Counter(
        hashlib.blake2b(np.ascontiguousarray(image).data, digest_size=16, key=bytes([label])).digest()
        for image, label in zip(images, labels, strict=True)
    )


def hashes_of(part: Part) -> Counter[bytes]:
    return hashes(part.images, part.labels)


def counts(part: Part) -> list[int]:
    return [int(count) for count in np.bincount(part.labels, minlength=10)]


@pytest.fixture(scope="module")
def cifar10() -> Dataset:
    return load_data("cifar10", ROOT)


@pytest.fixture(scope="module")
def mnist() -> Dataset:
    return load_data("mnist", ROOT)


@pytest.mark.lengthy
@needs("cifar-10-batches-py")
def test_cifar10_has_the_sizes_and_the_balance_of_the_specification(cifar10: Dataset) -> None:
    assert [len(getattr(cifar10, name)) for name in PARTS] == [42_500, 5_000, 2_500, 10_000]
    assert [counts(getattr(cifar10, name)) for name in PARTS] == [[4250] * 10, [500] * 10, [250] * 10, [1000] * 10]
    assert cifar10.train.images.shape == (42_500, 3, 32, 32)
    assert cifar10.train.images.dtype == np.uint8
    assert (cifar10.n_classes, cifar10.flip) == (10, True)
    assert cifar10.mean == (0.49139968, 0.48215827, 0.44653124)
    assert cifar10.deviation == (0.24703233, 0.24348505, 0.26158768)


@pytest.mark.lengthy
@needs("cifar-10-batches-py")
def test_cifar10_parts_are_torchvisions_images_each_once(cifar10: Dataset) -> None:
    train, test = original("CIFAR10", train=True), original("CIFAR10", train=False)
    assert (train.targets[0], test.targets[0]) == (6, 3)  # a frog and a cat
    expected = hashes(train.data.transpose(0, 3, 1, 2), train.targets)
    assert sum((hashes_of(getattr(cifar10, name)) for name in PARTS[:3]), Counter()) == expected
    assert np.array_equal(cifar10.test.images, test.data.transpose(0, 3, 1, 2))  # in their own order
    assert cifar10.test.labels.tolist() == test.targets
    first, label = test[0]  # a PIL image
    assert np.array_equal(cifar10.test.images[0], np.asarray(first).transpose(2, 0, 1))
    assert cifar10.test.labels[0] == label


@pytest.mark.lengthy
@needs("cifar-10-batches-py")
def test_first_training_image_of_cifar10_is_in_exactly_one_part(cifar10: Dataset) -> None:
    image, label = original("CIFAR10", train=True)[0]
    pixels = np.asarray(image).transpose(2, 0, 1)
    found = [
        int(part.labels[i])
        for part in (getattr(cifar10, name) for name in PARTS)
        for i in np.flatnonzero((part.images == pixels).all(axis=(1, 2, 3)))
    ]
    assert found == [label] == [6]


@pytest.mark.lengthy
@needs("cifar-10-batches-py")
def test_auto_finds_cifar10(cifar10: Dataset) -> None:
    small = load_data("auto", ROOT, train_limit=1000, val_limit=200)
    assert small.name == "cifar10"
    assert small.chosen_because.startswith("data: cifar10")
    assert counts(small.train) == [100] * 10
    assert counts(small.validation) == [20] * 10
    assert hashes_of(small.train) <= hashes_of(cifar10.train)
    assert np.array_equal(small.adversarial.labels, cifar10.adversarial.labels)


@pytest.mark.lengthy
@needs("MNIST/raw")
def test_mnist_has_the_sizes_and_the_balance_of_the_specification(mnist: Dataset) -> None:
    assert [len(getattr(mnist, name)) for name in PARTS] == [52_500, 5_000, 2_500, 10_000]
    assert [counts(getattr(mnist, name)) for name in PARTS[1:3]] == [[500] * 10, [250] * 10]
    assert mnist.train.images.shape == (52_500, 3, 32, 32)
    assert mnist.flip is False


@pytest.mark.lengthy
@needs("MNIST/raw")
def test_mnist_is_padded_and_repeated(mnist: Dataset) -> None:
    test = original("MNIST", train=False)
    inside = mnist.test.images[:, :, 2:-2, 2:-2]
    assert np.array_equal(inside, np.broadcast_to(test.data.numpy()[:, None], inside.shape))
    assert mnist.test.labels.tolist() == test.targets.tolist()
    assert mnist.test.labels[0] == 7
    assert mnist.test.images.sum(dtype=np.int64) == inside.sum(dtype=np.int64)  # the border is black
    pixels = mnist.train.images[:, 0] / np.float32(255)
    # stated to 6 digits, and these pixels are rounded to single precision
    np.testing.assert_allclose(mnist.mean, [pixels.mean(dtype=np.float64)] * 3, rtol=0, atol=6e-7)


@pytest.mark.lengthy
@needs("MNIST/raw")
def test_mnist_parts_are_its_images_each_once(mnist: Dataset) -> None:
    train = original("MNIST", train=True)
    inside = Counter[bytes]()
    for name in PARTS[:3]:
        part = getattr(mnist, name)
        inside += hashes(part.images[:, 0, 2:-2, 2:-2], part.labels)
    assert inside == hashes(train.data.numpy(), train.targets.tolist())
