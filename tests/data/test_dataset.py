"""Four disjoint, class-balanced parts, subsets of them, and a fingerprint of exactly these images."""

import hashlib
from collections import Counter
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evonas.data import Dataset, ImageSource, Part, PartSizes, load_data
from evonas.data.dataset import split
from evonas.errors import DataError

PARTS = ("train", "validation", "adversarial", "test")


def numbered(labels: list[int] | np.ndarray, size: int = 4) -> Part:
    """Images whose first two pixels are their number, so that no two are equal."""
    n = len(labels)
    images = np.zeros((n, 3, size, size), dtype=np.uint8)
    images[:, :, 0, 0] = (np.arange(n) // 256)[:, None]
    images[:, :, 0, 1] = (np.arange(n) % 256)[:, None]
    return Part(images, np.asarray(labels, dtype=np.int64))


def numbers(part: Part) -> list[int]:
    return [int(high) * 256 + int(low) for high, low in part.images[:, 0, 0, :2]]


def source(labels: list[int] | np.ndarray, sizes: PartSizes, test: Part | None = None) -> ImageSource:
    return ImageSource("numbered", numbered(labels), test, sizes, flip=False, mean=(0.5,) * 3, deviation=(0.25,) * 3)


def hashes(part: Part) -> Counter[bytes]:
    return Counter(
        hashlib.sha256(image.tobytes() + bytes([label])).digest()
        for image, label in zip(part.images, part.labels.tolist(), strict=True)
    )


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return load_data("digits")


def test_digits_has_the_sizes_of_the_specification(digits: Dataset) -> None:
    assert [len(getattr(digits, name)) for name in PARTS] == [1097, 250, 150, 300]
    assert (digits.n_classes, digits.image_size, digits.flip) == (10, 32, False)


@pytest.mark.parametrize("name", PARTS)
def test_digits_has_typed_parts(digits: Dataset, name: str) -> None:
    part = getattr(digits, name)
    assert part.images.dtype == np.uint8
    assert part.images.shape == (len(part), 3, 32, 32)
    assert part.labels.dtype == np.int64
    assert part.labels.shape == (len(part),)


def test_held_out_digits_are_balanced_exactly(digits: Dataset) -> None:
    for name, each in (("validation", 25), ("adversarial", 15), ("test", 30)):
        assert np.bincount(getattr(digits, name).labels).tolist() == [each] * 10


def test_the_parts_of_digits_are_its_images_each_once(digits: Dataset) -> None:
    from sklearn.datasets import load_digits

    raw, labels = load_digits(return_X_y=True)
    pixels = np.array([round(value / 16 * 255) for value in range(17)], dtype=np.uint8)[raw.astype(int)]
    enlarged = np.kron(pixels.reshape(-1, 1, 8, 8), np.ones((1, 3, 4, 4), dtype=np.uint8))  # nearest
    expected = hashes(Part(enlarged, labels.astype(np.int64)))
    found = sum((hashes(getattr(digits, name)) for name in PARTS), Counter())
    assert found == expected
    assert found.total() == 1797


def test_digits_use_the_whole_range_of_pixels(digits: Dataset) -> None:
    assert set(np.unique(digits.train.images)) == {round(value / 16 * 255) for value in range(17)}
    assert digits.train.images.max() == 255  # 16 -> 255
    blocks = digits.train.images.reshape(-1, 3, 8, 4, 8, 4)
    assert (blocks == blocks[:, :, :, :1, :, :1]).all()  # nearest: blocks of 4 x 4 equal pixels
    assert (digits.train.images == digits.train.images[:, :1]).all()  # grey


def test_moments_are_those_of_the_train_part(digits: Dataset) -> None:
    pixels = digits.train.images / 255
    # stated to 6 digits
    np.testing.assert_allclose(digits.mean, pixels.mean(axis=(0, 2, 3)), rtol=0, atol=5e-7)
    np.testing.assert_allclose(digits.deviation, pixels.std(axis=(0, 2, 3)), rtol=0, atol=5e-7)
    assert digits.normalization == (digits.mean, digits.deviation)


def test_moments_by_hand() -> None:
    part = Part(np.zeros((8, 3, 2, 2), dtype=np.uint8), np.arange(8) // 4)
    part.images[:, 0] = 51  # 0.2 everywhere
    part.images[:, 1, 0] = 255  # half of the pixels are white
    data = split(ImageSource("three", part, part, PartSizes(0, 0), flip=False), rng())
    assert data.mean == (0.2, 0.5, 0.0)
    assert data.deviation == (0.001, 0.5, 0.001)  # never 0: one divides by it


def test_images_of_the_train_part_alone_are_measured() -> None:
    part = numbered([0, 1] * 20)
    data = split(ImageSource("measured", part, part, PartSizes(4, 4), flip=False), rng())
    np.testing.assert_allclose(data.mean, (data.train.images / 255).mean(axis=(0, 2, 3)), rtol=0, atol=5e-7)


def test_same_seed_same_data_and_other_seed_other_split(digits: Dataset) -> None:
    again, other = load_data("digits", seed=0), load_data("digits", seed=1)
    assert digits == again
    assert digits.fingerprint == again.fingerprint
    assert hash(digits) == hash(again)
    assert digits != other
    for name in PARTS:
        assert np.array_equal(getattr(digits, name).images, getattr(again, name).images)
        assert hashes(getattr(digits, name)) != hashes(getattr(other, name))


def test_parts_are_disjoint_and_complete() -> None:
    labels = rng(1).integers(3, size=400)
    data = split(source(labels, PartSizes(60, 30, test=45)), rng())
    found = [numbers(getattr(data, name)) for name in PARTS]
    assert [len(part) for part in found] == [265, 60, 30, 45]
    assert sorted(number for part in found for number in part) == list(range(400))
    for name, part in zip(PARTS, found, strict=True):
        assert getattr(data, name).labels.tolist() == labels[part].tolist()
    for name, each in (("validation", 20), ("adversarial", 10), ("test", 15)):
        assert np.bincount(getattr(data, name).labels).tolist() == [each] * 3


def test_official_test_images_are_the_test_part() -> None:
    official = numbered([1, 0, 1])
    data = split(source([0, 1] * 50, PartSizes(10, 6), test=official), rng())
    assert data.test is official
    assert len(data.train) == 84


def test_no_part_takes_more_than_a_quarter_of_a_class() -> None:
    data = split(source([0] * 8 + [1] * 80, PartSizes(40, 40, test=40)), rng())
    for part in (data.validation, data.adversarial, data.test):
        assert np.bincount(part.labels).tolist() == [2, 20]
    assert np.bincount(data.train.labels).tolist() == [2, 20]


def test_sizes_that_no_class_divides_are_as_equal_as_possible() -> None:
    data = split(source([0, 1, 2] * 40, PartSizes(10, 5)), rng())
    assert sorted(np.bincount(data.validation.labels)) == [3, 3, 4]
    assert sorted(np.bincount(data.adversarial.labels)) == [1, 2, 2]


@pytest.mark.parametrize(("labels", "message"), [([0] * 9 + [1] * 3, "got 3 of class 1"), ([0] * 9 + [2] * 9, "got 0")])
def test_too_few_images_of_a_class(labels: list[int], message: str) -> None:
    with pytest.raises(DataError, match=f"at least 4 training images of each class in numbered, {message}"):
        split(source(labels, PartSizes(1, 1)), rng())


def test_test_labels_that_training_does_not_have() -> None:
    with pytest.raises(DataError, match=r"expected test labels 0 to 1 .*got 2"):
        split(source([0, 1] * 8, PartSizes(2, 2), test=numbered([0, 1, 2])), rng())


def test_limits_take_balanced_subsets(digits: Dataset) -> None:
    small = digits.limited(100, 50, rng())
    assert np.bincount(small.train.labels).tolist() == [10] * 10
    assert np.bincount(small.validation.labels).tolist() == [5] * 10
    assert small.adversarial is digits.adversarial
    assert small.test is digits.test
    assert hashes(small.train) <= hashes(digits.train)
    assert hashes(small.validation) <= hashes(digits.validation)
    assert small.fingerprint != digits.fingerprint
    assert small.normalization == digits.normalization


def test_limits_of_load_data_are_seeded() -> None:
    first, again = (load_data("digits", train_limit=105, val_limit=20, seed=3) for _ in range(2))
    assert first == again
    assert (len(first.train), len(first.validation)) == (105, 20)
    assert set(np.bincount(first.train.labels)) == {10, 11}
    whole = load_data("digits", seed=3)
    assert hashes(first.train) <= hashes(whole.train)  # the limit does not move the split
    assert first.test.images.tobytes() == whole.test.images.tobytes()


def test_no_limit_and_a_generous_one_keep_everything(digits: Dataset) -> None:
    assert digits.limited(None, None, rng()) == digits
    assert digits.limited(1097, 10**6, rng()) == digits


@pytest.mark.parametrize("limit", [0, 9, -1])
def test_a_limit_below_one_image_a_class(digits: Dataset, limit: int) -> None:
    with pytest.raises(DataError, match=rf"at least one image a class \(10\), got {limit}"):
        digits.limited(limit, None, rng())


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=60), st.integers(4, 70), st.integers(0, 10**6))
def test_any_limit_is_met_exactly_and_as_equally_as_possible(labels: list[int], limit: int, seed: int) -> None:
    part = numbered(labels)
    taken = part.limited(limit, 4, rng(seed))
    assert len(taken) == min(limit, len(part))
    assert len(set(numbers(taken))) == len(taken)
    assert taken.labels.tolist() == [labels[i] for i in numbers(taken)]
    have, got = np.bincount(labels, minlength=4), np.bincount(taken.labels, minlength=4)
    if limit < len(part):
        assert all(g == h or g >= got.max() - 1 for g, h in zip(got, have, strict=True))  # short only if exhausted


