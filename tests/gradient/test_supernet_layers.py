"""The fast layers of a supernet are torch's own ones: values, gradients, gradients of gradients, statistics."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.gradient.supernet_cells import SkipDropout
from evonas.gradient.supernet_sums import Term, add_up
from evonas.training.depthwise import depthwise

KINDS = [(kernel, stride, dilation) for kernel in (3, 5) for stride in (1, 2) for dilation in (1, 2)]


def normal(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def both(
    maps: Tensor, weight: Tensor, stride: int, dilation: int, memory_format: torch.memory_format
) -> tuple[list[Tensor], list[Tensor]]:
    """(values, gradient of maps, gradient of weight) of the fast convolution and of torch's."""
    padding, results = dilation * (weight.shape[-1] // 2), []
    for fast in (True, False):
        inputs = maps.clone(memory_format=memory_format).requires_grad_(), weight.clone().requires_grad_()
        out = depthwise(*inputs, stride, padding, dilation, fast)
        slope = normal(*out.shape, seed=2, dtype=out.dtype)
        results.append([out.detach(), *torch.autograd.grad(out, inputs, slope)])
    return results[0], results[1]


@pytest.mark.lengthy
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(16, 16), (8, 24), (7, 10), (4, 4), (3, 3), (2, 2)], ids=str)
@pytest.mark.parametrize(("kernel", "stride", "dilation"), KINDS)
def test_depthwise_is_torchs(
    kernel: int, stride: int, dilation: int, size: tuple[int, int], memory_format: torch.memory_format
) -> None:
    found, expected = both(normal(3, 5, *size), normal(5, 1, kernel, kernel, seed=1), stride, dilation, memory_format)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


