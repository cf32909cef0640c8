"""Alarms for masked gradients: the rules on numbers made by hand, and networks with planted faults."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from planted_networks import found, shown, trained
from torch import Tensor, nn
from torch.nn import functional

from evonas.audit import ALARMS, alarms, check_gradients
from evonas.errors import DivergedError

HONEST = {
    "gradient_check": 0.0,
    "gradient_check_clean": 0.05,
    "gradient_check_fgsm": 0.3,
    "gradient_check_pgd": 0.4,
    "gradient_check_pgd_wide": 1.0,
    "gradient_check_pgd_one": 1.0,
    "gradient_check_noise": 0.06,
    "gradient_check_square": 0.42,
    "gradient_check_random": 0.0,
    "gradient_check_not_finite": 0.0,
    "gradient_check_slope": 0.0,
    "gradient_check_grain": 0.05,
}


def kinds(**changed: float) -> list[str]:
    values = HONEST | {f"gradient_check{f'_{name}' if name else ''}": value for name, value in changed.items()}
    return [each.kind for each in alarms(values, 200, 10)]


def test_nothing_is_wrong_with_an_honest_network() -> None:
    assert kinds() == []
    assert alarms({}, 200, 10) == []
    assert alarms({"gradient_check": 1.0}, 200, 10) == []
    assert alarms(dict.fromkeys(HONEST), 200, 10) == []  # a row of audit.csv beside one that was looked at


@pytest.mark.parametrize(("name", "kind"), [("square", "black-box"), ("fgsm", "one-step"), ("noise", "noise")])
def test_a_difference_counts_from_two_standard_errors_on(name: str, kind: str) -> None:
    """PGD's error is 0.4 of 200 images; two errors of a difference near it are 2 sqrt(2 * 0.24 / 200) = 0.098."""
    assert kinds(**{name: 0.49}) == []
    assert kinds(**{name: 0.51}) == [kind]


def test_a_larger_epsilon_has_to_hurt_more() -> None:
    assert kinds(pgd_wide=0.41) == []
    assert kinds(pgd_wide=0.4) == ["epsilon"]
    assert kinds(pgd=1.0, pgd_wide=1.0) == []  # all that there is is lost


def test_epsilon_1_reaches_chance() -> None:
    """Guessing errs on 0.9; its two standard errors on 200 images are 0.042."""
    assert kinds(pgd_one=0.86) == []
    assert kinds(pgd_one=0.85) == ["epsilon-1"]


def test_gradients_and_answers() -> None:
    assert kinds(**{"": 0.1}) == []
    assert kinds(**{"": 0.105}) == ["gradients"]
    assert kinds(**{"": 0.9, "pgd": 0.9}) == []  # of guessing no robustness is claimed
    assert kinds(random=0.005) == ["random"]
    assert kinds(not_finite=0.005) == ["not-finite"]
    assert kinds(slope=0.1) == []
    assert kinds(slope=0.105) == ["slope"]


def test_a_quarter_of_a_grey_level_makes_no_errors() -> None:
    """Two errors of the difference of 0.05 and 0.1 on 200 images are 0.052."""
    assert kinds(grain=0.1) == []
    assert kinds(grain=0.105) == ["grain"]


def test_a_line_has_the_numbers() -> None:
    (alarm,) = alarms(HONEST | {"gradient_check_square": 0.6}, 200, 10)
    assert alarm.line == f"{ALARMS['black-box']}: PGD or Square 60.0%, PGD 40.0%, within 8/255 on 200 images"
    assert all(len(words.splitlines()) == 1 for words in ALARMS.values())


class Quantised(nn.Module):
    """Inputs rounded to a few levels: gradients are zero."""

    def __init__(self, network: nn.Module, levels: int = 3) -> None:
        super().__init__()
        self.network, self.levels = network, levels

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network((images * self.levels).round() / self.levels)
        return logits


class Sharp(nn.Module):
    """Logits times 1000: softmax is exactly one class, and its gradients vanish."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = 1000 * self.network(images)
        return logits


class Noisy(nn.Module):
    """A random layer in front."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images + 0.2 * torch.randn_like(images))
        return logits


class Bytes(nn.Module):
    """Inputs as bytes: torch has no gradients at all."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        with torch.no_grad():
            logits: Tensor = self.network((images * 255).byte().float() / 255)
        return logits


class Dropping(nn.Module):
    """Stochastic depth that was left on."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(functional.dropout(images, 0.1))
        return logits


class Reversed(torch.autograd.Function):
    """The images as they are; their gradients point the other way."""

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return -gradient


class Misleading(nn.Module):
    """Gradients are there and finite, and lead away from every error."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(Reversed.apply(images))
        return logits


class Blocks(nn.Module):
    """As JPEG does it: the cosines of blocks of 8 x 8 pixels, rounded."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        at = torch.arange(8.0)
        cosines = torch.cos((2 * at[None] + 1) * at[:, None] * torch.pi / 16) / 2
        self.cosines = torch.cat([cosines[:1] / 2**0.5, cosines[1:]])  # (8, 8), orthonormal

    def forward(self, images: Tensor) -> Tensor:
        rounded = ((self.cosines @ images @ self.cosines.T) * 10).round() / 10  # images of one block
        logits: Tensor = self.network(self.cosines.T @ rounded @ self.cosines)
        return logits


@pytest.mark.lengthy
@pytest.mark.parametrize("epsilon", [0.0, 0.1], ids=["plain", "adversarially trained"])
def test_an_honest_network_raises_no_alarm(epsilon: float) -> None:
    network = trained(epsilon)
    values = check_gradients(network, shown(), torch.Generator().manual_seed(0))
    assert values["gradient_check_clean"] < 0.15
    assert found(network) == set()


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("planted", "kind"),
    [
        *((Quantised, "gradients"), (Sharp, "gradients"), (Noisy, "random"), (Bytes, "gradients")),
        *((Dropping, "random"), (Blocks, "gradients")),
    ],
    ids=["quantised", "logits times 1000", "random layer", "bytes", "dropout left on", "blocks as of JPEG"],
)
def test_a_planted_fault_raises_its_alarm(planted: Callable[[nn.Module], nn.Module], kind: str) -> None:
    kinds = found(planted(trained(0.0)))
    assert kind in kinds
    assert (kind == "random") == ("random" in kinds)
    if kind == "gradients":
        assert {"epsilon", "epsilon-1"} <= kinds


@pytest.mark.lengthy
def test_gradients_that_lead_away_are_seen_by_squares_and_a_larger_epsilon() -> None:
    assert {"black-box", "epsilon-1"} <= found(Misleading(trained(0.0)))


@pytest.mark.lengthy
def test_squares_see_what_sharp_logits_hide() -> None:
    assert "black-box" in found(Sharp(trained(0.0)))


@pytest.mark.lengthy
def test_a_network_is_left_as_it_was() -> None:
    network = trained(0.0).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    first = check_gradients(network, shown(), torch.Generator().manual_seed(0), queries=20, steps=2)
    again = check_gradients(network, shown(), torch.Generator().manual_seed(0), queries=20, steps=2)
    assert first == again
    assert network.training
    assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
    assert all(each.grad is None and each.requires_grad for each in network.parameters())


def test_logits_that_are_not_finite_are_no_result() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(192, 10))
    for parameter in network.parameters():
        nn.init.constant_(parameter, float("nan"))
    with pytest.raises(DivergedError, match="not finite"):
        check_gradients(network, shown(), torch.Generator())
