"""Bounds of the networks that are searched: random ones of each space, and supernets."""

import copy
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.attacks import PGD
from evonas.certify import interval_bounds, linear_bounds, margin_bounds, piecewise_jacobian
from evonas.errors import ConfigurationError
from evonas.gradient import Architecture, DartsSupernet, Mixture, SupernetPlan
from evonas.networks import HANDMADE, VICTIMS
from evonas.spaces import DartsSpace, NasBench201Space, PhaseSpace, ShuffleSpace

Network = Callable[[Tensor], Tensor]

SPACES: dict[str, PhaseSpace | DartsSpace | ShuffleSpace | NasBench201Space] = {
    "phase": PhaseSpace(phases=3, nodes=4),
    "darts": DartsSpace(4, 3),
    "shuffle": ShuffleSpace(width=0.25, depth=0.25),
    "nasbench201": NasBench201Space(channels=4, cells=1),
}


def alive(network: nn.Module, seed: int) -> nn.Module:
    """With normalisations that have seen images, whose weights and shifts are of both signs, and weak outputs."""
    generator = torch.Generator().manual_seed(seed)
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for module in norms:
        module.momentum = None  # the mean of what they see
    with torch.no_grad():
        network.train()(torch.rand(12, 3, 16, 16, generator=generator))
        for module in norms:
            if module.affine:
                module.weight.mul_(torch.empty_like(module.weight).uniform_(0.5, 1.5, generator=generator))
                module.weight.mul_(torch.where(torch.rand(module.weight.shape, generator=generator) < 0.2, -1.0, 1.0))
                module.bias.normal_(0, 0.3, generator=generator)
    return network.eval()


def found(name: str, seed: int) -> nn.Module:
    space = SPACES[name]
    rng = np.random.default_rng(seed)
    genome = next(each for each in space.sample(50, rng) if space.violation(each) <= 0 or name == "shuffle")
    torch.manual_seed(seed)
    width = 4 if name == "phase" else None
    return alive(space.build(genome, channels=width, normalization=((0.5,) * 3, (0.25,) * 3)), seed)


class Mixed(nn.Module):
    """A supernet at a mixture."""

    def __init__(self, supernet: DartsSupernet, mixture: Callable[[], Mixture]) -> None:
        super().__init__()
        self.supernet = supernet
        self.mixture = mixture

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.supernet(images, self.mixture())
        return logits


def supernet(seed: int, partial: int = 1, signs: bool = False) -> tuple[Mixed, Architecture]:
    torch.manual_seed(seed)
    plan = SupernetPlan(channels=4, layers=2, nodes=2, n_classes=5, partial=partial, edge_normalisation=partial > 1)
    architecture = Architecture(plan, torch.Generator().manual_seed(seed))
    for parameter in architecture.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(seed + 1))

    def mixture() -> Mixture:
        made: Mixture = architecture()
        if not signs:
            return made
        return Mixture(made.normal - 0.125, made.reduce - 0.125, made.normal_edges, made.reduce_edges)

    mixed = Mixed(DartsSupernet(plan), mixture)
    alive(mixed, seed)
    return mixed, architecture


def attacked(network: nn.Module, images: Tensor, epsilon: float, ball: str, seed: int) -> Iterator[Tensor]:
    """Batches of random points of the ball, of its border, and what PGD finds."""
    generator = torch.Generator().manual_seed(seed)
    many = images.repeat_interleave(24, dim=0)
    change = torch.randn(many.shape, generator=generator, dtype=images.dtype)
    if ball == "linf":
        share = torch.rand(len(many), 1, 1, 1, generator=generator).to(change)
        change = torch.where(share < 0.5, change.sign(), change.clamp(-1, 1))
    else:
        change = change / change.flatten(1).norm(dim=1)[:, None, None, None]
    yield many + epsilon * change
    attack = PGD(epsilon=epsilon, step_size=epsilon / 3, steps=4, norm=ball)  # type: ignore[arg-type]
    yield attack(network, images, network(images).argmax(dim=1))


