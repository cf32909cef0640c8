"""TRADES-YOPO-m-n: its perturbation against the same written step by step, its loss by hand, where a network is cut."""

import copy
from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.networks import VICTIMS
from evonas.spaces import PhaseSpace, ShuffleSpace
from evonas.training import Trades, TradesYopo
from evonas.training.attacking import attacking
from evonas.training.fast_layers import fast_layers
from evonas.training.trades import start
from evonas.training.yopo import split_first_layer, trades_yopo_perturbation

NORMALIZATION = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
SHUFFLE = ShuffleSpace(width=1 / 6, depth=0.1)
PHASE = PhaseSpace(phases=2, nodes=3, channels=4)

Layer = Callable[[Tensor], Tensor]


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "phases": lambda: PHASE.build(PHASE.designs()["dense"], normalization=NORMALIZATION),
    "shuffle": lambda: SHUFFLE.build(SHUFFLE.upper),
    "shuffle, normalised": lambda: SHUFFLE.build(0 * SHUFFLE.upper, normalization=NORMALIZATION),
    "stride 2": lambda: nn.Sequential(
        nn.Conv2d(3, 5, 3, stride=2), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(80, 10)
    ),
}


def network(name: str) -> nn.Module:
    """With weights that are felt in the logits and batch statistics of its own, in train mode."""
    torch.manual_seed(0)
    made = NETWORKS[name]()
    for part in made.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
    made.train()
    with torch.no_grad():
        for _ in range(3):
            made(torch.rand(8, 3, 32, 32))
    return made


def some_images(n: int = 3) -> Tensor:
    """A third of the pixels are at the bounds."""
    torch.manual_seed(1)
    return (1.6 * torch.rand(n, 3, 32, 32) - 0.3).clamp(0, 1)


def kl(p: Tensor, logits: Tensor) -> Tensor:
    """KL(p || softmax(logits)), summed: by torch's, since in float32 signs of gradients near 0 hang on rounding."""
    return functional.kl_div(functional.log_softmax(logits, dim=1), p, reduction="sum")


class ClosedClamp(torch.autograd.Function):
    """Clamping to [0, 1] whose gradient passes on the closed interval, whatever this version of torch does there."""

    @staticmethod
    def forward(ctx: Any, pixels: Tensor) -> Tensor:
        ctx.save_for_backward(pixels)
        return pixels.clamp(0, 1)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Tensor:
        (pixels,) = ctx.saved_tensors
        return torch.where((pixels < 0) | (pixels > 1), 0, slopes[0])


def step_by_step(
    first_layer: Layer,
    rest: Layer,
    images: Tensor,
    probabilities: Tensor,
    eta0: Tensor,
    m: int,
    n: int,
    step: float,
    epsilon: float,
) -> Tensor:
    """Every inner step takes its own gradient of the Hamiltonian."""
    eta = eta0.clone()
    for _ in range(m):
        maps = first_layer(images + eta).detach().requires_grad_()  # the outer forward is not clamped
        (slope,) = torch.autograd.grad(kl(probabilities, rest(maps)), maps)
        p = -slope
        for _ in range(n):
            eta = eta.detach().requires_grad_()
            hamiltonian = (first_layer(ClosedClamp.apply(images + eta)) * p).sum()
            (gradient,) = torch.autograd.grad(hamiltonian, eta)
            with torch.no_grad():
                eta = eta - step * gradient.sign()
                eta = torch.clamp(eta, -epsilon, epsilon)
                eta = torch.clamp(images + eta, 0, 1) - images
    return eta.detach()


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", NETWORKS)
def test_the_perturbation_is_that_of_every_step_taken(name: str, dtype: torch.dtype) -> None:
    model, images = network(name).eval().to(dtype), some_images().to(dtype)
    with torch.no_grad():
        probabilities = torch.softmax(model(images), dim=1)
    parts = split_first_layer(model, images)
    for (m, n), epsilon in product([(1, 1), (2, 1), (3, 2), (5, 3)], [8 / 255]):
        eta0 = start(images, torch.Generator().manual_seed(m))
        arguments = (*parts, images, probabilities, eta0, m, n, 0.007, epsilon)
        expected = step_by_step(*arguments)
        torch.testing.assert_close(trades_yopo_perturbation(*arguments), expected, rtol=0, atol=1e-6)
        assert float(expected.abs().max()) > 0.9 * min(epsilon, 0.007 * m * n)  # it goes somewhere


