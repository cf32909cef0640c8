"""Norms of logits' Jacobians: by hand, beside torch.func's Jacobian, their gradients, estimates, what is left alone."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev
from torch.nn import functional

from evonas.certify.jacobian import jacobian_norm_bound, squared_jacobian_norm
from evonas.errors import ConfigurationError, DataError
from evonas.networks.darts import GENOTYPES, DartsNetwork
from evonas.spaces import PhaseSpace, ShuffleSpace

ROWS = [[3.0, -4.0], [0.0, 0.0], [1.0, 2.0]]
"""||.||_1: 7, 0, 3; squares: 25, 0, 5."""


def linear(rows: list[list[float]] = ROWS) -> nn.Linear:
    layer = nn.Linear(len(rows[0]), len(rows)).double()
    layer.weight.data = torch.tensor(rows, dtype=torch.float64)
    return layer


def number(value: Tensor) -> float:
    return value.detach().item()


def images(n: int = 3, size: int = 16) -> Tensor:
    return torch.rand(n, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def settled(network: nn.Module, size: int = 16) -> nn.Module:
    """In double precision, in train mode, with statistics and scales that are not those of the start."""
    network.double().train()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    for n in (8, 6):
        network(torch.rand(n, 3, size, size, dtype=torch.float64))
    return network


def phase() -> nn.Module:
    space = PhaseSpace(phases=2, nodes=3, channels=4)
    return space.build(space.designs()["dense"], normalization=((0.5,) * 3, (0.2,) * 3))


def shuffle() -> nn.Module:
    """With every kind of block, as far as its few places go."""
    space = ShuffleSpace(1 / 3, 0.1, window=None, image_size=16)
    genome = space.sample(1, np.random.default_rng(3))[0]
    return space.build(genome)


def darts() -> nn.Module:
    return DartsNetwork(GENOTYPES["DARTS_V2"], 4, 3)


def plain() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(36, 5),
    )


NETWORKS = [phase, shuffle, darts, plain]


def rows_of(network: nn.Module, points: Tensor) -> Tensor:
    """(B, K, D) Jacobians by torch.func, one image at a time; the network in eval mode."""
    return torch.stack([jacrev(lambda x: network(x[None])[0])(point).flatten(1) for point in points])


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        (1, 10 / 3),
        (2, (5 + math.sqrt(5)) / 3),
        (math.inf, 2.0),
        (3, (91 ** (1 / 3) + 9 ** (1 / 3)) / 3),
        (1.5, ((3**1.5 + 8) ** (2 / 3) + (1 + 2**1.5) ** (2 / 3)) / 3),
    ],
)
def test_the_mean_norm_of_a_linear_models_rows(q: float, expected: float) -> None:
    found = jacobian_norm_bound(linear(), torch.rand(4, 2, dtype=torch.float64), q)
    assert found.shape == ()
    assert number(found) == pytest.approx(expected, abs=1e-14)


def test_it_is_the_mean_over_images_of_rows_that_differ() -> None:
    """x -> x^2 has diag(2x): images (1, 2) and (3, 0) have row norms 2, 4 and 6, 0, and squares 20 and 36."""
    points = torch.tensor([[1.0, 2.0], [3.0, 0.0]])
    for q in (1, 2, math.inf):
        assert number(jacobian_norm_bound(torch.square, points, q)) == 3.0
    assert number(squared_jacobian_norm(torch.square, points)) == 28.0
    assert number(squared_jacobian_norm(linear(), torch.rand(4, 2, dtype=torch.float64))) == 30.0


@pytest.mark.lengthy
@pytest.mark.parametrize("build", NETWORKS)
def test_both_are_those_of_the_whole_jacobian(build: Callable[[], nn.Module]) -> None:
    network, points = settled(build()).eval(), images()
    rows = rows_of(network, points)
    precision = 1e-7 if build is shuffle else 1e-10  # of PyTorch's slope of a hard sigmoid: 1/6 as a float32
    for q in (1.0, 2.0, 2.5, math.inf):
        expected = number(torch.linalg.vector_norm(rows, q, dim=2).mean())
        assert number(jacobian_norm_bound(network, points, q)) == pytest.approx(expected, rel=precision)
        with torch.no_grad():
            assert number(jacobian_norm_bound(network, points, q)) == pytest.approx(expected, rel=precision)
    expected = number(rows.square().sum(dim=(1, 2)).mean())
    assert number(squared_jacobian_norm(network, points)) == pytest.approx(expected, rel=precision)


@pytest.mark.lengthy
@pytest.mark.parametrize("build", NETWORKS)
def test_a_network_in_train_mode_is_left_exactly_as_it_was(build: Callable[[], nn.Module]) -> None:
    network = settled(build())
    next(iter(network.children())).eval()  # part of it is not in train mode
    modes = [module.training for module in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    drawn = torch.get_rng_state()
    found = jacobian_norm_bound(network, images(), 1), squared_jacobian_norm(network, images())
    assert modes == [module.training for module in network.modules()]
    assert set(modes) == {False, True}
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(drawn, torch.get_rng_state())
    network.eval()
    assert found == (jacobian_norm_bound(network, images(), 1), squared_jacobian_norm(network, images()))


def test_modes_are_put_back_when_the_network_fails() -> None:
    network = nn.Sequential(nn.Dropout(), nn.Flatten(), nn.Linear(7, 2))
    with pytest.raises(RuntimeError):
        jacobian_norm_bound(network, torch.rand(2, 3), 1)
    assert all(module.training for module in network.modules())


# Gradients.


def as_function_of(network: nn.Module, name: str, measure: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    """A measure as a function of one of the network's parameters."""
    return lambda weight: measure(lambda x: functional_call(network, {name: weight}, (x,)))