def outside(out: Tensor, bounds: tuple[Tensor, Tensor]) -> float:
    """How far outputs leave their bounds, in units of 1 and what is added up: the outputs and how wide bounds are."""
    copies = len(out) // len(bounds[0])
    lower, upper = (each.repeat_interleave(copies, dim=0) for each in bounds)
    terms = 1 + out.abs() + (upper - lower)
    return float((torch.maximum(lower - out, out - upper) / terms).max())


def telling(network: nn.Module, images: Tensor, ball: str) -> float:
    """A radius at which bounds are as wide as logits are large, or less."""
    epsilon = 0.03
    while True:
        lower, upper = linear_bounds(network, images, epsilon, ball, intermediate="interval")
        if float((upper - lower).max()) < 1:
            return epsilon
        epsilon /= 3


CASES = [*((name, seed) for name in SPACES for seed in range(2)), ("supernet", 0), ("partial", 1), ("signs", 2)]
QUICK = {
    *((name, 0, "linf") for name in SPACES),
    ("phase", 1, "l2"),
    ("darts", 0, "l2"),
}


def network_of(name: str, seed: int) -> nn.Module:
    if name in SPACES:
        return found(name, seed)
    return supernet(seed, partial=2 if name == "partial" else 1, signs=name == "signs")[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "seed", "ball"),
    [
        pytest.param(name, seed, ball, marks=[] if (name, seed, ball) in QUICK else pytest.mark.slow)
        for ball in ("linf", "l2")
        for name, seed in CASES
    ],
)
@torch.no_grad()
def test_no_point_of_the_ball_leaves_the_bounds(name: str, seed: int, ball: str) -> None:
    single, size = network_of(name, seed), 16 if name == "phase" else 8
    at = torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(seed))
    epsilon = telling(single, at, ball)
    for double in (False, True):
        network = copy.deepcopy(single).double() if double else single
        images = at.double() if double else at
        bounds = [interval_bounds(network, images, epsilon, ball)]
        for relaxation in ("adaptive", "same_slope"):
            linear = linear_bounds(network, images, epsilon, ball, relaxation, intermediate="interval")
            bounds.append(linear)
        with torch.enable_grad():
            for points in attacked(network, images, epsilon, ball, seed):
                out = network(points).detach()
                for each in bounds:
                    assert outside(out, each) <= (1e-12 if double else 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "epsilon"), [("phase", 0.004), ("signs", 0.002)])
@torch.no_grad()
def test_bounds_of_every_layer_are_sound_and_tighter(name: str, epsilon: float) -> None:
    network = network_of(name, 2).double()
    images = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    images = images if name == "phase" else images[..., :8, :8]
    box = interval_bounds(network, images, epsilon)
    quick = linear_bounds(network, images, epsilon, intermediate="interval")
    whole = linear_bounds(network, images, epsilon, intersect=True)
    assert (whole[0] >= box[0]).all()
    assert (whole[1] <= box[1]).all()
    width = [float((upper - lower).mean()) for lower, upper in (box, quick, whole)]
    assert width[2] < width[1] < width[0]
    with torch.enable_grad():
        for points in attacked(network, images, epsilon, "linf", 0):
            assert outside(network(points).detach(), whole) <= 1e-12


@pytest.mark.lengthy
@torch.no_grad()
def test_single_precision_against_double() -> None:
    network = found("phase", 1)
    images = torch.rand(1, 3, 10, 10, generator=torch.Generator().manual_seed(0))
    for kind in (interval_bounds, linear_bounds):
        single = kind(network, images, 0.01)
        double = kind(copy.deepcopy(network).double(), images.double(), 0.01)
        scale = float((double[1] - double[0]).max())
        for one, two in zip(single, double, strict=True):
            assert float((one - two).abs().max()) <= 1e-5 * (1 + scale)


