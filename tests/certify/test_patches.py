"""Bounds on patches of maps against the same bounds on whole maps; bounds that stop early against whole ones."""

import copy
from collections.abc import Callable, Iterator
from typing import ClassVar

import pytest
import torch
from test_networks import network_of
from test_operations import AFFINE, BENT, conv, images, norm, prepared
from torch import Tensor, nn
from torch.nn import functional

from evonas.certify import linear_bounds
from evonas.certify.graph import Patch
from evonas.certify.intervals import recorded
from evonas.certify.linear import MAX_VALUES, Bounded
from evonas.certify.patches import is_map, reach_of_windows


@pytest.fixture
def in_double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def test_the_patch_that_windows_reach_by_hand() -> None:
    # rows 1 and 2 of windows of 3, 2 apart, 1 of padding: rows 1 to 5 of the input; columns 0 to 1: -1 to 3, less 1
    reach = reach_of_windows(Patch(1, 3, 0, 2), (3, 3), (2, 2), (1, 1), (1, 1), (9, 9))
    assert reach.patch == (1, 6, 0, 4)
    assert (reach.size, reach.padding) == ((5, 5), (0, 0))
    assert reach.kept == (slice(0, 5), slice(1, 5))
    # all three columns of a map of 3: one column of padding at each side is a padding of 1
    reach = reach_of_windows(Patch(0, 1, 0, 3), (1, 3), (1, 1), (0, 1), (1, 1), (3, 3))
    assert (reach.patch, reach.size, reach.padding) == ((0, 1, 0, 3), (1, 3), (0, 1))


@pytest.mark.parametrize("name", AFFINE | BENT)
@pytest.mark.usefixtures("in_double")
def test_every_operation_on_patches(name: str) -> None:
    """Coefficients of a patch, substituted on patches, are those of the whole map with zeros around the patch."""
    graph, ball = recorded(prepared((AFFINE | BENT)[name]), images(n=2), 0.3, "linf", None, "nearest")
    bounded = Bounded(graph, ball, "adaptive", "interval")
    generator = torch.Generator().manual_seed(1)
    for number, node in enumerate(graph.nodes[1:], start=1):
        if not is_map(node.shape):
            continue
        for _ in range(4):
            patch = some_patch(node.shape, generator)
            part = torch.randn(
                3, 2, *node.shape[:-2], patch.bottom - patch.top, patch.right - patch.left, generator=generator
            )
            whole = torch.zeros(3, 2, *node.shape, dtype=torch.float64)
            whole[..., patch.top : patch.bottom, patch.left : patch.right] = part
            found, constants = step(bounded, number, part, patch, patched=True)
            expected, expected_constants = step(bounded, number, whole, None, patched=False)
            torch.testing.assert_close(constants, expected_constants, atol=1e-12, rtol=1e-10)
            for source, (values, _) in expected.items():
                coefficients, at = found[source]
                around = torch.zeros_like(values)
                if at is None:
                    around = coefficients
                else:
                    around[..., at.top : at.bottom, at.left : at.right] = coefficients
                torch.testing.assert_close(around, values, atol=1e-12, rtol=1e-10)


def step(
    bounded: Bounded, number: int, coefficients: Tensor, patch: Patch | None, patched: bool
) -> tuple[dict[int, tuple[Tensor, Patch | None]], Tensor]:
    open_ = {number: (coefficients, patch)}
    constants = bounded._pull_back(open_, number, "adaptive", patched)
    return open_, constants


def some_patch(shape: tuple[int, ...], generator: torch.Generator) -> Patch:
    def ends(size: int) -> tuple[int, int]:
        first, last = sorted(torch.randint(size, (2,), generator=generator).tolist())
        return first, last + 1

    return Patch(*ends(shape[-2]), *ends(shape[-1]))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["phase", "darts", "shuffle", "nasbench201", "partial"])
