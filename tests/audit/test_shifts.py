"""Changed images, calibration, AutoAttack's stages, and the same measurements within another radius."""

import importlib.util

import numpy as np
import pytest
import torch
from tiny_trainings import CHAIN, PHASES, trained
from torch import Tensor

from evonas.attacks import PGD, AutoAttack
from evonas.audit import MEASUREMENTS, SUITES, StagedAutoAttack, corrupted, measurements, suite_names, within
from evonas.audit.calibration import expected_calibration_error
from evonas.audit.corruptions import KINDS, STRENGTHS
from evonas.executors import ignore
from evonas.objectives.scoring import error_under

GREY = torch.tensor([0.0, 51, 102, 204]).view(1, 1, 2, 2).expand(2, 3, 2, 2) / 255


def levels(images: Tensor) -> list[int]:
    """8-bit levels of the first channel of the first image."""
    exact = images[0, 0].flatten() * 255
    assert torch.allclose(exact, exact.round(), atol=1e-4)
    return exact.round().int().tolist()


def test_brightness_adds_to_the_value_and_keeps_the_hue() -> None:
    assert levels(corrupted("brightness", 4, GREY)) == [51, 102, 153, 255]
    colour = torch.tensor([0.5, 0.25, 0.0]).view(1, 3, 1, 1)
    brighter = corrupted("brightness", 5, colour).flatten()  # value 0.5 -> 0.8
    assert (brighter * 255).round().tolist() == [204, 102, 0]


def test_contrast_moves_values_toward_their_mean() -> None:
    """The mean is 89.25; at severity 2 half of the distance is left."""
    assert levels(corrupted("contrast", 2, GREY)) == [45, 70, 96, 147]


def test_blur_spreads_a_point_and_keeps_what_is_even() -> None:
    assert torch.allclose(corrupted("blur", 5, torch.full((1, 3, 9, 9), 0.6)), torch.full((1, 3, 9, 9), 0.6))
    point = torch.zeros(1, 3, 9, 9)
    point[:, :, 4, 4] = 1
    spread = corrupted("blur", 5, point)[0, 0]
    weights = torch.exp(-0.5 * torch.arange(-4, 5.0) ** 2)
    assert torch.allclose(spread, torch.outer(weights, weights) / weights.sum() ** 2, atol=0.5 / 255 + 1e-6)


def test_noise_has_its_deviation_and_is_drawn_once_for_each_image() -> None:
    images = torch.full((8, 3, 32, 32), 0.5)
    noisy = corrupted("gaussian_noise", 5, images)
    assert (noisy - 0.5).std().item() == pytest.approx(STRENGTHS["gaussian_noise"][4], rel=0.03)
    assert torch.equal(corrupted("gaussian_noise", 5, images[3:], first=3), noisy[3:])
    assert not torch.equal(noisy[0], noisy[1])


@pytest.mark.parametrize("kind", KINDS)
def test_severities_change_images_more_and_more(kind: str) -> None:
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    far = [(corrupted(kind, severity, images) - images).abs().mean().item() for severity in range(1, 6)]
    assert far == sorted(far)
    assert far[0] > 0


def test_calibration_error_of_bins_worked_out_by_hand() -> None:
    """Two images of 0.9, one right: |1 - 1.8| = 0.8; two of 0.5, both right: |2 - 1.0| = 1; (0.8 + 1) / 4."""
    confidence, right = torch.tensor([0.9, 0.9, 0.5, 0.5]), torch.tensor([True, False, True, True])
    assert expected_calibration_error(confidence, right) == pytest.approx(0.45)
    assert expected_calibration_error(torch.ones(3), torch.ones(3, dtype=torch.bool)) == 0
    assert expected_calibration_error(torch.ones(3), torch.zeros(3, dtype=torch.bool)) == 1


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("pyautoattack") is None, reason="pyautoattack is not installed")
def test_the_last_stage_is_the_whole_ensemble() -> None:
    attack = AutoAttack(epsilon=0.02, attacks=("apgd-ce", "apgd-t"))
    few = PHASES.data.test.take(np.arange(4))
    tested = PHASES.data.__class__(**{**vars(PHASES.data), "validation": few, "train": few})
    candidate = PHASES.candidate(CHAIN, trained("phases"))
    staged = StagedAutoAttack("autoattack_error", attack)(candidate, tested, 2, ignore)
    assert list(staged) == ["autoattack_error", "autoattack_error_apgd_ce", "autoattack_error_apgd_t"]
    assert staged["autoattack_error"] == staged["autoattack_error_apgd_t"] >= staged["autoattack_error_apgd_ce"]
    again = PHASES.candidate(CHAIN, trained("phases"))
    images = torch.from_numpy(few.images).float() / 255
    shown = zip(images.split(2), torch.from_numpy(few.labels).split(2), strict=True)
    assert error_under(again.attacked, shown, attack, again.generator) == staged["autoattack_error"]


def test_every_suite_is_of_known_names_and_distinct_columns() -> None:
    for name in SUITES:
        columns = [each.column for each in measurements(suite_names([name], has_set=False))]
        assert len({*columns}) == len(columns)
        assert "gradient_check" in columns
    assert {*SUITES["quick"]} <= {*SUITES["standard"]}
    assert not [each for each in measurements(SUITES["quick"]) if each.library]
    assert suite_names(["quick", "clean", "pixel"], has_set=True) == [*SUITES["quick"], "pixel"]
    assert suite_names(["standard"], has_set=True)[-1] == "adversarial_set"


def test_another_radius_scales_steps_and_leaves_papers_settings() -> None:
    (pgd,) = MEASUREMENTS["pgd20"]
    scaled = within(pgd, 4 / 255).measure.attack  # type: ignore[attr-defined]
    assert scaled == PGD(epsilon=4 / 255, step_size=1 / 255, steps=20)
    for name in ("clean", "pgd", "fgsm", "cw", "deepfool", "ece", "pixel", "blur"):
        for each in MEASUREMENTS[name]:
            assert within(each, 4 / 255) == each
    for name in ("fgsm_linf", "bim_linf", "pgd50x5", "autoattack", "apgd_ce", "square", "gradient_check"):
        for each in MEASUREMENTS[name]:
            assert within(each, 4 / 255).identity() != each.identity()
            assert within(each, 8 / 255) == each
