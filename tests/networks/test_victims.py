"""Target networks: sizes from the literature and by hand, the narrow and shallow ones, and how they are used."""

import copy
import pickle

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from evonas.costs import count_macs, count_params
from evonas.data import Augmentation, DeviceData, load_data
from evonas.errors import ConfigurationError, DataError
from evonas.networks import VICTIMS
from evonas.networks.victims import MIN_CHANNELS, DenseNet, ResNet, scaled_channels
from evonas.training import TrainingConfig, standard, train

NORMALIZATION = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
SMALL = {"DenseNet": {"depth": 10}, "ResNet": {"depth": 8}}
"""The shallowest of those that have a depth."""


def small(name: str, seed: int = 0, **settings: object) -> nn.Module:
    torch.manual_seed(seed)
    return VICTIMS[name](**{"width": 0.25, **SMALL.get(name, {}), **settings})


def images(n: int = 4, channels: int = 3, seed: int = 0) -> Tensor:
    return torch.rand(n, channels, 32, 32, generator=torch.Generator().manual_seed(seed))


def used(network: nn.Module) -> nn.Module:
    """The network in eval mode, its batch statistics those of some images and no longer 0 and 1."""
    with torch.no_grad():
        for seed in range(3):
            network.train()(images(16, seed=seed))
    return network.eval()


def test_the_names_are_those_of_table_one() -> None:
    assert sorted(VICTIMS) == ["DenseNet", "LeNet", "ResNet", "VGG-16"]


@pytest.mark.lengthy
@pytest.mark.parametrize(
    ("name", "settings", "params"),
    [
        ("LeNet", {}, 62_006),  # 456 + 2,416 + 48,120 + 10,164 + 850
        ("VGG-16", {}, 14_728_266),  # 14,710,464 weights, 4,224 biases, 8,448 of BN, 5,130 of the classifier
        ("ResNet", {}, 464_154),
        ("ResNet", {"depth": 20}, 269_722),  # He et al., Table 6: .27M, .46M, .66M, .85M, 1.7M
        ("ResNet", {"depth": 44}, 658_586),
        ("ResNet", {"depth": 56}, 853_018),
        ("ResNet", {"depth": 110}, 1_727_962),
        ("ResNet", {"depth": 8}, 75_290),
        ("DenseNet", {}, 769_162),  # Huang et al., Table 2: 0.8M
        ("DenseNet", {"depth": 40}, 176_122),
        ("LeNet", {"n_classes": 100, "in_channels": 1}, 62_006 - 2 * 25 * 6 + 90 * 85),
        ("VGG-16", {"n_classes": 100}, 14_728_266 + 90 * 513),
    ],
)
def test_parameters(name: str, settings: dict[str, int], params: int) -> None:
    assert count_params(VICTIMS[name](**settings)) == params


@pytest.mark.parametrize(("name", "macs"), [("LeNet", 651_720), ("VGG-16", 313_201_664), ("ResNet", 68_862_592)])
def test_multiply_adds(name: str, macs: int) -> None:
    """LeNet by hand: 352,800 + 240,000 + 48,000 + 10,080 + 840. VGG-16's 313M and ResNet-32's 69M are well known."""
    assert count_macs(VICTIMS[name](), (3, 32, 32)) == macs


