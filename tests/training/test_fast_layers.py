"""Faster kernels of layers in training: torch's own values and gradients, and only for layers that they fit."""

from collections.abc import Callable
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from evonas.spaces import ShuffleSpace
from evonas.training import Trades, TradesYopo
from evonas.training.fast_layers import fast_layers


def in_depth(kernel: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(6, 6, kernel, stride, dilation * (kernel // 2), dilation, groups=6, bias=False)


FASTER: dict[str, Callable[[], nn.Conv2d]] = {
    "1x1": lambda: nn.Conv2d(6, 4, 1, bias=False),
    "1x1 with bias": lambda: nn.Conv2d(6, 9, 1),
    **{
        "depthwise {0}x{0}, stride {1}, dilation {2}".format(*how): partial(in_depth, *how)
        for how in product((3, 5, 7), (1, 2), (1, 2))
    },
}
OTHERS: dict[str, Callable[[], nn.Conv2d]] = {
    "3x3": lambda: nn.Conv2d(6, 4, 3),
    "1x1 with stride": lambda: nn.Conv2d(6, 4, 1, stride=2),
    "1x1 with padding": lambda: nn.Conv2d(6, 4, 1, padding=1),
    "1x1 in groups": lambda: nn.Conv2d(6, 4, 1, groups=2),
    "two outputs a channel": lambda: nn.Conv2d(6, 12, 3, groups=6, bias=False),
    "depthwise with bias": lambda: nn.Conv2d(6, 6, 3, groups=6),
    "padded by reflection": lambda: nn.Conv2d(6, 6, 3, padding=1, padding_mode="reflect", groups=6, bias=False),
    "padded to the same size": lambda: nn.Conv2d(6, 6, 3, padding="same", groups=6, bias=False),
    "not square": lambda: nn.Conv2d(6, 6, (3, 5), padding=1, groups=6, bias=False),
}


def replaced(network: nn.Module) -> list[nn.Module]:
    with fast_layers(network):
        return [part for part in network.modules() if "forward" in part.__dict__]


def found(layer: nn.Module, maps: Tensor) -> list[Tensor]:
    """Value, gradients of the maps and of every parameter."""
    maps = maps.clone().requires_grad_()
    value = layer(maps)
    slope = torch.randn(value.shape, generator=torch.Generator().manual_seed(2)).to(value)
    return [value.detach(), *torch.autograd.grad(value, [maps, *layer.parameters()], slope)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize("size", [1, 8, 9])
@pytest.mark.parametrize("name", FASTER)
def test_values_and_gradients_are_torchs(name: str, size: int, memory_format: torch.memory_format) -> None:
    """In maps of any layout, and in every second channel of some, as the blocks of ShuffleNet read them."""
    layer = FASTER[name]().double()
    drawn = torch.randn(3, 12, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    drawn = drawn.contiguous(memory_format=memory_format)
    for maps in (drawn[:, :6], drawn[:, ::2]):
        expected = found(layer, maps)
        with fast_layers(layer):
            assert "forward" in layer.__dict__
            faster = found(layer, maps)
        for one, other in zip(faster, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FASTER)
def test_maps_without_a_batch_are_taken_as_torch_takes_them(name: str) -> None:
    layer = FASTER[name]().double()
    maps = torch.randn(6, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = found(layer, maps)
    with fast_layers(layer):
        faster = found(layer, maps)
    for one, other in zip(faster, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", FASTER)
def test_in_bfloat16_they_are_as_exact_as_it_is(name: str) -> None:
    """Sums are taken in float32, and rounded to 8 bits once."""
    layer = FASTER[name]()
    maps = torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(1))
    exact = found(layer, maps)[:2]
    with fast_layers(layer), torch.autocast("cpu", torch.bfloat16):
        rounded = found(layer, maps)[:2]
    assert rounded[0].dtype == torch.bfloat16
    for one, other in zip(rounded, exact, strict=True):
        assert float((one.float() - other).norm() / other.norm()) < 4 * 2**-8  # inputs and result are rounded


@pytest.mark.parametrize("name", OTHERS)
def test_other_layers_stay_as_they_are(name: str) -> None:
    assert not replaced(OTHERS[name]())


def test_hooks_and_layers_of_a_class_of_their_own_stay() -> None:
    class Own(nn.Conv2d):
        pass

    hooked = nn.Conv2d(3, 4, 1)
    hooked.register_forward_hook(lambda *_: None)
    network = nn.Sequential(Own(3, 4, 1), hooked, nn.Conv2d(3, 4, 1))
    assert replaced(network) == [network[2]]


def test_every_small_and_every_depthwise_convolution_of_a_shuffle_network_is_faster() -> None:
    """All but the stem; afterwards, also where something fails, there is no trace."""
    space = ShuffleSpace(width=1 / 6, depth=0.1)
    network = space.build(space.upper)
    stem, *others = (part for part in network.modules() if isinstance(part, nn.Conv2d))
    with pytest.raises(ZeroDivisionError), fast_layers(network):  # noqa: PT012
        assert all("forward" in part.__dict__ for part in others)
        assert "forward" not in stem.__dict__
        raise ZeroDivisionError
    assert not any("forward" in part.__dict__ for part in network.modules())


class Counting:
    """Counts how often a convolution of torch's own runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        own = nn.Conv2d.forward

        def forward(part: nn.Conv2d, maps: Tensor) -> Tensor:
            self.count += 1
            return own(part, maps)

        monkeypatch.setattr(nn.Conv2d, "forward", forward)


@pytest.mark.parametrize(
    ("recipe", "faster"),
    [(TradesYopo(m=1, n=1), True), (TradesYopo(m=1, n=1, closed=False), False), (Trades(steps=1), False)],
    ids=str,
)
def test_which_recipes_take_them(recipe: Any, faster: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that runs of version 0.1.0 go on with round as they did."""
    counting = Counting(monkeypatch)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    recipe(network, images, torch.tensor([1, 2]), torch.Generator().manual_seed(0))
    assert counting.count == (4 if faster else 8)  # two layers; clean, one step, and both terms of the loss
    assert not any("forward" in part.__dict__ for part in network.modules())
