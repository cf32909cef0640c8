"""Unrolled gradients against closed forms and against autograd through the step; nothing may change by the call."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from evonas.gradient.bilevel import direct_gradient, momentum_buffers_of, unrolled_gradient

RATE, MOMENTUM, DECAY = 0.3, 0.9, 0.05
Hessian = Literal["finite", "exact"]
STEP: dict[str, Any] = {"rate": RATE, "momentum": MOMENTUM, "weight_decay": DECAY}


class Quadratic:
    """L_train = theta.A.theta / 2 + theta.B.alpha and L_val = |theta - c|^2 / 2 + d.alpha, of two weights."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(0)
        self.A, self.B, self.c, self.d, theta, self.alpha, moment = (
            torch.randn(*shape, generator=draw, dtype=torch.float64)
            for shape in ((5, 5), (5, 4), (5,), (4,), (5,), (4,), (5,))
        )
        self.A = self.A @ self.A.T
        self.theta = [theta[:2].clone().requires_grad_(), theta[2:].reshape(3, 1).clone().requires_grad_()]
        self.moments = [moment[:2], moment[2:].reshape(3, 1)]
        self.alpha.requires_grad_()

    def whole(self) -> Tensor:
        return torch.cat([each.reshape(-1) for each in self.theta])

    def train(self) -> Tensor:
        return self.whole() @ self.A @ self.whole() / 2 + self.whole() @ self.B @ self.alpha

    def validation(self) -> Tensor:
        return (self.whole() - self.c).square().sum() / 2 + self.d @ self.alpha

    def stepped(self) -> Tensor:
        with torch.no_grad():
            slope = self.A @ self.whole() + self.B @ self.alpha + DECAY * self.whole()
            return self.whole() - RATE * (slope + MOMENTUM * torch.cat([each.reshape(-1) for each in self.moments]))


@pytest.mark.parametrize("hessian", ["finite", "exact"])
def test_quadratic_in_closed_form(hessian: Hessian) -> None:
    problem = Quadratic()
    found = unrolled_gradient(
        problem.train,
        [problem.validation],
        problem.theta,
        [problem.alpha],
        momentum_buffers=problem.moments,
        hessian=hessian,
        **STEP,
    )
    residual, alpha = problem.stepped() - problem.c, problem.alpha.detach()
    expected = problem.d - RATE * problem.B.T @ residual
    assert found.losses.tolist() == pytest.approx([float(residual @ residual / 2 + problem.d @ alpha)])
    assert found.gradients.shape == (1, 4)
    assert not found.gradients.requires_grad
    assert torch.allclose(found.gradients[0], expected, rtol=0, atol=1e-10)


@dataclass
class Problem:
    """A mixture of two operations with batch normalisation, in train mode, and an optimiser that has made steps."""

    network: nn.Module
    architecture: list[nn.Parameter]
    optimiser: torch.optim.SGD
    train: tuple[Tensor, Tensor]
    validation: tuple[Tensor, Tensor]

    def loss(self, batch: tuple[Tensor, Tensor], parameters: dict[str, Tensor] | None = None) -> Tensor:
        arguments = (batch[0], torch.softmax(self.architecture[0], 0), self.architecture[1])
        logits: Tensor = functional_call(self.network, parameters or {}, arguments)
        return functional.cross_entropy(logits, batch[1])

    def train_loss(self) -> Tensor:
        return self.loss(self.train)

    def validation_loss(self) -> Tensor:
        return self.loss(self.validation)

    def entropy(self) -> Tensor:
        """Of the outputs, on the validation images."""
        logits: Tensor = self.network(self.validation[0], torch.softmax(self.architecture[0], 0), self.architecture[1])
        return -(functional.log_softmax(logits, 1) * functional.softmax(logits, 1)).sum(1).mean()

    def cost(self) -> Tensor:
        """Depends on the architecture alone."""
        return torch.softmax(self.architecture[0], 0) @ torch.tensor([3.0, 8.0], dtype=torch.float64)

    @property
    def weights(self) -> list[nn.Parameter]:
        return list(self.network.parameters())

    @property
    def step(self) -> dict[str, Any]:
        return {**STEP, "momentum_buffers": momentum_buffers_of(self.optimiser, self.weights)}