@pytest.mark.lengthy
def test_bounds_differentiate_in_weights_and_architecture() -> None:
    network, architecture = supernet(0)
    network.double()
    architecture.double()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    labels = torch.tensor([0, 3])

    def value() -> Tensor:
        return margin_bounds(network, images, labels, 0.002, intermediate="interval", relaxation="same_slope").sum()

    alpha, weight = architecture.alpha_reduce, network.supernet.classifier.weight
    gradients = torch.autograd.grad(value(), [alpha, weight])
    for parameter, gradient in zip((alpha, weight), gradients, strict=True):
        direction = torch.randn(parameter.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        step, ends = 1e-6, []
        for sign in (1, -1):
            parameter.data += sign * step * direction
            ends.append(value().item())
            parameter.data -= sign * step * direction
        slope = (ends[0] - ends[1]) / (2 * step)
        assert slope == pytest.approx(float((gradient * direction).sum()), rel=1e-5)


@pytest.mark.lengthy
def test_memory_of_gradients_is_that_of_a_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of a long computation are done again for their gradient, within the network, too."""
    calls = []
    monkeypatch.setattr(
        "evonas.certify.linear.checkpoint",
        lambda function, *args, **kwargs: calls.append(len(args)) or function(*args),  # type: ignore[func-returns-value]
    )
    monkeypatch.setattr("evonas.certify.linear.MAX_VALUES", 2**13)
    linear_bounds(found("phase", 0), torch.rand(1, 3, 10, 10), 0.002)
    assert len(calls) > 10


@pytest.mark.slow
def test_gradients_of_chunked_bounds_are_those_of_whole_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    network = found("phase", 0).double()
    images = torch.rand(1, 3, 10, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    weight = next(network.parameters())
    found_ones = []
    for most in (2**22, 2**13):
        monkeypatch.setattr("evonas.certify.linear.MAX_VALUES", most)
        lower, upper = linear_bounds(network, images, 0.002)
        found_ones.append((lower, upper, *torch.autograd.grad((upper - lower).sum(), [weight])))
    for whole, chunked in zip(*found_ones, strict=True):
        torch.testing.assert_close(whole, chunked, rtol=1e-9, atol=1e-12)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", ["phase", "darts", "partial", "signs"])
def test_slopes_at_a_point_are_the_jacobian(name: str) -> None:
    network = network_of(name, 1).double()
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    if name == "phase":
        images = torch.rand(2, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    slopes = piecewise_jacobian(network, images)
    at = images.clone().requires_grad_(True)
    sums = network(at).sum(dim=0)
    rows = [torch.autograd.grad(each, at, create_graph=True)[0] for each in sums]
    expected = torch.stack(rows, dim=1)
    torch.testing.assert_close(slopes, expected, atol=1e-12, rtol=1e-10)
    weight = next(parameter for parameter in network.parameters() if parameter.ndim == 4)
    ours, theirs = (torch.autograd.grad(each.abs().sum(), [weight])[0] for each in (slopes, expected))
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-8)


def test_slopes_of_other_functions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="has Softmax; jacobian_norm_bound takes any network"):
        piecewise_jacobian(nn.Sequential(nn.Flatten(), nn.Softmax(dim=1)), torch.rand(1, 3, 2, 2))


@pytest.mark.lengthy
@pytest.mark.parametrize("name", [*VICTIMS, *HANDMADE])
@torch.no_grad()
def test_every_network_that_is_not_searched_has_bounds(name: str) -> None:
    torch.manual_seed(0)
    if name in VICTIMS:
        network = VICTIMS[name]() if name == "LeNet" else VICTIMS[name](width=0.125)
    else:
        network = HANDMADE[name].build(width=0.25)
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    lower, upper = linear_bounds(network.eval(), images, 0.0, intermediate="interval")
    torch.testing.assert_close(lower, upper, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(lower, network(images), atol=1e-4, rtol=1e-4)


def test_a_network_is_left_as_it_was() -> None:
    network = found("darts", 0)
    network.train()
    network.cells[0].eval()  # type: ignore[index, union-attr]
    modes = [module.training for module in network.modules()]
    before = copy.deepcopy(network.state_dict())
    interval_bounds(network, torch.rand(2, 3, 16, 16), 0.01)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
