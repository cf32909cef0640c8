"""Copies of networks for fast inference, held against the network itself, and made once where the network stays."""

import copy
import math
import warnings
from collections import Counter
from collections.abc import Callable
from typing import Literal, TypeGuard, TypeVar

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.utils import fuse_conv_bn_eval

from evonas.attacks.attack import frozen, logits_of
from evonas.attacks.bf16_relu import with_fast_relu
from evonas.errors import ConfigurationError

__all__ = ["FixedModel", "Precision", "attack_copy", "check_precision", "inference_copy"]

Layer = TypeVar("Layer", bound=nn.Module)
Precision = Literal["fp32", "bf16"]

CALLS = 100
"""A copy is held against its model on the first call, and on every 100th after it."""
IMAGES = 8
"""Number of images of a call on which it is held against its model."""
TF32 = 2**-10
"""Machine epsilon of TF32, in which CUDA devices compute float32 convolutions where it is switched on."""
OUT_OF_MEMORY = (MemoryError, torch.OutOfMemoryError)


def check_precision(precision: str) -> None:
    """ConfigurationError unless it is fp32 or bf16."""
    if precision not in ("fp32", "bf16"):
        raise ConfigurationError(f"expected precision fp32 or bf16, got {precision!r}")


def inference_copy(model: nn.Module, precision: Precision = "fp32") -> nn.Module:
    """A copy in eval mode that computes the same logits up to rounding, in less time. The model is not changed.

    If torch.fx can trace the model, batch normalisations that directly follow a convolution are folded into it. Memory
    is channels_last, and no parameter requires gradients. float32 images in, float32 logits out, differentiable with
    respect to the images.

    The copy is held against the model on its first call and on every 100th after it, on up to 8 images: in float32,
    and in bf16 if it computes so. Half of the digits of the precision must agree, that is, logits may differ by the
    square root of its machine epsilon (0.00035 in float32, 0.03 in TF32 where that is switched on, 0.09 in bf16)
    times the largest one. Calls that are replayed as a CUDA graph do not count. A copy that differs is given up,
    and so is one that cannot be made: a warning says why, and the model itself is called, in eval mode.

    Args:
        model: keeps its weights while the copy is in use.
        precision: bf16 computes under autocast except for the last linear layer, so that logits are not rounded to 8
            bits: they are accurate to about 1% of the largest one, and close ones keep their order.
    """
    check_precision(precision)
    original = model.model if isinstance(model, FixedModel) else model
    return _Inference(original, precision, lambda: _copied(original)).eval()


class FixedModel(nn.Module):
    """A model that stays as it is under many attacks: a network for its fast copies is made once, not once a call.

    It answers as the model does. Every call of an attack holds its copy against the model, as ever, and compares the
    model with what the network was made of, so that a model that has changed gets a new one: weights and other tensors
    and arrays by their values, also in lists and dicts; hooks and all other objects by being the same ones.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._networks: dict[bool, nn.Module] = {}
        self._made_of: tuple[list[Tensor], list[object]] = [], []

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.model(images)
        return logits

    def network(self, fast_relu: bool) -> nn.Module:
        """The network of the model's fast copies, one with `with_fast_relu` and one without."""
        tensors, others = _held_by(self.model)
        if not _same(self._made_of, (tensors, others)):
            self._networks = {}
            self._made_of = [each.detach().clone() for each in tensors], others
        if fast_relu not in self._networks:
            self._networks[fast_relu] = _copied(self.model, fast_relu)
        return self._networks[fast_relu]


def attack_copy(model: nn.Module, precision: Precision, fast_relu: bool = False) -> nn.Module:
    """The `inference_copy` that an attack calls; those of a `FixedModel` share a network.

    Args:
        fast_relu: for logits alone, without gradients; see `with_fast_relu`.
    """
    if isinstance(model, FixedModel):
        return _Inference(model.model, precision, lambda: model.network(fast_relu)).eval()
    return _Inference(model, precision, lambda: _copied(model, fast_relu)).eval()


def _held_by(model: nn.Module) -> tuple[list[Tensor], list[object]]:
    """Tensors and arrays, and everything else that decides what a model in eval mode computes."""
    tensors: list[Tensor] = []
    others: list[object] = []
    seen: set[int] = set()

    def hold(value: object) -> None:
        if isinstance(value, Tensor):
            tensors.append(value)
        elif isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
            tensors.append(torch.tensor(value))
        elif not isinstance(value, dict | list | tuple | nn.Module):
            others.append(value)
        elif id(value) not in seen:
            seen.add(id(value))
            if isinstance(value, nn.Module):
                others.append(type(value))
            held = vars(value) if isinstance(value, nn.Module) else value
            for each in held.items() if isinstance(held, dict) else enumerate(held):
                if each[0] != "training":
                    others.append(each[0])
                    hold(each[1])

    hold(model)
    return tensors, others


def _same(before: tuple[list[Tensor], list[object]], now: tuple[list[Tensor], list[object]]) -> bool:
    if len(before[0]) != len(now[0]) or len(before[1]) != len(now[1]):
        return False
    for one, other in zip(before[1], now[1], strict=True):
        plain = isinstance(other, bool | int | float | str) and type(one) is type(other) and one == other
        if one is not other and not plain:
            return False
    return all(
        (one.dtype, one.device) == (other.dtype, other.device) and torch.equal(one, other)
        for one, other in zip(*(each[0] for each in (before, now)), strict=True)
    )