def test_take_keeps_the_given_order() -> None:
    part = numbered([0, 1, 2, 3]).take(np.array([3, 1]))
    assert numbers(part) == [3, 1]
    assert part.labels.tolist() == [3, 1]
    assert part.images.flags.c_contiguous


def test_the_fingerprint_sees_every_field_that_matters() -> None:
    data = split(source([0, 1] * 40, PartSizes(8, 8, test=8)), rng())
    changed = {data.fingerprint}
    for name in PARTS:
        part = getattr(data, name)
        other_pixel, other_label = part.images.copy(), part.labels.copy()
        other_pixel[-1, -1, -1, -1] ^= 1
        other_label[-1] ^= 1
        for other in (Part(other_pixel, part.labels), Part(part.images, other_label)):
            given: dict[str, Any] = {name: other}
            changed.add(replace(data, **given).fingerprint)
    changed.add(replace(data, validation=data.adversarial, adversarial=data.validation).fingerprint)
    for setting in (
        {"name": "other"},
        {"mean": (0.0,) * 3},
        {"deviation": (1.0,) * 3},
        {"flip": True},
        {"n_classes": 3},
    ):
        changed.add(replace(data, **setting).fingerprint)
    assert len(changed) == 1 + 2 * len(PARTS) + 1 + 5
    own = {replace(data, name=name, by_content=True).fingerprint for name in ("npz:mine.npz", "npz:renamed.npz")}
    assert len(own) == 1
    assert not own & changed
    assert {field.name for field in fields(data)} == {
        *PARTS,
        "name",
        "n_classes",
        "mean",
        "deviation",
        "flip",
        "chosen_because",
        "converted",
        "by_content",
    }
    assert replace(data, chosen_because="it was there") == data  # why it was chosen is no part of what it is


