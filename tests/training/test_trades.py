"""TRADES: its attack step by step, and its loss by hand."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.spaces import PhaseSpace
from evonas.training import Trades
from evonas.training.trades import divergence, start


def network(name: str) -> nn.Module:
    """With batch statistics of its own, in train mode."""
    torch.manual_seed(0)
    made: nn.Module
    if name == "phases":
        space = PhaseSpace(phases=2, nodes=3, channels=4)
        made = space.build(space.designs()["dense"], normalization=((0.5,) * 3, (0.25,) * 3))
    else:
        made = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(3600, 5))
    made.train()
    with torch.no_grad():
        for _ in range(3):
            made(torch.rand(16, 3, 32, 32))
    return made


def batch() -> tuple[Tensor, Tensor]:
    """Images with pixels at both bounds, and labels."""
    torch.manual_seed(1)
    return (1.6 * torch.rand(5, 3, 32, 32) - 0.3).clamp(0, 1), torch.tensor([0, 1, 2, 3, 4])


def kl(p: Tensor, logits: Tensor) -> Tensor:
    """sum of p (log p - log q) over classes and images, q = softmax(logits)."""
    return torch.sum(p * (p.log() - (logits - logits.logsumexp(dim=1, keepdim=True))))


def attacked_step_by_step(
    model: nn.Module, images: Tensor, eta0: Tensor, steps: int, step: float, epsilon: float
) -> Tensor:
    """x' <- clip(clip(x' + step * sign(d KL / d x'), x - epsilon, x + epsilon), 0, 1), from x + eta0."""
    with torch.no_grad():
        clean = torch.softmax(model(images), dim=1)
    attacked = images + eta0
    for _ in range(steps):
        attacked.requires_grad_()
        apart = functional.kl_div(functional.log_softmax(model(attacked), dim=1), clean, reduction="sum")
        (gradient,) = torch.autograd.grad(apart, attacked)
        with torch.no_grad():
            attacked = attacked + step * gradient.sign()
            attacked = torch.minimum(torch.maximum(attacked, images - epsilon), images + epsilon).clamp(0, 1)
    return attacked.detach()


def loss_by_hand(model: nn.Module, images: Tensor, attacked: Tensor, labels: Tensor, balance: float) -> Tensor:
    clean, other = model(images), model(attacked)
    p = torch.softmax(clean, dim=1)
    natural = -torch.log(p[torch.arange(len(labels)), labels]).mean()
    return natural + kl(p, other) / len(labels) / balance


@pytest.mark.parametrize("name", ["phases", "small"])
@pytest.mark.parametrize(("steps", "balance"), [(1, 1.0), (4, 1 / 6)])
def test_loss_gradients_and_statistics_step_by_step(name: str, steps: int, balance: float) -> None:
    images, labels = batch()
    ours = network(name)
    reference = copy.deepcopy(ours)
    recipe = Trades(epsilon=0.031, step=0.007, steps=steps, balance=balance)
    loss = recipe(ours, images, labels, torch.Generator().manual_seed(5))
    assert ours.training
    assert all(part.training for part in ours.modules())
    assert all(parameter.grad is None for parameter in ours.parameters())  # the attack leaves none behind

    eta0 = start(images, torch.Generator().manual_seed(5))
    attacked = attacked_step_by_step(reference.eval(), images, eta0, steps, 0.007, 0.031)
    assert not torch.equal(attacked, images)
    expected = loss_by_hand(reference.train(), images, attacked, labels, balance)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)

    loss.backward()
    expected.backward()
    for (parameter_name, found), wanted in zip(ours.named_parameters(), reference.parameters(), strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-5, msg=parameter_name)
    for (buffer_name, buffer), wanted_buffer in zip(ours.named_buffers(), reference.buffers(), strict=True):
        # two forward passes of the loss; none of the attack
        torch.testing.assert_close(buffer, wanted_buffer, rtol=1e-5, atol=1e-6, msg=buffer_name)


def test_beta_is_the_inverse_of_balance_and_six_by_default() -> None:
    images, labels = batch()
    six, inverse = (
        recipe(network("phases"), images, labels, torch.Generator().manual_seed(0))
        for recipe in (Trades(steps=2), Trades(steps=2, balance=1 / 6))
    )
    torch.testing.assert_close(six, inverse, rtol=1e-6, atol=0)
    assert Trades().identity() == {"epsilon": 0.031, "step": 0.007, "steps": 10, "beta": 6.0}
    assert Trades(balance=1.0).identity() == {"epsilon": 0.031, "step": 0.007, "steps": 10, "balance": 1.0}