@pytest.mark.slow
@pytest.mark.parametrize("q", [1.0, 1.5, 2.0, math.inf])
def test_gradients_of_the_bound_by_weights_are_right(q: float) -> None:
    network, points = settled(plain()).eval(), images(2)
    for name in ("0.weight", "1.weight", "6.weight"):
        measured = as_function_of(network, name, lambda model: jacobian_norm_bound(model, points, q))
        assert torch.autograd.gradcheck(measured, network.get_parameter(name).detach().requires_grad_())


@pytest.mark.lengthy
def test_gradients_of_the_squared_norm_by_weights_are_right() -> None:
    network, points = settled(plain()).eval(), images(2)
    for projections in (None, 2):

        def measure(model: Any, n: int | None = projections) -> Tensor:
            return squared_jacobian_norm(model, points, n, torch.Generator().manual_seed(3))

        for name in ("0.weight", "6.weight"):
            weight = network.get_parameter(name).detach().requires_grad_()
            assert torch.autograd.gradcheck(as_function_of(network, name, measure), weight)


@pytest.mark.lengthy
@pytest.mark.parametrize("build", NETWORKS)
def test_all_weights_of_our_networks_get_the_right_gradient(build: Callable[[], nn.Module]) -> None:
    """Along one direction in the space of all weights, by central differences; all are finite."""
    network, points = settled(build()).eval(), images()
    weights = [each for each in network.parameters() if each.requires_grad]
    directions = [torch.randn_like(weight) for weight in weights]
    step = 1e-7

    def moved(by: float) -> None:
        with torch.no_grad():
            for weight, direction in zip(weights, directions, strict=True):
                weight.add_(by * direction)

    for measure in (partial(jacobian_norm_bound, network, points, 2), partial(squared_jacobian_norm, network, points)):
        found = torch.autograd.grad(measure(), weights, allow_unused=True)  # a last bias moves no row
        assert all(bool(each.isfinite().all()) for each in found if each is not None)
        along = sum(
            number((each * direction).sum())
            for each, direction in zip(found, directions, strict=True)
            if each is not None
        )
        moved(step)
        above = number(measure())
        moved(-2 * step)
        below = number(measure())
        moved(step)
        assert along == pytest.approx((above - below) / (2 * step), rel=1e-4)


