"""Certified accuracy of an audit against independent checks: closed form, a grid of every change, PGD with restarts."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from planted_networks import fit, multilayer
from torch import Tensor, nn

from evonas.attacks import PGD
from evonas.audit import MEASUREMENTS
from evonas.data import Dataset, DeviceData, Part, load_data
from evonas.executors import ignore
from evonas.objectives import Candidate
from evonas.spaces import PhaseSpace

SPACE = PhaseSpace(phases=2, nodes=3, channels=4)
GENOME = SPACE.designs()["chain"]


def certified(network: nn.Module, pixels: Tensor, labels: Tensor, n_classes: int, epsilon: float) -> float:
    """The results of `evonas audit --measure certified` on test images, within another radius than 1/255.

    Args:
        pixels: (N, 3, H, W) uint8.
    """
    (measurement,) = MEASUREMENTS["certified"]
    share = measurement.measure
    within = replace(share, certificate=replace(share.certificate, epsilon=epsilon))  # type: ignore[type-var, attr-defined]
    part, none = Part(pixels.numpy(), labels.numpy()), Part(pixels[:0].numpy(), labels[:0].numpy())
    data = Dataset("own", n_classes, none, part, none, none, (0.5,) * 3, (0.5,) * 3, flip=False)
    on = DeviceData(data, torch.device("cpu"))
    candidate = Candidate(network, GENOME, SPACE, on, SPACE.cost(GENOME), torch.Generator())
    found: float = within(candidate, data, 32, ignore)[measurement.column]
    return found


def each_certified(network: nn.Module, pixels: Tensor, labels: Tensor, n_classes: int, epsilon: float) -> list[bool]:
    """The same for every image alone."""
    alone = zip(pixels.split(1), labels.split(1), strict=True)
    shares = [certified(network, image, label, n_classes, epsilon) for image, label in alone]
    assert {*shares} <= {0.0, 1.0}
    return [share == 1 for share in shares]


class Pair(nn.Module):
    """A small network of two values: the red of the first two pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))
        for parameter in self.inner.parameters():
            nn.init.normal_(parameter)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.inner(images.flatten(1)[:, :2])
        return logits


@pytest.mark.parametrize("epsilon", [0.5 / 255, 8 / 255, 0.1])
def test_of_a_linear_network_it_is_the_closed_form(epsilon: float) -> None:
    """No pixel is clipped in mid-range: an image holds where each margin is above epsilon |w_y - w_j|_1."""
    drawn = torch.Generator().manual_seed(0)
    pixels = torch.randint(40, 216, (60, 3, 2, 2), generator=drawn, dtype=torch.uint8)
    layer = nn.Linear(12, 4)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(4, 12, generator=drawn))
        layer.bias.zero_()
    network = nn.Sequential(nn.Flatten(), layer).eval()
    values = (pixels.double() / 255).flatten(1).numpy()
    weights = layer.weight.detach().double().numpy()
    logits = values @ weights.T
    labels = logits.argmax(axis=1)
    labels[::10] = (labels[::10] + 1) % 4  # these are wrong
    margins = logits[np.arange(60), labels][:, None] - logits
    lengths = np.abs(weights[labels][:, None] - weights[None]).sum(axis=2)
    slack = np.where(np.arange(4) == labels[:, None], np.inf, margins - epsilon * lengths).min(axis=1)
    assert np.abs(slack).min() > 1e-5  # float32 decides none of them
    assert certified(network, pixels, torch.from_numpy(labels), 4, epsilon) == pytest.approx(
        (slack > 0).mean(), abs=1e-12
    )
    assert 0 < (slack > 0).mean() < 1 or epsilon != 8 / 255


@pytest.mark.lengthy
def test_no_change_of_a_grid_fools_a_certified_image_of_two_values() -> None:
    """81 x 81 changes of each image, its corners and the whole radius among them."""
    torch.manual_seed(1)
    network, epsilon = Pair().eval(), 0.1
    drawn = torch.Generator().manual_seed(1)
    pixels = torch.randint(256, (80, 3, 2, 2), generator=drawn, dtype=torch.uint8)
    images = pixels.float() / 255
    with torch.no_grad():
        labels = network(images).argmax(dim=1)
    proven = each_certified(network, pixels, labels, 3, epsilon)
    steps = torch.linspace(-epsilon, epsilon, 81)
    changes = torch.cartesian_prod(steps, steps)  # (6561, 2)
    fooled = []
    for image, label in zip(images, labels, strict=True):
        changed = image.repeat(len(changes), 1, 1, 1)
        changed[:, 0, 0] = (changed[:, 0, 0] + changes).clamp(0, 1)
        with torch.no_grad():
            fooled.append(bool((network(changed).argmax(dim=1) != label).any()))
    assert 10 < sum(proven) < 70
    assert not any(one and other for one, other in zip(proven, fooled, strict=True))
    assert sum(fooled) > 5
    assert sum(not one and not other for one, other in zip(proven, fooled, strict=True)) < 15  # the bounds are close
    share = certified(network, pixels, labels, 3, epsilon)
    assert share == pytest.approx(sum(proven) / 80, abs=1e-12)


@pytest.mark.lengthy
def test_pgd_with_restarts_fools_no_certified_image() -> None:
    torch.manual_seed(0)
    network, epsilon = fit(multilayer(16), epochs=10), 10 / 255
    test = load_data("digits").test
    pixels, labels = torch.from_numpy(test.images[:60, :, ::4, ::4].copy()), torch.from_numpy(test.labels[:60].copy())
    proven = torch.tensor(each_certified(network, pixels, labels, 10, epsilon))
    assert 10 < int(proven.sum()) < 55
    attack = PGD(epsilon=epsilon, step_size=epsilon / 4, steps=40, random_start=True, restarts=20, loss="margin")
    images = pixels.float() / 255
    with torch.no_grad():
        held = network(images).argmax(dim=1) == labels
        wrong = network(attack(network, images, labels, torch.Generator().manual_seed(0))).argmax(dim=1) != labels
    assert bool(held[proven].all())
    assert not bool(wrong[proven].any())
    assert bool((wrong & held).any())  # the attack finds what is there
