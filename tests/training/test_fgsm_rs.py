"""Fast adversarial training: its images by hand and step by step, and what it leaves alone."""

import copy

import pytest
import torch
from helpers import part_of, rng
from torch import Tensor, nn
from torch.nn import functional

from evonas.errors import ConfigurationError
from evonas.training import FastAdversarial, fast_adversarial_images
from evonas.training.attacking import untouched

EPSILON = 2 / 255


def network(training: bool = True) -> nn.Sequential:
    """With running statistics far from those of a batch."""
    torch.manual_seed(0)
    made = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Conv2d(6, 4, 3),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64, 5),
    )
    for name in ("1", "4"):
        norm = part_of(made, name, nn.BatchNorm2d)
        nn.init.normal_(norm.get_buffer("running_mean"))
        nn.init.uniform_(norm.weight, 0.5, 2)
    return made.train(training)


def batch(n: int = 6) -> tuple[Tensor, Tensor]:
    """Images with pixels at both bounds, and labels."""
    torch.manual_seed(1)
    return (1.6 * torch.rand(n, 3, 8, 8) - 0.3).clamp(0, 1), torch.arange(n) % 5


def authors_step(
    model: nn.Module, images: Tensor, labels: Tensor, epsilon: float, alpha: float, delta: Tensor
) -> Tensor:
    """Their training step in terms of delta: cut to the range, one step, cut to the ball, cut to the range."""
    delta = torch.max(torch.min(delta, 1 - images), 0 - images).requires_grad_()
    functional.cross_entropy(model(images + delta), labels).backward()
    assert delta.grad is not None
    with torch.no_grad():
        moved = torch.clamp(delta + alpha * torch.sign(delta.grad), min=-epsilon, max=epsilon)
        return images + torch.max(torch.min(moved, 1 - images), 0 - images)


@pytest.mark.parametrize("epsilon", [2 / 255, 8 / 255])
@pytest.mark.parametrize("training", [True, False])
def test_images_are_those_of_the_authors_step(epsilon: float, training: bool) -> None:
    images, labels = batch()
    found = fast_adversarial_images(network(training), images, labels, epsilon, 1.25 * epsilon, rng(7))
    start = torch.empty_like(images).uniform_(-epsilon, epsilon, generator=rng(7))
    expected = authors_step(network(training), images, labels, epsilon, 1.25 * epsilon, start)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-7)  # pixels in [0, 1] rounded in another order
    assert not found.requires_grad


def test_one_pixel_by_hand() -> None:
    """Logits (x, 0) and class 0: the loss falls with x, so every start moves down by the step, to -epsilon at most."""

    def forward(images: Tensor) -> Tensor:
        x = images.flatten(1)
        return torch.cat([x, torch.zeros_like(x)], dim=1)

    n = 1000
    images, labels = torch.full((n, 1, 1, 1), 0.5), torch.zeros(n, dtype=torch.int64)
    start = torch.empty_like(images).uniform_(-0.1, 0.1, generator=rng(3))
    found = fast_adversarial_images(forward, images, labels, 0.1, 0.05, rng(3))
    expected = 0.5 + (start - 0.05).clamp(min=-0.1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-7)
    assert found.min() == pytest.approx(0.4)  # a quarter of the starts is cut at the ball
    assert found.max() > 0.53
    at_the_bound = fast_adversarial_images(forward, torch.zeros_like(images), labels, 0.1, 0.05, rng(3))
    assert float(at_the_bound.min()) == 0.0
    # a start below the range is cut there before the step
    torch.testing.assert_close(at_the_bound, (start.clamp(min=0) - 0.05).clamp(min=0), rtol=0, atol=1e-7)


@pytest.mark.parametrize(("epsilon", "step"), [(2 / 255, 2.5 / 255), (0.3, 1.0), (0.05, 0.001)])
def test_images_stay_in_the_ball_and_in_the_range(epsilon: float, step: float) -> None:
    images, labels = batch(40)
    found = fast_adversarial_images(network(), images, labels, epsilon, step, rng())
    assert bool(((found >= 0) & (found <= 1)).all())
    assert float((found - images).abs().max()) <= epsilon + 1e-7  # one rounding of a pixel
    assert not torch.equal(found, images)