def test_both_sides_of_the_divergence_have_gradients() -> None:
    """The answers to clean images are no fixed target: their gradient differs from that of cross-entropy alone."""
    torch.manual_seed(0)
    labels = torch.tensor([0, 1])
    clean, attacked = torch.randn(2, 3, requires_grad=True), torch.randn(2, 3, requires_grad=True)
    Trades(beta=2.0).loss(attacked, clean, labels).backward()
    p, q = torch.softmax(clean.detach(), 1), torch.softmax(attacked.detach(), 1)
    onehot = functional.one_hot(labels, 3)
    ratio = (p / q).log()
    of_divergence = p * (ratio - (p * ratio).sum(1, keepdim=True))  # KL(p || q) by the logits of p
    torch.testing.assert_close(clean.grad, (p - onehot + 2 * of_divergence) / 2)
    torch.testing.assert_close(attacked.grad, 2 * (q - p) / 2)


def test_statistics_are_those_of_the_two_passes_of_the_loss() -> None:
    images, labels = batch()
    ours = network("small")
    before = ours[1].num_batches_tracked.item()  # type: ignore[index]
    Trades(steps=3)(ours, images, labels, torch.Generator().manual_seed(0))
    assert ours[1].num_batches_tracked.item() == before + 2  # type: ignore[index]


def test_without_a_radius_it_is_plain_training() -> None:
    images, labels = batch()
    for mode in (True, False):
        ours = network("small").train(mode)
        loss = Trades(epsilon=0.0)(ours, images, labels, torch.Generator().manual_seed(0))
        plain = functional.cross_entropy(ours(images), labels)
        torch.testing.assert_close(loss, plain, rtol=1e-6, atol=1e-6)  # KL(p || p) is 0 up to rounding


def test_the_attack_makes_answers_differ_more_than_noise_does() -> None:
    images, _ = batch()
    ours = network("phases").eval()
    eta0 = start(images, torch.Generator().manual_seed(0))
    clean = torch.softmax(ours(images), dim=1).detach()
    attacked = attacked_step_by_step(ours, images, eta0, 10, 0.007, 0.031)
    noisy = images + 0.031 * torch.rand_like(images).sub(0.5).sign()
    with torch.no_grad():
        assert divergence(ours(attacked), clean, "sum") > 3 * divergence(ours(noisy.clamp(0, 1)), clean, "sum")


def test_divergence_by_hand() -> None:
    """p = (1/4, 3/4) against q = (1/2, 1/2), and p = (1, 0), whose 0 log 0 is 0, against (1/3, 2/3)."""
    p = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    logits = torch.tensor([[0.0, 0.0], [0.0, math.log(2.0)]])
    expected = 0.25 * math.log(0.5) + 0.75 * math.log(1.5) + math.log(3.0)
    assert float(divergence(logits, p, "sum")) == pytest.approx(expected, rel=1e-6)
    assert float(divergence(logits, p, "batchmean")) == pytest.approx(expected / 2, rel=1e-6)


def test_the_start_is_small_normal_noise_of_the_generator() -> None:
    images = torch.rand(4, 3, 32, 32).to(memory_format=torch.channels_last)
    noise = start(images, torch.Generator().manual_seed(3))
    assert torch.equal(noise, start(images.contiguous(), torch.Generator().manual_seed(3)))
    assert abs(float(noise.mean())) < 5 * 0.001 / 12288**0.5
    assert float(noise.std()) == pytest.approx(0.001, rel=5 / (2 * 12288) ** 0.5)


def test_the_loss_is_in_float32_under_autocast() -> None:
    images, labels = batch()
    ours = network("small")
    with torch.autocast("cpu", torch.bfloat16):
        loss = Trades(steps=2)(ours, images, labels, torch.Generator().manual_seed(0))
    assert loss.dtype == torch.float32
    expected = Trades(steps=2)(network("small"), images, labels, torch.Generator().manual_seed(0))
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=0.05)  # bfloat16 keeps 8 bits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": -0.1}, "expected epsilon in [0, 1], got -0.1"),
        ({"epsilon": 8.0}, "expected epsilon in [0, 1], got 8.0: it is on the [0, 1] scale; 8/255?"),
        ({"step": 0.0}, "expected step > 0 and balance > 0, got 0.0 and 1.0"),
        ({"beta": -1.0}, "expected beta >= 0, got -1.0"),
        ({"beta": float("inf")}, "expected beta >= 0, got inf"),
        ({"balance": 0.0}, "expected step > 0 and balance > 0, got 0.007 and 0.0"),
        ({"balance": float("nan")}, "expected step > 0 and balance > 0, got 0.007 and nan"),
        ({"steps": 0}, "expected steps >= 1, got 0"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        Trades(**wrong)  # type: ignore[arg-type]
    assert str(raised.value) == message