def test_the_fingerprint_is_a_stated_value() -> None:
    """Runs of an earlier version continue only while this value stays."""
    data = Dataset(
        name="tiny",
        n_classes=1,
        train=numbered([0]),
        validation=numbered([0]),
        adversarial=numbered([0]),
        test=numbered([0]),
        mean=(0.5,) * 3,
        deviation=(0.25,) * 3,
        flip=False,
    )
    digest = hashlib.sha256(b"('tiny', 1, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), False)")
    for _ in range(4):
        digest.update(b"(1, 3, 4, 4)" + bytes(3 * 16) + bytes(8))
    assert data.fingerprint == digest.hexdigest()[:32]


def test_a_parts_fingerprint_is_a_stated_value() -> None:
    """Adversarial sets name their images by it."""
    part = numbered([0, 1])
    expected = hashlib.sha256(b"(2, 3, 4, 4)" + part.images.tobytes() + part.labels.tobytes()).hexdigest()[:32]
    assert part.fingerprint == expected
    turned = Part(part.images.transpose(0, 1, 3, 2), part.labels)
    assert turned.fingerprint == Part(turned.images.copy(), part.labels).fingerprint != part.fingerprint


def test_a_parts_fingerprint_sees_pixels_labels_order_and_shape() -> None:
    part = numbered([0, 1, 0, 1])
    other_pixel, other_label = part.images.copy(), part.labels.copy()
    other_pixel[-1, -1, -1, -1] ^= 1
    other_label[-1] ^= 1
    others = [
        Part(other_pixel, part.labels),
        Part(part.images, other_label),
        part.take(np.array([0, 1, 3, 2])),
        part.take(np.arange(3)),
        Part(part.images.reshape(4, 3, 2, 8), part.labels),
    ]
    assert len({part.fingerprint, *(each.fingerprint for each in others)}) == 1 + len(others)
    assert Part(part.images.copy(), part.labels.copy()).fingerprint == part.fingerprint


