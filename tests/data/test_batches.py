"""Batches on the device: exact pixels, every image once, and augmentation equal in distribution to torchvision's."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers import rng
from scipy.stats import chi2
from torch import Tensor

from evonas.data import Augmentation, DeviceData, DevicePart, Part, batches, load_data, training_batches

CPU = torch.device("cpu")
UNCHANGED = Augmentation(padding=0)


def random_part(n: int, size: int = 8) -> Part:
    rng = np.random.default_rng(n)
    return Part(rng.integers(256, size=(n, 3, size, size), dtype=np.uint8), np.arange(n, dtype=np.int64))


def crops(image: Tensor, padding: int, flip: bool) -> list[bytes]:
    """Everything torchvision's functions can make of a (C, H, W) image: each crop, then each mirrored crop."""
    from torchvision.transforms import functional

    padded = functional.pad(image, [padding])
    offsets = [(top, left) for top in range(2 * padding + 1) for left in range(2 * padding + 1)]
    found = [functional.crop(padded, top, left, *image.shape[1:]) for top, left in offsets]
    return [crop.numpy().tobytes() for crop in (found + [functional.hflip(crop) for crop in found] if flip else found)]


def augmented(image: Tensor, n: int, augmentation: Augmentation, seed: int = 0) -> list[bytes]:
    """`n` augmented copies of a (C, H, W) image."""
    copies = image.permute(1, 2, 0).expand(n, -1, -1, -1).contiguous()
    result = augmentation(copies, rng(seed))
    assert result.shape == copies.shape
    assert result.dtype == torch.uint8
    return [copy.tobytes() for copy in np.ascontiguousarray(result.permute(0, 3, 1, 2).numpy())]


@pytest.mark.lengthy
@pytest.mark.parametrize(("height", "width"), [(8, 8), (6, 9)])
@pytest.mark.parametrize(("flip", "n_outcomes"), [(True, 162), (False, 81)])
def test_augmentation_draws_each_crop_and_flip_of_torchvision_equally_often(
    height: int, width: int, flip: bool, n_outcomes: int
) -> None:
    image = torch.randint(1, 256, (3, height, width), generator=rng(1), dtype=torch.uint8)
    possible = crops(image, padding=4, flip=flip)
    assert len(set(possible)) == len(possible) == n_outcomes
    counts = Counter(augmented(image, 100 * n_outcomes, Augmentation(flip=flip)))
    assert set(counts) == set(possible)  # exactly torchvision's images; without flip none is mirrored
    statistic = sum((counts[outcome] - 100) ** 2 / 100 for outcome in possible)
    # both tails: too even would be wrong, too
    assert chi2.ppf(0.001, n_outcomes - 1) < statistic < chi2.ppf(0.999, n_outcomes - 1)


def test_those_are_the_outcomes_of_torchvisions_own_random_transforms() -> None:
    from torchvision import transforms

    image = torch.randint(1, 256, (3, 8, 8), generator=rng(1), dtype=torch.uint8)
    draw = transforms.Compose([transforms.RandomCrop(8, padding=4), transforms.RandomHorizontalFlip()])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = {draw(image).numpy().tobytes() for _ in range(2000)}
    # an outcome of chance 1/162 stays out of 2,000 draws with chance 4e-6
    assert drawn == set(crops(image, padding=4, flip=True)) == set(augmented(image, 2000, Augmentation(flip=True)))


def test_images_of_a_batch_are_drawn_independently() -> None:
    """All 9 x 9 pairs of the row offsets of neighbours occur equally often."""
    n = 81 * 100 * 2
    image = torch.arange(1, 10, dtype=torch.uint8).view(9, 1, 1).expand(9, 9, 1)  # the row tells the offset
    tops = Augmentation()(image.expand(n, -1, -1, -1), rng(2))[:, 4].amax(dim=(1, 2))  # row 4 of the crop
    pairs = Counter(zip(tops[::2].tolist(), tops[1::2].tolist(), strict=True))
    assert len(pairs) == 81
    statistic = sum((count - 100) ** 2 / 100 for count in pairs.values())
    assert statistic < chi2.ppf(0.999, 80)


def test_full_size_images_are_exact_crops() -> None:
    part = random_part(24, size=32)
    images = torch.from_numpy(part.images)
    result = Augmentation(flip=True)(images.permute(0, 2, 3, 1), rng(3)).permute(0, 3, 1, 2).contiguous()
    for image, crop in zip(images, result, strict=True):
        assert crop.numpy().tobytes() in crops(image, padding=4, flip=True)


def test_nothing_to_draw_changes_nothing() -> None:
    images = torch.from_numpy(random_part(5).images).permute(0, 2, 3, 1)
    before = images.clone()
    assert torch.equal(UNCHANGED(images, rng()), images)
    Augmentation(flip=True)(images, rng())
    assert torch.equal(images, before)