class Mixture(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6))
        self.wide = nn.Sequential(nn.Tanh(), nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6, affine=False))
        self.narrow = nn.Sequential(nn.Tanh(), nn.Conv2d(6, 6, 1, bias=False), nn.BatchNorm2d(6, affine=False))
        self.head = nn.Linear(6, 4)

    def forward(self, images: Tensor, mixture: Tensor, scale: Tensor) -> Tensor:
        state = self.stem(images)
        mixed = mixture[0] * self.wide(state) + mixture[1] * self.narrow(state) * scale
        logits: Tensor = self.head(mixed.square().mean((2, 3)))
        return logits


def problem(dtype: torch.dtype = torch.float64) -> Problem:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = Mixture().to(dtype)
        batches = [(torch.rand(8, 3, 6, 6, dtype=dtype), torch.randint(4, (8,))) for _ in range(3)]
        architecture = [nn.Parameter(torch.randn(2, dtype=dtype)), nn.Parameter(torch.rand(6, 1, 1, dtype=dtype))]
    optimiser = torch.optim.SGD(network.parameters(), lr=0.1, momentum=MOMENTUM, weight_decay=DECAY)
    made = Problem(network, architecture, optimiser, batches[0], batches[1])
    for _ in range(2):
        optimiser.zero_grad()
        made.loss(batches[2]).backward()
        optimiser.step()
    return made


def stepped(made: Problem) -> dict[str, Tensor]:
    """Name -> weight after a step, which stays in the graph; buffers of their own."""
    buffers = {name: value.clone() for name, value in made.network.named_buffers()}
    parameters = dict(made.network.named_parameters())
    slopes = torch.autograd.grad(made.loss(made.train, {**parameters, **buffers}), made.weights, create_graph=True)
    for (name, weight), slope in zip(parameters.items(), slopes, strict=True):
        moment = made.optimiser.state[weight]["momentum_buffer"]
        buffers[name] = weight - RATE * (MOMENTUM * moment + slope + DECAY * weight)
    return buffers


def flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([each.detach().reshape(-1) for each in tensors])


def hypergradient(made: Problem) -> Tensor:
    """Of the validation loss, by autograd through the step itself."""
    return flat(torch.autograd.grad(made.loss(made.validation, stepped(made)), made.architecture))


def finite_difference(made: Problem) -> Tensor:
    """Of the validation loss, by DARTS's formulas, written out."""
    after, names = stepped(made), [name for name, _ in made.network.named_parameters()]
    inputs = [*made.architecture, *(after[name] for name in names)]
    found = torch.autograd.grad(made.loss(made.validation, after), inputs, retain_graph=True)
    after = {name: value.detach() for name, value in after.items()}
    v = found[len(made.architecture) :]
    radius, ends = 0.01 / flat(v).norm(), []
    for side in (radius, -radius):
        moved = {**after, **{n: w + side * s for n, w, s in zip(names, made.weights, v, strict=True)}}
        ends.append(flat(torch.autograd.grad(made.loss(made.train, moved), made.architecture)))
    direct = flat(torch.autograd.grad(made.loss(made.validation, after), made.architecture))
    return torch.sub(direct, (ends[0] - ends[1]) / (2 * radius), alpha=RATE)


def snapshot(made: Problem) -> list[Tensor]:
    """All that must not change, .grad included."""
    kept = [*made.weights, *made.network.buffers(), *made.architecture]
    kept += [each for each in momentum_buffers_of(made.optimiser, made.weights) if each is not None]
    kept += [each.grad for each in [*made.weights, *made.architecture] if each.grad is not None]
    return [each.detach().clone() for each in kept]


def assert_unchanged(made: Problem, before: list[Tensor]) -> None:
    after = snapshot(made)
    assert len(after) == len(before)
    assert all(torch.equal(a, b) for a, b in zip(after, before, strict=True))
    assert all(each.requires_grad for each in [*made.weights, *made.architecture])


@pytest.mark.parametrize(("hessian", "allowed"), [("finite", 1e-5), ("exact", 1e-10)])
def test_network_against_autograd_through_the_step(hessian: Hessian, allowed: float) -> None:
    made = problem()
    expected = hypergradient(made)
    before = snapshot(made)
    found = unrolled_gradient(
        made.train_loss,
        [made.validation_loss],
        made.weights,
        made.architecture,
        hessian=hessian,
        buffers=list(made.network.buffers()),
        **made.step,
    )
    assert_unchanged(made, before)
    direct = direct_gradient([made.validation_loss], made.weights, made.architecture, list(made.network.buffers()))
    assert float((found.gradients[0] - expected).abs().max()) <= allowed
    assert float((direct.gradients[0] - expected).abs().max()) > 2e-3  # the step matters here
    if hessian == "finite":
        assert torch.allclose(found.gradients[0], finite_difference(made), rtol=0, atol=1e-12)