@pytest.mark.parametrize(("limit", "each"), [(10, 1), (40, 4), (149, None), (150, 15), (1000, 15), (None, 15)])
def test_balanced_indices_of_a_part(digits: Dataset, limit: int | None, each: int | None) -> None:
    chosen = digits.adversarial.balanced(limit, 10, rng())
    assert chosen.tolist() == sorted(set(chosen.tolist()))
    assert len(chosen) == min(150, limit or 150)
    counts = np.bincount(digits.adversarial.labels[chosen], minlength=10)
    assert set(counts) == ({each} if each else {14, 15})
    assert chosen.tolist() == digits.adversarial.balanced(limit, 10, rng()).tolist()
    taken, limited = digits.adversarial.take(chosen), digits.adversarial.limited(limit, 10, rng())
    assert taken.fingerprint == limited.fingerprint


def test_balanced_indices_are_drawn_and_need_an_image_of_each_class(digits: Dataset) -> None:
    first, other = (digits.adversarial.balanced(50, 10, rng(seed)).tolist() for seed in (0, 1))
    assert first != other
    with pytest.raises(DataError, match=r"at least one image a class \(10\), got 9"):
        digits.adversarial.balanced(9, 10, rng())


def test_arrays_that_must_not_be_written_are_data_too() -> None:
    part = numbered([0, 1] * 20)
    part.images.setflags(write=False)
    part.labels.setflags(write=False)
    data = split(ImageSource("frozen", part, part, PartSizes(4, 4), flip=False), rng())
    assert len(data.fingerprint) == 32
    assert data != "frozen"


def test_all_but_the_test_part_are_trained_on_in_their_order() -> None:
    data = load_data("digits", train_limit=100, val_limit=40)
    assert data.trained_on("train") is data.train
    pooled = data.trained_on("all")
    assert len(pooled) == 100 + 40 + 150
    np.testing.assert_array_equal(pooled.images[100:140], data.validation.images)
    np.testing.assert_array_equal(pooled.labels[140:], data.adversarial.labels)
