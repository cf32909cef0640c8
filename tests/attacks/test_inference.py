"""The fast copy of a network: the same logits and gradients, what is folded, and the original as it was."""

import copy
import functools
import gc
import types
import warnings
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from evonas.attacks import inference_copy
from evonas.attacks.inference import CALLS
from evonas.errors import ConfigurationError
from evonas.networks import VICTIMS
from evonas.networks.blocks import Normalize
from evonas.spaces import PhaseSpace

NORMALIZATION = ((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))


def norm(channels: int, **settings: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, **settings)


class Shared(nn.Module):
    """One convolution read by two normalisations, and one normalisation that reads two convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Conv2d(3, 4, 3, padding=1)
        self.first, self.second = norm(4), norm(4)
        self.two, self.three = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
        self.both = norm(4)
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(self.one(x)).relu() - self.second(self.one(x)).relu()
        logits: Tensor = self.last((self.both(self.two(x)) + self.both(self.three(x))).relu().mean(dim=(2, 3)))
        return logits


class Branch(nn.Module):
    """What a normalisation reads is read by another part, too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 4, 3), norm(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.convolution(x)
        logits: Tensor = self.last((self.norm(x).relu() + x).mean(dim=(2, 3)))
        return logits


class First(nn.Module):
    """Normalises images, then channels that a ReLU has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            norm(3), nn.Conv2d(3, 4, 3), nn.ReLU(), norm(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


class Deciding(nn.Module):
    """Looks at the images to decide what to compute: no graph can be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark = (nn.Sequential(nn.Conv2d(3, 4, 3), norm(4), nn.ReLU()) for _ in range(2))
        self.last = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bright(x) if float(x.detach().mean()) > 0.5 else self.dark(x)
        logits: Tensor = self.last(x.mean(dim=(2, 3)))
        return logits


class Batchwise(nn.Module):
    """Its second normalisation has no running statistics and takes those of the batch, in eval mode, too."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            norm(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            norm(4, track_running_stats=False),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


class Plain(nn.Module):
    """Convolutions of every kind, each folded: strided, grouped, with and without bias; one norm has no weights."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            Normalize(*NORMALIZATION),
            nn.Conv2d(3, 4, 3, stride=2, bias=False),
            norm(4),
            nn.ReLU(),
            nn.Conv2d(4, 8, 3, padding=1, groups=2),
            norm(8, eps=1e-2),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=2, dilation=2),
            norm(8, affine=False),
            nn.Dropout(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(8, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits


class Twice(nn.Module):
    """A convolution that runs twice, each time under its normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 3, 3, padding=1), norm(3), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            x = self.norm(self.convolution(x)).relu()
        logits: Tensor = self.last(x.mean(dim=(2, 3)))
        return logits


def phase() -> nn.Module:
    space = PhaseSpace(phases=2, nodes=4, channels=4)
    return space.build(space.designs()["residual"], normalization=NORMALIZATION)


CASES: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "phase": (phase, 2),  # those after a merge, which is no plain convolution
    "DenseNet": (lambda: VICTIMS["DenseNet"](10, 0.34, NORMALIZATION, depth=10), 6),  # those after a concatenation
    "LeNet": (lambda: VICTIMS["LeNet"](10, 1.0, NORMALIZATION), 0),
    "ResNet": (lambda: VICTIMS["ResNet"](10, 0.25, NORMALIZATION, depth=8), 0),
    "VGG-16": (lambda: VICTIMS["VGG-16"](10, 0.125, NORMALIZATION), 0),
    "shared": (Shared, 3),
    "branch": (Branch, 1),
    "first": (First, 2),
    "deciding": (Deciding, 2),
    "batchwise": (Batchwise, 1),
    "plain": (Plain, 0),
    "twice": (Twice, 1),
}
"""Name -> (how it is built, how many batch normalisations cannot be folded)."""


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def built(name: str) -> nn.Module:
    """In train mode, and with statistics, scales and shifts that no normalisation starts with."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = CASES[name][0]()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                for tensor in (module.running_mean, module.bias):
                    if tensor is not None:
                        tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
                for tensor in (module.running_var, module.weight):
                    if tensor is not None:
                        tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.5)
    return network


def images() -> Tensor:
    return torch.rand(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.lengthy
@pytest.mark.parametrize("name", CASES)
def test_logits_and_gradients_are_the_same_and_the_original_stays(name: str) -> None:
    """Up to 1e-5 of the largest: folding multiplies weights by scales in float32."""
    network = built(name)
    first = next(network.parameters()).requires_grad_(False)
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    fast = inference_copy(network)

    assert [module.training for module in network.modules()] == modes
    assert before.keys() == network.state_dict().keys()
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert [p.requires_grad for p in network.parameters()] == [p is not first for p in network.parameters()]
    assert not any(parameter.requires_grad for parameter in fast.parameters())
    shared = {p.data_ptr() for p in network.parameters()} & {p.data_ptr() for p in fast.parameters()}
    assert not shared

    network.eval()
    direction = torch.randn(6, 10, generator=torch.Generator().manual_seed(2))
    found = []
    for each in (network, fast):
        x = images().requires_grad_()
        logits = each(x)
        (gradient,) = torch.autograd.grad((logits * direction[:, : logits.shape[1]]).sum(), x)
        found.append((logits.detach(), gradient))
    (logits, gradient), (fast_logits, fast_gradient) = found
    assert float(gradient.abs().max()) > 0
    torch.testing.assert_close(fast_logits, logits, rtol=0, atol=1e-5 * max(1, float(logits.abs().max())))
    torch.testing.assert_close(fast_gradient, gradient, rtol=0, atol=1e-5 * max(1, float(gradient.abs().max())))
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_normalisations_that_alone_read_a_convolution_are_gone(name: str) -> None:
    network, (_, left) = built(name), CASES[name]
    assert norms(inference_copy(network)) == left
    assert norms(network) >= left


def test_the_copy_says_that_it_is_in_eval_mode() -> None:
    for name in ("plain", "deciding"):
        assert not any(module.training for module in inference_copy(built(name)).modules())


def test_one_image_of_another_size_and_layout() -> None:
    network = built("plain").eval()
    x = images()[:1, :, :17, :20]
    for each in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3).contiguous().transpose(2, 3)):
        torch.testing.assert_close(inference_copy(network)(each), network(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_networks_of_other_types_are_copied_in_float32(dtype: torch.dtype) -> None:
    network = built("plain").eval()
    network.to(dtype)
    fast = inference_copy(network)
    assert {p.dtype for p in fast.parameters()} == {torch.float32}
    assert {p.dtype for p in network.parameters()} == {dtype}
    exact = copy.deepcopy(network).float()(images())
    torch.testing.assert_close(fast(images()), exact, rtol=0, atol=1e-5 * float(exact.detach().abs().max()))


@pytest.mark.parametrize("name", ["phase", "ResNet", "plain"])
def test_bfloat16_is_near_and_answers_in_float32(name: str) -> None:
    """bfloat16 knows 8 bits: 2^-8 of each sum, and these networks add few roundings in a row; 4 of them are given."""
    network = built(name).eval()
    fast = inference_copy(network, "bf16")(images())
    exact = network(images()).detach()
    assert fast.dtype == torch.float32
    difference = float((fast - exact).abs().max() / exact.abs().max())
    assert 0 < difference < 4 * 2**-8


def test_a_change_of_the_original_does_not_reach_the_copy() -> None:
    network = built("plain").eval()
    fast = inference_copy(network)
    before = fast(images())
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    assert torch.equal(fast(images()), before)


def test_a_hook_on_a_convolution_still_runs() -> None:
    """What a hook does to an output is part of the network."""
    convolution, shifted = nn.Conv2d(3, 4, 3), norm(4)
    network = nn.Sequential(convolution, shifted, nn.Flatten()).eval()
    nn.init.constant_(shifted.get_buffer("running_mean"), 0.5)
    convolution.register_forward_hook(lambda module, inputs, output: output * 2)
    torch.testing.assert_close(inference_copy(network)(images()), network(images()), rtol=0, atol=1e-5)


def halved(module: nn.Module, images: Tensor) -> Tensor:
    """A forward for one network alone: that of its class, on darker images."""
    logits: Tensor = type(module).forward(module, images / 2)
    return logits


def with_pre_hook(network: nn.Module) -> None:
    network.register_forward_pre_hook(lambda module, inputs: (inputs[0] / 2,))


def with_hook(network: nn.Module) -> None:
    network.register_forward_hook(lambda module, inputs, logits: logits * torch.arange(logits.shape[1]))


def with_own_forward(network: nn.Module) -> None:
    network.forward = types.MethodType(halved, network)


def with_partial_forward(network: nn.Module) -> None:
    network.forward = functools.partial(halved, network)


def with_a_layers_own_forward(network: nn.Module) -> None:
    for layer in network.modules():
        if type(layer) in (nn.Conv2d, nn.BatchNorm2d):
            layer.forward = types.MethodType(halved, layer)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "change", [with_pre_hook, with_hook, with_own_forward, with_partial_forward, with_a_layers_own_forward]
)
def test_what_was_done_to_one_network_is_copied(change: Callable[[nn.Module], None], precision: Any) -> None:
    """In bf16, to 4 * 2^-8 as above; each change moves the logits by more than that, and no warning comes."""
    network = built("plain").eval()
    before = network(images()).detach()
    change(network)
    expected = network(images()).detach()
    largest = float(expected.abs().max())
    tolerance = 1e-5 if precision == "fp32" else 4 * 2**-8
    assert float((before - expected).abs().max()) > 2 * tolerance * largest
    fast = inference_copy(network, precision)(images())
    torch.testing.assert_close(fast, expected, rtol=0, atol=tolerance * largest)


class Making(nn.Module):
    """Makes constants in its forward, and asks for its mode; what it is multiplied with is no part of it."""

    factor = 1.0

    def __init__(self) -> None:
        super().__init__()
        self.body = built("plain")

    def forward(self, x: Tensor) -> Tensor:
        made = torch.linspace(0, 1, 5) * torch.tensor(Making.factor)
        logits: Tensor = functional.dropout(self.body(x), training=self.training) + made
        return logits


def test_constants_that_forward_makes_are_made_in_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Making().eval()
    fast = inference_copy(network)
    for factor in (1.0, 3.0):
        monkeypatch.setattr(Making, "factor", factor)
        torch.testing.assert_close(fast(images()), network(images()), rtol=0, atol=1e-5)


class Dropping(nn.Module):
    """Dropout that also happens in eval mode, or noise."""

    def __init__(self, noise: bool) -> None:
        super().__init__()
        self.body, self.noise = built("plain"), noise

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(x)
        return logits + torch.randn(5) if self.noise else functional.dropout(logits)


class Reading(nn.Module):
    """Reads a weight of its convolution, beyond running it: folding would change that, too."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 4, 3), norm(4), nn.Linear(4, 5)
        nn.init.constant_(self.norm.weight, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x)).relu().mean(dim=(2, 3))
        logits: Tensor = self.last(x) + self.convolution.weight.abs().sum()
        return logits


class Named(nn.Module):
    """Asks its normalisation for an attribute that nothing else has."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm, self.last = nn.Conv2d(3, 4, 3), norm(4), nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.convolution(x)).mean(dim=(2, 3))
        logits: Tensor = self.last(x.view(-1, self.norm.num_features))
        return logits


class Cancelling(nn.Module):
    """A difference of large sums, of which bfloat16 keeps nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        difference: Tensor = self.convolution(x + 100) - self.convolution(torch.full_like(x, 100))
        return difference.mean(dim=(2, 3))


def normed(how: Callable[[nn.Module], nn.Module]) -> nn.Module:
    network = built("plain").eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the old functions
        for layer in list(network.modules()):
            if isinstance(layer, nn.Conv2d):
                how(layer)
    network(images())
    return network


def asked_twice(network: nn.Module, precision: Any) -> tuple[nn.Module, list[Tensor]]:
    fast = inference_copy(network, precision)
    return fast, [fast(images()), fast(images())]


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
@pytest.mark.parametrize(
    ("build", "why"),
    [
        (lambda: normed(nn.utils.weight_norm), "cannot be made"),
        (lambda: normed(nn.utils.spectral_norm), "cannot be made"),
        (lambda: torch.jit.script(built("plain").eval()), "cannot be made"),
        (lambda: torch.jit.trace(built("plain").eval(), images()), "cannot be made"),
        (Reading, r"is .* off in fp32 where"),
        (Named, "fails"),
    ],
    ids=["weight_norm", "spectral_norm", "scripted", "traced", "reading", "named"],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_without_a_copy_the_model_itself_is_used_and_one_line_says_so(
    build: Callable[[], nn.Module], why: str, precision: Any
) -> None:
    network = build().train()
    modes = [module.training for module in network.modules()]
    flags = [parameter.requires_grad for parameter in network.parameters()]
    with pytest.warns(UserWarning, match=rf"^the fast copy of \w+ {why}.*; the model itself is used") as said:
        fast, logits = asked_twice(network, precision)
    assert len(said) == 1
    assert "\n" not in str(said[0].message)
    assert [module.training for module in network.modules()] == modes
    assert [parameter.requires_grad for parameter in network.parameters()] == flags
    assert not list(fast.parameters())
    expected = network.eval()(images())
    for each in logits:
        assert torch.equal(each, expected)
        assert not each.requires_grad


@pytest.mark.parametrize("noise", [False, True])
def test_a_network_that_draws_is_used_itself(noise: bool) -> None:
    network = Dropping(noise).eval()
    fast = inference_copy(network)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        with pytest.warns(UserWarning, match=r"is .* off in fp32 where"):
            fast(images())
        torch.manual_seed(1)
        logits = fast(images())
        torch.manual_seed(1)
        assert torch.equal(logits, network(images()))


def test_bfloat16_that_loses_more_than_half_of_its_digits_is_not_used() -> None:
    network = Cancelling().eval()
    inference_copy(network)(images())
    with pytest.warns(UserWarning, match="off in bf16 where"):
        assert torch.equal(inference_copy(network, "bf16")(images()), network(images()))


class Scaled(nn.Module):
    """Its copy has larger logits, from a given call on."""

    def __init__(self, scale: float, of_the_copy: float, calls: int = 0) -> None:
        super().__init__()
        self.scale, self.of_the_copy, self.calls = scale, of_the_copy, calls

    def forward(self, x: Tensor) -> Tensor:
        self.calls -= 1
        return x.mean(dim=(2, 3)) * (self.of_the_copy if self.calls < 0 else self.scale)

    def __deepcopy__(self, memo: object) -> "Scaled":
        return Scaled(self.scale, self.of_the_copy, self.calls)


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_half_of_the_digits_must_agree(size: float, precision: Any) -> None:
    """The square root of 2^-23 is 3.45e-4, whatever the size of the logits."""
    model = Scaled(size, size * (1 + 3e-4), calls=1)
    copied = inference_copy(model, precision)
    model.calls = 10**6
    copied(images())

    model = Scaled(size, size * (1 + 4e-4), calls=1)
    copied = inference_copy(model, precision)
    model.calls = 10**6
    with pytest.warns(UserWarning, match=r"off in fp32"):
        assert torch.equal(copied(images()), model(images()))


def test_it_is_held_against_the_model_again() -> None:
    """A copy that goes wrong after the first call is found out at the stated call."""
    model = Scaled(1.0, 2.0, calls=10)
    fast = inference_copy(model)
    model.calls = 10**6
    for _ in range(CALLS):
        wrong = fast(images())
    torch.testing.assert_close(wrong, 2 * model(images()), rtol=0, atol=1e-6)
    with pytest.warns(UserWarning, match="off in fp32"):
        assert torch.equal(fast(images()), model(images()))


@pytest.mark.filterwarnings("ignore:the fast copy of")
@pytest.mark.parametrize(
    "build",
    [lambda: built("plain"), phase, Deciding, Reading, lambda: normed(nn.utils.weight_norm)],
    ids=["plain", "phase", "deciding", "reading", "weight_norm"],
)
def test_copy_and_model_are_freed_at_once(build: Callable[[], nn.Module]) -> None:
    """They are no part of a reference cycle, which would keep them until the collector runs."""
    network = build()
    fast = inference_copy(network)
    fast(images())
    gc.collect()
    gc.disable()
    try:
        alive = [weakref.ref(each) for each in (*network.parameters(), *fast.parameters(), *fast.modules())]
        assert len(alive) > len(list(network.parameters()))
        del network, fast
        assert [each() for each in alive if each() is not None] == []
    finally:
        gc.enable()


def test_an_unknown_precision() -> None:
    with pytest.raises(ConfigurationError, match="expected precision fp32 or bf16, got 'fp16'"):
        inference_copy(nn.Flatten(), "fp16")  # type: ignore[arg-type]