def test_the_gradient_by_an_architecture_variable_is_right() -> None:
    """f(x) = alpha A x + (1 - alpha) B x: rows are alpha A + (1 - alpha) B, of 1-norm 7 alpha + 2 (1 - alpha), ...."""
    first, second = linear(ROWS[:1]), linear([[1.0, -1.0]])
    alpha = torch.tensor(0.25, dtype=torch.float64, requires_grad=True)
    points = torch.rand(3, 2, dtype=torch.float64)
    found = jacobian_norm_bound(lambda x: alpha * first(x) + (1 - alpha) * second(x), points, 1)
    assert number(found) == pytest.approx(7 * 0.25 + 2 * 0.75)
    (gradient,) = torch.autograd.grad(found, alpha)
    assert number(gradient) == pytest.approx(5.0)


@pytest.mark.parametrize("q", [1.0, 1.5, 2.0, 3.0, math.inf])
def test_a_row_that_is_zero_gives_a_finite_gradient(q: float) -> None:
    """Of q = 2: W / ||W|| / K for the others, 0 for that one."""
    layer = linear()
    jacobian_norm_bound(layer, torch.rand(4, 2, dtype=torch.float64), q).backward()
    gradient = layer.weight.grad
    assert gradient is not None
    assert bool(gradient.isfinite().all())
    assert gradient[1].tolist() == [0.0, 0.0]
    if q == 2:
        expected = [3 / 5, -4 / 5, 1 / math.sqrt(5), 2 / math.sqrt(5)]
        assert (3 * gradient[[0, 2]]).flatten().tolist() == pytest.approx(expected, abs=1e-14)


def test_without_gradients_no_graph_is_kept() -> None:
    network, points = settled(plain()), images()
    with torch.no_grad():
        found = jacobian_norm_bound(network, points, 1), squared_jacobian_norm(network, points)
    assert not any(each.requires_grad for each in found)
    with torch.inference_mode():
        inside = torch.rand(2, 3, 16, 16, dtype=torch.float64)
        assert number(jacobian_norm_bound(network, points, 1)) == number(found[0])
        assert number(jacobian_norm_bound(network, inside, 1)) > 0


def test_images_are_only_looked_at() -> None:
    points = images().requires_grad_()
    jacobian_norm_bound(settled(plain()), points, 1).backward()
    assert points.grad is None
    assert torch.equal(points, images())


@pytest.mark.lengthy
def test_channels_last_images_give_the_same() -> None:
    """Also the gradients, which PyTorch's batch normalisation gets wrong there under some conditions."""
    network, points = settled(darts()).eval(), images()
    last = points.contiguous(memory_format=torch.channels_last)
    found = []
    for given in (points, last):
        network.zero_grad()
        value = jacobian_norm_bound(network, given, 2)
        value.backward()
        found.append((number(value), torch.cat([p.grad.flatten() for p in network.parameters() if p.grad is not None])))
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-12)
    assert torch.allclose(found[0][1], found[1][1], rtol=1e-9, atol=1e-12)


# Random projections.


def test_the_estimate_is_unbiased_and_each_image_has_its_own_directions() -> None:
    """v uniform on the sphere: K v'Av, A = JJ', has mean tr A and variance (2 K tr A^2 - 2 (tr A)^2) / (K + 2).

    Of 4,000 independent directions the mean is within 5 standard errors, 0.8 of 30; were a direction shared by all
    images, its standard error would be 32 times as large.
    """
    A = torch.tensor(ROWS, dtype=torch.float64) @ torch.tensor(ROWS, dtype=torch.float64).T
    trace, squares = number(A.trace()), number((A @ A).trace())
    deviation = math.sqrt((2 * 3 * squares - 2 * trace**2) / 5)
    points = torch.zeros(2000, 2, dtype=torch.float64)
    found = number(squared_jacobian_norm(linear(), points, 2, torch.Generator().manual_seed(0)))
    assert abs(found - 30) < 5 * deviation / math.sqrt(4000)
    one = [number(squared_jacobian_norm(linear(), points[:1], 1, torch.Generator().manual_seed(n))) for n in range(400)]
    # Their kurtosis is about 2.2, so the variance of 400 is known to sqrt(1.2 / 400) = 0.055; five times that:
    assert np.var(one) == pytest.approx(deviation**2, rel=0.275)


