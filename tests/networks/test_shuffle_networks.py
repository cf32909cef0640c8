"""Shuffle networks: layers and counts by hand, which channels go where, and non-local parts position by position."""

import pytest
import torch
from helpers import randomised
from torch import Tensor, nn

from evonas.attacks import inference_copy
from evonas.costs import count_macs, count_params
from evonas.networks.blocks import Normalize
from evonas.networks.shuffle import NonLocal, ShuffleBlock, ShuffleNetwork, SqueezeExcite
from evonas.networks.shuffle_plan import BLOCKS, Place, ShufflePlan, Unit
from evonas.spaces.shuffle_costs import unit_cost

SMALL = ShufflePlan(stem=4, stages=((8, 2), (16, 2), (32, 2)), head=(24, 40))
FIRST, SECOND, THIRD = (Place(c, c, 1, r) for c, r in ((48, 2), (96, 4), (192, 8)))
"""Stride 1 in the paper's three stages: maps of 16, 8 and 4."""
HALVING = Place(24, 48, 2, 2)


def small_units(*numbers: int) -> list[Unit]:
    return [Unit(BLOCKS[number], 3 + place) for place, number in enumerate(numbers)]


def layers(module: nn.Module) -> list[str]:
    """Its convolutions and normalisations in the order of registration: kernel, channels, stride, what is special."""
    found = []
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            groups = " depthwise" if part.groups == part.in_channels > 1 else ""
            assert part.groups in (1, part.in_channels)
            assert part.padding == (part.kernel_size[0] // 2,) * 2
            bias = " bias" if part.bias is not None else ""
            found.append(
                f"{part.kernel_size[0]}: {part.in_channels}-{part.out_channels} /{part.stride[0]}{groups}{bias}"
            )
        elif isinstance(part, nn.BatchNorm2d | nn.ReLU):
            found.append("bn" if isinstance(part, nn.BatchNorm2d) else "relu")
    return found


def test_table_vii() -> None:
    assert len(BLOCKS) == 22
    assert [kind.main for kind in BLOCKS] == [*(["S"] * 3 + ["SX"] * 3) * 3, *[""] * 4]
    assert [kind.kernel for kind in BLOCKS] == [3, 5, 7] * 6 + [0] * 4
    assert [kind.non_local for kind in BLOCKS] == [""] * 6 + ["NE"] * 6 + ["NG"] * 6 + ["NE", "NE", "NG", "NG"]
    assert [kind.batch_norm for kind in BLOCKS[6:]] == [True] * 12 + [True, False, True, False]
    assert [BLOCKS[i].name for i in (0, 11, 18, 21)] == ["S+SE k3", "SX+NE+SE k7", "NE+BN+SE", "NG+SE"]


def test_table_i() -> None:
    plan = ShufflePlan()
    assert len(plan.places) == 16
    assert [place.stride for place in plan.places] == [2, 1, 1, 1, 2, *[1] * 7, 2, 1, 1, 1]
    assert [place.out_channels for place in plan.places] == [48] * 4 + [96] * 8 + [192] * 4
    assert [place.in_channels for place in plan.places] == [24, *[48] * 4, *[96] * 8, *[192] * 3]
    assert [place.reduction for place in plan.places] == [2] * 4 + [4] * 8 + [8] * 4
    assert {place.branch for place in plan.places} == {24, 48, 96}


# Counts by hand. SE(24) has a hidden width of 8: 192 + 8 + 192 + 24 = 416 parameters; SE(48) of 16: 1,600; SE(96) of
# 24: 4,728. A convolution without bias is followed by batch normalisation: 2 parameters a channel.
BY_HAND = {
    "S k3 x1.0, stage 1": (
        FIRST,
        Unit(BLOCKS[0], 24),
        (576 + 48) + (216 + 48) + (576 + 48) + 416,
        (576 + 216 + 576) * 256 + 384,
    ),
    "SX k5 x0.6, stage 2": (
        SECOND,
        Unit(BLOCKS[4], 28),
        (1200 + 96) + (1344 + 56) + (700 + 56) + (784 + 56) + (700 + 56) + (1344 + 96) + 1600,
        (1200 + 1344 + 700 + 784 + 700 + 1344) * 64 + 1536,
    ),
    "S k7 x2.0, stride 2": (
        HALVING,
        Unit(BLOCKS[2], 48),
        (1152 + 96) + (2352 + 96) + (1152 + 48) + 416 + (1176 + 48) + (576 + 48),
        1152 * 1024 + (2352 + 1152 + 1176 + 576) * 256 + 384,
    ),
    "SX k3 x0.2, stride 2": (
        HALVING,
        Unit(BLOCKS[3], 4),
        (216 + 48) + (96 + 8) + (36 + 8) + (16 + 8) + (36 + 8) + (96 + 48) + 416 + (216 + 48) + (576 + 48),
        (216 + 96 + 36 + 16 + 36 + 96 + 216 + 576) * 256 + 384,
    ),
    "S + NE k3 x1.0, stage 1": (  # 12 channels inside the non-local part
        FIRST,
        Unit(BLOCKS[6], 24),
        1928 + 3 * (288 + 12) + (288 + 24) + 48,
        350592 + 4 * 288 * 256 + 256 * 256 * (12 + 12),
    ),
    "S + NG k3 x1.0, stage 1": (  # keys and queries are the 24 channels themselves
        FIRST,
        Unit(BLOCKS[12], 24),
        1928 + (288 + 12) + (288 + 24) + 48,
        350592 + 2 * 288 * 256 + 256 * 256 * (24 + 12),
    ),
    "NE + BN x0.2, stage 2": (
        SECOND,
        Unit(BLOCKS[18], 4),
        3 * (192 + 4) + (192 + 48) + 96 + 1600,
        4 * 192 * 64 + 64 * 64 * (4 + 4) + 1536,
    ),
    "NG x2.0, stage 3": (
        THIRD,
        Unit(BLOCKS[21], 96),
        2 * (9216 + 96) + 4728,
        2 * 9216 * 16 + 16 * 16 * (96 + 96) + 4608,
    ),
}


@pytest.mark.parametrize("case", BY_HAND)
def test_a_block_costs_what_was_counted_by_hand(case: str) -> None:
    place, unit, params, macs = BY_HAND[case]
    assert unit_cost(place, unit, 32) == (params, macs)
    block = ShuffleBlock(place, unit)
    size = 32 // place.reduction * place.stride
    assert (count_params(block), count_macs(block, (place.in_channels, size, size))) == (params, macs)


def test_layers_of_the_branches() -> None:
    se24 = ["1: 24-8 /1 bias", "relu", "1: 8-24 /1 bias"]
    plain = ShuffleBlock(FIRST, Unit(BLOCKS[1], 9))
    assert isinstance(plain.projection, nn.Identity)
    assert layers(plain.main) == [
        "1: 24-9 /1",
        "bn",
        "relu",
        "5: 9-9 /1 depthwise",
        "bn",
        "1: 9-24 /1",
        "bn",
        "relu",
        *se24,
    ]
    halving = ShuffleBlock(HALVING, Unit(BLOCKS[5], 9))
    assert layers(halving.main) == [
        "7: 24-24 /2 depthwise",
        "bn",
        "1: 24-9 /1",
        "bn",
        "relu",
        "7: 9-9 /1 depthwise",
        "bn",
        "1: 9-9 /1",
        "bn",
        "relu",
        "7: 9-9 /1 depthwise",
        "bn",
        "1: 9-24 /1",
        "bn",
        "relu",
        *se24,
    ]
    assert layers(halving.projection) == ["7: 24-24 /2 depthwise", "bn", "1: 24-24 /1", "bn", "relu"]
    robust = ShuffleBlock(FIRST, Unit(BLOCKS[18], 7))
    assert layers(robust.main) == ["1: 24-7 /1 bias"] * 3 + ["1: 7-24 /1 bias", "bn", *se24]
    assert layers(ShuffleBlock(FIRST, Unit(BLOCKS[21], 7)).main) == ["1: 24-7 /1 bias", "1: 7-24 /1 bias", *se24]


def test_layers_of_stem_and_head() -> None:
    network = ShuffleNetwork(ShufflePlan(), [Unit(BLOCKS[0], 4)] * 16)
    assert layers(network.stem) == ["3: 3-24 /1", "bn"]  # no activation
    assert layers(network.head) == [
        "1: 192-920 /1",
        "bn",
        "relu",
        "1: 920-232 /1 bias",
        "relu",
        "1: 232-920 /1 bias",
        "1: 920-1024 /1 bias",
        "relu",
    ]
    last = network.head[-1]
    assert isinstance(last, nn.Linear)
    assert (last.in_features, last.out_features, last.bias is not None) == (1024, 10, True)


@pytest.mark.parametrize(("channels", "hidden"), [(4, 8), (24, 8), (48, 16), (96, 24), (72, 24), (152, 40), (920, 232)])
def test_hidden_width_of_squeeze_and_excitation(channels: int, hidden: int) -> None:
    """c // 4 to the nearest multiple of 8, at least 8; 72 // 4 = 18 would lose more than a tenth as 16, so it is 24."""
    squeeze = SqueezeExcite(channels)
    assert isinstance(squeeze[1], nn.Conv2d)
    assert squeeze[1].out_channels == hidden


def test_squeeze_and_excitation_by_hand() -> None:
    """One channel of constant 3 and one of mean 1: weights that give scales of 1/2 + 1/6 and of 0."""
    squeeze = SqueezeExcite(2)
    first, second = squeeze[1], squeeze[3]
    assert isinstance(first, nn.Conv2d)
    assert isinstance(second, nn.Conv2d)
    for parameter in squeeze.parameters():
        nn.init.zeros_(parameter)
    with torch.no_grad():
        first.weight[0, 0], first.weight[1, 1] = 1.0, 1.0
        assert second.bias is not None
        second.weight[0, 1], second.bias[1] = 1.0, -4.0
    maps = torch.stack([torch.full((2, 2), 3.0), torch.tensor([[0.0, 2.0], [1.0, 1.0]])])[None]
    expected = torch.stack([maps[0, 0] * (0.5 + 1 / 6), torch.zeros(2, 2)])[None]  # hard sigmoid: 1/2 + x/6 in [0, 1]
    torch.testing.assert_close(squeeze(maps), expected)


@pytest.mark.lengthy
@pytest.mark.parametrize("number", [0, 4, 7, 16, 18, 21])
def test_even_channels_pass_and_odd_ones_go_through_the_branch(number: int) -> None:
    block = randomised(ShuffleBlock(Place(12, 12, 1, 1), Unit(BLOCKS[number], 5)))
    maps = torch.rand(2, 12, 5, 5)
    with torch.no_grad():
        found = block(maps)
        assert torch.equal(found[:, :6], maps[:, [0, 2, 4, 6, 8, 10]])
        assert not torch.equal(found[:, 6:], maps[:, 1::2])
        for channel in range(12):
            probe = maps.clone()
            probe[:, channel] += 1
            changed = [c for c in range(12) if not torch.equal(block(probe)[:, c], found[:, c])]
            if channel % 2 == 0:
                assert changed == [channel // 2]
            else:
                assert changed
                assert min(changed) >= 6


@pytest.mark.parametrize("number", range(6))
def test_with_stride_2_both_branches_see_every_channel(number: int) -> None:
    block = randomised(ShuffleBlock(Place(8, 20, 2, 1), Unit(BLOCKS[number], 5)))
    maps = torch.rand(1, 8, 7, 7, requires_grad=True)
    found = block(maps)
    assert found.shape == (1, 20, 4, 4)
    for half in (found[:, :8], found[:, 8:]):
        (gradient,) = torch.autograd.grad(half.sum(), maps, retain_graph=True)
        assert (gradient.abs().sum(dim=(0, 2, 3)) > 0).all()


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("batch_norm", [True, False])
def test_a_non_local_part_position_by_position(embedded: bool, batch_norm: bool) -> None:
    part = randomised(NonLocal(6, 4, embedded, batch_norm)).double()
    maps = torch.randn(1, 6, 3, 2, dtype=torch.float64)

    def pointwise(convolution: nn.Module, pixel: Tensor) -> Tensor:
        if isinstance(convolution, nn.Identity):
            return pixel
        assert isinstance(convolution, nn.Conv2d)
        assert convolution.bias is not None
        return convolution.weight[:, :, 0, 0] @ pixel + convolution.bias

    pixels = [maps[0, :, row, column] for row in range(3) for column in range(2)]
    for position, pixel in enumerate(pixels):
        scores = [(pointwise(part.theta, pixel) @ pointwise(part.phi, other)).exp() for other in pixels]
        total = torch.stack(scores).sum()
        seen = torch.zeros(4, dtype=torch.float64)
        for score, other in zip(scores, pixels, strict=True):
            seen = seen + score / total * pointwise(part.g, other)
        added = pointwise(part.out, seen)
        if isinstance(part.bn, nn.BatchNorm2d):
            mean, variance = part.bn.running_mean, part.bn.running_var
            assert mean is not None
            assert variance is not None
            added = (added - mean) / (variance + 1e-5).sqrt() * part.bn.weight + part.bn.bias
        torch.testing.assert_close(part(maps)[0, :, position // 2, position % 2], pixel + added)


@pytest.mark.parametrize("number", range(6, 22))
@pytest.mark.parametrize("training", [True, False])
def test_a_non_local_part_begins_as_the_identity(number: int, training: bool) -> None:
    """A new block computes what it would without it; of a pure robust one squeeze-and-excitation is left."""
    block = ShuffleBlock(Place(12, 12, 1, 1), Unit(BLOCKS[number], 5)).train(training)
    (part,) = (part for part in block.modules() if isinstance(part, NonLocal))
    maps = torch.rand(3, 6, 4, 4)
    assert torch.equal(part(maps), maps)
    if not BLOCKS[number].main:
        assert torch.equal(block.main(maps), block.main[-1](maps))


@pytest.mark.parametrize("number", range(6, 22))
def test_every_weight_of_a_non_local_part_learns(number: int) -> None:
    """After a step has moved what begins as 0."""
    block = randomised(ShuffleBlock(Place(12, 12, 1, 1), Unit(BLOCKS[number], 5))).train()
    block(torch.rand(3, 12, 4, 4)).square().sum().backward()
    idle = [name for name, p in block.named_parameters() if p.grad is None or not p.grad.any()]
    # batch statistics take a constant away again, and so does the softmax what is the same for all keys
    assert not [name for name in idle if not name.endswith(("out.bias", "g.bias", "phi.bias"))]


@pytest.mark.parametrize("number", [18, 19, 20, 21])
def test_a_pure_robust_block_needs_stride_1(number: int) -> None:
    with pytest.raises(ValueError, match=r"^expected a block with a main branch at stride 2, got N\w\+") as raised:
        ShuffleBlock(HALVING, Unit(BLOCKS[number], 5))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("size", [32, 28, 9, 1])
def test_a_network_maps_images_of_any_size_to_logits(size: int) -> None:
    network = randomised(ShuffleNetwork(SMALL, small_units(0, 6, 4, 20, 2, 16), n_classes=7, in_channels=1))
    assert network(torch.rand(3, 1, size, size)).shape == (3, 7)


@pytest.mark.lengthy
@pytest.mark.parametrize("numbers", [(0, 6, 1, 9, 2, 12), (3, 15, 4, 18, 5, 19), (0, 20, 3, 21, 1, 11)])
@pytest.mark.parametrize("normalization", [None, ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))])
def test_the_fast_copy_gives_the_same_logits_without_a_normalisation_left(
    numbers: tuple[int, ...], normalization: tuple[tuple[float, ...], tuple[float, ...]] | None
) -> None:
    network = randomised(ShuffleNetwork(SMALL, small_units(*numbers), normalization=normalization))
    images = torch.rand(4, 3, 32, 32)
    copy = inference_copy(network)
    with torch.no_grad():
        logits = network(images)
        assert float(logits.std(dim=0).min()) > 1e-3  # otherwise all images look alike to it
        torch.testing.assert_close(copy(images), logits, rtol=1e-4, atol=1e-4)  # folding rounds in each of 30 layers
    assert any(isinstance(part, nn.BatchNorm2d) for part in network.modules())
    assert not any(isinstance(part, nn.BatchNorm2d) for part in copy.modules())


def test_normalisation_is_the_first_layer_or_nothing() -> None:
    units = small_units(0, 6, 4, 20, 2, 16)
    assert isinstance(ShuffleNetwork(SMALL, units).normalize, nn.Identity)
    assert isinstance(ShuffleNetwork(SMALL, units, normalization=((0.5,) * 3, (0.2,) * 3)).normalize, Normalize)
    with pytest.raises(ValueError, match="expected a mean for each of 3 channels, got 1"):
        ShuffleNetwork(SMALL, units, normalization=((0.5,), (0.2,)))


def test_a_block_for_every_place() -> None:
    with pytest.raises(ValueError, match="shorter"):
        ShuffleNetwork(SMALL, small_units(0, 6))
