"""The attack suite: its settings, and errors that can be worked out by hand."""

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.attacks import FGSM, PGD
from evonas.audit import SUITE, require_libraries, suite_columns
from evonas.data import DevicePart, Part, batches
from evonas.errors import ConfigurationError, DivergedError, UnknownNameError
from evonas.objectives.scoring import error_under

GREY = [100, 120, 135, 160]


def grey_images() -> DevicePart:
    """Even images of these grey levels; class 1 is brighter than 127.5."""
    images = np.array(GREY, dtype=np.uint8).reshape(-1, 1, 1, 1).repeat(3, 1).repeat(8, 2).repeat(8, 3)
    return DevicePart(Part(images, np.array([0, 0, 1, 1])), torch.device("cpu"))


class Brightness(nn.Module):
    """Class 1 where the mean pixel is above 1/2: FGSM moves every pixel toward it by epsilon."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, images: Tensor) -> Tensor:
        brighter = images.mean(dim=(1, 2, 3)) - 0.5
        return torch.stack([torch.zeros_like(brighter), self.factor * brighter], dim=1)


def error(attack: FGSM | None, batch_size: int = 3, network: nn.Module | None = None) -> float:
    return error_under(network or Brightness(), batches(grey_images(), batch_size), attack, torch.Generator())


@pytest.mark.parametrize("batch_size", [1, 3, 4, 100])
@pytest.mark.parametrize(("epsilon", "wrong"), [(0.0, 0.0), (0.1, 0.5), (0.2, 1.0)])
def test_an_image_is_lost_where_epsilon_reaches_the_boundary(epsilon: float, wrong: float, batch_size: int) -> None:
    """Boundary at 127.5; distances 27.5, 7.5, 7.5, 32.5 grey levels; epsilon 0.1 is 25.5 of them, 0.2 is 51."""
    assert error(FGSM(epsilon=epsilon), batch_size) == wrong


def test_without_an_attack_the_clean_images_are_scored() -> None:
    assert error(None) == 0.0
    assert error(None, network=Brightness(-1.0)) == 1.0


def test_progress_counts_images() -> None:
    told: list[int] = []
    error_under(Brightness(), batches(grey_images(), 3), on_batch=told.append)
    assert told == [3, 4]


@pytest.mark.parametrize("attack", [None, FGSM(epsilon=0.1)])
def test_logits_that_are_not_finite_are_no_score(attack: FGSM | None) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        error(attack, network=Brightness(float("nan")))


def test_the_columns_and_their_bounds() -> None:
    columns = {column.name: column.attack for column in suite_columns(tuple(SUITE))}
    assert list(columns) == [
        "pgd_error",
        "fgsm_0.1_error",
        "fgsm_0.2_error",
        "fgsm_0.3_error",
        "bim_error",
        "cw_error",
        "deepfool_error",
    ]
    assert columns["pgd_error"] == PGD(epsilon=1 / 255, step_size=1 / 1020, steps=10)  # weak; the last iterate counts
    assert [columns[f"fgsm_{epsilon}_error"].radius for epsilon in (0.1, 0.2, 0.3)] == [0.1, 0.2, 0.3]
    assert columns["bim_error"].radius == 2 / 255
    assert columns["deepfool_error"].radius == 0.25
    assert columns["cw_error"].radius == float("inf")
    assert [columns[name].norm for name in ("pgd_error", "cw_error", "deepfool_error")] == ["linf", "l2", "l2"]


def test_every_column_says_where_its_settings_come_from() -> None:
    for column in suite_columns(tuple(SUITE)):
        assert column.name.endswith("_error")
        assert "the paper" in column.note
        bound = column.attack.radius
        assert ("no bound" if bound == float("inf") else "epsilon") in column.label


def test_a_part_that_does_not_exist_is_one_line() -> None:
    with pytest.raises(UnknownNameError, match="part of the suite 'square'; known: bim, cw, deepfool, fgsm, pgd"):
        suite_columns(("pgd", "square"))


def test_a_missing_library_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "foolbox", None)  # importing it fails, as where it is not installed
    with pytest.raises(ConfigurationError) as refused:
        require_libraries(("pgd", "fgsm", "bim", "cw", "deepfool"))
    said = str(refused.value)
    assert "foolbox for the attacks cw, deepfool" in said
    assert "pip install 'evonas[audit]'" in said
    assert said.endswith("--suite pgd,fgsm,bim")
    assert "\n" not in said
    with pytest.raises(ConfigurationError, match="--suite ''"):
        require_libraries(("cw",))
    require_libraries(("pgd", "fgsm", "bim"))