def dense_params(depth: int, growth: int) -> int:
    """DenseNet-BC's parameters, summed from the paper's Table 1."""
    c = 2 * growth
    total = 27 * c
    for block in range(3):
        for _ in range((depth - 4) // 6):
            total += 2 * c + c * 4 * growth + 8 * growth + 9 * 4 * growth * growth
            c += growth
        if block < 2:
            total += 2 * c + c * (c // 2)
            c //= 2
    return total + 2 * c + 10 * c + 10


@pytest.mark.parametrize(("depth", "width", "growth"), [(100, 1.0, 12), (22, 0.5, 6), (16, 0.25, 4), (10, 1.5, 18)])
def test_densenet_follows_from_its_growth(depth: int, width: float, growth: int) -> None:
    assert count_params(DenseNet(depth=depth, width=width)) == dense_params(depth, growth)


def test_width() -> None:
    assert [scaled_channels(c, 0.25) for c in (6, 12, 16, 17, 64)] == [4, 4, 4, 4, 16]
    assert [scaled_channels(c, 0.3) for c in (16, 64)] == [5, 19]  # 4.8 and 19.2
    assert [scaled_channels(c, 2.0) for c in (3, 6)] == [6, 12]
    assert scaled_channels(3, 1.0) == 3


@pytest.mark.lengthy
@pytest.mark.parametrize("name", sorted(VICTIMS))
def test_every_width_gives_logits_and_no_layer_below_the_least_channels(name: str) -> None:
    for width in (0.01, 0.25, 0.3):
        network = small(name, width=width, n_classes=7, normalization=NORMALIZATION).eval()
        assert network(images()).shape == (4, 7)
        convolutions = [part for part in network.modules() if isinstance(part, nn.Conv2d)]
        assert min(part.out_channels for part in convolutions) >= MIN_CHANNELS
    sizes = [count_params(small(name, width=width)) for width in (0.25, 0.5, 1.0)]
    assert sizes == sorted(set(sizes))


@pytest.mark.parametrize("name", sorted(VICTIMS))
def test_normalisation_is_the_first_layer(name: str) -> None:
    bare, normalised = small(name).eval(), small(name, normalization=NORMALIZATION).eval()
    mean, deviation = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALIZATION)
    assert torch.equal(normalised(images()), bare((images() - mean) / deviation))


@pytest.mark.lengthy
@pytest.mark.parametrize("name", sorted(VICTIMS))
@pytest.mark.parametrize("shape", [(2, 3, 28, 28), (2, 3, 64, 64), (2, 3, 32, 30), (3, 32, 32)])
def test_other_sizes_are_refused_in_one_line(name: str, shape: tuple[int, ...]) -> None:
    network = small(name).eval()
    for asked in (network, torch.fx.symbolic_trace(network)):
        with pytest.raises(DataError, match=r"\(B, C, 32, 32\).*got \(") as caught:
            asked(torch.zeros(shape))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("width", [0, -1.0, float("nan"), float("inf")])
def test_a_width_that_is_none_is_refused(width: float) -> None:
    with pytest.raises(ConfigurationError, match="width > 0"):
        VICTIMS["LeNet"](width=width)


@pytest.mark.parametrize(("kind", "depths"), [(ResNet, (2, 7, 33, -4)), (DenseNet, (4, 40.5, 99, 0))])
def test_a_depth_that_is_none_is_refused(kind: type[nn.Module], depths: tuple[int, ...]) -> None:
    for depth in depths:
        with pytest.raises(ConfigurationError, match=f"expected a depth of 6 n .*, got {depth}"):
            kind(depth=depth)


def test_a_shortcut_drops_pixels_and_adds_zero_channels() -> None:
    """With a residual part that is 0: block 4 of ResNet-14 (16 -> 32 channels) halves the map, old channels between."""
    block = next(part for part in ResNet(depth=14).body.children() if getattr(part, "stride", 1) == 2).eval()
    nn.init.zeros_(list(block.parameters())[-2])  # the scale of the last normalisation
    x = torch.rand(2, 16, 8, 8)
    out = block(x)
    assert out.shape == (2, 32, 4, 4)
    assert torch.equal(out[:, 8:24], x[:, :, ::2, ::2])
    assert not out[:, :8].any()
    assert not out[:, 24:].any()


def test_a_dense_layer_keeps_its_input() -> None:
    layer = next(part for part in DenseNet(depth=10).body.children() if hasattr(part, "new")).eval()
    x = torch.rand(2, 24, 8, 8)
    out = layer(x)
    assert out.shape == (2, 36, 8, 8)
    assert torch.equal(out[:, :24], x)


@pytest.mark.parametrize("name", sorted(VICTIMS))
class TestUse:
    def test_torch_fx_traces_it(self, name: str) -> None:
        network = used(small(name, normalization=NORMALIZATION))
        assert torch.equal(torch.fx.symbolic_trace(network)(images()), network(images()))

    def test_channels_last_gives_the_same_logits(self, name: str) -> None:
        """Up to sums in another order: some 30 layers of relative rounding 6e-8, far below 1e-4."""
        network = used(small(name))
        expected = network(images())
        x = images().contiguous(memory_format=torch.channels_last)
        assert torch.allclose(network.to(memory_format=torch.channels_last)(x), expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.lengthy
    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
    def test_half_precision(self, name: str, dtype: torch.dtype) -> None:
        """bf16 keeps 8 bits: after every layer's rounding the logits are right to some percent of the largest."""
        network = used(small(name, normalization=NORMALIZATION))
        expected = network(images())
        with torch.autocast("cpu", torch.bfloat16):
            assert (network(images()) - expected).abs().max() < 0.1 * expected.abs().max()
        logits = network.to(dtype)(images().to(dtype))
        assert logits.dtype == dtype
        assert (logits - expected).abs().max() < 0.1 * expected.abs().max()

    def test_an_image_does_not_depend_on_its_batch(self, name: str) -> None:
        network = used(small(name))
        assert network(images(0)).shape == (0, 10)
        whole = network(images(3))
        assert torch.allclose(network(images(3)[1:2]), whole[1:2], rtol=1e-4, atol=1e-4)  # other kernels, other order

    @pytest.mark.lengthy
    def test_it_is_a_value_that_travels(self, name: str) -> None:
        network = used(small(name))
        for other in (copy.deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert torch.equal(other(images()), network(images()))
        other = small(name, seed=1).eval()
        assert not torch.equal(other(images()), network(images()))
        other.load_state_dict(network.state_dict())
        assert torch.equal(other(images()), network(images()))

    @pytest.mark.lengthy
    @pytest.mark.parametrize("precision", ["fp32", "bf16"])
    @pytest.mark.slow
    def test_it_trains(self, name: str, precision: str) -> None:
        """Eight passes over 100 images of two easily told digits: at least nine of ten of them are right."""
        dataset = load_data("digits")
        chosen = np.flatnonzero(dataset.train.labels < 2)[:100]
        part = DeviceData(dataset, torch.device("cpu")).train
        part.images, part.labels = part.images[chosen], part.labels[chosen]
        network = small(name, n_classes=2, normalization=dataset.normalization)
        before = copy.deepcopy(network.state_dict())
        config = TrainingConfig(epochs=8, batch_size=20, lr=0.05, precision=precision)
        no_change = Augmentation(padding=0)
        train(network, part, no_change, config, standard, torch.Generator().manual_seed(0))
        with torch.no_grad():
            logits = network(part.images.permute(0, 3, 1, 2).float() / 255)
        assert float((logits.argmax(dim=1) == part.labels).float().mean()) >= 0.9
        fixed = {"normalize.mean", "normalize.deviation"}
        assert [key for key, value in network.state_dict().items() if torch.equal(value, before[key])] == sorted(
            fixed & before.keys(), reverse=True
        )
