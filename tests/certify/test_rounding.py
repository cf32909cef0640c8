"""Bounds rounded outwards hold for the network in exact arithmetic, here float64, without any tolerance."""

import copy
import itertools
from collections.abc import Callable, Iterator
from decimal import Decimal, localcontext
from functools import partial
from operator import le, sub
from typing import Any

import pytest
import torch
from test_interval_margins import margins_of
from test_networks import attacked, network_of
from test_operations import Gate, conv, norm, shuffled
from torch import Tensor, nn
from torch.nn import functional

from evonas.attacks import PGD
from evonas.certify import (
    certified_accuracy,
    certified_radius,
    interval_bounds,
    interval_margin_bounds,
    linear_bounds,
    margin_bounds,
)
from evonas.certify.rounding import gamma, rounded_down

RADII = (1e-7, 1e-5, 1e-3, 0.1)
KINDS: dict[str, dict[str, str]] = {
    "linear": {"intermediate": "linear"},
    "signs": {"intermediate": "signs"},
    "over intervals": {"intermediate": "interval", "relaxation": "same_slope"},
}


def maps(*layers: nn.Module) -> nn.Sequential:
    """(B, 4, 6, 6) images -> the layers between convolutions."""
    return nn.Sequential(conv(4, 4, 3, padding=1, seed=3), norm(), *layers, nn.Flatten(), nn.LazyLinear(3))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "relu, max": lambda: maps(nn.ReLU(), nn.MaxPool2d(3, 2, padding=1), conv(4, 6, 3, stride=2, padding=1), nn.ReLU()),
    "depthwise, average": lambda: maps(
        nn.ReLU(),
        conv(4, 4, 3, padding=2, dilation=2, groups=4),
        nn.AvgPool2d(3, 1, 1, count_include_pad=False),
        norm(),
    ),
    "hardswish, gate": lambda: maps(nn.Hardswish(), conv(4, 4, 1), Gate(), nn.ReLU6()),
    "smooth": lambda: maps(nn.Sigmoid(), conv(4, 4, 3, groups=2), nn.Tanh(), nn.LeakyReLU(0.1)),
    "moves": lambda: maps(
        Moved(), nn.ReLU(), conv(4, 4, 3, padding=1), nn.Hardsigmoid(), nn.AdaptiveAvgPool2d(2), nn.Softmax(dim=1)
    ),
}


