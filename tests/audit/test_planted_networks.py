"""Faults that hide errors from attacks, planted in small networks: each is seen, and no honest network is."""

from collections.abc import Callable

import pytest
import torch
from planted_networks import (
    Memory,
    OneOf,
    Wrapped,
    clipped_probabilities,
    detached_stem,
    distilled,
    few_levels,
    found,
    half_without_gradients,
    medians_of_bytes,
    remembered,
    resized_by_chance,
    smoothed_by_medians,
    thresholded,
    trained,
    winners_take_all,
    without_numbers,
)
from torch import nn

from evonas.audit.slopes import false_slopes

pytestmark = pytest.mark.lengthy


def planted(fault: Callable[..., torch.Tensor], epochs: int = 25) -> Callable[[], nn.Module]:
    return lambda: Wrapped(trained(epochs=epochs), fault)


FAULTS: dict[str, tuple[Callable[[], nn.Module], set[str]]] = {
    "log of clipped probabilities": (planted(clipped_probabilities), {"gradients", "epsilon", "epsilon-1"}),
    "few levels, straight through": (planted(few_levels), {"slope"}),
    "black and white, straight through": (planted(thresholded), {"slope"}),
    "medians of bytes": (planted(medians_of_bytes), {"black-box", "gradients", "epsilon"}),
    "resized and padded by chance": (planted(resized_by_chance), {"random"}),
    "one of two members": (lambda: OneOf(trained(), trained(width=32)), {"random"}),
    "one of two members, one of them seldom": (lambda: OneOf(*[trained()] * 9, trained(width=32)), {"random"}),
    "detached stem": (planted(detached_stem), {"slope", "black-box", "epsilon-1"}),
    "no numbers for a few images": (planted(without_numbers), {"not-finite"}),
    "half of the images without gradients": (planted(half_without_gradients), {"gradients", "epsilon-1"}),
    "distilled at 100": (distilled, {"gradients", "epsilon-1"}),
    "memory of images": (lambda: Memory(trained(epochs=0), 0.0), {"black-box", "noise", "gradients", "grain"}),
    "memory of all within epsilon": (lambda: Memory(trained(epochs=0), 8 / 255), {"black-box", "gradients"}),
    "memory beside gradients": (planted(remembered, epochs=0), {"grain", "slope"}),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_raises_its_alarms(name: str) -> None:
    make, expected = FAULTS[name]
    assert expected <= found(make())


HONEST: dict[str, Callable[[], nn.Module]] = {
    "plain": trained,
    "adversarially trained": lambda: trained(0.1),
    "one epoch": lambda: trained(epochs=1),
    "untrained": lambda: trained(epochs=0),
    "one unit": lambda: trained(width=1),  # it is dead, and all images are of one class
    "two units": lambda: trained(width=2, seed=1),
    "four units": lambda: trained(width=4),
    "medians, whose gradients are true": planted(smoothed_by_medians),  # squares find no more than PGD does
    "the largest values of a layer alone": winners_take_all,  # nor here
    "four units, adversarially trained": lambda: trained(0.1, width=4),
}


@pytest.mark.parametrize("name", HONEST)
def test_an_honest_network_raises_none(name: str) -> None:
    assert found(HONEST[name]()) == set()


class Line(nn.Module):
    """Logits 0 and 3 x, and what a function makes of x."""

    def __init__(self, of: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.of = of

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        sums = self.of(images).sum(dim=(1, 2, 3))
        return torch.stack([torch.zeros_like(sums), 3 * sums], dim=1)


@pytest.mark.parametrize(
    ("of", "false"),
    [
        (lambda x: x, False),
        (lambda x: x.square(), False),
        (lambda x: x.clamp(0, 1), False),
        (lambda x: 3 * x - 2 * x.detach(), True),  # the gradient is three times the slope
        (lambda x: x - x.detach(), True),
        (lambda x: 1.2 * x - 0.2 * x.detach(), False),  # within the tolerance of a half
        (lambda x: 0 * x, False),  # nothing is promised
        (lambda x: x + 1e-3 * (x - x.detach()), False),
    ],
)
def test_a_slope_is_false_where_a_difference_is_another_one(
    of: Callable[[torch.Tensor], torch.Tensor], false: bool
) -> None:
    images = torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    assert false_slopes(Line(of), images, torch.tensor([0, 1] * 3)).tolist() == [false] * 6
