"""Certified error: counts by hand for a linear network, both kinds of bounds, refusals."""

from typing import Any

import pytest
import torch
from test_certified import SPACE, candidate, threshold
from torch import nn

from evonas.certify import interval_margin_bounds
from evonas.errors import ConfigurationError, DivergedError
from evonas.objectives import CertifiedAccuracy, CertifiedError


@pytest.mark.parametrize("bounds", ["best", "interval", "crown_ibp"])
@pytest.mark.parametrize(
    ("norm", "epsilon", "wrong"),
    [("linf", 0.0, 1), ("linf", 0.0999, 1), ("linf", 0.1001, 2), ("linf", 0.31, 3), ("l2", 0.1399, 1), ("l2", 0.43, 3)],
)
def test_it_counts_the_images_that_are_not_proven(norm: Any, epsilon: float, wrong: int, bounds: Any) -> None:
    """3 x + 4 y > 3.5 at x = y of 0.2, 0.6 and 0.8: margins -2.1, 0.7 and 2.1, over a dual norm of 7 or 5."""
    one = candidate(threshold(3, 4, at=3.5), 51, 153, 204)
    for batch_size in (1, 2, 100):
        objective = CertifiedError(norm=norm, epsilon=epsilon, bounds=bounds, batch_size=batch_size)
        assert objective(one) == {"certified_error": wrong / 3}
    assert CertifiedError(norm=norm, epsilon=epsilon, bounds=bounds, images=1)(one) == {"certified_error": 1.0}


def test_the_best_bounds_prove_what_either_proves() -> None:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2))
    network = nn.Sequential(*layers).eval()
    with torch.no_grad():
        network[-1].bias.copy_(torch.tensor([0.3, 0.0]))  # type: ignore[operator]
    one = candidate(network, *range(0, 256, 3))
    for epsilon in (0.01, 0.03, 0.1):
        linear = CertifiedAccuracy(epsilon=epsilon, images=100)(one)["certified_accuracy"]
        kinds: tuple[Any, ...] = ("best", "interval", "crown_ibp")
        best, boxes, crown = (CertifiedError(epsilon=epsilon, bounds=each)(one)["certified_error"] for each in kinds)
        assert crown == pytest.approx(1 - linear, abs=1e-12)
        assert best <= min(boxes, crown)
        assert crown < 1  # something is proven


@pytest.mark.parametrize("bounds", ["best", "interval"])
def test_an_image_whose_logits_tie_by_rounding_is_wrong_whatever_is_proven(bounds: Any) -> None:
    """Logits 2^27 and 2^27 + 3.5 are one float32: the network answers the first class, exact arithmetic the second."""
    network = threshold(7, at=0)
    layer: Any = network[1]  # type: ignore[index]
    with torch.no_grad():
        layer.weight.copy_(layer.weight.flip(0))
        layer.bias.fill_(2.0**27)
    images, labels = torch.full((1, 3, 4, 4), 0.5), torch.tensor([1])
    assert interval_margin_bounds(network, images, labels, 0.0, rounding="outward").item() > 3
    assert CertifiedError(epsilon=0.0, bounds=bounds).unproven(candidate(network, 51), images, labels).tolist() == [
        True
    ]


def test_a_network_that_is_not_finite_has_no_error() -> None:
    network = threshold(3, 4, at=float("nan"))
    with pytest.raises(DivergedError, match="logits are not finite"):
        CertifiedError()(candidate(network, 51))


def test_its_column() -> None:
    (column,) = CertifiedError(epsilon=8 / 255).columns(SPACE, 10)
    assert (column.name, column.maximize, column.reference) == ("certified_error", False, 1.0)
    assert column.about == "not certified in linf 8/255, best bounds"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": 8.0}, r"expected epsilon in \[0, 1\], got 8.0"),
        ({"images": 0}, "expected images >= 1, got 0"),
        ({"bounds": "linear"}, "expected bounds of best, interval, crown_ibp, got 'linear'"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        CertifiedError(**wrong)
