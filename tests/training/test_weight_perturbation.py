"""TRADES with perturbed weights: the law of the perturbation, that it is undone, and a plain reference with a proxy."""

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.spaces import PhaseSpace
from evonas.training import CellTraining, Trades, TradesAwp
from evonas.training.trades_awp import moved, weight_perturbation


def network() -> nn.Module:
    """In train mode, with statistics of its own."""
    torch.manual_seed(0)
    space = PhaseSpace(phases=2, nodes=3, channels=4)
    made = space.build(space.designs()["dense"], normalization=((0.5,) * 3, (0.25,) * 3)).train()
    with torch.no_grad():
        made(torch.rand(16, 3, 32, 32))
    return made


def batch() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return (1.6 * torch.rand(6, 3, 32, 32) - 0.3).clamp(0, 1), torch.arange(6)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def trades_loss_of(model: nn.Module, clean: Tensor, attacked: Tensor, labels: Tensor, beta: float) -> Tensor:
    answers = model(clean)
    apart = functional.kl_div(
        functional.log_softmax(model(attacked), dim=1), functional.softmax(answers, dim=1), reduction="batchmean"
    )
    return functional.cross_entropy(answers, labels) + beta * apart


def by_proxy(model: nn.Module, clean: Tensor, attacked: Tensor, labels: Tensor, beta: float, gamma: float) -> nn.Module:
    """A copy with the weights that the paper's algorithm descends at: a proxy goes one step of SGD up the loss."""
    proxy, at = copy.deepcopy(model), copy.deepcopy(model)
    optimiser = torch.optim.SGD(proxy.parameters(), lr=0.1)
    (-trades_loss_of(proxy, clean, attacked, labels, beta)).backward()
    optimiser.step()
    with torch.no_grad():
        for new, old, target in zip(proxy.parameters(), model.parameters(), at.parameters(), strict=True):
            if old.ndim > 1:
                apart = new - old
                target.add_(gamma * old.norm() / (apart.norm() + 1e-20) * apart)
    return at


@pytest.mark.parametrize("gamma", [0.005, 0.05])
def test_loss_gradients_and_statistics_are_those_of_the_paper_s_proxy(gamma: float) -> None:
    images, labels = batch()
    ours, recipe = network(), TradesAwp(steps=2, gamma=gamma)
    attacked = recipe.attack(ours, images, labels, rng())
    at = by_proxy(ours, images, attacked, labels, 6.0, gamma)
    expected = trades_loss_of(at, images, attacked, labels, 6.0)
    expected.backward()
    plain = Trades(epsilon=8 / 255, step=2 / 255, steps=2)(copy.deepcopy(ours), images, labels, rng())
    loss = recipe(ours, images, labels, rng())
    loss.backward()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)
    assert float(loss.detach()) > float(plain.detach())  # the perturbation raises it
    for (name, found), wanted in zip(ours.named_parameters(), at.parameters(), strict=True):
        assert found.grad is not None
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-4, msg=name)
    for (name, buffer), wanted_buffer in zip(ours.named_buffers(), at.named_buffers(), strict=True):
        torch.testing.assert_close(buffer, wanted_buffer[1], rtol=1e-4, atol=1e-5, msg=name)