@pytest.mark.lengthy
@pytest.mark.parametrize("epsilon", [1e-3, 8 / 255, 0.3, 1.0])
def test_any_radius_gives_images_within_it(epsilon: float) -> None:
    """Wherever it starts; steps that are longer than the radius, too."""
    model, images = network("phases").eval().double(), some_images().double()
    probabilities = torch.softmax(model(images), dim=1).detach()
    for scale, step in product((0.001, 0.5), (0.007, 0.2)):
        eta0 = scale * torch.randn(images.shape, dtype=torch.float64)
        arguments = (*split_first_layer(model, images), images, probabilities, eta0, 2, 3, step, epsilon)
        eta = trades_yopo_perturbation(*arguments)
        torch.testing.assert_close(eta, step_by_step(*arguments), rtol=0, atol=1e-6)
        assert float(eta.abs().max()) <= epsilon + 1e-15  # (x + eta) - x rounds
        assert float((images + eta).min()) >= 0
        assert float((images + eta).max()) <= 1 + 1e-15


def test_saturated_pixels_step_at_once() -> None:
    """Black and white pixels lie on the bounds; a step into the interval is taken from there."""
    images = torch.tensor([[[[0.0, 1.0, 0.5]]]])
    signs = torch.tensor([1.0, -1.0, 1.0]).view(1, 1, 1, 3)

    def rest(maps: Tensor) -> Tensor:
        return torch.stack([maps.sum(dim=(1, 2, 3)) + 1, torch.zeros(len(maps))], dim=1)

    arguments = (torch.zeros_like(images), 1, 1, 0.1, 0.3)
    eta = trades_yopo_perturbation(lambda x: x * signs, rest, images, torch.tensor([[0.5, 0.5]]), *arguments)
    torch.testing.assert_close(eta.flatten(), torch.tensor([0.1, -0.1, 0.1]), rtol=0, atol=1e-6)


def test_a_radius_of_0_changes_nothing() -> None:
    model, images = network("phases").eval(), some_images()
    probabilities = torch.softmax(model(images), dim=1).detach()
    eta0 = start(images, torch.Generator().manual_seed(0))
    parts = split_first_layer(model, images)
    assert not trades_yopo_perturbation(*parts, images, probabilities, eta0, 2, 2, 0.007, 0.0).any()