def test_of_one_class_every_direction_is_exact() -> None:
    found = squared_jacobian_norm(linear(ROWS[:1]), torch.rand(3, 2, dtype=torch.float64), 1, torch.Generator())
    assert number(found) == pytest.approx(25.0, rel=1e-12)


def test_directions_come_from_the_generator_alone() -> None:
    network, points = settled(plain()), images()

    def estimate(seed: int) -> float:
        return number(squared_jacobian_norm(network, points, 3, torch.Generator().manual_seed(seed)))

    before = torch.get_rng_state()
    assert estimate(5) == estimate(5) != estimate(6)
    assert torch.equal(before, torch.get_rng_state())


# What is refused.


@pytest.mark.parametrize("q", [0.5, 0, -1, math.nan])
def test_a_norm_that_is_none_is_refused(q: float) -> None:
    with pytest.raises(ConfigurationError, match="expected q >= 1, got"):
        jacobian_norm_bound(linear(), torch.rand(2, 2), q)


@pytest.mark.parametrize(
    "given",
    [torch.rand(0, 3, 4, 4), torch.rand(3), torch.ones(2, 3, 4, 4, dtype=torch.uint8)],
    ids=["none", "no batch", "integers"],
)
def test_what_is_no_image_is_refused(given: Tensor) -> None:
    for measure in (partial(jacobian_norm_bound, plain(), given, 1), partial(squared_jacobian_norm, plain(), given)):
        with pytest.raises(DataError, match=r"expected \(B, \.\.\.\) floating-point images, B >= 1, got \("):
            measure()


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (lambda x: x.sum(dim=1), r"expected logits of shape \(2, K\) from the model, got \(2,\)"),
        (lambda x: x[:1], r"expected logits of shape \(2, K\) from the model, got \(1, 3\)"),
        (lambda x: (x, x), r"expected logits of shape \(2, K\) from the model, got tuple"),
        (lambda x: x.detach(), "expected logits that are differentiable by the images"),
        (lambda x: linear([[1.0] * 3])(x.detach()), "expected logits that are differentiable by the images"),
    ],
)
def test_a_model_without_differentiable_logits_is_refused(model: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        jacobian_norm_bound(model, torch.rand(2, 3, dtype=torch.float64), 1)


def test_batch_statistics_are_refused() -> None:
    """Without running ones a layer takes those of the batch in eval mode, too."""
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False))
    with pytest.raises(ConfigurationError, match="expected batch normalisation with running statistics, got 1 without"):
        jacobian_norm_bound(network, torch.rand(2, 3), 1)


def test_projections_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="expected projections >= 1, or None for the exact norm, got 0"):
        squared_jacobian_norm(linear(), torch.rand(2, 2), 0, torch.Generator())
    with pytest.raises(ConfigurationError, match=r"expected a torch\.Generator for random projections, got None"):
        squared_jacobian_norm(linear(), torch.rand(2, 2), 1)


def test_a_hard_sigmoid_is_as_it_is_elsewhere() -> None:
    """Slopes 1/6 between -3 and 3, 0 outside; and its gradients can be differentiated once more, here to 0."""
    points = torch.tensor([[-4.0, -1.0, 2.0, 5.0]])
    weight = torch.tensor(2.0, requires_grad=True)
    found = jacobian_norm_bound(lambda x: functional.hardsigmoid(weight * x), points, 1)
    assert number(found) == pytest.approx((0 + 2 / 6 + 0 + 0) / 4)  # 2 * 2 lies outside
    (gradient,) = torch.autograd.grad(found, weight)
    assert number(gradient) == pytest.approx(1 / 6 / 4)
