"""The Jacobian norm as an objective: which images, which norm, which network in which mode."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.certify.jacobian import jacobian_norm_bound
from evonas.data import Dataset, DeviceData, Part, batches
from evonas.errors import ConfigurationError, DivergedError
from evonas.objectives import Candidate, JacobianNorm
from evonas.spaces import DartsSpace, PhaseSpace, ShuffleSpace

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
GENOME = SPACE.designs()["chain"]


class Squares(nn.Module):
    """Two logits: the sum of the squares of the first image row's reds, and 0. Its row of the Jacobian is 2 x there."""

    def forward(self, images: Tensor) -> Tensor:
        logit = images[:, 0, 0].square().sum(dim=1)
        return torch.stack([logit, torch.zeros_like(logit)], dim=1)


def candidate(network: nn.Module, *values: int, size: int = 4) -> Candidate:
    """Validation images of size x size equal pixels, one for each value."""
    pixels = np.tile(np.array(values, dtype=np.uint8)[:, None, None, None], (1, 3, size, size))
    part, empty = (Part(each, np.zeros(len(each), dtype=np.int64)) for each in (pixels, pixels[:0]))
    data = Dataset("own", 2, empty, part, empty, empty, (0.5,) * 3, (0.5,) * 3, flip=False)
    on = DeviceData(data, torch.device("cpu"))
    return Candidate(network, GENOME, SPACE, on, SPACE.cost(GENOME), torch.Generator())


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_the_mean_over_the_first_images(batch_size: int) -> None:
    """Four pixels of 0, 1/5 and 1: rows of 1-norm 8 x, of 2-norm 4 x; half of that, as the other logit has none."""
    one = candidate(Squares(), 0, 51, 255)
    assert JacobianNorm(batch_size=batch_size)(one) == {"jacobian_norm": pytest.approx(4 * 1.2 / 3, rel=1e-6)}
    assert JacobianNorm(q=2, batch_size=batch_size)(one)["jacobian_norm"] == pytest.approx(2 * 1.2 / 3, rel=1e-6)
    assert JacobianNorm(images=2, batch_size=batch_size)(one)["jacobian_norm"] == pytest.approx(4 * 0.2 / 2, rel=1e-6)


@pytest.mark.lengthy
@pytest.mark.parametrize("space", [SPACE, ShuffleSpace(1 / 3, 0.1, window=None), DartsSpace(4, 3)])
def test_every_space_has_networks_with_one(space: Any) -> None:
    torch.manual_seed(0)
    network = space.build(space.sample(1, np.random.default_rng(0))[0], n_classes=2).eval()
    one = candidate(network, *range(0, 250, 25), size=32)
    (pixels, _), *_ = batches(one.data.validation, 10)
    found = JacobianNorm(batch_size=4)(one)["jacobian_norm"]
    assert found == pytest.approx(jacobian_norm_bound(network, pixels, 1).item(), rel=1e-4)
    assert found > 0


def test_its_column_says_what_was_measured() -> None:
    (column,) = JacobianNorm(q=2, images=10).columns(SPACE, 10)
    assert (column.name, column.maximize) == ("jacobian_norm", False)
    assert column.about == "mean 2-norm of the logits' Jacobian"
    assert column.metadata == {"threat": "first order", "q": 2, "images": 10}
    assert column.reference == 10 * 255  # one grey level moves the mean logit by 10


def test_what_is_not_finite_is_no_score() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            squares: Tensor = Squares()(images)
            return squares * math.nan

    with pytest.raises(DivergedError, match="not finite"):
        JacobianNorm()(candidate(Broken(), 1))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"q": 0.5}, "expected a finite q >= 1, got 0.5"),
        ({"q": math.inf}, "expected a finite q >= 1, got inf"),
        ({"q": math.nan}, "expected a finite q >= 1, got nan"),
        ({"images": 0}, "expected batch_size and images >= 1"),
        ({"batch_size": 0}, "expected batch_size and images >= 1"),
    ],
)
def test_senseless_settings_are_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        replace(JacobianNorm(), **settings)