class Moved(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        even, odd = maps[:, :, ::2, ::2], maps[:, :, 1::2, 1::2]
        return shuffled(functional.pad(torch.cat([even[:, :2], 0.3 * odd[:, 2:] - even[:, 2:]], dim=1), (1, 0, 0, 1)))


def made(name: str, seed: int) -> nn.Module:
    """A network with weights of magnitudes from 1e-3 to 1e3, float32."""
    torch.manual_seed(seed)
    network = NETWORKS[name]().eval()
    network(torch.rand(1, 4, 6, 6))  # the last layer finds its size
    with torch.no_grad():
        for weight in network.parameters():
            weight.mul_(10 ** torch.empty_like(weight).uniform_(-1, 1))
        for module in network.modules():
            if isinstance(module, nn.Conv2d) and seed % 2:
                module.weight.mul_(10.0 ** torch.randint(-2, 3, (len(module.weight), 1, 1, 1)))
    return network


def points(network: nn.Module, images: Tensor, epsilon: float, ball: str) -> Iterator[Tensor]:
    """Images, corners and other borders of the ball, and what PGD finds, strictly in the ball in float64."""
    inside = epsilon * (1 - 1e-12)
    yield images
    for sign, found in itertools.product((1, -1), range(3)):
        at = images.clone().requires_grad_(True)
        (slope,) = torch.autograd.grad(network(at)[:, found].sum(), at)
        length = slope.flatten(1).norm(dim=1).clamp(min=1e-300)[:, None, None, None]
        yield images + sign * inside * (slope.sign() if ball == "linf" else slope / length)
    attack = PGD(epsilon=inside, step_size=inside / 3, steps=4, norm=ball)  # type: ignore[arg-type]
    found_images = attack(network, images, network(images).argmax(dim=1))
    change = found_images - images
    if ball == "linf":
        yield images + change.clamp(-inside, inside)
    yield from attacked(network, images, inside, ball, 0)


def check(network: nn.Module, images: Tensor, epsilon: float, ball: str) -> None:
    exact = copy.deepcopy(network).double()
    bounds = [interval_bounds(network, images, epsilon, ball, rounding="outward")]
    for kind in KINDS.values():
        bounds.append(linear_bounds(network, images, epsilon, ball, rounding="outward", **kind))  # type: ignore[arg-type]
    labels = exact(images.double()).argmax(dim=1)
    margins = interval_margin_bounds(network, images, labels, epsilon, ball, rounding="outward")
    for batch in points(exact, images.double(), epsilon, ball):
        copies = len(batch) // len(images)
        out = exact(batch)
        apart = margins_of(out, labels.repeat_interleave(copies, dim=0))
        assert (apart >= margins.double().repeat_interleave(copies, dim=0)).all()
        for lower, upper in bounds:
            assert lower.dtype == images.dtype
            assert (out >= lower.double().repeat_interleave(copies, dim=0)).all()
            assert (out <= upper.double().repeat_interleave(copies, dim=0)).all()


@pytest.mark.slow
@pytest.mark.parametrize("ball", ["linf", "l2"])
@pytest.mark.parametrize("name", NETWORKS)
def test_exact_values_never_leave_the_bounds(name: str, ball: str) -> None:
    for seed, epsilon in enumerate(RADII):
        images = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
        check(made(name, seed), images, epsilon, ball)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phase", "darts", "shuffle", "nasbench201"])
def test_exact_values_of_networks_of_the_spaces(name: str) -> None:
    network = network_of(name, 1)
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    for epsilon in (1e-7, 1e-4):
        check(network, images, epsilon, "linf")


@pytest.mark.parametrize("convolved", [False, True])
@pytest.mark.parametrize("bounds", [interval_bounds, linear_bounds, partial(linear_bounds, intermediate="interval")])
def test_a_shift_that_cancels_is_told_by_its_terms(convolved: bool, bounds: Callable[..., Any]) -> None:
    """Of black images, whose logits are bias - mean * scale, with 60 digits; means and biases take each other away."""
    channels, drawn = 400, torch.Generator().manual_seed(0)
    norm = nn.BatchNorm2d(channels).eval()
    norm.running_mean = 1000 + 1000 * torch.rand(channels, generator=drawn)
    norm.running_var = 0.5 + torch.rand(channels, generator=drawn)
    norm.weight.data = 0.5 + torch.rand(channels, generator=drawn)
    scale = norm.weight.double() * (norm.running_var.double() + norm.eps).rsqrt()
    norm.bias.data = (norm.running_mean.double() * scale).float()
    before = nn.Conv2d(channels, channels, 1, groups=channels)
    inner = torch.rand(channels, generator=drawn) if convolved else torch.zeros(channels)
    before.bias = nn.Parameter(inner)
    norm.running_mean = norm.running_mean + inner
    with localcontext(prec=60):
        exact = [
            (value - mean) * weight / (variance + Decimal(norm.eps)).sqrt() + bias
            for value, mean, variance, weight, bias in zip(
                *(
                    [Decimal(each) for each in values.tolist()]
                    for values in (inner, norm.running_mean, norm.running_var, norm.weight, norm.bias)
                ),
                strict=True,
            )
        ]
        images = torch.zeros(1, channels, 1, 1)
        layers = (before, norm) if convolved else (norm,)
        found = bounds(nn.Sequential(*layers, nn.Flatten()), images, 0.0, rounding="outward")
        lower, upper = ([Decimal(each) for each in ends[0].tolist()] for ends in found)
    assert all(map(le, lower, exact))
    assert all(map(le, exact, upper))
    assert max(map(float, map(sub, upper, lower))) < 1e-2


def test_bounds_to_nearest_do_leave_them() -> None:
    """The property is no triviality: without room for rounding, exact values are outside in some case."""
    outside = 0
    for seed in range(6):
        network = made("relu, max", seed)
        images = torch.rand(4, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
        lower, upper = linear_bounds(network, images, 0.0)
        out = copy.deepcopy(network).double()(images.double())
        outside += int(((out < lower.double()) | (out > upper.double())).sum())
    assert outside > 0


def test_margins_by_intervals_keep_room_and_little_of_it() -> None:
    for seed, epsilon in enumerate((0.0, 1e-3, 1e-2)):
        network = made("depthwise, average", seed)
        images = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(seed))
        labels = torch.tensor([0, 2])
        outward = interval_margin_bounds(network, images, labels, epsilon, rounding="outward").double()
        exact = interval_margin_bounds(copy.deepcopy(network).double(), images.double(), labels, epsilon)
        assert (outward < exact).all()
        assert (outward >= exact - 1e-5 * (1 + exact.abs())).all()


def test_room_for_rounding_is_small() -> None:
    network = made("relu, max", 0)
    images = torch.rand(2, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    for epsilon in (1e-3, 1e-2):
        lower, upper = linear_bounds(network, images, epsilon)
        low, high = linear_bounds(network, images, epsilon, rounding="outward")
        scale = upper - lower + 1e-2 * lower.abs()
        assert ((lower - low).abs() <= 1e-3 * scale).all()
        assert ((high - upper).abs() <= 1e-3 * scale).all()


def test_gradients_do_not_see_the_room() -> None:
    network = made("depthwise, average", 0)
    images = torch.rand(1, 4, 6, 6, generator=torch.Generator().manual_seed(0))
    weight = next(network.parameters())
    gradients = []
    for rounding in ("nearest", "outward"):
        margins = margin_bounds(network, images, torch.tensor([1]), 1e-3, rounding=rounding)
        gradients.append(torch.autograd.grad(margins.sum(), [weight])[0])
    assert gradients[1].dtype == torch.float32
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-4 * float(gradients[0].abs().max()))


@pytest.mark.lengthy
def test_a_tie_is_never_certified() -> None:
    """Two equal logits, the second in other words: to nearest a rounding error may look like a margin."""

    class Twice(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.conv = conv(3, 8, 3, seed=seed)

        def forward(self, images: Tensor) -> Tensor:
            seen = functional.relu(self.conv(images)).flatten(1)
            first = seen.sum(dim=1, keepdim=True)
            halves = seen[:, ::2].sum(dim=1, keepdim=True) + seen[:, 1::2].sum(dim=1, keepdim=True)
            return torch.cat([first, halves], dim=1)

    for seed in range(8):
        images = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
        for label in (0, 1):
            labels = torch.full((4,), label)
            for epsilon in (0.0, 1e-7, 1e-3):
                assert certified_accuracy(Twice(seed), images, labels, epsilon) == 0
            assert (certified_radius(Twice(seed), images, labels, start=1e-4, steps=4) == 0).all()


def test_rounding_down_by_hand() -> None:
    third = torch.tensor([1 / 3, -1 / 3, 0.5], dtype=torch.float64)
    below = rounded_down(third, torch.float32).double()
    assert (below <= third).all()
    assert (third - below < 6e-8).all()
    assert below[2] == 0.5
    assert gamma(10, torch.float32) == pytest.approx(10 * 2**-24, rel=0.02)
