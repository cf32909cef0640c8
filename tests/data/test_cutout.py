"""Cutout: DARTS's square, each place equally often, and exactly 0 behind the network's first layer."""

from collections import Counter

import numpy as np
import pytest
import torch
from helpers import rng
from scipy.stats import chi2
from torch import Tensor

from evonas.data import Augmentation, DevicePart, Part, training_batches
from evonas.errors import ConfigurationError
from evonas.networks.blocks import Normalize

MEAN, DEVIATION = (0.49139968, 0.48215827, 0.44653124), (0.24703233, 0.24348505, 0.26158768)
CPU = torch.device("cpu")


def holes(height: int, width: int, length: int) -> set[bytes]:
    """Every mask that DARTS's rule can give: rows y - length // 2 up to, not with, y + length // 2, cut at the borders,
    for a centre (y, x) anywhere in the image; columns alike."""
    found = set()
    for y in range(height):
        for x in range(width):
            mask = np.zeros((height, width), dtype=bool)
            top, bottom = np.clip([y - length // 2, y + length // 2], 0, height)
            left, right = np.clip([x - length // 2, x + length // 2], 0, width)
            mask[top:bottom, left:right] = True
            found.add(mask.tobytes())
    return found


def masks(cut: Tensor, before: Tensor) -> list[bytes]:
    """What differs, which is the same in every channel."""
    changed = (cut != before).numpy()
    assert (changed == changed[:, :1]).all()
    return [mask.tobytes() for mask in np.ascontiguousarray(changed[:, 0])]


@pytest.mark.parametrize(("height", "width", "length"), [(8, 8, 4), (6, 9, 2)])
def test_each_place_of_darts_square_is_drawn_equally_often(height: int, width: int, length: int) -> None:
    possible = holes(height, width, length)
    assert len(possible) == height * width
    pixels = torch.full((100 * len(possible), 3, height, width), 0.75)  # the mean of no channel
    augmentation = Augmentation(padding=0, cutout=length, mean=MEAN)
    counts = Counter(masks(augmentation.cut_out(pixels.clone(), rng(1)), pixels))
    assert set(counts) == possible
    statistic = sum((counts[mask] - 100) ** 2 / 100 for mask in possible)
    assert chi2.ppf(0.001, len(possible) - 1) < statistic < chi2.ppf(0.999, len(possible) - 1)


@pytest.mark.parametrize("mean", [MEAN, (0.1, 0.2, 0.3), (1 / 3, 2 / 3, 0.7)])
def test_a_hole_is_exactly_zero_behind_the_first_layer(mean: tuple[float, ...]) -> None:
    """No 8-bit value is such a mean, so a hole in bytes would not be."""
    pixels = torch.rand(20, 3, 32, 32, generator=rng()).to(memory_format=torch.channels_last)
    cut = Augmentation(cutout=16, mean=mean).cut_out(pixels.clone(), rng(1))
    seen, clean = Normalize(mean, DEVIATION)(cut), Normalize(mean, DEVIATION)(pixels)
    hole = (cut != pixels).any(dim=1, keepdim=True).expand_as(cut)
    assert bool((seen[hole] == 0).all())
    assert torch.equal(seen[~hole], clean[~hole])  # all others as they were, bit for bit
    assert cut.is_contiguous(memory_format=torch.channels_last)
    assert hole[:, 0].sum(dim=(1, 2)).max() <= 256


def test_a_square_of_odd_length_has_its_length() -> None:
    pixels = torch.ones(200, 3, 12, 12)
    cut = Augmentation(cutout=5, mean=(0.0, 0.0, 0.0)).cut_out(pixels, rng())
    assert int((cut == 0)[:, 0].sum(dim=(1, 2)).max()) == 25


def test_a_square_that_covers_the_image_leaves_nothing_wherever_it_lies() -> None:
    cut = Augmentation(cutout=16, mean=(0.0, 0.0, 0.0)).cut_out(torch.ones(50, 3, 8, 8), rng())
    assert not cut.any()


def test_without_cutout_nothing_is_drawn_and_nothing_changed() -> None:
    pixels, generator = torch.rand(4, 3, 8, 8), rng(3)
    before = generator.get_state()
    assert Augmentation(mean=MEAN).cut_out(pixels, generator) is pixels
    assert torch.equal(generator.get_state(), before)


def test_batches_are_cut_after_cropping_each_image_with_its_own_hole() -> None:
    numbers = np.random.default_rng(0)
    part = DevicePart(Part(numbers.integers(256, size=(64, 3, 32, 32), dtype=np.uint8), np.arange(64)), CPU)
    plain = Augmentation(flip=True)
    ((whole, labels),) = training_batches(part, 64, plain, rng(5))
    ((cut, same),) = training_batches(part, 64, Augmentation(flip=True, cutout=16, mean=MEAN), rng(5))
    assert torch.equal(labels, same)
    hole = (cut == torch.tensor(MEAN).view(1, 3, 1, 1)).all(dim=1)  # (B, H, W)
    assert torch.equal(cut.permute(0, 2, 3, 1)[~hole], whole.permute(0, 2, 3, 1)[~hole])
    areas = hole.sum(dim=(1, 2))
    assert areas.min() >= 64  # a quarter of it is always inside
    assert areas.max() == 256
    assert len({mask.numpy().tobytes() for mask in hole}) > 50  # of 64 images, with 1,024 places
    assert cut.is_contiguous(memory_format=torch.channels_last)


def test_the_generator_decides_alone() -> None:
    pixels, augmentation = torch.rand(8, 3, 32, 32), Augmentation(cutout=16, mean=MEAN)
    first = augmentation.cut_out(pixels, rng(1))
    torch.rand(3)
    assert torch.equal(augmentation.cut_out(pixels, rng(1)), first)
    assert not torch.equal(augmentation.cut_out(pixels, rng(2)), first)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cutout": 16}, "expected the data's mean of each channel for cutout, got none"),
        ({"cutout": -1, "mean": MEAN}, "expected padding and cutout >= 0, got 4 and -1"),
        ({"padding": -1}, "expected padding and cutout >= 0, got -1 and 0"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Augmentation(**wrong)  # type: ignore[arg-type]
    assert str(raised.value) == message
