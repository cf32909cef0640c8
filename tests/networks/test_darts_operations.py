"""DARTS's operations on maps so small that their values can be written down."""

import pytest
import torch
from torch import Tensor, nn

from evonas.costs import count_params
from evonas.networks.darts_operations import (
    PRIMITIVES,
    DilConv,
    FactorizedReduce,
    ReluConvBN,
    SepConv,
    Zero,
    operation,
)


def plain(part: nn.Module) -> nn.Module:
    """All convolution weights 1, and batch normalisation that changes nothing."""
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.ones_(layer.weight)
        elif isinstance(layer, nn.BatchNorm2d):
            layer.eps = 0.0
    return part.eval()


def impulse(size: int) -> Tensor:
    """(1, 1, size, size), 1 in the middle."""
    maps = torch.zeros(1, 1, size, size)
    maps[0, 0, size // 2, size // 2] = 1.0
    return maps


def counting(size: int) -> Tensor:
    """(1, 1, size, size) of 0, 1, 2, ... row by row."""
    return torch.arange(float(size**2)).view(1, 1, size, size)


def test_primitives_are_in_dartss_order() -> None:
    assert PRIMITIVES == (
        "none",
        "max_pool_3x3",
        "avg_pool_3x3",
        "skip_connect",
        "sep_conv_3x3",
        "sep_conv_5x5",
        "dil_conv_3x3",
        "dil_conv_5x5",
    )


def test_an_unknown_operation_is_refused() -> None:
    with pytest.raises(KeyError, match=r"unknown operation 'conv_7x1_1x7'; known: avg_pool_3x3, .*skip_connect"):
        operation("conv_7x1_1x7", 4, 1)


# For 4 channels: a depthwise 3x3 convolution has 36 weights, 5x5 has 100, a pointwise one 16, and batch normalisation
# 8 parameters.
@pytest.mark.parametrize(
    ("name", "stride", "affine", "bare"),
    [
        ("none", 1, 0, 0),
        ("none", 2, 0, 0),
        ("max_pool_3x3", 1, 0, 0),
        ("max_pool_3x3", 2, 0, 0),
        ("avg_pool_3x3", 1, 0, 0),
        ("avg_pool_3x3", 2, 0, 0),
        ("skip_connect", 1, 0, 0),
        ("skip_connect", 2, 16 + 8, 16),
        ("sep_conv_3x3", 1, 2 * (36 + 16 + 8), 2 * (36 + 16)),
        ("sep_conv_3x3", 2, 2 * (36 + 16 + 8), 2 * (36 + 16)),
        ("sep_conv_5x5", 1, 2 * (100 + 16 + 8), 2 * (100 + 16)),
        ("sep_conv_5x5", 2, 248, 232),
        ("dil_conv_3x3", 1, 36 + 16 + 8, 36 + 16),
        ("dil_conv_3x3", 2, 60, 52),
        ("dil_conv_5x5", 1, 100 + 16 + 8, 100 + 16),
        ("dil_conv_5x5", 2, 124, 116),
    ],
)
def test_shapes_and_parameters(name: str, stride: int, affine: int, bare: int) -> None:
    scaled, unscaled = operation(name, 4, stride), operation(name, 4, stride, affine=False)
    assert (count_params(scaled), count_params(unscaled)) == (affine, bare)
    for part in (scaled, unscaled):
        assert part(torch.rand(2, 4, 8, 12)).shape == (2, 4, 8 // stride, 12 // stride)


def layers(part: nn.Module) -> list[str]:
    found = []
    for layer in part.modules():
        if isinstance(layer, nn.Conv2d):
            assert layer.bias is None
            found.append(
                f"conv {layer.kernel_size[0]} /{layer.stride[0]} pad {layer.padding[0]} dilation {layer.dilation[0]} "
                f"groups {layer.groups}"
            )
        elif not list(layer.children()):
            found.append(type(layer).__name__)
    return found


def test_layers_of_the_convolutions() -> None:
    bn, relu, pointwise = "BatchNorm2d", "ReLU", "conv 1 /1 pad 0 dilation 1 groups 1"
    assert layers(SepConv(6, 5, 2)) == [
        relu,
        "conv 5 /2 pad 2 dilation 1 groups 6",
        pointwise,
        bn,
        relu,
        "conv 5 /1 pad 2 dilation 1 groups 6",
        pointwise,
        bn,
    ]
    assert layers(DilConv(6, 3, 2)) == [relu, "conv 3 /2 pad 2 dilation 2 groups 6", pointwise, bn]
    assert layers(DilConv(6, 5, 1)) == [relu, "conv 5 /1 pad 4 dilation 2 groups 6", pointwise, bn]
    assert layers(ReluConvBN(6, 4, 3, 2, 1)) == [relu, "conv 3 /2 pad 1 dilation 1 groups 1", bn]
    assert isinstance(operation("skip_connect", 4, 1), nn.Identity)
    assert isinstance(operation("skip_connect", 4, 2), FactorizedReduce)
    assert isinstance(operation("none", 4, 2), Zero)


def test_a_reduced_skip_connection_reads_even_and_odd_positions() -> None:
    part = FactorizedReduce(1, 2)
    plain(part)
    even, odd = part(counting(4))[0]
    assert even.tolist() == [[0, 2], [8, 10]]
    assert odd.tolist() == [[5, 7], [13, 15]]
    assert not part(-counting(4)).any()  # behind a ReLU
    part.even.weight.data.fill_(2.0)
    assert part(counting(4))[0].tolist() == [[[0, 4], [16, 20]], [[5, 7], [13, 15]]]


def test_a_reduced_skip_connection_mixes_all_channels() -> None:
    part = plain(FactorizedReduce(3, 4))
    maps = torch.cat([counting(4), 100 * counting(4), 10_000 * counting(4)], dim=1)
    assert part(maps)[0, :, 0, 0].tolist() == [0, 0, 50_505, 50_505]
    with pytest.raises(ValueError, match="expected an even number of channels of a reduced skip connection, got 5"):
        FactorizedReduce(4, 5)


def test_average_pooling_counts_no_padding() -> None:
    pooled = operation("avg_pool_3x3", 1, 1)(counting(3))[0, 0]
    assert pooled.tolist() == [[2, 2.5, 3], [3.5, 4, 4.5], [5, 5.5, 6]]  # the corner: (0 + 1 + 3 + 4) / 4
    halved = operation("avg_pool_3x3", 1, 2)(counting(4))[0, 0]
    assert halved.tolist() == [[2.5, 4], [8.5, 10]]  # around (0, 0), (0, 2), (2, 0) and (2, 2)


def test_max_pooling_sees_no_padding() -> None:
    assert operation("max_pool_3x3", 1, 1)(counting(3) - 9)[0, 0].tolist() == [[-5, -4, -4], [-2, -1, -1], [-2, -1, -1]]
    assert operation("max_pool_3x3", 1, 2)(counting(4) - 16)[0, 0].tolist() == [[-11, -9], [-3, -1]]


def test_a_separable_convolution_convolves_twice() -> None:
    spread = plain(operation("sep_conv_3x3", 1, 1))(impulse(7))[0, 0]
    triangle = torch.tensor([0.0, 1, 2, 3, 2, 1, 0])
    assert torch.equal(spread, torch.outer(triangle, triangle))
    halved = plain(operation("sep_conv_5x5", 1, 2))(impulse(6))[0, 0]  # at (3, 3)
    # Of the windows around 0, 2 and 4 the last two see the impulse, in both directions; a second 5x5 sees all 3x3.
    assert torch.equal(halved, torch.full((3, 3), 4.0))


def test_a_dilated_convolution_leaves_gaps() -> None:
    spread = plain(operation("dil_conv_3x3", 1, 1))(impulse(7))[0, 0]
    comb = torch.tensor([0.0, 1, 0, 1, 0, 1, 0])
    assert torch.equal(spread, torch.outer(comb, comb))
    spread = plain(operation("dil_conv_5x5", 1, 1))(impulse(11))[0, 0]
    comb = torch.tensor([0.0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0])
    assert torch.equal(spread, torch.outer(comb, comb))


@pytest.mark.parametrize("name", PRIMITIVES[4:])
def test_convolutions_stand_behind_a_relu(name: str) -> None:
    assert not plain(operation(name, 2, 1))(-torch.rand(1, 2, 5, 5)).any()


def test_none_gives_zeros_and_no_gradient() -> None:
    maps = torch.randn(2, 3, 4, 6, requires_grad=True)
    for stride in (1, 2):
        zeros = operation("none", 3, stride)(maps)
        assert zeros.shape == (2, 3, 4 // stride, 6 // stride)
        assert not zeros.any()
        (gradient,) = torch.autograd.grad(zeros.sum(), maps)
        assert not gradient.any()


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_what_is_read_is_not_written(name: str, stride: int) -> None:
    """A state of a cell is read by several edges, so its values and its gradient must survive each of them."""
    part = operation(name, 4, stride).train()
    source = torch.randn(2, 4, 8, 8, requires_grad=True)
    state = source * 1.0
    before = state.detach().clone()
    output = part(state)
    assert torch.equal(state, before)
    (output.square().sum() + state.square().sum()).backward()  # refused where a saved tensor was changed
    assert source.grad is not None


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("name", PRIMITIVES)
def test_memory_layout_does_not_matter(name: str, stride: int) -> None:
    part = operation(name, 4, stride).double().train()
    maps = torch.randn(3, 4, 8, 8, dtype=torch.float64)
    found = []
    for layout in (torch.contiguous_format, torch.channels_last):
        given = maps.clone(memory_format=layout).requires_grad_()
        output = part(given)
        weights = [given, *part.parameters()]
        found.append([output, *torch.autograd.grad(output.square().sum(), weights)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)