def test_without_a_radius_images_are_the_clean_ones() -> None:
    images, labels = batch()
    assert torch.equal(fast_adversarial_images(network(), images, labels, 0.0, 0.0, rng()), images)


def test_the_start_is_uniform_in_the_ball_and_the_generators() -> None:
    images, labels = torch.full((50, 3, 8, 8), 0.5), torch.zeros(50, dtype=torch.int64)
    found = fast_adversarial_images(network(), images, labels, 0.1, 0.0, rng(1)) - images  # a step of no length
    assert found.abs().max() <= 0.1 + 1e-7
    n = found.numel()
    assert abs(float(found.mean())) < 5 * 0.1 / (3 * n) ** 0.5  # a uniform's deviation is epsilon / sqrt(3)
    assert float(found.std()) == pytest.approx(0.1 / 3**0.5, rel=5 / n**0.5)
    torch.rand(3)  # torch's own generator does not matter
    again = fast_adversarial_images(network(), images, labels, 0.1, 0.0, rng(1)) - images
    assert torch.equal(found, again)
    other = fast_adversarial_images(network(), images, labels, 0.1, 0.0, rng(2)) - images
    assert not torch.equal(found, other)


def test_the_layout_of_images_does_not_change_what_is_drawn() -> None:
    images, labels = batch()
    found = fast_adversarial_images(network(), images, labels, 0.1, 0.0, rng())
    other = images.to(memory_format=torch.channels_last)
    assert torch.equal(fast_adversarial_images(network(), other, labels, 0.1, 0.0, rng()), found)


def test_the_step_climbs_the_loss() -> None:
    images, labels = batch(40)
    model = network(training=False)
    attacked = fast_adversarial_images(model, images, labels, EPSILON, 1.25 * EPSILON, rng())
    started = fast_adversarial_images(model, images, labels, EPSILON, 0.0, rng())
    with torch.no_grad():
        losses = [float(functional.cross_entropy(model(each), labels)) for each in (images, started, attacked)]
    assert losses[2] > losses[0] + 10 * abs(losses[1] - losses[0])


def test_nothing_but_the_images_is_differentiated() -> None:
    """As a supernet calls it: architecture parameters are in the graph, too."""
    images, labels = batch()
    model, alpha = network(), torch.ones(5, requires_grad=True)

    def forward(pixels: Tensor) -> Tensor:
        logits: Tensor = model(pixels)
        return logits * alpha

    with torch.no_grad():  # it differentiates whoever calls it
        found = fast_adversarial_images(forward, images, labels, EPSILON, EPSILON, rng())
    assert not found.requires_grad
    assert alpha.grad is None
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_recipe_is_the_loss_on_attacked_images_and_its_gradients() -> None:
    images, labels = batch()
    ours, reference = network(), network()
    loss = FastAdversarial(epsilon=8 / 255)(ours, images, labels, rng(5))
    assert all(parameter.grad is None for parameter in ours.parameters())
    loss.backward()

    start = torch.empty_like(images).uniform_(-8 / 255, 8 / 255, generator=rng(5))
    attacked = authors_step(copy.deepcopy(reference), images, labels, 8 / 255, 10 / 255, start)
    expected = functional.cross_entropy(reference(attacked), labels)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-6)
    expected.backward()
    for found, wanted in zip(ours.parameters(), reference.parameters(), strict=True):
        assert found.requires_grad
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-3, atol=1e-5)
    for (name, buffer), wanted_buffer in zip(ours.named_buffers(), reference.buffers(), strict=True):
        # one forward pass, on the attacked images; none of the attack
        torch.testing.assert_close(buffer, wanted_buffer, rtol=1e-5, atol=1e-6, msg=name)
    assert ours.get_buffer("1.num_batches_tracked").item() == 1


