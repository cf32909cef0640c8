"""Hand-made networks: their sizes to the unit, their shapes at any width, and what the attacks ask of them."""

from typing import Any

import pytest
import torch
from torch import nn

from evonas.costs import count_params
from evonas.errors import ConfigurationError
from evonas.networks import HANDMADE, MobileNetV3, ResNet18, ShuffleNetV2
from evonas.networks.blocks import Normalize, seeded
from evonas.networks.handmade import LARGE
from evonas.training import TradesYopo
from evonas.training.yopo import split_first_layer

PARAMS = {"ResNet-18": 11_173_962, "ShuffleNetV2": 5_365_486, "MobileNetV3": 4_214_842}
"""For 10 classes: torchvision's of the same name and width but for the stem's kernel, and ResNet-18's for CIFAR."""


def images(n: int = 2) -> torch.Tensor:
    return torch.rand(n, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def narrow(name: str, **options: Any) -> nn.Module:
    return seeded(lambda: HANDMADE[name].build(width=0.1, **options), 0)


@pytest.mark.parametrize("name", PARAMS)
def test_parameters_to_the_unit(name: str) -> None:
    with torch.device("meta"):
        assert count_params(HANDMADE[name].build()) == PARAMS[name]
        more = count_params(HANDMADE[name].build(n_classes=11)) - PARAMS[name]
    assert more == {"ResNet-18": 513, "ShuffleNetV2": 2049, "MobileNetV3": 1281}[name]


def test_which_of_the_standard_widths_comes_closest() -> None:
    """Others: ShuffleNetV2 1.5x has 2,488,874 parameters, MobileNetV3-Small 1,528,106."""
    for name, others in {"ShuffleNetV2": 2_488_874, "MobileNetV3": 1_528_106}.items():
        paper = HANDMADE[name].paper_params
        assert abs(PARAMS[name] - paper) < abs(others - paper)
        assert abs(PARAMS[name] - paper) / paper < 0.15
    assert round(PARAMS["ResNet-18"] / 1e6, 2) == HANDMADE["ResNet-18"].paper_params / 1e6


@pytest.mark.parametrize("name", PARAMS)
@pytest.mark.parametrize("width", [0.01, 0.1, 0.3])
def test_any_width_gives_logits(name: str, width: float) -> None:
    network = HANDMADE[name].build(n_classes=7, width=width, in_channels=1).eval()
    with torch.no_grad():
        assert network(images()[:, :1]).shape == (2, 7)


@pytest.mark.parametrize("name", PARAMS)
def test_stem_and_stages_have_the_maps_that_they_should(name: str) -> None:
    """Stride 1 in the first convolution; 4x4 maps in the end, 2x2 in MobileNetV3, which halves once more."""
    network = narrow(name).eval()
    sizes: list[int] = []
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(lambda module, given, found: sizes.append(found.shape[-1]))
    with torch.no_grad():
        network(images())
    expected = {"ResNet-18": [32, 16, 8, 4], "ShuffleNetV2": [32, 16, 8, 4], "MobileNetV3": [32, 16, 8, 4, 2]}[name]
    assert sizes[0] == 32
    assert sorted({size for size in sizes if size > 1}, reverse=True) == expected


def test_blocks_are_as_many_as_published() -> None:
    with torch.device("meta"):
        strides = {
            name: [part.stride[0] for part in HANDMADE[name].build().modules() if isinstance(part, nn.Conv2d)]
            for name in PARAMS
        }
    assert len(strides["ResNet-18"]) == 17 + 3  # 3 shortcuts
    assert len(strides["ShuffleNetV2"]) == 1 + 16 * 3 + 3 * 2 + 1
    assert strides["ResNet-18"].count(2) == strides["ShuffleNetV2"].count(2) == 6
    assert (len(LARGE), strides["MobileNetV3"].count(2)) == (15, 4)


def test_channels_are_shuffled_in_two_groups() -> None:
    """With stride 1 the first half passes to the even channels."""
    network = narrow("ShuffleNetV2").eval()
    unit = next(part for part in network.modules() if getattr(part, "stride", None) == 1 and hasattr(part, "branch"))
    maps = torch.rand(2, 24, 4, 4, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found = unit(maps)
    assert torch.equal(found[:, 0::2], maps[:, :12])
    assert not torch.equal(found[:, 1::2], maps[:, 12:])


@pytest.mark.parametrize("name", PARAMS)
def test_the_first_convolution_is_the_first_layer(name: str) -> None:
    network = narrow(name, normalization=((0.5, 0.4, 0.3), (0.2, 0.2, 0.2))).eval()
    assert isinstance(network.normalize, Normalize)
    with torch.no_grad():
        first, rest = split_first_layer(network, images())
        assert torch.equal(rest(first(images())), network(images()))
        assert not torch.equal(rest(first(1 - images())), network(images()))


@pytest.mark.lengthy
@pytest.mark.parametrize("name", PARAMS)
def test_trades_yopo_gives_every_weight_a_gradient(name: str) -> None:
    network = narrow(name)
    loss = TradesYopo(m=1, n=2)(network, images(8), torch.arange(8), torch.Generator().manual_seed(0))
    loss.backward()
    assert network.training
    assert [key for key, weight in network.named_parameters() if weight.grad is None] == []


@pytest.mark.parametrize("name", PARAMS)
def test_nothing_is_drawn_in_training(name: str) -> None:
    """Dropout would draw from torch's own generator: the same run again would be another."""
    network = narrow(name)
    state = torch.get_rng_state()
    with torch.no_grad():
        network(images())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("build", [ResNet18, ShuffleNetV2, MobileNetV3])
def test_senseless_sizes_are_refused(build: Any) -> None:
    for options in ({"width": 0.0}, {"n_classes": 0}):
        with pytest.raises(ConfigurationError, match="expected n_classes >= 1 and width > 0"):
            build(**options)