def test_single_precision_is_near_the_exact_hypergradient() -> None:
    made = problem(torch.float32)
    expected = hypergradient(made)
    found = unrolled_gradient(made.train_loss, [made.validation_loss], made.weights, made.architecture, **made.step)
    assert float((found.gradients[0] - expected).norm()) <= 1e-4 * float(expected.norm())


@pytest.mark.parametrize("hessian", ["finite", "exact"])
def test_several_losses_are_as_if_each_were_alone(hessian: Hessian) -> None:
    made, calls = problem(), [0]

    def train_loss() -> Tensor:
        calls[0] += 1
        return made.train_loss()

    uppers = [made.validation_loss, made.cost, made.entropy, lambda: torch.tensor(2.5)]
    arguments: dict[str, Any] = {"hessian": hessian, "buffers": list(made.network.buffers()), **made.step}
    found = unrolled_gradient(train_loss, uppers, made.weights, made.architecture, **arguments)
    assert calls == [5] if hessian == "finite" else [2]  # the cost and the constant need no product
    assert (found.gradients.shape, found.losses.shape) == ((4, 8), (4,))
    for i, upper in enumerate(uppers):
        alone = unrolled_gradient(train_loss, [upper], made.weights, made.architecture, **arguments)
        assert torch.equal(alone.gradients[0], found.gradients[i])
        assert alone.losses[0] == found.losses[i]
    (expected,) = torch.autograd.grad(made.cost(), made.architecture[:1])
    assert torch.equal(found.gradients[1], torch.cat([expected, torch.zeros(6, dtype=torch.float64)]))
    assert found.gradients[3].tolist() == [0.0] * 8
    assert found.losses[3] == 2.5


def test_without_a_rate_or_without_a_step_it_is_the_direct_gradient() -> None:
    made = problem()
    uppers = [made.validation_loss, made.cost]
    direct = direct_gradient(uppers, made.weights, made.architecture)
    expected = torch.autograd.grad(made.validation_loss(), made.architecture)
    assert torch.equal(direct.gradients[0], torch.cat([each.reshape(-1) for each in expected]))
    assert direct.losses.tolist() == [made.validation_loss().item(), made.cost().item()]
    still = unrolled_gradient(made.train_loss, uppers, made.weights, made.architecture, rate=0.0)
    assert torch.equal(still.gradients, direct.gradients)
    assert torch.equal(still.losses, direct.losses)
    tiny = unrolled_gradient(made.train_loss, uppers, made.weights, made.architecture, rate=1e-9)
    assert torch.allclose(tiny.gradients, direct.gradients, rtol=0, atol=1e-7)


def test_the_first_order_asks_for_no_gradient_of_a_weight() -> None:
    made, seen = problem(), []

    def upper() -> Tensor:
        seen.append([weight.requires_grad for weight in made.weights])
        return made.validation_loss()

    expected = torch.autograd.grad(made.validation_loss(), made.architecture)
    with torch.no_grad():  # the caller's mode does not matter
        found = direct_gradient([upper], made.weights, made.architecture)
    assert torch.equal(found.gradients[0], flat(expected))
    assert seen == [[False] * len(made.weights)]
    assert all(weight.requires_grad for weight in made.weights)


@pytest.mark.parametrize("hessian", ["finite", "exact"])
@pytest.mark.parametrize("call", range(1, 7))
def test_all_is_as_it_was_where_a_loss_raises(hessian: Hessian, call: int) -> None:
    made, calls = problem(), [0]
    before = snapshot(made)

    def counted(loss: Callable[[], Tensor]) -> Callable[[], Tensor]:
        def evaluate() -> Tensor:
            calls[0] += 1
            value = loss()
            if calls[0] == call:
                raise RuntimeError("out of memory")
            return value

        return evaluate

    uppers = [counted(made.validation_loss), counted(made.entropy)]
    arguments: dict[str, Any] = {"hessian": hessian, "buffers": list(made.network.buffers()), **made.step}
    evaluations = 7 if hessian == "finite" else 4
    if call <= evaluations:
        with pytest.raises(RuntimeError, match="out of memory"):
            unrolled_gradient(counted(made.train_loss), uppers, made.weights, made.architecture, **arguments)
    assert_unchanged(made, before)
    calls[0] = call - 1
    with pytest.raises(RuntimeError, match="out of memory"):
        direct_gradient(uppers, made.weights, made.architecture, list(made.network.buffers()))
    assert_unchanged(made, before)