class Tied(nn.Module):
    """Two layers that share a weight, and one that stands at two places."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Conv2d(3, 3, 3), nn.Conv2d(3, 3, 3)
        self.second.weight = self.first.weight
        self.third = self.again = nn.Conv2d(3, 3, 3)
        self.last = nn.Linear(3, 10)

    def forward(self, images: Tensor) -> Tensor:
        maps = images
        for layer in (self.first, self.second, self.third, self.again):
            maps = functional.silu(layer(maps))
        logits: Tensor = self.last(maps.mean(dim=(2, 3)))
        return logits


def test_a_shared_weight_moves_alike_wherever_it_stands() -> None:
    images, labels = batch()
    ours, recipe = Tied(), TradesAwp(steps=1, gamma=0.2)
    attacked = recipe.attack(ours, images, labels, rng())
    at = by_proxy(ours, images, attacked, labels, 6.0, 0.2)
    expected = trades_loss_of(at, images, attacked, labels, 6.0)
    expected.backward()
    loss = recipe(ours, images, labels, rng())
    loss.backward()
    torch.testing.assert_close(loss, expected)
    for (name, found), wanted in zip(ours.named_parameters(), at.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, msg=name)
    assert ours.second.weight is ours.first.weight


def test_an_offset_has_the_norm_of_its_layer_s_weight_times_gamma_whatever_the_gradient_s_is() -> None:
    torch.manual_seed(0)
    weights = {"a": torch.randn(4, 3), "b": 100 * torch.randn(2, 2, 3, 3), "still": torch.randn(2, 2)}
    gradients = {"a": 1e-6 * torch.randn(4, 3), "b": 1e6 * torch.randn(2, 2, 3, 3), "still": torch.zeros(2, 2)}
    found = weight_perturbation(weights, {**gradients, "unused": None}, 0.01)
    assert found.keys() == weights.keys()
    for name in ("a", "b"):
        assert float(found[name].norm()) == pytest.approx(0.01 * float(weights[name].norm()), rel=1e-5)
        along = functional.cosine_similarity(found[name].flatten(), gradients[name].flatten(), dim=0)
        assert float(along) == pytest.approx(1.0, abs=1e-5)  # up the loss
    assert torch.equal(found["still"], torch.zeros(2, 2))


def test_weights_and_their_order_are_as_before_to_the_bit_after_a_loss_and_after_an_error() -> None:
    images, labels = batch()
    ours = network()
    before = {name: (each, each.detach().clone()) for name, each in ours.named_parameters()}
    TradesAwp(steps=1)(ours, images, labels, rng())
    with pytest.raises(RuntimeError, match="size of tensor"):
        broken(ours, {name: value for name, (_, value) in before.items()})
    after = dict(ours.named_parameters())
    assert [*after] == [*before]
    for name, (same, value) in before.items():
        assert after[name] is same
        assert torch.equal(same, value)


def broken(model: nn.Module, offsets: dict[str, Tensor]) -> None:
    """Doubles the weights, and fails."""
    with moved(model, offsets):
        for name, weight in model.named_parameters():
            assert torch.equal(weight, 2 * offsets[name])
        model(torch.zeros(2, 5, 32, 32))


def test_without_gamma_it_is_trades() -> None:
    images, labels = batch()
    losses = [
        recipe(network(), images, labels, rng())
        for recipe in (TradesAwp(gamma=0.0, steps=2), Trades(epsilon=8 / 255, step=2 / 255, steps=2))
    ]
    assert torch.equal(losses[0], losses[1])


def test_it_begins_in_the_tenth_of_200_epochs_and_at_once_in_short_trainings() -> None:
    recipe = TradesAwp()
    gammas = [recipe.begin_epoch(nn.Identity(), epoch, 200).gamma for epoch in range(200)]
    assert gammas == [0.0] * 9 + [0.005] * 191
    assert recipe.begin_epoch(nn.Identity(), 0, 1) == recipe


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"gamma": -0.1}, "expected gamma in [0, 1), got -0.1"),
        ({"warmup": 1.5}, "expected warmup in [0, 1], got 1.5"),
        ({"steps": 0}, "expected steps >= 1, got 0"),
        ({"beta": -1.0}, "expected beta >= 0, got -1.0"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        TradesAwp(**wrong)  # type: ignore[arg-type]
    assert str(raised.value) == message


def test_statistics_for_an_average_are_measured_at_the_weights_themselves() -> None:
    images, labels = batch()
    recipe = TradesAwp(steps=2, gamma=0.05)
    plain, moved_away = network(), network()
    replace(recipe, gamma=0.0)(plain, images, labels, rng())
    recipe(moved_away, images, labels, rng())
    expected, others = dict(plain.named_buffers()), dict(moved_away.named_buffers())
    assert any(not torch.equal(others[name], expected[name]) for name in expected)
    for each in (recipe.unperturbed(), CellTraining(robust=recipe, auxiliary_weight=0.0).unperturbed()):
        ours = network()
        each(ours, images, labels, rng())
        assert all(torch.equal(value, expected[name]) for name, value in ours.named_buffers())