class _Float32Linear(nn.Linear):
    """A linear layer that computes in float32 under autocast."""

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float())


class _Inference(nn.Module):
    """A network for fast inference, or the model itself where there is none that computes the same."""

    network: nn.Module | None

    def __init__(self, model: nn.Module, precision: Precision, make: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.original = (model,)  # a tuple, so that its parameters and its mode are none of this module's
        self.precision = precision
        self.calls = 0
        try:
            self.network = make()
        except OUT_OF_MEMORY:
            raise
        except Exception as error:  # whatever a stranger's module raises when it is copied
            self._give_up(f"cannot be made ({_first_line(error)})")

    def forward(self, images: Tensor) -> Tensor:
        if self.network is not None and self.calls % CALLS == 0:
            why_not = _difference(self.network, *self.original, images[:IMAGES].detach(), self.precision)
            if why_not:
                self._give_up(why_not)
        self.calls += 1
        return _exact(*self.original, images) if self.network is None else _fast(self.network, images, self.precision)

    def _give_up(self, why: str) -> None:
        self.network = None
        (model,) = self.original
        warnings.warn(f"the fast copy of {type(model).__name__} {why}; the model itself is used, slowly", stacklevel=2)


def _fast(network: nn.Module, images: Tensor, precision: Precision) -> Tensor:
    images = images.clone(memory_format=torch.channels_last)  # a copy, which the network may change
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16"):
        logits: Tensor = network(images)
    return logits.float()


def _exact(model: nn.Module, images: Tensor) -> Tensor:
    with frozen(model):
        return logits_of(model, images.to(_type_of(model))).float()


@torch.no_grad()
def _difference(network: nn.Module, model: nn.Module, images: Tensor, precision: Precision) -> str:
    """In which way the copy is another network than the model; empty where it is not."""
    exact = _exact(model, images)
    largest = float(exact.abs().max())
    each: Precision
    for each in ("fp32", "bf16") if precision == "bf16" else ("fp32",):
        try:
            apart = float((_fast(network, images, each) - exact).abs().max())
        except OUT_OF_MEMORY:
            raise
        except Exception as error:  # the copy computes in float32, and some of its layers are replaced
            return f"fails ({_first_line(error)})"
        types = (_type_of(model), torch.bfloat16 if each == "bf16" else torch.float32)
        epsilons = [torch.finfo(dtype).eps for dtype in types]
        if images.device.type == "cuda" and torch.backends.cudnn.allow_tf32:
            epsilons.append(TF32)
        if not apart <= math.sqrt(max(epsilons)) * largest:  # NaN is neither
            return f"is {apart:.2g} off in {each} where the largest logit is {largest:.2g}"
    return ""


def _copied(model: nn.Module, fast_relu: bool = False) -> nn.Module:
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise TypeError("parts of it are compiled by torch.jit")
    network = copy.deepcopy(model).float().eval().requires_grad_(False)
    linear = [module for module in network.modules() if type(module) is nn.Linear]
    if linear:
        linear[-1].__class__ = _Float32Linear
    _fold(network)
    network = network.to(memory_format=torch.channels_last)
    return with_fast_relu(network) if fast_relu else network


def _type_of(model: nn.Module) -> torch.dtype:
    """The type of the model's first floating-point parameter; float32 where it has none."""
    return next((each.dtype for each in model.parameters() if each.is_floating_point()), torch.float32)


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"


class _Tracer(fx.Tracer):
    """Traces into containers; modules without children are leaves."""

    def is_leaf_module(self, module: nn.Module, qualified_name: str) -> bool:
        return not any(True for _ in module.children())


def _fold(network: nn.Module) -> None:
    """Fold every batch normalisation that is the only reader of a convolution's output into that convolution.

    The trace only tells which ones these are: the network keeps its own forward, with its hooks and its constants.
    """
    if "forward" in vars(network):  # the trace would be that of the class
        return
    tracer = _Tracer()
    try:
        graph = tracer.trace(network)
    except Exception:  # any forward that cannot be traced; logits are the same without folding
        return
    finally:
        vars(tracer).clear()  # it is part of a reference cycle, which would keep the network alive
    called = [node for node in graph.nodes if node.op == "call_module"]
    part = {node: network.get_submodule(str(node.target)) for node in called}
    calls = Counter(map(id, part.values()))
    for node in called:
        reads = node.args[0] if node.args else None
        if not isinstance(reads, fx.Node) or reads not in part or len(reads.users) > 1:
            continue
        conv, norm = part[reads], part[node]
        if calls[id(conv)] == calls[id(norm)] == 1 and _foldable(conv, nn.Conv2d) and _foldable(norm, nn.BatchNorm2d):
            _replace(network, str(reads.target), fuse_conv_bn_eval(conv, norm).requires_grad_(False))
            _replace(network, str(node.target), nn.Identity())


def _foldable(module: nn.Module, kind: type[Layer]) -> TypeGuard[Layer]:
    """Whether a module is exactly of this class, without hooks, and has running statistics if it normalises."""
    changed = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return type(module) is kind and not changed and getattr(module, "track_running_stats", True)


def _replace(network: nn.Module, name: str, part: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(network.get_submodule(parent), child, part)
