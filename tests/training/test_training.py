"""The training loop: what it computes, that it repeats itself, and that it says when it diverges."""

import io
import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.data import Augmentation, DevicePart, Part
from evonas.errors import ConfigurationError, DivergedError
from evonas.training import RECIPES, Training, TrainingConfig, resolve_precision, standard, train, whole

NO_AUGMENTATION = Augmentation(padding=0)


def tiny_part(n: int = 8, seed: int = 0) -> DevicePart:
    rng = np.random.default_rng(seed)
    images = rng.integers(256, size=(n, 3, 4, 4), dtype=np.uint8)
    return DevicePart(Part(images, rng.integers(2, size=n)), torch.device("cpu"))


def tiny_network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))


class TwoHeads(nn.Module):
    """A network that every recipe can train, also those that ask for an auxiliary head."""

    def __init__(self) -> None:
        super().__init__()
        self.body = tiny_network()
        self.auxiliary = nn.Linear(48, 2)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits

    def forward_auxiliary(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self(images), self.auxiliary(images.flatten(1))


def state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def run(network: nn.Module, part: DevicePart, config: TrainingConfig, seed: int = 0) -> dict[str, Tensor]:
    train(network, part, NO_AUGMENTATION, config, standard, torch.Generator().manual_seed(seed))
    return state(network)


def test_defaults_are_the_papers() -> None:
    config = TrainingConfig()
    assert (config.epochs, config.batch_size, config.lr) == (25, 128, 0.025)
    assert (config.momentum, config.weight_decay, config.grad_clip) == (0.9, 3e-4, 5.0)


def test_one_step_is_sgd_with_clipped_gradients_by_hand() -> None:
    """A single full batch, one epoch: theta - lr * (clip(g) + wd * theta), since momentum's buffer starts at 0."""
    layer = nn.Linear(48, 2)
    part, network = tiny_part(), nn.Sequential(nn.Flatten(), layer)
    torch.manual_seed(0)
    nn.init.normal_(layer.weight)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    config = TrainingConfig(epochs=1, batch_size=8, lr=0.1, weight_decay=0.01, grad_clip=0.05, precision="fp32")

    images = part.images.permute(0, 3, 1, 2).flatten(1).double() / 255
    p = torch.softmax(images @ weight.double().T + bias.double(), dim=1)
    p[torch.arange(8), part.labels] -= 1
    g_weight, g_bias = p.T @ images / 8, p.mean(dim=0)
    norm = math.sqrt(float((g_weight**2).sum() + (g_bias**2).sum()))
    assert norm > config.grad_clip  # otherwise clipping is not tested
    scale = config.grad_clip / norm
    expected = weight.double() - 0.1 * (scale * g_weight + 0.01 * weight.double())

    run(network, part, config)
    # float32 sums of 8 terms, and torch's clipping divides by norm + 1e-6
    torch.testing.assert_close(layer.weight.detach().double(), expected, rtol=1e-4, atol=1e-6)


def learning_rates(**schedule: object) -> float:
    """Sum of the rates of 4 epochs of one step.

    With momentum 0 and a loss whose gradient is 1, the parameter moves by the sum of the learning rates.
    """

    class Slope(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.value = nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return self.value.expand(len(images))

    def slope(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        loss: Tensor = network(images).mean()
        return loss

    network = Slope()
    config = TrainingConfig(
        epochs=4,
        batch_size=8,
        lr=0.4,
        momentum=0.0,
        weight_decay=0.0,
        precision="fp32",
        **schedule,  # type: ignore[arg-type]
    )
    train(network, tiny_part(), NO_AUGMENTATION, config, slope, torch.Generator().manual_seed(0))
    return -float(network.value.detach())


def test_the_learning_rate_falls_to_zero_along_a_cosine() -> None:
    rates = [0.2 * (1 + math.cos(math.pi * epoch / 4)) for epoch in range(4)]
    assert rates[0] == 0.4
    assert learning_rates() == pytest.approx(sum(rates), rel=1e-5)


def test_the_learning_rate_falls_by_a_factor_an_epoch_instead() -> None:
    assert learning_rates(lr_decay=0.5) == pytest.approx(0.4 + 0.2 + 0.1 + 0.05, rel=1e-5)


def test_the_learning_rate_falls_to_a_tenth_at_milestones_instead() -> None:
    assert learning_rates(milestones=(1, 3)) == pytest.approx(0.4 + 2 * 0.04 + 0.004, rel=1e-5)


def test_identity_names_a_schedule_only_where_it_is_used() -> None:
    """So that runs from before there was one stay the same runs."""
    plain = TrainingConfig().identity()
    assert list(plain) == ["epochs", "batch_size", "lr", "momentum", "weight_decay", "grad_clip", "precision"]
    assert TrainingConfig(lr_decay=0.97).identity() == {**plain, "lr_decay": 0.97}
    assert TrainingConfig(milestones=(2, 4)).identity() == {**plain, "milestones": (2, 4)}


def test_a_recipe_is_told_of_every_epoch_before_its_batches() -> None:
    class Told:
        def __init__(self) -> None:
            self.heard: list[object] = []

        def begin_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
            assert network.training
            self.heard.append((epoch, epochs))

        def __call__(self, network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
            self.heard.append("batch")
            return standard(network, images, labels, generator)

    told, network, plain = Told(), tiny_network(), tiny_network()
    config = TrainingConfig(epochs=2, batch_size=4, precision="fp32")
    train(network, tiny_part(), NO_AUGMENTATION, config, told, torch.Generator().manual_seed(0))
    assert told.heard == [(0, 2), "batch", "batch", (1, 2), "batch", "batch"]
    expected = run(plain, tiny_part(), config)
    assert all(torch.equal(value, expected[name]) for name, value in state(network).items())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_same_seed_trains_the_same_network_bit_for_bit(precision: str) -> None:
    config = TrainingConfig(epochs=2, batch_size=4, precision=precision)
    first = run(tiny_network(), tiny_part(), config, seed=3)
    second = run(tiny_network(), tiny_part(), config, seed=3)
    other = run(tiny_network(), tiny_part(), config, seed=4)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert any(not torch.equal(first[name], other[name]) for name in first)


@pytest.mark.lengthy
@pytest.mark.parametrize("schedule", [{}, {"lr_decay": 0.5}, {"milestones": (1, 3)}])
@pytest.mark.parametrize("done", [1, 3, 4])
def test_training_goes_on_from_an_epoch_bit_for_bit(schedule: dict[str, Any], done: int) -> None:
    """From a file, in another network and with another generator; handing states out changes nothing."""
    config = TrainingConfig(epochs=4, batch_size=3, lr=0.1, precision="fp32", **schedule)

    def begin(seed: int) -> Training:
        drawn = torch.Generator().manual_seed(seed)
        return Training(tiny_network(seed), tiny_part(), Augmentation(padding=1), config, standard, drawn)

    network, drawn = tiny_network(0), torch.Generator().manual_seed(0)
    train(network, tiny_part(), Augmentation(padding=1), config, standard, drawn)
    expected = state(network)

    undisturbed, losses, files = begin(0), [], []
    while undisturbed.epoch < undisturbed.epochs:
        losses.append(undisturbed.run_epoch())
        file = io.BytesIO()
        torch.save(undisturbed.state(), file)
        files.append(file.getvalue())
    assert undisturbed.network.training  # `train` alone leaves eval mode
    assert all(torch.equal(value, expected[name]) for name, value in state(undisturbed.network).items())

    continued = begin(7)
    continued.restore(torch.load(io.BytesIO(files[done - 1]), weights_only=True))
    assert continued.epoch == done
    assert [continued.run_epoch() for _ in range(done, 4)] == losses[done:]
    assert continued.epoch == 4
    assert all(torch.equal(value, expected[name]) for name, value in state(continued.network).items())


def test_the_loss_of_an_epoch_is_the_mean_of_its_batches() -> None:
    """Batches of 4 and 2: the smaller one counts as much."""
    losses: list[float] = []

    def recorded(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        loss = standard(network, images, labels, generator)
        losses.append(float(loss.detach()))
        return loss

    config = TrainingConfig(epochs=1, batch_size=4, precision="fp32")
    drawn = torch.Generator().manual_seed(0)
    training = Training(tiny_network(), tiny_part(6), NO_AUGMENTATION, config, recorded, drawn)
    assert training.run_epoch() == pytest.approx(sum(losses) / 2, rel=1e-6)
    assert len(losses) == 2


def test_the_loss_of_every_epoch_is_told() -> None:
    part, config = tiny_part(), TrainingConfig(epochs=3, batch_size=4, lr=0.1, precision="fp32")
    told: list[float] = []
    train(tiny_network(), part, NO_AUGMENTATION, config, standard, torch.Generator().manual_seed(0), None, told.append)
    training = Training(tiny_network(), part, NO_AUGMENTATION, config, standard, torch.Generator().manual_seed(0))
    assert told == [training.run_epoch() for _ in range(3)]
    assert told[2] < told[0]


def test_steps_of_an_epoch_are_told_as_steps_of_all_of_them() -> None:
    told: list[tuple[int, int, str]] = []
    whole(lambda done, total, message: told.append((done, total, message)), 2, 5)(3, 10, "loss 0.5")
    assert told == [(23, 50, "epoch 3/5, loss 0.5")]


def test_training_learns_and_leaves_eval_mode() -> None:
    """Bright images against dark ones: a linear problem."""
    images = np.repeat(np.array([10, 240], dtype=np.uint8), 16)[:, None, None, None] * np.ones((1, 3, 4, 4), np.uint8)
    part = DevicePart(Part(images, np.repeat([0, 1], 16)), torch.device("cpu"))
    network = tiny_network()
    run(network, part, TrainingConfig(epochs=10, batch_size=8, lr=0.1, precision="fp32"))
    assert not network.training
    with torch.no_grad():
        found = network(part.images.permute(0, 3, 1, 2) / 255).argmax(dim=1)
    assert torch.equal(found, part.labels)


def test_a_loss_that_leaves_the_finite_numbers_ends_the_training() -> None:
    config = TrainingConfig(epochs=3, batch_size=4, lr=1e30, grad_clip=1e30, precision="fp32")
    with pytest.raises(DivergedError, match="diverged: the loss of epoch"):
        run(tiny_network(), tiny_part(), config)


@pytest.mark.lengthy
def test_progress_counts_steps() -> None:
    told: list[tuple[int, int, str]] = []

    def slow(network: nn.Module, images: Tensor, labels: Tensor, generator: torch.Generator) -> Tensor:
        import time

        time.sleep(0.3)
        return standard(network, images, labels, generator)

    config = TrainingConfig(epochs=2, batch_size=4, precision="fp32")
    train(
        tiny_network(),
        tiny_part(),
        NO_AUGMENTATION,
        config,
        slow,
        torch.Generator().manual_seed(0),
        lambda done, total, note: told.append((done, total, note)),
    )
    assert told  # 4 steps of 0.3 s, told at most every 0.5 s
    assert all(total == 4 and 1 <= done <= 4 and note.startswith("epoch ") for done, total, note in told)
    assert [done for done, _, _ in told] == sorted({done for done, _, _ in told})


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"lr": 0.0},
        {"momentum": 1.0},
        {"precision": "fp16"},
        {"lr_decay": 0.0},
        {"lr_decay": 1.1},
        {"lr_decay": 0.97, "milestones": (2,)},
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="expected"):
        TrainingConfig(**wrong)


def test_precision_is_resolved_with_a_reason() -> None:
    resolved, why = resolve_precision("auto", torch.device("cpu"))
    assert resolved in ("fp32", "bf16")
    assert resolved in why
    assert "because" in why
    assert resolve_precision("fp32", torch.device("cpu"))[0] == "fp32"
    with pytest.raises(ConfigurationError, match="fp8"):
        resolve_precision("fp8", torch.device("cpu"))


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_every_recipe_gives_a_scalar_that_can_be_minimised(name: str) -> None:
    network, part = TwoHeads(), tiny_part()
    images = part.images.permute(0, 3, 1, 2) / 255
    loss = RECIPES[name](network, images, part.labels, torch.Generator().manual_seed(0))
    assert loss.shape == ()
    loss.backward()
    trained = list(network.parameters() if name == "cells" else network.body.parameters())
    assert all(p.grad is not None and bool(p.grad.isfinite().all()) for p in trained)


def test_standard_is_the_mean_cross_entropy_by_hand() -> None:
    class Fixed(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.tensor([[0.0, math.log(3.0)], [0.0, 0.0]])

    loss = standard(Fixed(), torch.zeros(2, 3, 4, 4), torch.tensor([0, 1]), torch.Generator())
    assert float(loss) == pytest.approx((math.log(4) + math.log(2)) / 2, rel=1e-6)  # p = 1/4 and 1/2
