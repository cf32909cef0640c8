"""Radii and accuracies against closed forms, and what is refused."""

import math

import pytest
import torch
from helpers import part_of
from torch import Tensor, nn
from torch.nn import functional

from evonas.certify import certified_accuracy, certified_radius, interval_bounds, margin_bounds, random_targets
from evonas.errors import ConfigurationError


def linear(weights: list[list[float]]) -> nn.Sequential:
    part = nn.Linear(len(weights[0]), len(weights), bias=False)
    part.weight.data = torch.tensor(weights)
    return nn.Sequential(nn.Flatten(), part).double()


NET = linear([[1.0, 0.0], [0.0, 1.0], [-3.0, 0.0]])
IMAGES = torch.tensor([[0.8, 0.2], [0.2, 0.8], [0.4, 0.5]], dtype=torch.float64).view(3, 2, 1, 1)
LABELS = torch.tensor([0, 1, 0])
"""Margins to the other two: (0.6, 3.2), (0.6, 1.4), and the last image is taken for class 1."""


def test_margins_of_a_linear_network() -> None:
    # to class 1: 0.6 - (1 + 1) eps; to class 2 from class 0: 4 * 0.8 - 4 eps; from class 1: 0.8 + 0.6 - (1 + 3) eps
    margins = margin_bounds(NET, IMAGES[:2], LABELS[:2], 0.1)
    expected = torch.tensor([[0.4, 2.8], [0.4, 1.0]], dtype=torch.float64)
    torch.testing.assert_close(margins, expected, atol=1e-12, rtol=0)


def test_the_radius_is_the_largest_of_its_steps_that_holds() -> None:
    radius = certified_radius(NET, IMAGES, LABELS, steps=30)
    torch.testing.assert_close(radius[:2], torch.tensor([0.3, 0.3]).double(), rtol=1e-6, atol=0)
    assert radius[2] == 0
    radius = certified_radius(NET, IMAGES, LABELS, norm="l2", steps=30)
    torch.testing.assert_close(radius[:2], torch.full((2,), 0.6 / math.sqrt(2)).double(), rtol=1e-6, atol=0)
    for steps in range(1, 12):
        held = certified_radius(NET, IMAGES[:1], LABELS[:1], steps=steps).item()
        assert held <= 0.3
        assert held == 0 or bool((margin_bounds(NET, IMAGES[:1], LABELS[:1], held) > 0).all())
    assert certified_radius(NET, IMAGES[:1], LABELS[:1], steps=1).item() == pytest.approx(0.05)
    assert certified_radius(NET, IMAGES[:1], LABELS[:1], steps=2).item() == pytest.approx(0.05 * math.e)
    # e^2 of it does not hold, nor does the middle: 0.05 e^1.5 does
    assert certified_radius(NET, IMAGES[:1], LABELS[:1], steps=4).item() == pytest.approx(0.05 * math.exp(1.5))
    # from above: 3 and 3 / e fail, 3 / e^2 fails, 3 / e^3 holds
    assert certified_radius(NET, IMAGES[:1], LABELS[:1], start=3.0, steps=4).item() == pytest.approx(3 / math.e**3)
    assert certified_radius(NET, IMAGES[:1], LABELS[:1], start=3.0, steps=3).item() == 0


def test_no_radius_is_smaller_than_pixels_can_differ() -> None:
    net, image = linear([[1.0, 0.0], [0.0, 1.0]]).float(), torch.tensor([0.5 + 6e-8, 0.5]).view(1, 2, 1, 1)
    assert float(net(image).diff().detach()) != 0
    assert certified_radius(net, image, torch.tensor([0]), steps=40).item() == 0


def test_a_target_alone() -> None:
    to_last = certified_radius(NET, IMAGES[:2], LABELS[:2], steps=40, targets=torch.tensor([2, 2]))
    torch.testing.assert_close(to_last, torch.tensor([0.8, 0.35]).double(), rtol=1e-6, atol=0)
    wrong = certified_radius(NET, IMAGES, LABELS, targets=torch.tensor([2, 2, 2]))
    assert wrong[2] == 0  # though class 2 is far, class 1 is taken for the label
    drawn = random_targets(LABELS.repeat(200), 3, torch.Generator().manual_seed(0))
    assert not (drawn == LABELS.repeat(200)).any()
    assert set(drawn.tolist()) == {0, 1, 2}


def test_accuracy_counts_images_that_hold() -> None:
    assert certified_accuracy(NET, IMAGES, LABELS, 0.29) == pytest.approx(2 / 3)
    assert certified_accuracy(NET, IMAGES, LABELS, 0.31) == 0
    assert certified_accuracy(NET, IMAGES, LABELS, torch.tensor([0.31, 0.1, 0.0]).double()) == pytest.approx(1 / 3)


def test_what_is_asked_is_checked() -> None:
    for labels in (torch.tensor([0, 1]), torch.tensor([0, 1, 3]), torch.tensor([0.0, 1.0, 2.0])):
        with pytest.raises(ConfigurationError, match="classes"):
            margin_bounds(NET, IMAGES, labels, 0.1)
    with pytest.raises(ConfigurationError, match="at least two classes"):
        margin_bounds(linear([[1.0, 1.0]]), IMAGES, torch.zeros(3, dtype=torch.int64), 0.1)
    with pytest.raises(ConfigurationError, match="steps >= 1 and a start > 0"):
        certified_radius(NET, IMAGES, LABELS, steps=0)