def test_buffers_that_are_not_named_move_and_named_ones_do_not() -> None:
    made = problem()
    before = [each.clone() for each in made.network.buffers()]
    direct_gradient([made.validation_loss], made.weights, made.architecture, list(made.network.buffers()))
    assert all(torch.equal(a, b) for a, b in zip(made.network.buffers(), before, strict=True))
    direct_gradient([made.validation_loss], made.weights, made.architecture)
    assert not all(torch.equal(a, b) for a, b in zip(made.network.buffers(), before, strict=True))


def test_weights_that_the_training_loss_does_not_use_stay() -> None:
    alpha, used, unused = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (2.0, 3.0, 5.0))
    found = unrolled_gradient(
        lambda: (alpha * used).sum(),
        [lambda: (used * unused * alpha).sum()],
        [used, unused],
        [alpha],
        rate=0.1,
        momentum_buffers=[None, torch.ones(1, dtype=torch.float64)],
        momentum=0.9,
        weight_decay=0.5,
    )
    stepped = 3 - 0.1 * (2 + 0.5 * 3)
    assert found.losses.item() == pytest.approx(stepped * 5 * 2)
    assert found.gradients.item() == pytest.approx(stepped * 5 - 0.1 * 5 * 2)


@pytest.mark.parametrize("hessian", ["finite", "exact"])
def test_a_slope_of_zero_divides_nothing(hessian: Hessian) -> None:
    alpha, weight = (torch.tensor([value], dtype=torch.float64, requires_grad=True) for value in (2.0, 3.0))
    found = unrolled_gradient(
        lambda: (alpha * weight).sum(),
        [lambda: (0 * weight + alpha.square()).sum()],
        [weight],
        [alpha],
        rate=0.1,
        hessian=hessian,
    )
    assert found.gradients.tolist() == [[4.0]]


def test_what_is_not_finite_shows() -> None:
    alpha, weight = (torch.tensor([value], requires_grad=True) for value in (2.0, 3.0))
    found = unrolled_gradient(
        lambda: (alpha * weight).sum(), [lambda: (weight * float("inf")).sum()], [weight], [alpha], rate=0.1
    )
    assert not bool(torch.isfinite(found.gradients).any())


def test_autocast_around_the_call_is_autocast_within_the_losses() -> None:
    """Autocast remembers casts of weights for as long as it lasts: the stepped ones must be cast anew."""
    generator = torch.Generator().manual_seed(0)
    images, alpha = torch.randn(16, 8, generator=generator), torch.randn(8, generator=generator).requires_grad_()
    layer = torch.randn(8, 8, generator=generator).requires_grad_()

    def loss() -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return (functional.linear(images * alpha, layer).float().square()).mean()

    within = unrolled_gradient(loss, [loss], [layer], [alpha], rate=0.5)
    with torch.autocast("cpu", torch.bfloat16):
        around = unrolled_gradient(loss, [loss], [layer], [alpha], rate=0.5)
    assert torch.equal(within.losses, around.losses)
    assert torch.equal(within.gradients, around.gradients)
    assert float(within.losses) != float(loss().detach())


def test_momentum_buffers_are_those_of_the_optimiser() -> None:
    made = problem()
    found = momentum_buffers_of(made.optimiser, made.weights)
    kept = [made.optimiser.state[weight]["momentum_buffer"] for weight in made.weights]
    assert all(each is buffer for each, buffer in zip(found, kept, strict=True))
    fresh = torch.optim.SGD(made.weights, lr=0.1, momentum=0.9)
    assert momentum_buffers_of(fresh, made.weights) == [None] * len(made.weights)
    assert momentum_buffers_of(torch.optim.SGD(made.weights, lr=0.1), made.weights[:1]) == [None]


def test_what_makes_no_sense_is_refused() -> None:
    made = problem()
    arguments = (made.train_loss, [made.validation_loss], made.weights, made.architecture)
    with pytest.raises(ValueError, match="expected a hessian 'finite' or 'exact', got 'none'"):
        unrolled_gradient(*arguments, rate=0.1, hessian="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"expected a rate >= 0, got -0\.1"):
        unrolled_gradient(*arguments, rate=-0.1)
    with pytest.raises(ValueError, match="momentum buffers, one for each weight, got 1"):
        unrolled_gradient(*arguments, rate=0.1, momentum_buffers=[None])
    with pytest.raises(ValueError, match=r"expected a loss of one number, got shape \(2,\)"):
        direct_gradient([lambda: made.architecture[0]], made.weights, made.architecture)