def test_the_attack_sees_the_batchs_statistics() -> None:
    images, labels = batch(40)
    drawn = [
        fast_adversarial_images(network(training), images, labels, EPSILON, 1.25 * EPSILON, rng())
        for training in (True, False)
    ]
    assert not torch.equal(*drawn)
    ours = network()
    with untouched(ours):
        found = fast_adversarial_images(ours, images, labels, EPSILON, 1.25 * EPSILON, rng())
    torch.testing.assert_close(found, drawn[0], rtol=0, atol=1e-6)


class OwnStatistics(nn.Module):
    """Writes its running statistics itself, as fused operations do."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images: Tensor) -> Tensor:
        assert self.norm.running_mean is not None
        with torch.no_grad():
            self.norm.running_mean.lerp_(images.mean(dim=(0, 2, 3)), 0.1)
        return functional.batch_norm(images, None, None, training=True)


def test_untouched_keeps_buffers_bit_for_bit_and_gives_back_flags() -> None:
    images, _ = batch()
    ours = nn.Sequential(OwnStatistics(), *network()).train()
    ours[5].eval()
    ours[1].weight.requires_grad_(False)
    before = {name: (buffer, buffer.clone(), buffer._version) for name, buffer in ours.named_buffers()}
    flags = [parameter.requires_grad for parameter in ours.parameters()]
    modes = [part.training for part in ours.modules()]
    expected = copy.deepcopy(ours)(images)
    with untouched(ours):
        assert torch.equal(ours(images), expected)  # each norm in the mode it is in
        assert not any(parameter.requires_grad for parameter in ours.parameters())
    with pytest.raises(RuntimeError), untouched(ours):
        ours(images[:, :2])  # so many channels there are not
    for name, buffer in ours.named_buffers():
        same, value, version = before[name]
        assert buffer is same
        assert torch.equal(buffer, value)
        assert buffer._version == version  # not even written back
    assert [parameter.requires_grad for parameter in ours.parameters()] == flags
    assert [part.training for part in ours.modules()] == modes
    ours(images)
    assert not torch.equal(
        ours.get_buffer("0.norm.running_mean"), before["0.norm.running_mean"][1]
    )  # it does write, outside


def test_an_older_graph_can_still_be_gone_backward_through() -> None:
    """As where a clean loss is taken before the attack."""
    images, labels = batch()
    ours, reference = network(), network()
    clean = functional.cross_entropy(ours(images), labels)
    attacked = FastAdversarial()(ours, images, labels, rng())
    (clean + 0 * attacked).backward()
    functional.cross_entropy(reference(images), labels).backward()
    for found, wanted in zip(ours.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-5, atol=1e-7)


def test_the_step_is_a_quarter_longer_than_the_radius_unless_given() -> None:
    images, labels = batch()
    losses = [
        float(FastAdversarial(epsilon=0.1, step=step)(network(), images, labels, rng()).detach())
        for step in (None, 0.125, 0.01)
    ]
    assert losses[0] == losses[1] != losses[2]
    assert FastAdversarial().epsilon == 8 / 255  # Wong et al.


def test_the_loss_is_in_float32_under_autocast() -> None:
    images, labels = batch()
    with torch.autocast("cpu", torch.bfloat16):
        loss = FastAdversarial()(network(), images, labels, rng())
    assert loss.dtype == torch.float32
    expected = FastAdversarial()(network(), images, labels, rng())
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=0.05)  # bfloat16 keeps 8 bits


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"epsilon": -0.1}, "expected epsilon in [0, 1], got -0.1"),
        ({"epsilon": 2.0}, "expected epsilon in [0, 1], got 2.0: it is on the [0, 1] scale; 2/255?"),
        ({"epsilon": float("nan")}, "expected epsilon in [0, 1], got nan"),
        ({"epsilon": 0.1, "step": 0.0}, "expected a step > 0, got 0.0"),
    ],
)
def test_a_senseless_setting_is_refused(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigurationError) as raised:
        FastAdversarial(**wrong)
    assert str(raised.value) == message
