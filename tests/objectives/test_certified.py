"""Certified radius and accuracy as objectives: by hand for a linear network, counts, refusals."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.data import Dataset, DeviceData, Part
from evonas.errors import ConfigurationError, DivergedError, UnknownNameError
from evonas.evaluation import Evaluator
from evonas.objectives import Candidate, CertifiedAccuracy, CertifiedRadius
from evonas.spaces import DartsSpace, PhaseSpace, ShuffleSpace
from evonas.types import Genome, Report

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
GENOME = SPACE.designs()["chain"]


def threshold(*weights: float, at: float, size: int = 4) -> nn.Module:
    """Logits (w . reds of the first pixels - at, 0)."""
    layer = nn.Linear(3 * size * size, 2)
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[0, : len(weights)] = torch.tensor(weights)
        layer.bias.copy_(torch.tensor([-at, 0.0]))
    return nn.Sequential(nn.Flatten(), layer).eval()


def candidate(network: nn.Module, *values: int, size: int = 4) -> Candidate:
    """Validation images of equal pixels, one for each value, all of class 0."""
    pixels = np.tile(np.array(values, dtype=np.uint8)[:, None, None, None], (1, 3, size, size))
    part, empty = (Part(each, np.zeros(len(each), dtype=np.int64)) for each in (pixels, pixels[:0]))
    data = Dataset("own", 2, empty, part, empty, empty, (0.5,) * 3, (0.5,) * 3, flip=False)
    on = DeviceData(data, torch.device("cpu"))
    return Candidate(network, GENOME, SPACE, on, SPACE.cost(GENOME), torch.Generator())


@pytest.mark.parametrize("intermediate", ["interval", "linear"])
@pytest.mark.parametrize(("norm", "length"), [("linf", 7), ("l2", 5)])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_the_mean_radius_of_a_linear_network(norm: Any, length: float, intermediate: Any, batch_size: int) -> None:
    """3 x + 4 y > 3.5 at x = y of 0.2 (wrong: 0), 0.6 and 0.8: margins 0.7 and 2.1, over the dual norm of (3, 4).

    A radius is found from below, within a factor of exp(2^-10), as some of the 15 steps find where to bisect.
    """
    one = candidate(threshold(3, 4, at=3.5), 51, 153, 204)
    objective = CertifiedRadius(norm=norm, intermediate=intermediate, batch_size=batch_size)
    expected = (0 + 0.7 + 2.1) / length / 3
    found = objective(one)["certified_radius"]
    assert expected * (1 - 2**-10) - 1e-6 <= found <= expected + 1e-6
    found = replace(objective, images=2)(one)["certified_radius"]
    assert found == pytest.approx(0.7 / length / 2, rel=2**-10)


@pytest.mark.parametrize(("epsilon", "share"), [(0.0, 2 / 3), (0.0999, 2 / 3), (0.1001, 1 / 3), (0.31, 0.0)])
def test_accuracy_counts_what_is_proven_at_epsilon(epsilon: float, share: float) -> None:
    """The same network: radii 0 (wrong), 0.1 and 0.3."""
    one = candidate(threshold(3, 4, at=3.5), 51, 153, 204)
    for batch_size in (1, 2, 32):
        found = CertifiedAccuracy(epsilon=epsilon, batch_size=batch_size)(one)
        assert found == {"certified_accuracy": pytest.approx(share, abs=1e-12)}
    assert CertifiedAccuracy(epsilon=0.15, images=2)(one) == {"certified_accuracy": 0.0}


def test_perturbed_pixels_stay_in_their_range() -> None:
    """x + y > -0.1 at x = y of 0 and 0.04: nothing within [0, 1] undoes that, whatever the radius."""
    one = candidate(threshold(1, 1, at=-0.1), 0, 10)
    assert CertifiedAccuracy(epsilon=0.5)(one) == {"certified_accuracy": 1.0}


@pytest.mark.lengthy
@pytest.mark.parametrize("space", [SPACE, ShuffleSpace(1 / 3, 0.1, window=None), DartsSpace(4, 3)])
def test_networks_of_every_space_have_bounds(space: Any) -> None:
    """Far enough on one side, every network is proven right; on the other it is wrong."""
    torch.manual_seed(0)
    network = space.build(space.sample(1, np.random.default_rng(0))[0], n_classes=2).eval()
    last = [module for module in network.modules() if isinstance(module, nn.Linear)][-1]
    for bias, share in ((1e6, 1.0), (-1e6, 0.0)):
        last.bias.data = torch.tensor([bias, -bias])
        one = candidate(network, 51, 204, size=32)
        assert CertifiedAccuracy(epsilon=1e-6)(one) == {"certified_accuracy": share}
        radius = CertifiedRadius(steps=2, start=1e-6)(one)["certified_radius"]
        assert radius == pytest.approx(share * 1e-6 * np.e, rel=1e-5)


def test_columns_say_what_was_proven() -> None:
    (radius,) = CertifiedRadius(norm="l2", images=9).columns(SPACE, 10)
    assert (radius.name, radius.maximize, radius.reference) == ("certified_radius", True, 0.0)
    assert radius.about == "mean certified l2 radius, interval bounds"
    assert radius.metadata == {
        "threat": "certified",
        "norm": "l2",
        "images": 9,
        "relaxation": "adaptive",
        "intermediate": "interval",
        "clip": [0.0, 1.0],
        "rounding": "outward",
        "start": 0.05,
        "steps": 15,
        "maximize": True,
    }
    (accuracy,) = CertifiedAccuracy(epsilon=2 / 255, intermediate="linear").columns(SPACE, 10)
    assert (accuracy.name, accuracy.maximize, accuracy.reference) == ("certified_accuracy", True, 0.0)
    assert accuracy.about == "certified in linf 2/255, linear bounds"
    assert (accuracy.metadata["epsilon"], accuracy.metadata["maximize"]) == (2 / 255, True)


class Odd(nn.Module):
    """An operation that nobody has bounds for."""

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = torch.special.bessel_j0(x)
        return found


@dataclass(frozen=True)
class Given:
    """Prepares this network, whatever the genome."""

    network: nn.Module
    data: Any = None
    space: Any = SPACE
    normalization: Any = None
    epochs: Any = None

    def identity(self) -> dict[str, Any]:
        return {}

    def start(self) -> Callable[[Genome, int, Report], tuple[Candidate, float]]:
        return lambda genome, seed, report: (candidate(self.network, 51, 204), 0.0)


@pytest.mark.parametrize("objective", [CertifiedRadius(), CertifiedAccuracy()])
def test_a_network_without_bounds_is_a_failed_result_of_one_line(objective: Any) -> None:
    layer = nn.Linear(48, 2)
    nn.init.zeros_(layer.weight)
    layer.bias.data = torch.tensor([0.0, 1.0])  # J0(1) < J0(0): both images are of class 0, and so they are certified
    network = nn.Sequential(nn.Flatten(), layer, Odd()).eval()
    evaluate = Evaluator(Given(network), (objective,), torch.get_num_threads()).make_evaluate(lambda event: None)
    result = evaluate(GENOME, 0)
    assert (result.status, result.objectives) == ("failed", {})
    assert "expected" in result.reason
    assert "\n" not in result.reason


@pytest.mark.parametrize("objective", [CertifiedRadius(), CertifiedAccuracy()])
def test_logits_that_are_not_finite_are_no_score(objective: Any) -> None:
    with pytest.raises(DivergedError, match="not finite"):
        objective(candidate(threshold(float("nan"), at=0.0), 1))


@pytest.mark.parametrize(
    ("kind", "settings", "said"),
    [
        (CertifiedRadius, {"start": 0.0}, "expected a finite start > 0 and steps >= 1, got 0.0 and 15"),
        (CertifiedRadius, {"steps": 0}, "expected a finite start > 0 and steps >= 1"),
        (CertifiedRadius, {"images": 0}, "expected batch_size and images >= 1, got 32 and 0"),
        (CertifiedAccuracy, {"batch_size": 0}, "expected batch_size and images >= 1"),
        (CertifiedAccuracy, {"epsilon": -0.1}, r"expected epsilon in \[0, 1\], got -0.1"),
        (CertifiedAccuracy, {"epsilon": float("nan")}, r"expected epsilon in \[0, 1\], got nan"),
    ],
)
def test_senseless_settings_are_refused(kind: Any, settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        kind(**settings)


@pytest.mark.parametrize("setting", ["norm", "relaxation", "intermediate"])
def test_choices_that_nobody_knows_are_refused(setting: str) -> None:
    wrong: dict[str, Any] = {setting: "other"}
    for kind in (CertifiedRadius, CertifiedAccuracy):
        with pytest.raises(UnknownNameError, match=f"unknown {setting} 'other'; known: "):
            kind(**wrong)
