"""Every operation: what is recorded computes what the module does, transposes are adjoint, boxes and planes hold."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.certify import interval_bounds, linear_bounds
from evonas.certify.affine import Affine
from evonas.certify.graph import Box
from evonas.certify.joint import Product
from evonas.certify.moves import Pad
from evonas.certify.recording import record
from evonas.certify.rules import RULES


class Function(nn.Module):
    """(B, 4, 6, 6) -> anything, flattened."""

    def __init__(self, function: Callable[[Tensor], Tensor], *parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.parts = nn.ModuleList(parts)

    def forward(self, images: Tensor) -> Tensor:
        return self.function(images).flatten(1)


def norm(channels: int = 4) -> nn.BatchNorm2d:
    made = nn.BatchNorm2d(channels)
    for tensor, low, high in (
        (made.running_mean, -1, 1),
        (made.running_var, 0.3, 2),
        (made.weight, -1, 1),
        (made.bias, -1, 1),
    ):
        assert tensor is not None
        tensor.data.uniform_(low, high, generator=torch.Generator().manual_seed(len(tensor)))
    return made


class Gate(nn.Module):
    """What comes in times a hard sigmoid of its means."""

    def forward(self, maps: Tensor) -> Tensor:
        return maps * functional.hardsigmoid(maps.mean(dim=(2, 3), keepdim=True) * 4)


class InPlace(nn.Module):
    def forward(self, maps: Tensor) -> Tensor:
        kept = maps * 2
        other = functional.relu_(maps - 0.5)
        other += kept
        return other.sub_(0.25).mul_(-1)


def shuffled(maps: Tensor) -> Tensor:
    """A channel shuffle that merges batch and positions on its way."""
    batch, channels, height, width = maps.shape
    rows = maps.permute(0, 2, 3, 1).reshape(-1, channels).view(-1, 2, channels // 2).transpose(1, 2)
    return rows.reshape(batch, height, width, channels).permute(0, 3, 1, 2)


def conv(*args: int, seed: int = 0, **kwargs: object) -> nn.Conv2d:
    made = nn.Conv2d(*args, **kwargs)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(seed)
    for parameter in made.parameters():
        parameter.data.normal_(generator=generator)
    return made


AFFINE: dict[str, nn.Module] = {
    "conv": conv(4, 3, 3, padding=1),
    "conv without bias": conv(4, 5, 1, bias=False),
    "conv stride 2": conv(4, 3, 3, stride=2, padding=1),
    "conv stride 3, rest": conv(4, 3, 2, stride=3),
    "conv dilated": conv(4, 4, 3, padding=2, dilation=2, groups=4),
    "conv depthwise 5x5 stride 2 dilation 2": conv(4, 4, 5, stride=2, padding=4, dilation=2, groups=4),
    "conv grouped": conv(4, 6, 3, padding=1, groups=2),
    "conv padded more than it reaches": conv(4, 2, 1, padding=1),
    "conv of two sizes": nn.Conv2d(4, 2, (1, 3), stride=(1, 2), padding=(0, 1)),
    "conv, normalised": nn.Sequential(conv(4, 4, 3), norm()),
    "normalised": norm(),
    "average": nn.AvgPool2d(3, 2, padding=1, count_include_pad=False),
    "average stride 1": nn.AvgPool2d(3, 1, padding=1, count_include_pad=False),
    "average that counts padding": nn.AvgPool2d(3, 2, padding=1),
    "average 2x2": nn.AvgPool2d(2),
    "adaptive average": nn.AdaptiveAvgPool2d(3),
    "global average": nn.AdaptiveAvgPool2d(1),
    "mean": Function(lambda x: x.mean(dim=(2, 3))),
    "sum": Function(lambda x: x.sum(dim=2)),
    "linear": nn.Sequential(nn.Flatten(), nn.Linear(144, 5)),
    "linear over positions": Function(lambda x: functional.linear(x.flatten(2).transpose(1, 2), torch.eye(4)[:3])),
    "channels cut and put together": Function(lambda x: torch.cat([x[:, 1::2], x[:, :1], x[:, 1::2]], dim=1)),
    "rows and columns": Function(lambda x: x[:, :, 1::2, ::3] - x[:, :, ::2, 1::3]),
    "chunks": Function(lambda x: torch.cat(x.chunk(2, dim=1)[::-1], dim=1)),
    "unbound": Function(lambda x: x.unbind(1)[2] - 2 * x.select(1, -1)),
    "split": Function(lambda x: x.split([1, 3], dim=1)[1]),
    "stacked": Function(lambda x: torch.stack([x, x * 3], dim=2)),
    "picked": Function(lambda x: x[:, [3, 0, 0]]),
    "flipped": Function(lambda x: x.flip(2, 3)),
    "padded": Function(lambda x: functional.pad(x, (1, 0, 2, 1), value=0.5)),
    "cropped": Function(lambda x: functional.pad(x, (-1, 0, 0, -2))),
    "shuffled": Function(shuffled),
    "transposed": Function(lambda x: x.transpose(2, 3).contiguous()),
    "squeezed": Function(lambda x: x[:, :1].squeeze(1).unsqueeze(-1)),
    "arithmetic": Function(lambda x: (1 - x) / 4 + x * torch.tensor([1.0, -2, 0, 3]).view(4, 1, 1) - x.neg()),
    "weighted sum": Function(lambda x: torch.add(x, x.flip(1), alpha=-0.5) + 0.1 * x * -0.7),
    "broadcast": Function(lambda x: x - x.mean(dim=1, keepdim=True)),
    "zero": Function(lambda x: x[:, :, ::2, ::2] * 0.0),
}
BENT: dict[str, nn.Module] = {
    "relu": nn.ReLU(),
    "relu in place behind a view": InPlace(),
    "leaky relu": nn.LeakyReLU(0.2),
    "relu6": nn.Sequential(conv(4, 4, 1), nn.ReLU6()),
    "hardtanh": nn.Hardtanh(-0.3, 0.4),
    "clamp": Function(lambda x: x.clamp(min=0.2)),
    "hard sigmoid": nn.Sequential(conv(4, 4, 3), nn.Hardsigmoid()),
    "hardswish": nn.Sequential(conv(4, 4, 3), nn.Hardswish()),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Sequential(conv(4, 4, 1), nn.Tanh()),
    "max 2x2": nn.MaxPool2d(2),
    "max 3x3 stride 1": nn.MaxPool2d(3, 1, padding=1),
    "max 3x3 stride 2": nn.MaxPool2d(3, 2, padding=1),
    "max dilated": nn.MaxPool2d(2, 1, dilation=2),
    "gate": Gate(),
    "square": Function(lambda x: x * x),
    "softmax": nn.Softmax(dim=1),
    "attention": Function(
        lambda x: (x.flatten(2).transpose(1, 2) @ x.flatten(2)).softmax(dim=-1) @ x.flatten(2).transpose(1, 2)
    ),
}


def images(seed: int = 0, n: int = 2) -> Tensor:
    return torch.randn(n, 4, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def prepared(module: nn.Module) -> nn.Module:
    made = module.double() if isinstance(module, Function) else nn.Sequential(module, nn.Flatten()).double()
    return made.eval()


@pytest.fixture(autouse=True)
def in_double() -> object:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("name", AFFINE)
def test_affine_operations_are_computed_and_transposed(name: str) -> None:
    net, at = prepared(AFFINE[name]), images()
    graph = record(net, at, RULES)
    values = {0: at}
    for number, node in enumerate(graph.nodes[1:], start=1):
        operation = node.operation
        assert isinstance(operation, Affine)
        inputs = [values[each] for each in node.inputs]
        constant = operation.constant()
        values[number] = operation.linear(*inputs) + (0 if constant is None else constant)
        assert values[number].shape == (2, *node.shape)
        weights = torch.randn_like(values[number])
        parts = operation.transpose(weights)
        forward = (weights * operation.linear(*inputs)).sum()
        backward = sum((part * given).sum() for part, given in zip(parts, inputs, strict=True) if part is not None)
        torch.testing.assert_close(forward, torch.as_tensor(backward), atol=1e-10, rtol=1e-10)
    torch.testing.assert_close(values[number], net(at), atol=1e-12, rtol=0)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", AFFINE)
@pytest.mark.parametrize("ball", ["linf", "l2"])
def test_linear_bounds_of_affine_networks_are_exact(name: str, ball: str) -> None:
    net, at, epsilon = prepared(AFFINE[name]), images(1), 0.3
    rows = torch.func.vmap(torch.func.jacrev(lambda x: net(x[None])[0]))(at).flatten(2)  # (B, K, D)
    reach = epsilon * (rows.abs().sum(dim=2) if ball == "linf" else rows.norm(dim=2))
    lower, upper = linear_bounds(net, at, epsilon, ball)
    torch.testing.assert_close(lower, net(at) - reach, atol=1e-11, rtol=0)
    torch.testing.assert_close(upper, net(at) + reach, atol=1e-11, rtol=0)


@pytest.mark.lengthy
@pytest.mark.parametrize("name", AFFINE | BENT)
@pytest.mark.parametrize("ball", ["linf", "l2"])
def test_no_point_of_the_ball_leaves_the_bounds(name: str, ball: str) -> None:
    net = prepared((AFFINE | BENT)[name])
    generator = torch.Generator().manual_seed(5)
    for seed, epsilon in ((0, 0.05), (1, 0.5), (2, 2.0)):
        at = images(seed, 3)
        boxes = [interval_bounds(net, at, epsilon, ball)]
        for relaxation in ("adaptive", "same_slope"):
            bounds = linear_bounds(net, at, epsilon, ball, relaxation=relaxation)
            both = linear_bounds(net, at, epsilon, ball, relaxation, intersect=True)
            assert (both[0] >= boxes[0][0]).all()
            assert (both[1] <= boxes[0][1]).all()
            boxes += [bounds, both]
        for moved in near(at, epsilon, ball, generator):
            with torch.no_grad():
                out = net(moved)
            for lower, upper in boxes:
                slack = 1e-12 * (1 + out.abs() + epsilon)
                assert (out >= lower - slack).all()
                assert (out <= upper + slack).all()


def near(at: Tensor, epsilon: float, ball: str, generator: torch.Generator) -> list[Tensor]:
    found = []
    for number in range(12):
        change = torch.randn(at.shape, generator=generator, dtype=at.dtype)
        if ball == "linf":
            change = change.sign() if number % 2 else 2 * torch.rand(at.shape, generator=generator) - 1
        else:
            sparse = torch.rand(at.shape, generator=generator) < (0.05 if number % 2 else 1)
            change = change * sparse
            change = change / change.flatten(1).norm(dim=1).clamp(min=1e-9)[:, None, None, None]
        found.append(at + epsilon * change)
    return found


def test_single_windows_are_as_tight_as_can_be() -> None:
    """Where one value is the largest in any case, max pooling is that value."""
    at = torch.tensor([[[[3.0, 1.0], [0.0, 0.5]]]])
    lower, upper = linear_bounds(nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), at, 0.4)
    torch.testing.assert_close(torch.cat([lower, upper], dim=1), torch.tensor([[2.6, 3.4]]))
    apart = Function(lambda x: functional.max_pool2d(x, 2) - x[:, :, :1, :1])
    lower, upper = linear_bounds(apart, at, 0.4)
    torch.testing.assert_close(torch.cat([lower, upper], dim=1), torch.zeros(1, 2), atol=1e-15, rtol=0)


def test_the_plane_over_a_window_by_hand() -> None:
    """x in [0, 1], y in [0, 1/2]: g = (1 + 1 - 1) / (1 + 2) = 1/3 and max(x, y) <= 2/3 x + 1/3 y + 1/3. At the box's
    middle that is 3/4, less than the constant 1. Below it is x, whose middle is higher."""
    at = torch.tensor([[[[0.5, 0.25]]]])

    def window(x: Tensor) -> Tensor:
        """A ball of 1/2 around (0.5, 0.25) becomes the box."""
        return x * torch.tensor([1.0, 0.5]) + torch.tensor([0.0, 0.125])

    largest = Function(lambda x: functional.max_pool2d(window(x), (1, 2)))
    lower, upper = linear_bounds(largest, at, 0.5, intermediate="interval")
    assert upper.item() == pytest.approx(2 / 3 + 1 / 6 + 1 / 3)
    assert lower.item() == pytest.approx(0.0)
    _, upper = linear_bounds(largest, at, 0.5)  # tries the constant, too
    assert upper.item() == pytest.approx(1.0)
    apart = Function(lambda x: functional.max_pool2d(window(x), (1, 2)) - x[..., :1])
    _, upper = linear_bounds(apart, at, 0.5)
    assert upper.item() == pytest.approx(1 / 3 + 1 / 6)  # -1/3 x + 1/3 y + 1/3 at x = 0, y = 1/2


def test_boxes_of_padded_values_are_the_values_themselves() -> None:
    box = Box(*(torch.tensor([[[[end]]]], dtype=torch.float64) for end in (0.1, 0.2)))
    assert box.middle - box.radius > box.lower  # what rounding would make of it
    pad = Pad(shape=(1, 1, 1), pads=(1, 0), fill=torch.tensor([0.3, 0.0], dtype=torch.float64))
    found = pad.interval([box])
    assert (found.lower.flatten().tolist(), found.upper.flatten().tolist()) == ([0.3, 0.1], [0.3, 0.2])


def test_products_lie_between_two_planes_that_rounding_does_not_choose() -> None:
    draw = torch.Generator().manual_seed(0)
    corners = torch.randn(2, 2, 200, dtype=torch.float64, generator=draw).sort(dim=0).values  # ends, inputs, boxes
    x, y = (Box(corners[0, each], corners[1, each]) for each in range(2))
    planes, rounded = (
        Product().planes([Box(*(end.to(dtype) for end in box)) for box in (x, y)], "adaptive")
        for dtype in (torch.float64, torch.float32)
    )
    for one, other in zip((*planes.below, *planes.above), (*rounded.below, *rounded.above), strict=True):
        torch.testing.assert_close(one, other.double(), rtol=1e-5, atol=1e-6)
    for share in torch.rand(50, 2, 200, dtype=torch.float64, generator=draw):
        at, to = (box.lower + part * (box.upper - box.lower) for box, part in zip((x, y), share, strict=True))
        low, high = (a * at + b * to + c for a, b, c in (planes.below, planes.above))
        assert (low <= at * to + 1e-12).all()
        assert (high >= at * to - 1e-12).all()
