"""Margins by intervals with the last layers elided: by hand, between what they must lie, refusals."""

import pytest
import torch
from test_certificate import IMAGES, LABELS, NET, linear
from test_networks import found
from torch import Tensor, nn

from evonas.attacks import PGD
from evonas.certify import interval_bounds, interval_margin_bounds, margin_bounds
from evonas.errors import ConfigurationError


def margins_of(logits: Tensor, labels: Tensor) -> Tensor:
    """(B, K - 1) logit[label] - logit[other], other classes ascending."""
    rows = [row[label] - torch.cat([row[:label], row[label + 1 :]]) for row, label in zip(logits, labels, strict=True)]
    return torch.stack(rows)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_linear_network_has_exact_margins(norm: str) -> None:
    found = interval_margin_bounds(NET, IMAGES, LABELS, 0.1, norm)
    torch.testing.assert_close(found, margin_bounds(NET, IMAGES, LABELS, 0.1, norm), atol=1e-12, rtol=0)


def test_the_last_layer_is_elided() -> None:
    """Hidden values relu(x + 1) and relu(x) of x = 0.5 +- 0.25 are in [1.25, 1.75] and [0.25, 0.75]; logits are
    2 h1 + h2 and h1. Their difference is h1 + h2, at least 1.5; the difference of their bounds is 2.75 - 1.75 = 1."""
    first, last = nn.Linear(1, 2), nn.Linear(2, 2)
    first.weight.data, first.bias.data = torch.tensor([[1.0], [1.0]]), torch.tensor([1.0, 0.0])
    last.weight.data, last.bias.data = torch.tensor([[2.0, 1.0], [1.0, 0.0]]), torch.tensor([0.5, 0.5])
    network = nn.Sequential(nn.Flatten(), first, nn.ReLU(), last)
    image, label = torch.full((1, 1, 1, 1), 0.5), torch.tensor([0])
    assert interval_margin_bounds(network, image, label, 0.25).item() == pytest.approx(1.5, abs=1e-6)
    lower, upper = interval_bounds(network, image, 0.25)
    assert (lower[0, 0] - upper[0, 1]).item() == pytest.approx(1.0, abs=1e-6)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", ["phase", "darts", "shuffle", "nasbench201"])
def test_they_lie_between_the_difference_of_intervals_and_every_point_of_the_ball(name: str) -> None:
    network = found(name, 1).double()
    images, labels = torch.rand(2, 3, 16, 16, dtype=torch.float64), torch.tensor([3, 0])
    for epsilon in (0.0, 1e-3):
        margins = interval_margin_bounds(network, images, labels, epsilon, clip=(0.0, 1.0))
        lower, upper = interval_bounds(network, images, epsilon, clip=(0.0, 1.0))
        apart = lower.gather(1, labels[:, None]) - upper
        keep = torch.ones_like(apart, dtype=torch.bool).scatter(1, labels[:, None], False)
        assert bool((margins >= apart[keep].view_as(margins) - 1e-9 * (1 + margins.abs())).all())
        with torch.no_grad():
            clean = margins_of(network(images), labels)
        slack = 1e-9 * (1 + clean.abs())
        assert bool((margins <= clean + slack).all())
        if epsilon == 0:
            torch.testing.assert_close(margins, clean, rtol=1e-8, atol=1e-8)
            continue
        attacked = PGD(epsilon=epsilon, step_size=epsilon / 4, steps=8)(network, images, labels)
        with torch.no_grad():
            assert bool((margins <= margins_of(network(attacked), labels) + slack).all())


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), r"expected \(3,\) int64 classes of the images, got \(2,\)"),
        (torch.tensor([0, 1, 3]), r"expected at least two classes, and labels in \[0, 3\), got \[0, 1, 3\]"),
        (torch.tensor([0.0, 1.0, 1.0]), r"got \(3,\) torch.float32"),
    ],
)
def test_senseless_labels_are_refused(labels: Tensor, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        interval_margin_bounds(NET, IMAGES, labels, 0.1)


def test_a_network_of_one_class_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected at least two classes"):
        interval_margin_bounds(linear([[1.0, 0.0]]), IMAGES, torch.zeros(3, dtype=torch.long), 0.1)