@pytest.mark.lengthy
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("channels", "size"), [(16, 32), (4, 32), (32, 16), (64, 8)])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), KINDS)
def test_depthwise_is_right_at_the_sizes_of_a_search(
    kernel: int, stride: int, dilation: int, channels: int, size: int, dtype: torch.dtype
) -> None:
    """Against float64. Sums of n products are taken in float32, whose roundings walk at random: sqrt(n) of them, and
    some of `dtype`. (torch's own gradient of the weight in bfloat16 is another altogether for dilated kernels.)"""
    maps = normal(8, channels, size, size, dtype=dtype)
    weight = normal(channels, 1, kernel, kernel, seed=1, dtype=dtype)
    found, _ = both(maps, weight, stride, dilation, torch.channels_last)
    slope = normal(*found[0].shape, seed=2, dtype=dtype)
    inputs = maps.double().requires_grad_(), weight.double().requires_grad_()
    exact = functional.conv2d(*inputs, None, stride, dilation * (kernel // 2), dilation, channels)
    expected = [exact.detach(), *torch.autograd.grad(exact, inputs, slope.double())]
    bound = 4 * torch.finfo(dtype).eps + (8 * size * size) ** 0.5 * torch.finfo(torch.float32).eps
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == dtype
        assert float((one.double() - other).norm() / other.norm()) < bound


@pytest.mark.slow
@pytest.mark.parametrize("size", [8, 5])
@pytest.mark.parametrize(("kernel", "stride", "dilation"), KINDS)
def test_gradients_of_depthwise_can_be_differentiated(kernel: int, stride: int, dilation: int, size: int) -> None:
    maps, weight = normal(2, 2, size, size).requires_grad_(), normal(2, 1, kernel, kernel, seed=1).requires_grad_()

    def convolved(maps: Tensor, weight: Tensor) -> Tensor:
        return depthwise(maps, weight, stride, dilation * (kernel // 2), dilation, True)

    assert torch.autograd.gradcheck(convolved, (maps, weight))
    assert torch.autograd.gradgradcheck(convolved, (maps, weight))


class Layers:
    """Two scaled maps, and three that are normalised, the second without a convolution, the third not scaled."""

    def __init__(self, shape: tuple[int, int, int, int] = (3, 4, 5, 6)) -> None:
        channels = shape[1]
        self.maps = [normal(*shape, seed=seed).requires_grad_() for seed in range(5)]
        self.scales = [torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (0.5, -2.0, 0.0, 3.0)]
        self.convolutions = [nn.Conv2d(channels, channels, 1, bias=False).double() for _ in range(3)]
        self.norms = [nn.BatchNorm2d(channels, affine=False).double() for _ in range(3)]
        for seed, convolution in enumerate(self.convolutions):
            convolution.weight.data = normal(channels, channels, 1, 1, seed=10 + seed)

    def terms(self) -> list[Term]:
        scales = [*self.scales, None]
        plain = [Term(maps, scale) for maps, scale in zip(self.maps[:2], scales[:2], strict=True)]
        weights = [self.convolutions[0].weight, None, self.convolutions[2].weight]
        return [*plain, *map(Term, self.maps[2:], scales[2:], self.norms, weights)]

    @property
    def inputs(self) -> list[Tensor]:
        return [*self.maps, *self.scales, self.convolutions[0].weight, self.convolutions[2].weight]


def by_hand(terms: list[Term]) -> Tensor:
    total = torch.zeros(())
    for maps, scale, norm, weight in terms:
        part = maps if weight is None else functional.conv2d(maps, weight)
        part = part if norm is None else norm(part)
        total = total + (part if scale is None else scale * part)
    return total


@pytest.mark.parametrize("chosen", [slice(0, 5), slice(0, 2), slice(2, 5), slice(4, 5), slice(0, 1)])
@pytest.mark.parametrize("training", [True, False])
def test_a_sum_is_the_sum_of_its_terms(chosen: slice, training: bool) -> None:
    found, expected = Layers(), Layers()
    for layers in (found, expected):
        for norm in layers.norms:
            norm.train(training)
    totals = [add_up(found.terms()[chosen]), by_hand(expected.terms()[chosen])]
    torch.testing.assert_close(*totals, rtol=1e-12, atol=1e-12)
    slope = normal(3, 4, 5, 6, seed=20)
    gradients = [
        torch.autograd.grad(total, layers.inputs, slope, allow_unused=True)
        for total, layers in zip(totals, (found, expected), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)
    for one, other in zip(found.norms, expected.norms, strict=True):
        for name, value in one.state_dict().items():
            torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-13, atol=1e-13)


def test_gradients_of_a_sum_are_what_is_asked_for() -> None:
    layers = Layers()
    layers.maps[3].requires_grad_(False)
    layers.convolutions[0].requires_grad_(False)
    layers.scales[3].requires_grad_(False)
    asked = [each for each in layers.inputs if each.requires_grad]
    found = torch.autograd.grad(add_up(layers.terms()).square().sum(), asked)
    expected = torch.autograd.grad(by_hand(layers.terms()).square().sum(), asked)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


@pytest.mark.lengthy
def test_gradients_of_a_sum_can_be_differentiated() -> None:
    shape = (2, 2, 3, 2)
    layers = Layers(shape)
    slope = normal(*shape, seed=20).requires_grad_()
    assert torch.autograd.gradgradcheck(lambda *inputs: add_up(layers.terms()), layers.inputs, slope)


def test_one_input_that_depends_on_another_counts_once() -> None:
    """Also where the gradient is differentiated."""
    layers = Layers()
    found: list[Tensor] = []
    expected: list[Tensor] = []
    for results, adds in ((found, add_up), (expected, by_hand)):
        first = layers.maps[2]
        second = first.tanh() * layers.scales[3]
        terms = [
            Term(maps, layers.scales[0], norm, convolution.weight)
            for maps, convolution, norm in zip((first, second), layers.convolutions, layers.norms, strict=False)
        ]
        slopes = torch.autograd.grad(adds(terms).pow(3).sum(), layers.maps[2], create_graph=True)
        results += [slopes[0], *torch.autograd.grad(slopes[0].square().sum(), [layers.maps[2], layers.scales[3]])]
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_a_momentum_of_none_counts_all_batches_alike() -> None:
    layers = Layers()
    norm, convolution = layers.norms[0], layers.convolutions[0]
    norm.momentum = None
    with torch.no_grad():
        for maps in layers.maps:
            add_up([Term(maps, None, norm, convolution.weight)])
        mean = torch.stack([convolution(maps) for maps in layers.maps]).mean(dim=(0, 1, 3, 4))
    assert norm.running_mean is not None
    torch.testing.assert_close(norm.running_mean, mean, rtol=1e-12, atol=1e-12)


def test_dropout_keeps_the_mean_and_follows_its_generator() -> None:
    maps = torch.ones(8, 4, 16, 16)
    first, same = (SkipDropout(0.25, torch.Generator().manual_seed(3))(maps) for _ in range(2))
    assert torch.equal(first, same)
    assert first.unique().tolist() == [0.0, pytest.approx(4 / 3)]
    deviation = (0.75 * 0.25 / maps.numel()) ** 0.5  # of the kept share
    assert abs(float((first > 0).float().mean()) - 0.75) < 4 * deviation
    with pytest.raises(ValueError, match="expected a rate of dropout"):
        SkipDropout(1.0, torch.Generator())