def test_a_pixel_that_left_the_image_does_not_step() -> None:
    """A network whose every slope is known: against p = (1/2, 1/2), logits (u, 0) with u > 0 differ more as u grows.

    The first pixel adds to u and grows by 0.1 a step; the last one subtracts and would shrink below 0. The middle one
    starts outside [0, 1], where the clamp passes no gradient, so that the first step only brings it back to 0; from
    there it steps, because the interval is closed.
    """

    def rest(maps: Tensor) -> Tensor:
        return torch.stack([maps.sum(dim=(1, 2, 3)) + 1, torch.zeros(len(maps))], dim=1)

    def first_layer(pixels: Tensor) -> Tensor:
        return pixels * torch.tensor([1.0, 1.0, -1.0]).view(1, 1, 1, 3)

    images = torch.tensor([[[[0.5, 0.0, 0.0]]]])  # (1, 1, 1, 3)
    eta0 = torch.tensor([[[[0.0, -0.01, -0.01]]]])
    p = torch.tensor([[0.5, 0.5]])
    for n in (1, 2, 3, 4):
        arguments = (first_layer, rest, images, p, eta0, 1, n, 0.1, 0.3)
        expected = torch.tensor([min(0.1 * n, 0.3), 0.1 * (n - 1), 0.0])
        torch.testing.assert_close(trades_yopo_perturbation(*arguments).flatten(), expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(step_by_step(*arguments).flatten(), expected, rtol=0, atol=1e-6)


def test_the_attack_leaves_the_network_as_it_was() -> None:
    model, images = network("shuffle").eval(), some_images()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    eta0 = start(images, torch.Generator().manual_seed(0))
    kept = eta0.clone()
    probabilities = torch.softmax(model(images), dim=1).detach()
    eta = trades_yopo_perturbation(*split_first_layer(model, images), images, probabilities, eta0, 2, 2, 0.007, 0.03)
    assert not eta.requires_grad
    assert torch.equal(eta0, kept)
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(part._forward_hooks for part in model.modules())


@pytest.mark.lengthy
@pytest.mark.parametrize("name", ["phases", "shuffle"])
@pytest.mark.parametrize(("m", "n", "balance"), [(1, 1, 1.0), (3, 2, 0.25)])
def test_loss_gradients_and_statistics_by_hand(name: str, m: int, n: int, balance: float) -> None:
    """Cross-entropy of clean images and KL / lambda of attacked ones, both in train mode; the attack in eval mode.

    By the same kernels: in float32 signs of slopes near 0 hang on rounding.
    """
    images, labels = some_images(4), torch.tensor([3, 1, 4, 1])
    ours = network(name)
    reference = copy.deepcopy(ours).eval()
    loss = TradesYopo(m=m, n=n, balance=balance)(ours, images, labels, torch.Generator().manual_seed(5))
    assert all(part.training for part in ours.modules())
    assert all(parameter.grad is None for parameter in ours.parameters())

    with fast_layers(reference):
        with attacking(reference):
            probabilities = torch.softmax(reference(images), dim=1).detach()
            eta0 = start(images, torch.Generator().manual_seed(5))
            eta = step_by_step(*split_first_layer(reference, images), images, probabilities, eta0, m, n, 0.007, 8 / 255)
        clean, attacked = reference.train()(images), reference((images + eta).clamp(0, 1))
        p = torch.softmax(clean, dim=1)
        expected = -p[torch.arange(4), labels].log().mean() + kl(p, attacked) / 4 / balance
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)

    loss.backward()
    expected.backward()
    for (parameter_name, found), wanted in zip(ours.named_parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-5, msg=parameter_name)
    for (buffer_name, buffer), wanted_buffer in zip(ours.named_buffers(), reference.buffers(), strict=True):
        torch.testing.assert_close(buffer, wanted_buffer, rtol=1e-5, atol=1e-6, msg=buffer_name)


def test_without_a_radius_it_is_plain_training() -> None:
    images, labels = some_images(4), torch.tensor([3, 1, 4, 1])
    ours = network("phases")
    loss = TradesYopo(epsilon=0.0, m=1, n=1)(ours, images, labels, torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss, functional.cross_entropy(ours(images), labels), rtol=1e-6, atol=1e-6)


def test_the_balance_divides_the_divergence() -> None:
    images, labels = some_images(4), torch.tensor([3, 1, 4, 1])

    def loss(balance: float) -> float:
        recipe = TradesYopo(m=2, n=2, step=0.1, epsilon=0.3, balance=balance)
        return float(recipe(network("phases"), images, labels, torch.Generator().manual_seed(0)).detach())

    natural = loss(1e9)
    assert loss(1.0) > natural + 0.01
    assert loss(0.5) - natural == pytest.approx(2 * (loss(1.0) - natural), abs=2e-6)  # sums of float32 near 3


def test_it_climbs_about_as_high_as_the_attack_it_stands_for() -> None:
    """m = 5 and n = 3 stand for PGD with 10 steps; both are far above noise."""
    model, images = network("phases").eval(), some_images(8)
    probabilities = torch.softmax(model(images), dim=1).detach()
    eta0 = start(images, torch.Generator().manual_seed(0))
    parts = split_first_layer(model, images)
    eta = trades_yopo_perturbation(*parts, images, probabilities, eta0, 5, 3, 0.007, 0.031)
    attacked = images + eta0
    for _ in range(Trades().steps):
        attacked = attacked.detach().requires_grad_()
        (gradient,) = torch.autograd.grad(kl(probabilities, model(attacked)), attacked)
        attacked = (attacked + 0.007 * gradient.sign()).clamp(images - 0.031, images + 0.031).clamp(0, 1)
    noisy = (images + 0.031 * torch.rand_like(images).sub(0.5).sign()).clamp(0, 1)
    with torch.no_grad():
        yopo, pgd, noise = (float(kl(probabilities, model(x))) for x in (images + eta, attacked, noisy))
    assert yopo > 0.5 * pgd
    assert yopo > 5 * noise


