"""A model that stays: the network of its fast copies is made once, never used when it is old, and changes no number."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from helpers import rng
from torch import Tensor, nn

import evonas.attacks.inference as inference
from evonas.attacks import FGSM, PGD, FixedModel, PixelAttack, inference_copy
from evonas.attacks.inference import attack_copy


def network() -> nn.Sequential:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(256, 5)
        ).eval()


def images(n: int = 12) -> tuple[Tensor, Tensor]:
    x = (torch.rand(n, 3, 8, 8, generator=rng(1)) * 255).round() / 255
    return x, network()(x).argmax(dim=1)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[nn.Module]:
    """The models that fast copies are made of."""
    found: list[nn.Module] = []
    copied = inference._copied

    def counted(model: nn.Module, *arguments: Any) -> nn.Module:
        found.append(model)
        return copied(model, *arguments)

    monkeypatch.setattr(inference, "_copied", counted)
    return found


def test_it_answers_as_the_model_does() -> None:
    model, (x, _) = network(), images()
    assert torch.equal(FixedModel(model)(x), model(x))


ATTACKS: dict[str, Any] = {
    "pgd": PGD(epsilon=0.05, steps=3, precision="bf16"),
    "stopped": PGD(epsilon=0.05, steps=5, precision="bf16", stop_when_fooled=True),
    "fgsm": FGSM(epsilon=0.05, precision="bf16"),
    "pixel": PixelAttack(threshold=1, population=10, generations=3, precision="bf16"),
    "pixel in fp32": PixelAttack(threshold=1, population=10, generations=3),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_batch_after_batch_gives_what_new_copies_give(name: str, made: list[nn.Module]) -> None:
    model, (x, labels) = network(), images()
    fixed, attack = FixedModel(model), ATTACKS[name]
    for part in (slice(0, 5), slice(5, 12), slice(0, 5)):
        expected, found = (attack(each, x[part], labels[part], rng(2)) for each in (model, fixed))
        assert torch.equal(found, expected)
    assert len(made) == 3 + 1
    assert all(each is model for each in made)


def test_attacks_share_a_network_whatever_their_precision(made: list[nn.Module]) -> None:
    """Gradient attacks one, and attacks that need logits alone another one, whose ReLU is faster."""
    fixed, (x, labels) = FixedModel(network()), images()
    for attack in ATTACKS.values():
        attack(fixed, x, labels, rng())
    assert len(made) == 2
    inference_copy(fixed)
    assert len(made) == 3  # a copy of one's own


def set_in_place(model: Any) -> None:
    with torch.no_grad():
        model[0].weight[0, 0, 0, 0] += 1


def set_unseen(model: Any) -> None:
    """No version of a tensor tells of it."""
    model[0].weight.data[0, 0, 0, 0] += 1


def set_by_numpy(model: Any) -> None:
    model[4].bias.detach().numpy()[2] = 7


def statistics(model: Any) -> None:
    model[1].running_mean[1] = 3


def other_weights(model: Any) -> None:
    model.load_state_dict({name: value + 1 for name, value in model.state_dict().items()})


def other_parameter(model: Any) -> None:
    model[4].bias = nn.Parameter(model[4].bias + 1)


def other_part(model: Any) -> None:
    model[2] = nn.Sigmoid()


def another_layer(model: Any) -> None:
    model.append(nn.Softmax(dim=1))


def hooked(model: Any) -> None:
    model[2].register_forward_hook(lambda module, inputs, output: output * 2)


def own_forward(model: Any) -> None:
    model[2].forward = torch.sigmoid


def other_number(model: Any) -> None:
    model[1].eps = 0.5


def other_type(model: Any) -> None:
    model.double()


CHANGES = [
    *(set_in_place, set_unseen, set_by_numpy, statistics, other_weights, other_parameter, other_part, another_layer),
    *(hooked, own_forward, other_number, other_type),
]


@pytest.mark.parametrize("change", CHANGES)
def test_a_model_that_has_changed_gets_a_new_copy(change: Callable[[Any], None]) -> None:
    model, (x, _) = network(), images()
    fixed = FixedModel(model)
    before = fixed.network(False)
    assert fixed.network(False) is before
    logits = attack_copy(fixed, "fp32")(x)
    change(model)
    after = fixed.network(False)
    assert after is not before
    assert torch.equal(attack_copy(fixed, "fp32")(x), inference_copy(model)(x))
    assert change is other_type or not torch.equal(attack_copy(fixed, "fp32")(x), logits)
    assert fixed.network(False) is after


def test_a_hook_that_is_removed_is_a_change() -> None:
    model = network()
    handle = model[2].register_forward_hook(lambda module, inputs, output: output * 2)
    fixed = FixedModel(model)
    before = fixed.network(False)
    handle.remove()
    assert fixed.network(False) is not before


def test_modes_flags_and_equal_values_are_no_change() -> None:
    model = network()
    fixed = FixedModel(model)
    before = fixed.network(True)
    model.train().requires_grad_(False)
    model.load_state_dict(model.state_dict())
    assert fixed.network(True) is before


class Noisy(nn.Module):
    """Another answer at every call."""

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = x.mean(dim=(2, 3)) + torch.rand(3)
        return logits


def test_every_attack_holds_its_copy_against_the_model() -> None:
    """And gives it up for itself alone, as with a network of its own."""
    fixed, (x, labels) = FixedModel(Noisy()), images()
    attack = PGD(epsilon=0.05, steps=1, precision="bf16")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(2):
            with pytest.warns(UserWarning, match="the fast copy of Noisy is .* off in fp32"):
                attack(fixed, x, labels % 3)