class Named(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3), inner)

    def forward(self, images: Tensor) -> Tensor:
        maps: Tensor = self.features(images)
        return maps.flatten(1)


class Odd(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "branch":
            return x if bool(x.sum() > 0) else -x
        if self.kind == "batch":
            return x - x.mean(dim=0)
        if self.kind == "order":
            return x.transpose(0, 1).flatten(1).transpose(0, 1)
        if self.kind == "stale":
            view = x[:, :1]
            x.mul_(2)
            return view + 1
        if self.kind == "written":
            out = torch.zeros(2, 4, 30, 30)
            out[:, :] = x
            return out
        if self.kind == "out":
            torch.add(x, x, out=x)
            return x
        if self.kind == "statistics":
            return functional.batch_norm(x, None, None, training=True)
        return x.half()


@pytest.mark.parametrize(
    ("inner", "said"),
    [
        (nn.GELU(), r"layer 'features.1' has gelu"),
        (nn.Softplus(), r"layer 'features.1' has softplus"),
        (nn.MaxPool2d(4, 3, ceil_mode=True), r"layer 'features.1' has max_pool2d_with_indices: ceil_mode"),
        (nn.AdaptiveAvgPool2d(7), r"layer 'features.1' has .*: windows of different sizes"),
        (Odd("branch"), r"layer 'features.1' has"),
        (Odd("batch"), r"layer 'features.1' has mean: it mixes images"),
        (Odd("order"), r"layer 'features.1' has transpose: it mixes images"),
        (Odd("stale"), r"layer 'features.1' has a change in place"),
        (Odd("written"), r"layer 'features.1' has copy"),
        (Odd("statistics"), r"layer 'features.1' has .*batch statistics"),
        (Odd("precision"), r"layer 'features.1' has _to_copy: a change of precision"),
    ],
)
def test_what_cannot_be_bounded_names_the_layer(inner: nn.Module, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        interval_bounds(Named(inner), torch.rand(2, 3, 32, 32), 0.1)
    assert "\n" not in str(caught.value)


class Copied(nn.Module):
    """In place behind what is a copy, or none, as memory lies."""

    def forward(self, x: Tensor) -> Tensor:
        turned = x.permute(0, 2, 3, 1)
        active = functional.relu(turned.contiguous() - 0.5, inplace=True)
        kept = turned.contiguous()
        kept.add_(1)
        return (active - turned).flatten(1)


class OfBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return (x / len(x)).flatten(1)


@pytest.mark.parametrize("network", [Copied(), OfBatch()])
@pytest.mark.parametrize("grad", [True, False])
def test_what_was_recorded_is_held_against_the_network(network: nn.Module, grad: bool) -> None:
    with torch.set_grad_enabled(grad), pytest.raises(ConfigurationError, match="off its logits"):
        interval_bounds(network, torch.rand(3, 2, 4, 4), 0.1)


def test_what_is_written_into_a_given_tensor_is_refused() -> None:
    with torch.no_grad(), pytest.raises(ConfigurationError, match="has add: it writes into an out= tensor"):
        interval_bounds(Named(Odd("out")), torch.rand(2, 3, 32, 32), 0.1)


def test_images_that_a_network_changes_in_place_are_left_alone() -> None:
    class Shifting(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits: Tensor = NET(x.sub_(0.1))
            return logits

    images = IMAGES.clone()
    radius = certified_radius(Shifting(), images, LABELS, steps=20)
    assert torch.equal(images, IMAGES)
    torch.testing.assert_close(radius, certified_radius(NET, IMAGES - 0.1, LABELS, steps=20))


def test_precision_masks_and_overflow() -> None:
    with pytest.raises(ConfigurationError, match=r"images of the network's torch.float64, got torch.float32"):
        interval_bounds(NET, IMAGES.float(), 0.1)
    with pytest.raises(ConfigurationError, match="at least one"):
        interval_bounds(NET, IMAGES[:0], 0.1)
    with pytest.raises(ConfigurationError, match="targets that differ from the labels"):
        certified_radius(NET, IMAGES, LABELS, targets=LABELS)

    class Masked(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return (x * (torch.arange(2).view(2, 1, 1) > 0)).flatten(1)

    lower, upper = interval_bounds(Masked(), IMAGES, 0.1)
    assert (lower[:, 0] == 0).all()
    torch.testing.assert_close(upper[:, 1], IMAGES[:, 1, 0, 0] + 0.1)
    deep = nn.Sequential(nn.Flatten(), nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 2))
    lower, upper = interval_bounds(deep, IMAGES.float(), 3e38)
    assert not lower.isnan().any()
    assert not upper.isnan().any()


def test_softmax_of_far_values_has_a_gradient() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(2, 3), nn.Softmax(dim=1))
    weight = part_of(net, "1", nn.Linear).weight
    with torch.no_grad():
        weight.mul_(1000)
    lower, upper = interval_bounds(net, IMAGES.float(), 0.001)
    (gradient,) = torch.autograd.grad((upper - lower).sum(), [weight])
    assert gradient.isfinite().all()
