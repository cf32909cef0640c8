"""Bounds and Jacobians under torch.inference_mode(): the same values, or the reason in one line."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import rng
from torch import Tensor, nn

from evonas.certify import (
    bounds_and_margins,
    certified_accuracy,
    certified_radius,
    interval_bounds,
    interval_margin_bounds,
    jacobian_norm_bound,
    linear_bounds,
    margin_bounds,
    piecewise_jacobian,
    squared_jacobian_norm,
)
from evonas.errors import ConfigurationError

Certificate = Callable[[nn.Module, Tensor, Tensor], Any]
BOUNDS: dict[str, Certificate] = {
    "bounds_and_margins": lambda network, images, labels: bounds_and_margins(network, images, labels, 0.01),
    "certified_accuracy": lambda network, images, labels: certified_accuracy(network, images, labels, 0.01),
    "certified_radius": lambda network, images, labels: certified_radius(network, images, labels, steps=3),
    "interval_bounds": lambda network, images, labels: interval_bounds(network, images, 0.01),
    "interval_margin_bounds": lambda network, images, labels: interval_margin_bounds(network, images, labels, 0.01),
    "linear_bounds": lambda network, images, labels: linear_bounds(network, images, 0.01, intersect=True),
    "margin_bounds": lambda network, images, labels: margin_bounds(network, images, labels, 0.01),
    "piecewise_jacobian": lambda network, images, labels: piecewise_jacobian(network, images),
}
JACOBIANS: dict[str, Certificate] = {
    "jacobian_norm_bound": lambda network, images, labels: jacobian_norm_bound(network, images, 1.0),
    "squared_jacobian_norm": lambda network, images, labels: squared_jacobian_norm(network, images, 2, rng()),
}
every_one = pytest.mark.parametrize("name", [*BOUNDS, *JACOBIANS])


def case() -> tuple[nn.Module, Tensor, Tensor]:
    """A network in eval mode, two images, and the classes that it finds."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 5))
        network = nn.Sequential(*layers).eval()
    images = torch.rand(2, 3, 6, 6, generator=rng())
    return network, images, network(images).argmax(dim=1)


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(*(each if isinstance(each, tuple) else (each,) for each in (found, expected)), strict=True):
        assert torch.equal(torch.as_tensor(one), torch.as_tensor(other))


@every_one
@pytest.mark.parametrize("images_made_inside", [False, True])
def test_the_mode_does_not_matter(name: str, images_made_inside: bool) -> None:
    of = {**BOUNDS, **JACOBIANS}[name]
    network, images, labels = case()
    with torch.no_grad():
        expected = of(network, images, labels)
    with torch.inference_mode():
        given = (images.clone(), labels.clone()) if images_made_inside else (images, labels)
        found = of(network, *given)
        assert torch.is_inference_mode_enabled()
    assert_same(found, expected)


@every_one
def test_weights_made_in_the_mode(name: str) -> None:
    """Bounds need no gradients, where none are asked for; Jacobians do."""
    plain, images, labels = case()
    with torch.no_grad():
        expected = {**BOUNDS, **JACOBIANS}[name](plain, images, labels)
    with torch.inference_mode():
        network, _, _ = case()
        if name in BOUNDS:
            assert_same(BOUNDS[name](network, images, labels), expected)
    what = r"^expected weights made outside torch\.inference_mode\(\), got 0\.weight made in it; build or load"
    if name in JACOBIANS:
        with torch.inference_mode(), pytest.raises(ConfigurationError, match=what):
            JACOBIANS[name](network, images, labels)
    if name not in ("certified_accuracy", "certified_radius"):  # their results have no gradients
        with pytest.raises(ConfigurationError, match=what):
            {**BOUNDS, **JACOBIANS}[name](network, images, labels)
