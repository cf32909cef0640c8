"""Bounds against derivations by hand and against dense bounds written down here, matrix by matrix."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from helpers import part_of
from torch import Tensor, nn

from evonas.certify import bounds_and_margins, interval_bounds, linear_bounds, margin_bounds

Array = npt.NDArray[np.float64]


def two_layers() -> nn.Sequential:
    """x in R^2, h = (x1 + x2, x1 - x2), y = (relu(h1) - 2 relu(h2), relu(h1) + relu(h2))."""
    first, second = nn.Linear(2, 2), nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 1.0], [1.0, -1.0]]))
        first.bias.copy_(torch.tensor([0.5, 0.0]))
        second.weight.copy_(torch.tensor([[1.0, -2.0], [1.0, 1.0]]))
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second).double()


def at(x1: float, x2: float) -> Tensor:
    return torch.tensor([x1, x2], dtype=torch.float64).view(1, 2, 1, 1)


def test_intervals_of_two_layers_by_hand() -> None:
    # h1 in [0 + 0.5 -+ 1], h2 in [-+ 1] -> relu in [0, 1.5] and [0, 1]
    lower, upper = interval_bounds(two_layers(), at(0, 0), 0.5)
    torch.testing.assert_close(lower, torch.tensor([[-2.0, 0.0]], dtype=torch.float64), atol=0, rtol=0)
    torch.testing.assert_close(upper, torch.tensor([[1.5, 2.5]], dtype=torch.float64), atol=0, rtol=0)


def test_same_slope_of_two_layers_by_hand() -> None:
    # h1 in [-0.5, 1.5]: slope 3/4, upper line 3/4 h1 + 3/8; h2 in [-1, 1]: slope 1/2, upper line h2 / 2 + 1/2
    # y1 >= 3/4 h1 - 2 (h2 / 2 + 1/2) = 3/4 (x1 + x2 + 1/2) - x1 + x2 - 1 = -x1/4 + 7/4 x2 - 5/8 >= -5/8 - 1
    # y1 <= 3/4 h1 + 3/8 - 2 (h2 / 2) = -x1/4 + 7/4 x2 + 3/4 <= 3/4 + 1
    # y2 >= 3/4 h1 + h2 / 2 = 5/4 x1 + 1/4 x2 + 3/8 >= 3/8 - 3/4; y2 <= that + 3/8 + 1/2, at most 5/4 + 3/4
    lower, upper = linear_bounds(two_layers(), at(0, 0), 0.5, relaxation="same_slope")
    torch.testing.assert_close(lower, torch.tensor([[-1.625, -0.375]], dtype=torch.float64), atol=1e-15, rtol=0)
    torch.testing.assert_close(upper, torch.tensor([[1.75, 2.0]], dtype=torch.float64), atol=1e-15, rtol=0)
    # in l2 the coefficients' length takes the place of their sum
    lower, upper = linear_bounds(two_layers(), at(0, 0), 0.5, norm="l2", relaxation="same_slope")
    reach = 0.5 * math.sqrt(2)  # of h1 and of h2
    low, high = 0.5 - reach, 0.5 + reach
    slope = high / (high - low)
    first = (slope - 1, slope + 1)  # of x1 and x2 in y1: slope (x1 + x2) - (x1 - x2)
    expected = slope * 0.5 - 0.5 * math.hypot(*first) - 2 * 0.5 * reach
    assert lower[0, 0].item() == pytest.approx(expected, abs=1e-15)


def test_adaptive_lower_lines_by_hand() -> None:
    # h1: 1.5 >= 0.5, so the lower line is h1; h2: 1 >= 1, so it is h2
    # y1 >= h1 - h2 - 1 = 2 x2 + 1/2 - 1 >= -3/2; y2 >= h1 + h2 = 2 x1 + 1/2 >= -1/2
    lower, _ = linear_bounds(two_layers(), at(0, 0), 0.5, relaxation="adaptive")
    torch.testing.assert_close(lower, torch.tensor([[-1.5, -0.5]], dtype=torch.float64), atol=1e-15, rtol=0)
    tighter, _ = linear_bounds(two_layers(), at(0, 0), 0.5, relaxation="adaptive", intersect=True)
    torch.testing.assert_close(tighter, torch.tensor([[-1.5, 0.0]], dtype=torch.float64), atol=1e-15, rtol=0)


def test_margins_are_one_function() -> None:
    # y1 - y2 = -3 relu(h2) >= -3 (h2 / 2 + 1/2) >= -3, while the difference of bounds is -1.5 - 2
    margins = margin_bounds(two_layers(), at(0, 0), torch.tensor([0]), 0.5)
    torch.testing.assert_close(margins, torch.tensor([[-3.0]], dtype=torch.float64), atol=1e-15, rtol=0)


def test_bounds_and_margins_together() -> None:
    images = torch.rand(3, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 1])
    together = bounds_and_margins(two_layers(), images, labels, 0.3)
    lower, upper = linear_bounds(two_layers(), images, 0.3)
    apart = (lower, upper, margin_bounds(two_layers(), images, labels, 0.3))
    for one, two in zip(together, apart, strict=True):
        torch.testing.assert_close(one, two, atol=1e-15, rtol=0)


def test_clipping_takes_what_is_left_of_the_ball() -> None:
    lower, upper = interval_bounds(nn.Flatten(), at(0.1, 0.9), 0.3, clip=(0.0, 1.0))
    torch.testing.assert_close(lower, torch.tensor([[0.0, 0.6]], dtype=torch.float64))
    torch.testing.assert_close(upper, torch.tensor([[0.4, 1.0]], dtype=torch.float64))
    total = nn.Sequential(nn.Flatten(), nn.Linear(2, 1, bias=False)).double()
    nn.init.ones_(part_of(total, "1", nn.Linear).weight)
    for bounds in (interval_bounds, linear_bounds):
        low, high = bounds(total, at(0.1, 0.9), 0.3, norm="l2", clip=(0.0, 1.0))
        assert low.item() == pytest.approx(1 - 0.4)  # the box; the ball alone would reach 0.3 sqrt(2) = 0.424
        assert high.item() == pytest.approx(1.4)


def dense_bounds(
    layers: list[tuple[Array, Array]], x: Array, epsilon: float, p: float, slope: str
) -> tuple[Array, Array]:
    """Backward bounds of linear layers with ReLUs between them, every layer's by those of all before it.

    Within the network the better one of these and of intervals counts, where intervals leave the sign open.
    """
    dual = {math.inf: 1, 2.0: 2}[p]
    lower: list[Array] = []
    upper: list[Array] = []
    for depth in range(len(layers)):
        weights, bias = layers[depth]
        ends = []
        for sign in (1, -1):
            a, c = sign * weights, sign * bias  # a lower bound of sign * z is a @ h + c
            for below in range(depth - 1, -1, -1):
                low, high = lower[below], upper[below]
                either = (low < 0) & (high > 0)
                up = np.where(either, high / np.where(either, high - low, 1), (low >= 0) * 1.0)
                down = np.where(either, {"same_slope": up, "adaptive": (high >= -low) * 1.0}[slope], up)
                c = c + (np.minimum(a, 0) * np.where(either, -low * up, 0)).sum(axis=1)
                a = np.maximum(a, 0) * down + np.minimum(a, 0) * up
                c, a = c + a @ layers[below][1], a @ layers[below][0]
            ends.append(sign * (a @ x + c - epsilon * np.linalg.norm(a, dual, axis=1)))
        if depth + 1 == len(layers):
            return ends[0], ends[1]
        if depth:
            low, high = np.maximum(lower[-1], 0), np.maximum(upper[-1], 0)
            middle, radius = weights @ (low + high) / 2 + bias, np.abs(weights) @ (high - low) / 2
            low, high = middle - radius, middle + radius
            open_ = (low < 0) & (high > 0)
            ends = [np.where(open_, np.maximum(ends[0], low), low), np.where(open_, np.minimum(ends[1], high), high)]
        lower.append(ends[0])
        upper.append(ends[1])
    raise AssertionError("no layers")


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("relaxation", ["same_slope", "adaptive"])
def test_dense_networks_have_the_dense_bounds(seed: int, norm: str, relaxation: str) -> None:
    rng = np.random.default_rng(seed)
    sizes = [12, 10, 9, 8, 5]
    pairs = itertools.pairwise(sizes)
    layers = [(rng.normal(size=(b, a)) / math.sqrt(a), rng.normal(size=b) / 3) for a, b in pairs]
    parts: list[nn.Module] = [nn.Flatten()]
    for weights, bias in layers:
        part = nn.Linear(weights.shape[1], weights.shape[0]).double()
        with torch.no_grad():
            part.weight.copy_(torch.from_numpy(weights))
            part.bias.copy_(torch.from_numpy(bias))
        parts += [part, nn.ReLU()]
    images = rng.random((3, 3, 2, 2))
    lower, upper = linear_bounds(
        nn.Sequential(*parts[:-1]),
        torch.from_numpy(images),
        0.05,
        norm,
        relaxation=relaxation,  # type: ignore[arg-type]
    )
    p = {"linf": math.inf, "l2": 2.0}[norm]
    for number, image in enumerate(images):
        low, high = dense_bounds(layers, image.ravel(), 0.05, p, relaxation)
        np.testing.assert_allclose(lower[number].detach().numpy(), low, atol=1e-12)
        np.testing.assert_allclose(upper[number].detach().numpy(), high, atol=1e-12)


def test_an_epsilon_for_each_image() -> None:
    images = torch.rand(3, 2, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    radii = torch.tensor([0.0, 0.1, 0.4], dtype=torch.float64)
    together = linear_bounds(two_layers(), images, radii)
    for number, radius in enumerate(radii.tolist()):
        alone = linear_bounds(two_layers(), images[number : number + 1], radius)
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[number : number + 1], part, atol=1e-15, rtol=0)
    torch.testing.assert_close(together[0][0], two_layers()(images)[0], atol=1e-15, rtol=0)


def test_what_a_ball_is() -> None:
    net, images = two_layers(), at(0.5, 0.5)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: interval_bounds(net, images, -0.1), "expected epsilon >= 0"),
        (lambda: interval_bounds(net, images, torch.ones(2)), "one epsilon, or one for each of 1 images"),
        (lambda: interval_bounds(net, images, 0.1, norm="l1"), "unknown norm 'l1'"),
        (lambda: interval_bounds(net, at(2, 0), 0.1, clip=(0.0, 1.0)), "images within the clip range"),
        (lambda: linear_bounds(net, images, 0.1, relaxation="zero"), "unknown relaxation"),  # type: ignore[arg-type]
        (lambda: linear_bounds(net, images, 0.1, intermediate="none"), "unknown kind of"),  # type: ignore[arg-type]
        (lambda: linear_bounds(net, images[0], 0.1), r"expected \(B, C, H, W\) floating-point images"),
    ]
    for call, message in calls:
        with pytest.raises((ValueError, KeyError), match=message):
            call()
