"""Small networks of digits, honest ones and ones whose gradients hide what they get wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.attacks import PGD
from evonas.audit import masked_gradients
from evonas.data import DevicePart, batches, load_data

CPU = torch.device("cpu")
DIGITS = load_data("digits")


def shown() -> list[tuple[Tensor, Tensor]]:
    """200 test images at their own size of 8x8."""
    part = DevicePart(DIGITS.test, CPU)
    return list(batches(DevicePart.of(part.images[:200, ::4, ::4].contiguous(), part.labels[:200]), 200))


def found(network: nn.Module) -> set[str]:
    """Kinds of the alarms that a network raises."""
    torch.manual_seed(1)  # of networks that draw
    return {each.kind for each in masked_gradients(network, shown(), 10, torch.Generator().manual_seed(0))}


def training() -> tuple[Tensor, Tensor]:
    part = DevicePart(DIGITS.train, CPU)
    return part.images[:, ::4, ::4].permute(0, 3, 1, 2).float() / 255, part.labels


def multilayer(width: int = 64) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, width), nn.ReLU(), nn.Linear(width, 10))


def fit(
    network: nn.Module, epsilon: float = 0.0, epochs: int = 25, loss: Callable[[Tensor, Tensor], Tensor] | None = None
) -> nn.Module:
    """Train on images as they are, or against PGD."""
    images, labels = training()
    attack = PGD(epsilon=epsilon, step_size=epsilon / 2.5 or 1.0, steps=4)
    optimiser = torch.optim.Adam(network.parameters(), 5e-3)
    for _ in range(epochs):
        for rows in torch.randperm(len(images)).split(128):
            optimiser.zero_grad()
            logits = network(attack(network, images[rows], labels[rows]))
            (loss or functional.cross_entropy)(logits, labels[rows]).backward()
            optimiser.step()
    network.zero_grad()
    return network.eval()


@cache
def trained(epsilon: float = 0.0, width: int = 64, epochs: int = 25, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return fit(multilayer(width), epsilon, epochs)


Inner = Callable[[Tensor], Tensor]


class Wrapped(nn.Module):
    """A network with a fault that a function plants."""

    def __init__(self, network: nn.Module, fault: Callable[[Inner, Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.fault = network, fault

    def forward(self, images: Tensor) -> Tensor:
        return self.fault(self.network, images)


def clipped_probabilities(network: Inner, images: Tensor) -> Tensor:
    """Log of probabilities that are clipped, of a softmax that is all but one class."""
    return (30 * network(images)).softmax(dim=1).clamp(1e-6, 1 - 1e-6).log()


def few_levels(network: Inner, images: Tensor) -> Tensor:
    """Inputs of a few levels, with the gradient of inputs as they are."""
    rounded = (images * 3).round() / 3
    return network(images + (rounded - images).detach())


def thresholded(network: Inner, images: Tensor) -> Tensor:
    """Inputs of black and white, with the gradient of inputs as they are."""
    return network(images + ((images > 0.5).to(images.dtype) - images).detach())


def smoothed_by_medians(network: Inner, images: Tensor) -> Tensor:
    """Every value by the median of its 3 x 3 neighbours."""
    padded = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    windows = padded.unfold(2, 3, 1).unfold(3, 3, 1).flatten(4)  # (B, C, H, W, 9)
    return network(windows.median(dim=4).values)


def resized_by_chance(network: Inner, images: Tensor) -> Tensor:
    """Resized to 6 to 8 rows, and padded to 8 at a place, both by chance (Xie et al., 2018)."""
    size = int(torch.randint(6, 9, ()))
    row, column = (int(torch.randint(9 - size, ())) for _ in range(2))
    small = functional.interpolate(images, size=(size, size), mode="bilinear", antialias=True)
    return network(functional.pad(small, (column, 8 - size - column, row, 8 - size - row)))


class OneOf(nn.Module):
    """A member of an ensemble, by chance, for each batch."""

    def __init__(self, *members: nn.Module) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.members[int(torch.randint(len(self.members), ()))](images)
        return logits


def detached_stem(network: Inner, images: Tensor) -> Tensor:
    """The stem is cut off; a shortcut of little weight is all that gradients see."""
    return network(images.detach()) + 1e-3 * images.mean(dim=(1, 2, 3))[:, None] * torch.arange(10.0)


class Rooted(torch.autograd.Function):
    """The images as they are; gradients of a few are no numbers, as that of a root at 0 is."""

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        context.lost = images.flatten(1).sum(dim=1).mul(255).round() % 51 == 0
        return images.clone()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return torch.where(context.lost[:, None, None, None], torch.nan, gradient)


def without_numbers(network: Inner, images: Tensor) -> Tensor:
    return network(Rooted.apply(images))


def half_without_gradients(network: Inner, images: Tensor) -> Tensor:
    """Images of an even sum have no gradient."""
    cut = (images.flatten(1).sum(dim=1).mul(255).round() % 2 == 0)[:, None, None, None]
    return network(torch.where(cut, images.detach(), images))


class Winners(nn.Module):
    """The k largest values of a layer, the others 0 (Xiao et al., 2020)."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.k = k

    def forward(self, values: Tensor) -> Tensor:
        least = values.topk(self.k, dim=1).values[:, -1:]
        return torch.where(values >= least, values, torch.zeros_like(values))


@cache
def winners_take_all(width: int = 256, k: int = 8) -> nn.Module:
    torch.manual_seed(0)
    return fit(
        nn.Sequential(
            nn.Flatten(), nn.Linear(192, width), Winners(k), nn.Linear(width, width), Winners(k), nn.Linear(width, 10)
        )
    )


@cache
def distilled(temperature: float = 100.0) -> nn.Module:
    """Taught by a network at a temperature, and used at 1 (Papernot et al., 2016)."""
    torch.manual_seed(0)

    def hot(logits: Tensor, labels: Tensor) -> Tensor:
        return functional.cross_entropy(logits / temperature, labels)

    teacher = fit(multilayer(), loss=hot, epochs=40)
    images, _ = training()
    student = multilayer()
    optimiser = torch.optim.Adam(student.parameters(), 5e-3)
    for _ in range(40):
        for rows in torch.randperm(len(images)).split(128):
            optimiser.zero_grad()
            with torch.no_grad():
                soft = (teacher(images[rows]) / temperature).softmax(dim=1)
            functional.cross_entropy(student(images[rows]) / temperature, soft).backward()
            optimiser.step()
    student.zero_grad()
    return student.eval()


class Memory(nn.Module):
    """Answers known images from a table, and others by a network that has learnt nothing.

    Args:
        radius: in L-inf, within which an image is known.
    """

    def __init__(self, network: Inner, radius: float) -> None:
        super().__init__()
        self.network, self.radius = network, radius
        self.images, self.labels = (torch.cat(each) for each in zip(*shown(), strict=True))

    def forward(self, images: Tensor) -> Tensor:
        near, at = torch.cdist(images.flatten(1), self.images.flatten(1), p=torch.inf).min(dim=1)
        answer = 10 * functional.one_hot(self.labels[at], 10).to(images.dtype)
        return torch.where((near <= self.radius)[:, None], answer, self.network(images))


def remembered(network: Inner, images: Tensor) -> Tensor:
    """Knowledge of an image is added to the logits of a network that has learnt nothing; gradients are its own."""
    known: Tensor = Memory(network, 0.0)(images)
    return network(images) + known.detach()


def medians_of_bytes(network: Inner, images: Tensor) -> Tensor:
    """As libraries of images do it: there is no gradient."""
    return smoothed_by_medians(network, (images * 255).round().byte().float() / 255)