def test_the_generator_decides_alone() -> None:
    images = torch.from_numpy(random_part(20).images).permute(0, 2, 3, 1)
    first = Augmentation(flip=True)(images, rng(1))
    torch.rand(5)  # the global generator must not matter
    assert torch.equal(Augmentation(flip=True)(images, rng(1)), first)
    assert not torch.equal(Augmentation(flip=True)(images, rng(2)), first)


def test_a_part_on_a_device_holds_the_same_pixels() -> None:
    part = random_part(6)
    part.images.setflags(write=False)
    part.labels.setflags(write=False)
    placed = DevicePart(part, CPU)
    assert placed.images.dtype == torch.uint8
    assert placed.images.is_contiguous()
    assert np.array_equal(placed.images.numpy().transpose(0, 3, 1, 2), part.images)
    assert placed.labels.tolist() == list(range(6))
    assert placed.labels.dtype == torch.int64
    assert len(placed) == 6


def test_pixels_are_exactly_x_over_255() -> None:
    images = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, axis=1)
    placed = DevicePart(Part(images, np.zeros(1, dtype=np.int64)), CPU)
    expected = torch.from_numpy(np.arange(256, dtype=np.float32) / np.float32(255)).view(16, 16)
    for batch, _ in (*batches(placed, 4), *training_batches(placed, 4, UNCHANGED, rng())):
        assert batch.dtype == torch.float32
        assert torch.equal(batch[0], expected.expand(3, -1, -1))
    assert np.array_equal(placed.images[0, :, :, 0].numpy(), images[0, 0])  # dividing left the stored bytes alone


def test_batches_are_all_images_in_order() -> None:
    part = random_part(10)
    found = list(batches(DevicePart(part, CPU), 4))
    assert [len(labels) for _, labels in found] == [4, 4, 2]
    assert torch.cat([labels for _, labels in found]).tolist() == list(range(10))
    pixels = torch.cat([images for images, _ in found])
    assert torch.equal(pixels, torch.from_numpy(part.images).float() / 255)
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in found)


@pytest.mark.parametrize(("n", "sizes"), [(8, [4, 4]), (10, [4, 4, 2]), (9, [4, 4]), (3, [3]), (1, [1])])
def test_training_batches_hold_each_image_once(n: int, sizes: list[int]) -> None:
    """But for a last batch of one image, which batch statistics cannot use."""
    part = random_part(n)
    found = list(training_batches(DevicePart(part, CPU), 4, UNCHANGED, rng()))
    assert [len(labels) for _, labels in found] == sizes
    labels = torch.cat([labels for _, labels in found])
    assert len(set(labels.tolist())) == sum(sizes)
    pixels = torch.cat([images for images, _ in found])
    assert torch.equal(pixels, (torch.from_numpy(part.images).float() / 255)[labels])  # images keep their labels
    assert all(images.is_contiguous(memory_format=torch.channels_last) for images, _ in found)


def test_the_left_out_image_is_another_one_each_epoch() -> None:
    placed = DevicePart(random_part(9), CPU)
    generator = rng()
    seen = [
        {label for _, labels in training_batches(placed, 4, UNCHANGED, generator) for label in labels.tolist()}
        for _ in range(200)
    ]
    assert all(len(epoch) == 8 for epoch in seen)
    assert set.union(*({*range(9)} - epoch for epoch in seen)) == set(range(9))


def test_the_order_is_random_and_seeded() -> None:
    placed = DevicePart(random_part(64), CPU)

    def order(generator: torch.Generator) -> list[int]:
        return [label for _, labels in training_batches(placed, 16, UNCHANGED, generator) for label in labels.tolist()]

    generator = rng(1)
    first, second = order(generator), order(generator)
    assert order(rng(1)) == first
    assert first != second != sorted(second)


def test_training_batches_are_augmented() -> None:
    part = random_part(4)
    (images, labels), *_ = training_batches(DevicePart(part, CPU), 4, Augmentation(flip=True), rng(5))
    for image, label in zip(images, labels.tolist(), strict=True):
        assert (image * 255).round().byte().numpy().tobytes() in crops(torch.from_numpy(part.images[label]), 4, True)


def test_a_search_sees_train_and_validation_only() -> None:
    data = load_data("digits", train_limit=20, val_limit=10)
    seen = DeviceData(data, CPU)
    assert {name for name, value in vars(seen).items() if isinstance(value, DevicePart)} == {"train", "validation"}
    assert not any(isinstance(value, Part | type(data)) for value in vars(seen).values())
    assert (len(seen.train), len(seen.validation), seen.n_classes) == (20, 10, 10)
    assert (seen.name, seen.normalization) == ("digits", data.normalization)
    assert seen.augmentation == Augmentation(padding=4, flip=False, cutout=0, mean=data.mean)
