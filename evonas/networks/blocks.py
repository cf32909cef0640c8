"""Building blocks shared by several families of networks."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

__all__ = ["Normalization", "Normalize", "conv_bn_relu", "first_layer", "seeded"]

Normalization = tuple[Sequence[float], Sequence[float]] | None
"""(mean, deviation) per channel, which become the first layer; None: the bare network."""


class Normalize(nn.Module):
    """(image - mean) / deviation per channel, as a first layer, so that all other code sees pixels in [0, 1]."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, mean: Sequence[float], deviation: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(deviation) or min(deviation) <= 0:
            raise ValueError(f"expected one mean and one deviation > 0 a channel, got {mean} and {deviation}")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).view(1, -1, 1, 1))
        self.register_buffer("deviation", torch.tensor(deviation, dtype=torch.float32).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.deviation


def first_layer(normalization: Normalization, channels: int) -> nn.Module:
    """`Normalize(mean, deviation)` for images of `channels` channels; the identity for None."""
    if normalization is None:
        return nn.Identity()
    if len(normalization[0]) != channels:
        raise ValueError(f"expected a mean for each of {channels} channels, got {len(normalization[0])}")
    return Normalize(*normalization)


def conv_bn_relu(in_channels: int, out_channels: int, kernel_size: int) -> nn.Sequential:
    """Convolution without bias that keeps height and width, batch normalisation, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


def seeded(build: Callable[[], nn.Module], seed: int) -> nn.Module:
    """The network that `build` returns, with initial weights drawn from `seed`; torch's generator is restored."""
    state = torch.default_generator.get_state()
    try:
        torch.default_generator.manual_seed(seed)
        return build()
    finally:
        torch.default_generator.set_state(state)