@torch.no_grad()
def test_bounds_on_patches_are_those_on_whole_maps(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = network_of(name, 0).double()
    size = 10 if name == "phase" else 8
    at = torch.rand(2, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = linear_bounds(network, at, 0.001)
    for module in ("linear", "tiles"):
        monkeypatch.setattr(f"evonas.certify.{module}.is_map", lambda shape: False)
    for one, other in zip(found, linear_bounds(network, at, 0.001), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def small() -> nn.Sequential:
    body = (conv(3, 5, 3, padding=1, seed=1), norm(5), nn.ReLU(), nn.MaxPool2d(2), conv(5, 6, 3, padding=1, seed=2))
    return nn.Sequential(*body, nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(24, 4)).double().eval()


def test_bounds_up_to_the_sign_are_sound_and_as_tight_here() -> None:
    network = copy.deepcopy(small())
    at = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for epsilon in (0.001, 0.01):
        whole, signs = (linear_bounds(network, at, epsilon, intermediate=each) for each in ("linear", "signs"))
        rough = linear_bounds(network, at, epsilon, intermediate="interval")
        assert ((signs[1] - signs[0]) <= (rough[1] - rough[0]) + 1e-12).all()
        torch.testing.assert_close(torch.stack(signs), torch.stack(whole), rtol=0.02, atol=1e-12)
        change = torch.rand(64, *at.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        for moved in at + epsilon * (2 * change - 1).sign():
            out = network(moved)
            assert (out >= signs[0] - 1e-12).all()
            assert (out <= signs[1] + 1e-12).all()


class Shared(nn.Module):
    """A value that intervals bound loosely, read by a ReLU and by another operation, in either order."""

    READERS: ClassVar[dict[str, Callable[[Tensor], Tensor]]] = {
        "max pooling": nn.MaxPool2d(3, 1, 1),
        "hardswish": functional.hardswish,
        "sigmoid": torch.sigmoid,
        "a product": lambda values: values * values.flip(1),
    }

    def __init__(self, reader: str, relu_first: bool, channels: int = 8) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.reader, self.relu_first = self.READERS[reader], relu_first
        first, *others = [nn.Conv2d(channels if each else 3, channels, 3, 1 if each else 2, 1) for each in range(6)]
        self.body = nn.Sequential(first, *(each for other in others[:-1] for each in (nn.ReLU(), other)))
        self.branch, self.last = others[-1], nn.Linear(channels * 16, 3)
        self.double().eval()

    def forward(self, images: Tensor) -> Tensor:
        values = self.body(images)
        other = None if self.relu_first else self.reader(values)
        joint = self.branch(values.relu()).relu()
        joint = joint + (self.reader(values) if other is None else other)
        logits: Tensor = self.last(joint.flatten(1))
        return logits


@pytest.mark.parametrize("reader", Shared.READERS)
@pytest.mark.parametrize("relu_first", [True, False])
@torch.no_grad()
def test_other_readers_of_a_value_than_relus_have_whole_passes(reader: str, relu_first: bool) -> None:
    network, epsilon = Shared(reader, relu_first), 0.003
    at = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, signs = (linear_bounds(network, at, epsilon, intermediate=each) for each in ("linear", "signs"))
    rough = linear_bounds(network, at, epsilon, intermediate="interval")
    assert (rough[1] - rough[0]).mean() > 20 * (whole[1] - whole[0]).mean()
    torch.testing.assert_close((signs[1] - signs[0]).mean(), (whole[1] - whole[0]).mean(), rtol=1e-6, atol=0)
    change = torch.rand(64, *at.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    for moved in at + epsilon * (2 * change - 1).sign():
        out = network(moved)
        assert (out >= signs[0] - 1e-12).all()
        assert (out <= signs[1] + 1e-12).all()


class ReadLater(Shared):
    """The output of a ReLU, at which passes stop, has tighter bounds for a reader after them."""

    def forward(self, images: Tensor) -> Tensor:
        values = self.body(images).relu()
        joint = self.branch(self.branch(values).relu()).relu()
        logits: Tensor = self.last((joint + self.reader(values)).flatten(1))
        return logits


@pytest.mark.parametrize("most", [MAX_VALUES, 2**13])  # in one step, or in steps that are repeated for the gradient
@pytest.mark.parametrize("made", [small, lambda: ReadLater("max pooling", relu_first=True)])
def test_gradients_of_bounds_on_patches(
    made: Callable[[], nn.Module], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("evonas.certify.linear.MAX_VALUES", most)
    network = made()
    at = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = next(network.parameters())
    for intermediate in ("linear", "signs"):

        def width(intermediate: str = intermediate) -> Tensor:
            lower, upper = linear_bounds(network, at, 0.006, relaxation="same_slope", intermediate=intermediate)  # type: ignore[arg-type]
            return (upper - lower).sum()

        (gradient,) = torch.autograd.grad(width(), [weight])
        direction = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        ends = []
        for sign in (1e-6, -1e-6):
            weight.data += sign * direction
            ends.append(width().item())
            weight.data -= sign * direction
        assert (ends[0] - ends[1]) / 2e-6 == pytest.approx(float((gradient * direction).sum()), rel=1e-4)


def test_gradients_of_bounds_rounded_outwards_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors of rounding are known before a step is repeated."""
    network = small().float()
    at = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found = []
    for most in (MAX_VALUES, 2**10):
        monkeypatch.setattr("evonas.certify.linear.MAX_VALUES", most)
        lower, upper = linear_bounds(network, at, 0.006, intermediate="linear", rounding="outward")
        found.append(torch.autograd.grad((upper - lower).sum(), [next(network.parameters())])[0])
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