SPLIT: dict[str, Callable[[], nn.Module]] = {
    **NETWORKS,
    **{name: partial(make, normalization=NORMALIZATION) for name, make in VICTIMS.items()},
    "supernet": lambda: SHUFFLE.supernet(normalization=NORMALIZATION).network(SHUFFLE.units(SHUFFLE.upper)),
}


@pytest.mark.lengthy
@pytest.mark.parametrize("name", SPLIT)
def test_first_layer_and_rest_are_the_network(name: str) -> None:
    """For images other than those that `rest` runs on, too; and the first layer is affine."""
    torch.manual_seed(0)
    model = SPLIT[name]().double().eval()
    images, others = (torch.rand(2, 3, 32, 32, dtype=torch.float64) for _ in range(2))
    first_layer, rest = split_first_layer(model, images)
    with torch.no_grad():
        assert torch.equal(rest(first_layer(images)), model(images))
        torch.testing.assert_close(rest(first_layer(others)), model(others), rtol=1e-12, atol=1e-12)
        assert not torch.equal(model(others), model(images))
        middle = first_layer(0.25 * images + 0.75 * others)
        torch.testing.assert_close(middle, 0.25 * first_layer(images) + 0.75 * first_layer(others))
    assert not any(part._forward_hooks for part in model.modules())


class TwoReaders(nn.Module):
    """Its first convolution does not read the images alone."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 1), nn.Conv2d(3, 4, 1)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = (self.first(2 * images) + self.second(images)).mean(dim=(2, 3))
        return logits


def test_a_network_that_reads_its_images_elsewhere_is_a_clear_error() -> None:
    inner = PhaseSpace(phases=2, nodes=3, channels=3)  # as many as an image has: there is no first convolution
    for model in (TwoReaders(), inner.build(inner.designs()["dense"], normalization=NORMALIZATION).eval()):
        first_layer, rest = split_first_layer(model, some_images())
        with pytest.raises(ConfigurationError, match=r"^expected a network whose first convolution alone reads"):
            rest(first_layer(some_images()))


@pytest.mark.lengthy
@pytest.mark.parametrize("recipe", [TradesYopo(m=2, n=2), Trades(steps=2)], ids=lambda recipe: recipe.name)
def test_bf16_gives_about_the_same_loss(recipe: TradesYopo | Trades) -> None:
    images, labels = some_images(8), torch.arange(8)
    losses = []
    for enabled in (False, True):
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            loss = recipe(network("phases"), images, labels, torch.Generator().manual_seed(0))
        loss.backward()
        assert loss.dtype == torch.float32
        losses.append(float(loss.detach()))
    assert losses[1] == pytest.approx(losses[0], rel=0.05)  # bfloat16 keeps 8 bits
    assert losses[1] != losses[0]


def test_batch_normalisation_while_attacking_is_torchs_own_up_to_rounding() -> None:
    """Everything is as before afterwards, also where something fails within."""
    model, images = network("shuffle").double(), some_images().double()
    modes = [part.training for part in model.modules()]
    expected = copy.deepcopy(model).eval()(images)
    with pytest.raises(ZeroDivisionError), attacking(model):  # noqa: PT012
        found = model(images)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)
        assert not found.requires_grad
        raise ZeroDivisionError
    assert [part.training for part in model.modules()] == modes
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any("forward" in part.__dict__ for part in model.modules())


def test_a_network_without_a_convolution_is_a_clear_error() -> None:
    with pytest.raises(ValueError, match=r"^expected a network with a convolution, got Linear$"):
        split_first_layer(nn.Linear(3, 2), torch.rand(1, 3))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"m": 0}, "expected m >= 1, got 0"),
        ({"n": 0}, "expected n >= 1, got 0"),
        ({"step": -1.0}, "step > 0"),
        ({"epsilon": 2.0}, "epsilon in"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        TradesYopo(**wrong)  # type: ignore[arg-type]
